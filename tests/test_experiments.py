import time

import pytest
import yaml

from grokking_core import experiments
from grokking_core.experiments import EXPERIMENTS, VARIANTS, Part, Plan, merged
from grokking_core.record import utc_now
from grokking_core.run import Run
from grokking_core.store import Store
from grokking_core.sweep import sweep

pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")

PROFILES = ("smoke", "laptop", "paper")
TINY = {"operation": "x+y", "p": 7, "train_fraction": 0.7, "d_model": 8, "n_heads": 2}


# The figures


@pytest.mark.parametrize("profile", [None, *PROFILES])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_asks_for_different_runs_in_every_profile(name, profile):
    plan = experiments.plan(name, profile)
    assert plan.runs
    for part in plan.parts:
        assert len(set(part.runs)) == len(part.runs)
        assert part.steps >= 1


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_laptop_profile_is_the_default(name):
    assert experiments.plan(name, "laptop") == experiments.plan(name)


def test_variants_are_told_apart():
    runs = [Run(operation="x+y", **fields, seed=3) for fields in VARIANTS.values()]
    assert [experiments.variant_of(run) for run in runs] == list(VARIANTS)
    assert len(set(runs)) == 9


def test_variant_that_is_none_of_the_figure_is_an_error():
    with pytest.raises(ValueError, match="none of full batch, Adam, "):
        experiments.variant_of(Run(operation="x+y", optimizer="sgd"))
    with pytest.raises(ValueError, match="fractions has 'Adam'; the variants are 'full batch, Adam', "):
        experiments.fig2_optimizers(fractions={"Adam": [0.5]})


def test_full_batches_have_a_budget_of_their_own():
    plan = experiments.fig2_optimizers(steps=7, full_batch_steps=3)
    assert {(part.steps, run.batch_size) for part in plan.parts for run in part.runs} == {
        (7, None),
        (3, "full"),
    }


def test_paper_profile_has_the_articles_budgets():
    steps = {
        name: {part.steps for part in experiments.plan(name, "paper").parts}
        for name in ("fig1_grokking_curves", "fig1_data_fraction", "fig2_optimizers", "fig2_operations")
    }
    assert list(steps.values()) == [{1_000_000}, {500_000}, {100_000}, {100_000}]
    operations = {run.operation for run in experiments.plan("fig2_operations", "paper").runs}
    assert len(operations - {"x*y!=0"}) == 12
    assert {experiments.variant_of(r) for r in experiments.plan("fig2_optimizers", "paper").runs} == {
        *VARIANTS
    }


def test_one_task_under_two_names_has_as_many_equations():
    _, renamed = experiments.fig2_operations().parts
    assert {run.n_elements for run in renamed.runs} == {96}
    assert len({run.n_train for run in renamed.runs}) == 1


# Plans


def tiny_plan(seeds=(0, 1), steps=(20, 30)) -> Plan:
    """One part for each number of steps."""
    return Plan(tuple(Part(runs=tuple(Run(**TINY, seed=s) for s in seeds), steps=n) for n in steps))


def test_plan_joins_its_parts():
    records = tiny_plan().sweep(progress=False)
    assert [record.last_step for record in records] == [20, 20, 30, 30]
    assert [record.run.seed for record in records] == [0, 1, 0, 1]


def test_reading_a_plan_trains_nothing():
    plan = tiny_plan(steps=(20,))
    assert plan.read().missing == list(plan.runs)
    sweep(plan.runs[:1], 20, progress=False)
    records = plan.read()
    assert [record.run for record in records] == [plan.runs[0]]
    assert records.missing == [plan.runs[1]]
    assert sum(entry.kind == "record" for entry in Store().entries()) == 1


