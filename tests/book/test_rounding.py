import pandas as pd
import pytest

from grokking_core import measures
from grokking_core.paper import experiments
from grokking_core.records.store import Store
from grokking_core.runs.record import COLUMNS, Record


@pytest.fixture
def read(run_notebook):
    """What the notebook's names stand for, with runs that learn at the step that `learns` gives them."""

    def read(learns, **parameters):
        return run_notebook("rounding", lambda run: made_up(run, learns(run)), **parameters)

    return read


def made_up(run, step):
    """A run that knows all at `step`; 0: nothing within 4,000 steps; None: not on record."""
    if step is None:
        return None
    curve = pd.DataFrame(1.0, index=range(2), columns=pd.Index(COLUMNS))
    curve["step"], curve["validation_accuracy"] = [0, step or 4000], [0.0, 1.0 if step else 0.5]
    return Record(run=run, curve=curve)


def test_notebook_runs_with_nothing_on_record(read):
    names = read(lambda run: None)
    assert len(names["records"].missing) == len(experiments.plan("rounding").runs) == 15
    assert "15 of 15 runs are missing" in names["text"]
    assert "are too few to say" in names["text"]


def test_seeds_stand_side_by_side(read):
    learns = {"fp32": lambda seed: 1000 + seed, "fp64": lambda seed: 0 if seed else None}
    names = read(lambda run: learns.get(run.precision, lambda seed: 900)(run.seed))
    assert names["told"].loc[0].tolist() == ["1,000", "–", "900"]
    assert names["told"].loc[4].tolist() == ["1,004", "> 4,000", "900"]


@pytest.mark.parametrize(
    ("later", "said"), [(1.0, "cannot be told apart"), (1.5, "can be told apart")], ids=["alike", "apart"]
)
def test_verdict_is_that_of_twenty_seeds(read, later, said):
    factors = {"fp32": 1.0, "fp64": later, "tf32-rounded": 1.0}
    names = read(lambda run: round((1000 + 40 * run.seed) * factors[run.precision]), seeds=[*range(20)])
    assert f"The runs in fp32 and in fp64 {said}." in names["text"]
    assert "The runs in fp32 and in tf32-rounded cannot be told apart." in names["text"]
    assert "ratio of the means, fp64 over fp32" in names["rows"]


def test_verdict_is_about_the_precisions_that_were_asked_for(read):
    text = read(lambda run: 1000, precisions=["fp32", "tf32"])["text"]
    assert "The runs in fp32 and in tf32 are too few to say." in text


def test_paper_profile_is_fast_only_where_that_was_measured_to_be_no_different():
    """tf32 is for the figures once 20 runs and 20 more on record cannot be told apart."""
    profile = experiments.load_profile("paper")
    plans = [experiments.plan(name, "paper") for name in profile if name != "rounding"]
    if {run.precision for plan in plans for run in plan.runs} == {"fp32"}:
        return
    records = experiments.plan("rounding", "paper").read(Store())
    table = measures.summary(records)
    groups = [pd.DataFrame(table[table["precision"] == name]) for name in ("tf32", "fp32")]
    assert measures.alike(*groups).verdict is True
