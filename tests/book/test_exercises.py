import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from grokking_book.make import build
from grokking_book.pages import exercises
from grokking_book.pages.exercises import EXERCISES, Finding, laptop_plan, read, setting
from grokking_core import measures
from grokking_core.paper import experiments
from grokking_core.plans.watched import is_control, is_published
from grokking_core.records.store import Store
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run
from grokking_core.weights import structure

ROOT = Path(__file__).resolve().parents[2]
PLACES = build.Places(ROOT)
PAGES = sorted([ROOT / "README.md", *(ROOT / "book").rglob("*.md"), *PLACES.notebooks().values()])
CHANGE = (ROOT / "book" / "change_something.md").read_text(encoding="utf-8")
ALL = [(name, i) for name, some in EXERCISES.items() for i in range(len(some))]
STEPS = [0, 100, 1000, 2000, 4000]
BASE = {"operation": "x/y", "train_fraction": 0.5}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The records that come with the book, and no others."""
    return Store(tmp_path_factory.mktemp("own"), ROOT / "book" / "records")


class MadeUp(Store):
    """Answers with `curves[run]`, training and validation accuracies at STEPS, whatever is asked."""

    def __init__(self, curves, kept=None):
        self.curves, self.kept_of_all = curves, kept or {}

    def answer(self, run, steps, stop_at=None, *, keep=(), watch=(), watch_every=None, since=""):
        if run not in self.curves:
            return None
        train, validation = self.curves[run]
        curve = pd.DataFrame(1.0, index=range(len(STEPS)), columns=pd.Index(COLUMNS)).assign(step=STEPS)
        curve = curve.assign(train_accuracy=train, validation_accuracy=validation, unmirrored_accuracy=0.25)
        return Record(run=run, curve=curve, kept=self.kept_of_all)


def made_up(train=(0, 1, 1, 1, 1), validation=(0, 0, 0.5, 1, 1), **fields):
    return {Run(**BASE | fields): (train, validation)}


def build_of(command):
    """The job that a `make book` command executes, with all that it lays over the notebook's own values."""
    words = dict(word.partition("=")[::2] for word in shlex.split(command, comments=True)[2:])
    assert set(words) <= {"PROFILE", "ONLY", "P", "FRESH", "JOBS", "MINUTES", "PIP_FLAGS"}, command
    jobs = build.plan(PLACES, words.get("PROFILE", "laptop"), words.get("P", ""), words.get("ONLY"))
    return {job.name: job for job in jobs}.get(words.get("ONLY"))


def commands_of(page):
    """The `make book` commands in the code of a page."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    code = "\n".join(
        re.findall(r"```bash\n(.*?)```", text, re.DOTALL) + re.findall(r"`(make book[^`\n]*)`", text)
    )
    return re.findall(r"^make book.*$", code, re.MULTILINE)


# The exercises, against the notebooks and the shipped records.


@pytest.mark.parametrize(("notebook", "i"), ALL)
def test_command_of_an_exercise_asks_for_the_runs_that_answer_it(notebook, i):
    exercise = EXERCISES[notebook][i]
    job = build_of(exercise.command(notebook))
    values = build.all_values(job)
    assert exercise.change.items() <= values.items()
    asked = {name: value for name, value in values.items() if name not in experiments.READING}
    assert experiments.experiment(notebook)(**asked) == exercise.plan(notebook)


@pytest.mark.parametrize("name", PLACES.notebooks())
def test_notebook_with_exercises_has_them_before_its_provenance(name):
    cells = json.loads(PLACES.notebooks()[name].read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    shown = [i for i, source in enumerate(sources) if "exercises.block(" in source]
    assert len(shown) == (name in EXERCISES)
    for i in shown:
        assert sources[i] == f'Markdown(exercises.block("{name}"))'
        assert sources[i - 1].startswith("## Exercises\n")
        assert sources[i + 1].startswith("## Where this comes from")


@pytest.mark.parametrize("notebook", EXERCISES)
def test_figure_has_exercises_and_records_answer_all_but_one(notebook, shipped):
    told = [exercise.findings(notebook, shipped)[-1] for exercise in EXERCISES[notebook]]
    assert 2 <= len(told) <= 3
    assert sum(bool(answer.missing) for answer in told) <= 1
    assert all(answer.lines or answer.missing for answer in told)


def test_exercise_changes_something():
    for notebook, some in EXERCISES.items():
        for exercise in some:
            changed = exercise.plan(notebook) != laptop_plan(notebook)
            assert changed or set(exercise.change) <= set(experiments.READING), exercise.question


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_a_page_are_accepted(page):
    for command in commands_of(page):
        build_of(command)


def test_commands_are_found_on_the_page_about_them():
    assert len(commands_of(ROOT / "book" / "change_something.md")) >= 4


# The chapter's Python.


def scripts():
    """The page's code that is a whole script."""
    blocks = re.findall(r"```python\n(.*?)```", CHANGE, re.DOTALL)
    return [block for block in blocks if re.search(r"^from ", block, re.MULTILINE)]