def test_plan_only_reads_where_the_book_has_trained(monkeypatch):
    plan = tiny_plan(steps=(20,))
    sweep(plan.runs[:1], 20, progress=False)
    between = utc_now()
    time.sleep(0.002)
    sweep(plan.runs[1:], 20, progress=False)
    monkeypatch.setenv("GROKKING_TRAINED_SINCE", between)
    records = plan.sweep()
    assert (records.n_read, records.n_trained, records.missing) == (1, 1, [])
    assert len(tiny_plan(seeds=(2, 3), steps=(20,)).sweep().missing) == 2


def test_merged_plans_ask_the_longest_first_and_each_run_once():
    a, b, c = (Run(**TINY, seed=seed) for seed in range(3))
    short = Plan((Part(runs=(a, b), steps=20, stop_at=0.9, keep=("answers",)),))
    long = Plan((Part(runs=(a,), steps=50), Part(runs=(c,), steps=80, stop_at=0.9)))
    again = Plan((Part(runs=(a,), steps=20, stop_at=0.9, keep=("output_rows",)),))
    assert merged([short, long, again]) == [
        Part(runs=(a,), steps=50),
        Part(runs=(c,), steps=80, stop_at=0.9),
        Part(runs=(a,), steps=20, stop_at=0.9, keep=("answers", "output_rows")),
        Part(runs=(b,), steps=20, stop_at=0.9, keep=("answers",)),
    ]


# Profiles


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_of_the_book_name_every_experiment(name):
    assert set(experiments.load_profile(name)) == set(EXPERIMENTS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fig9: {seeds: [1]}", "experiment 'fig9' is unknown; choose from fig1_grokking_curves"),
        ("fig1_grokking_curves: {sedes: [1]}", "no parameter 'sedes'; choose from operation, p, "),
        ("fig1_grokking_curves: {seeds: []}", r"seeds=\[\] is empty"),
        ("fig2_operations: {fractions: {}}", "fractions={} is empty"),
        ("fig2_operations: {fractions: {x+y: []}}", r"fractions={'x\+y': \[\]} is empty"),
        ("fig2_operations: {fractions: [0.5]}", "must be of type Mapping.str, Fractions."),
        ("fig2_operations: {fractions: {x+y: 0.5}}", "must be of type Mapping.str, Fractions."),
        ("fig6_outliers: {fractions: {many: [0.5]}}", "must be of type Mapping.int, Fractions."),
        ("fig6_outliers: {stop_at: x}", "stop_at='x' must be of type float | None"),
        ("fig1_grokking_curves: {seeds: 1}", "seeds=1 must be of type Sequence.int."),
        ("fig1_grokking_curves: {seeds: [a]}", r"seeds=\['a'\] must be of type Sequence.int."),
        ("fig1_grokking_curves: {p: 9.5}", "p=9.5 must be of type int"),
        ("fig1_grokking_curves: {p: true}", "p=True must be of type int"),
        ("fig1_grokking_curves: {lr: 1e-3}", "lr='1e-3' must be of type float; write 1.0e-3"),
        ("fig1_grokking_curves: {threshold: high}", "threshold='high' must be of type float"),
        ("fig1_grokking_curves: 5", "fig1_grokking_curves must map parameters to values"),
        ("[1, 2]", "must map experiments to parameters; it is a list"),
        ("a: [", "is not YAML"),
    ],
)
def test_wrong_profile_names_file_key_and_what_is_allowed(tmp_path, text, said):
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}.*{said}"):
        experiments.load_profile(str(path))


def test_whole_numbers_are_floats_too(tmp_path):
    (tmp_path / "mine.yml").write_text("fig1_grokking_curves: {weight_decay: 1}")
    assert experiments.load_profile(str(tmp_path / "mine.yml"))["fig1_grokking_curves"] == {"weight_decay": 1}


def test_parameters_of_the_reading_decide_no_run(tmp_path):
    (tmp_path / "mine.yml").write_text(yaml.safe_dump({"fig1_grokking_curves": {"threshold": 0.9}}))
    assert experiments.load_profile(str(tmp_path / "mine.yml")) == {"fig1_grokking_curves": {}}
