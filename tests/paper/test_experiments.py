import pytest

from grokking_core.paper import experiments, export
from grokking_core.paper.experiments import EXPERIMENTS, VARIANTS
from grokking_core.records.store import Store
from grokking_core.runs import schedule
from grokking_core.runs.run import Run

pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")

PROFILES = ("smoke", "laptop", "overnight", "paper")
SHORT = {"p": 7, "n": 3, "d_model": 8, "n_heads": 2, "addition_steps": 30, "product_steps": 20, "n_frames": 4}


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


def test_field_of_every_figures_runs_is_passed_on_to_them():
    """So that a new one is a line in `Task`."""
    for name in EXPERIMENTS.keys() - {"trainer"}:  # whose runs are of a browser's size
        width = "widths" if name == "capacity" else "d_model"  # there they are what is asked
        assert {"p", "n", width, "n_heads"} <= set(experiments.parameters(name))
        grids: dict = {"d_model": 64, "widths": [64], "n_heads": 2, "p": 23}
        grids |= {"s5_d_model": 64, "published_d_model": 64, "published_p": 23}
        grids["fractions"] = {"minibatch, Adam": [0.5]}
        grids["fractions"] = {"fig2_operations": {"x+y": [0.5]}, "fig6_outliers": {0: [0.5]}}.get(
            name, grids["fractions"]
        )
        asked = {key: value for key, value in grids.items() if key in experiments.parameters(name)}
        runs = EXPERIMENTS[name](**asked).runs
        assert {run.d_model for run in runs} == {64}
        assert {run.n_heads for run in runs if run.architecture == "transformer"} == {2}
        assert {run.p for run in runs} <= {22, 23}


@pytest.mark.parametrize("values", [{"seeds": (0, 1, 0)}, {"train_fractions": (0.5, 0.50)}])
def test_run_that_is_asked_for_twice_is_refused(values):
    with pytest.raises(ValueError, match="is asked for twice; name each value once"):
        experiments.fig1_data_fraction(**values)


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
    fractions = dict.fromkeys(VARIANTS, (0.5,))
    plan = experiments.fig2_optimizers(fractions=fractions, steps=7, full_batch_steps=3)
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
    _, renamed = experiments.fig2_operations(fractions={"x+y": (0.5,)}).parts
    assert {run.n_elements for run in renamed.runs} == {96}
    assert len({run.n_train for run in renamed.runs}) == 1


# Films


def test_pack_has_all_frames_of_a_film(tmp_path):
    plan = experiments.film(**experiments.load_profile("smoke")["film"] | SHORT)
    plan.sweep(progress=False)
    export.pack(Store(), tmp_path / "some.parquet", [plan])
    shipped = Store(tmp_path / "none", tmp_path)
    assert [record.last_step for record in plan.read(shipped)] == [part.steps for part in plan.parts]


@pytest.mark.parametrize(("steps", "n_frames"), [(3000, 36), (6000, 36), (600, 12), (20, 12), (1, 2)])
def test_frames_are_evaluations_and_the_last_follow_one_another(steps, n_frames):
    frames, grid = experiments.frame_steps(steps, n_frames), schedule.evaluation_steps(steps)[1:]
    assert len(frames) == len(set(frames)) == min(n_frames, len(grid))
    assert set(frames) <= set(grid)
    assert frames == sorted(frames)
    assert frames[0] == 1
    late = min(n_frames // 2, len(grid))
    assert frames[-late:] == grid[-late:]


@pytest.mark.parametrize("n_frames", [1, 0, 2.5, True])
def test_film_has_two_frames_or_more(n_frames):
    with pytest.raises(ValueError, match=f"n_frames={n_frames} must be a whole number of at least 2"):
        experiments.frame_steps(100, n_frames)


@pytest.mark.parametrize("profile", PROFILES[:2])
def test_film_shows_runs_of_figure_3(profile):
    assert set(experiments.plan("film", profile).runs) <= {*experiments.plan("fig3_embeddings", profile).runs}