@pytest.mark.parametrize("steps", [40, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("own_folders", "one_thread")
def test_python_of_the_page_runs(steps, tmp_path, monkeypatch, capsys):
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    backend = mpl.get_backend()
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    figure, own = (script.replace("3000", str(steps)) for script in scripts())
    exec(figure, {})
    exec(own, {})
    plt.close("all")
    mpl.use(backend)
    lines = capsys.readouterr().out.splitlines()
    assert (tmp_path / "grokking.png").stat().st_size > 10_000
    assert [line.split()[0] for line in lines] == ["0", "1", "0.5", "0.5", "0.9", "0.9"]
    learned = "None" not in lines[0] + lines[1]
    assert learned == (steps == 3000)


# What is read.


def test_records_count_whatever_a_build_trains_again(shipped, monkeypatch):
    parts = laptop_plan("fig1_grokking_curves").parts
    monkeypatch.setenv("GROKKING_FRESH", "2999-01-01T00:00:00.000+00:00")
    assert len(read(parts, shipped)) == 3


def test_missing_runs_have_the_updates_that_they_take(tmp_path):
    found = read(laptop_plan("fig1_grokking_curves", {"steps": 3500}).parts, Store(tmp_path, tmp_path))
    assert found == []
    assert list(found.missing_steps.values()) == [3600] * 3  # the evaluation at or after 3,500


def test_run_that_another_figure_ended_when_it_had_learned_answers_a_milestone(shipped):
    plan = laptop_plan("fig1_grokking_curves", {"train_fraction": 0.8})
    assert len(read(plan.parts, shipped).missing) == 3
    assert exercises.when_learned(plan, shipped, 0.99).missing == []


# What is told.


def test_setting_names_what_is_not_at_its_default():
    assert setting(Run(operation="x/y", train_fraction=0.8, seed=3)) == "`x/y mod 97`, 80 %"
    told = setting(Run(operation="s5:xy", optimizer="adam", weight_decay=0.0))
    assert told == "`S5 product`, 50 %, `optimizer='adam'`, `weight_decay=0.0`"


LEARNS, LATE, NEVER = (0, 0, 1, 1, 1), (0, 0, 0, 1, 1), (0, 0, 0.2, 0.2, 0.3)


@pytest.mark.parametrize(
    ("curves", "told"),
    [
        ([LEARNS, LATE, LATE], "2,000 (1,000 to 2,000)"),
        ([LATE, LATE], "2,000"),
        ([LEARNS, LATE, NEVER], "1,000 to 2,000 in 2 of 3 runs and the others not within 4,000"),
        ([NEVER, NEVER], "not within 4,000"),
    ],
)
def test_reached_has_a_median_only_where_all_runs_got_there(curves, told):
    store = MadeUp({run: c for i, v in enumerate(curves) for run, c in made_up(validation=v, seed=i).items()})
    group = [store.answer(run, 4000) for run in store.curves]
    assert exercises.reached(group, "validation", 0.99) == told


def test_milestones_of_runs_that_did_not_learn_have_their_best_accuracy():
    plan = laptop_plan("fig1_grokking_curves", {"seeds": [0, 1]})
    store = MadeUp(made_up(validation=NEVER) | made_up(validation=(0, 0, 0.4, 0.1, 0), seed=1))
    told = exercises.when_learned(plan, store, 0.99)
    assert told.lines == [
        "`x/y mod 97`, 50 %: training 100, validation not within 4,000, best accuracy 30 % to 40 % (*n* = 2)"
    ]
    plan = laptop_plan("fig1_grokking_curves", {"seeds": [0], "operation": "x+y"})
    told = exercises.when_learned(plan, MadeUp(made_up(validation=NEVER, operation="x+y")), 0.99)
    assert "best accuracy 30 %, on unmirrored equations 25 % (*n* = 1)" in told.lines[0]


def test_milestones_are_those_of_the_threshold():
    plan = laptop_plan("fig1_grokking_curves", {"seeds": [0]})
    store = MadeUp(made_up(validation=(0, 0.4, 0.6, 0.8, 0.9)))
    told = exercises.when_learned(plan, store, 0.5)
    assert told.lead.startswith("Updates until 50 % of the training")
    assert told.lines == ["`x/y mod 97`, 50 %: training 100, validation 1,000 (*n* = 1)"]


def test_at_the_end_has_the_last_accuracies():
    plan = laptop_plan("fig1_operation_table")
    told = exercises.at_the_end(plan, MadeUp(made_up(validation=(0, 0, 0, 1, 0.125))), 0.99)
    assert told.lines == ["`x/y mod 97`, 50 %, after 4,000 updates: in training 100.00 %, held out 12.50 %"]
    plan = laptop_plan("fig1_operation_table", {"operation": "x+y"})
    told = exercises.at_the_end(plan, MadeUp(made_up(operation="x+y")), 0.99)
    assert told.lines[0].endswith("held out 100.00 %, of the unmirrored ones of these 25.00 %")


def test_number_lines_are_those_that_the_figure_finds(shipped):
    plan = laptop_plan("fig3_embeddings", {"weight_decays": [1.0]})
    told = exercises.number_lines(plan, shipped, 0.99)
    records = read(plan.parts[:1], shipped)
    best = [structure.name_of(structure.structure_of(record).test.iloc[0]) for record in records]
    assert [re.search(r": (\S+), z = \d+\.\d$", line)[1] for line in told.lines] == best


def test_number_line_of_a_network_that_did_not_learn_is_marked():
    rows = {"output_rows": {"rows": np.random.default_rng(0).normal(size=(99, 8))}}
    plan = laptop_plan("fig3_embeddings", {"weight_decays": [1.0], "seeds": [0]})
    told = exercises.number_lines(plan, MadeUp(made_up(operation="x+y"), rows), 0.99)
    assert told.lines[0].endswith(", not learned")


def test_correlation_is_over_the_networks_that_fit(shipped):
    plan = laptop_plan("fig7_sharpness")
    told = exercises.correlation(plan, shipped, 0.99)
    table = exercises.sharpness.table(read(plan.parts, shipped))
    fitted = table[table["train"] >= 0.99]
    of_all = measures.spearman(fitted["phi"], fitted["validation"])
    assert told.lines[0].startswith(f"{len(fitted)} of {len(table)} networks fit: {of_all}, on unmirrored")
    assert exercises.correlation(plan, MadeUp({}), 0.99).lines == []


def test_sharpness_of_each_network_is_told():
    plan = laptop_plan("fig7_sharpness", {"fractions": {"AdamW, decay 1": [0.5]}})
    kept = {"sharpness": {"phi": np.array([1.0, 2.0]), "released": np.zeros(2)}}
    told = exercises.sharpness_of_each(plan, MadeUp(made_up(operation="x+y"), kept), 0.99)
    assert told.lines == [
        "`x+y mod 97`, 50 %, seed 0: sharpness 1.5 % after 4,000 updates, training loss 1,"
        " validation accuracy 100 %"
    ]


# The block.


def test_block_has_question_command_and_folded_answer():
    store = MadeUp(made_up() | made_up(train_fraction=0.8))
    text = exercises.block("fig1_grokking_curves", store)
    first = text.split("**2.**")[0]
    exercise = EXERCISES["fig1_grokking_curves"][0]
    assert first.startswith(
        f"**1.** {exercise.question}\n\n```bash\n{exercise.command('fig1_grokking_curves')}\n"
    )
    folded = re.search(r"<details.*?</details>", first, re.DOTALL)[0]
    assert "- `x/y mod 97`, 50 %: training 100, validation 2,000 (*n* = 1)\n- `x/y mod 97`, 80 %" in folded
    assert "Not on record yet: `x/y mod 97`, 50 %; `x/y mod 97`, 80 %." in folded  # of the other two seeds
    assert "reads 1 run from records and trains 2, 8,000 updates at most." in folded


def test_block_says_where_nothing_is_on_record_and_what_that_takes():
    text = exercises.block("fig1_operation_table", MadeUp({}))
    assert text.count("Not on record yet: ") == len(EXERCISES["fig1_operation_table"])
    assert "reads 0 runs from records and trains 1, 1,200 updates at most." in text
    assert "Cells that are right" not in text


def test_block_says_where_nothing_is_trained(shipped):
    assert "trains none." in exercises.block("beyond_transformers", shipped)


def test_answers_of_watched_runs_are_those_of_their_pages(shipped):
    as_it_is = {name: laptop_plan(name) for name in ("early_warnings", "fourier", "topology")}
    found = {name: plan.read(shipped) for name, plan in as_it_is.items()}
    told = exercises.warned(as_it_is["early_warnings"], shipped, 0.99)
    judged = measures.judged(measures.alarms(found["early_warnings"], is_control))
    assert [line.partition(":")[0] for line in told.lines] == [*judged.index]
    ildr = judged.iloc[0]
    assert f"{ildr['warned']:.0f} of {ildr['learners']:.0f} learners in time" in told.lines[0]
    keys = exercises.keys_of_each(as_it_is["fourier"], shipped, 0.99)
    assert len(keys.lines) == len(found["fourier"].where(lambda run: not is_published(run)))
    assert f"keys {', '.join(map(str, measures.keys(found['fourier'][0])))};" in keys.lines[0]
    loops = exercises.loops_of_each(as_it_is["topology"], shipped, 0.99)
    learned = [record.steps_to(0.95, "validation") for record in found["topology"]]
    assert [
        f"95 % in validation from {step:,} on;" in line
        for step, line in zip(filter(None, learned), loops.lines, strict=True)
    ] == [True] * len(loops.lines)


@pytest.mark.parametrize("answer", ["warned", "keys_of_each", "loops_of_each", "memorised"])
def test_answers_of_watched_runs_say_what_is_missing(answer):
    name = {"warned": "early_warnings", "keys_of_each": "fourier", "loops_of_each": "topology"}
    plan = laptop_plan(name.get(answer, "capacity"))
    told = exercises.ANSWERS[answer](plan, MadeUp({}), 0.99)
    assert (told.lines, told.missing) == ([], list(plan.runs))


def test_answers_with_one_lead_stand_under_it_once():
    told = [Finding("Both", ["a", "b"], []), Finding("Both", ["b", "c"], []), Finding("Other", ["d"], [])]
    assert exercises._answer(told) == "Both:\n\n- a\n- b\n- c\n\nOther:\n\n- d"


def test_threshold_of_an_answer_is_what_counts_as_learned():
    exercise = next(e for e in EXERCISES["fig1_data_fraction"] if "threshold" in e.change)
    store = MadeUp(made_up(validation=(0, 0, 0.9, 0.95, 0.97)))
    as_it_is, changed = exercise.findings("fig1_data_fraction", store)
    assert "validation not within 4,000" in as_it_is.lines[0]
    assert "validation 1,000" in changed.lines[0]


def test_every_answer_is_one_of_the_functions_and_all_are_asked_for():
    asked = {exercise.answer for some in exercises.EXERCISES.values() for exercise in some}
    assert asked == set(exercises.ANSWERS.values())


def test_variants_of_figure_7_are_those_of_the_profile():
    own = experiments.load_profile("laptop")["fig7_sharpness"]["fractions"]
    decaying, at_80, _ = (exercise.change["fractions"] for exercise in exercises.EXERCISES["fig7_sharpness"])
    assert decaying == {name: own[name] for name in ("AdamW, decay 1", "AdamW, decay to init")}
    assert at_80 == {name: [0.8] for name, fractions in own.items() if 0.8 in fractions}
