import pandas as pd
import pytest

from grokking_core.paper import experiments
from grokking_core.plans.followups import METHODS, method_of
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run


def made_up(run, step):
    """A run that knows all from `step` on; 0: never; None: not on record."""
    if step is None:
        return None
    known = 1.0 if step else 0.5
    curve = pd.DataFrame(1.0, index=range(3), columns=pd.Index(COLUMNS))
    curve["step"], curve["validation_accuracy"] = [0, step or 10, 2000], [0.0, known, known]
    return Record(run=run, curve=curve, provenance={"seconds": 4.0, "date": "2026"})


def test_notebook_runs_with_nothing_on_record(run_notebook):
    names = run_notebook("accelerators", lambda run: None)
    assert len(names["records"].missing) == len(experiments.plan("accelerators").runs)
    assert "Sooner than AdamW, each in its best cell: none." in names["text"]


def test_notebook_judges_each_method_in_its_best_cell(run_notebook):
    def step(run):
        slower = 1 if (run.lr, run.weight_decay) == (1e-2, 1.0) else 1.9
        updates = {"AdamW": 1000, "Muon": 500, "perpGrad": 0, "StableMax": None}.get(method_of(run), 950)
        return updates and round(slower * updates)

    names = run_notebook("accelerators", lambda run: made_up(run, step(run)))
    assert "Sooner than AdamW, each in its best cell: Muon." in names["text"]
    assert names["others"].groupby("method").size().to_dict() == {"AdamW, x-y": 45, "Muon, x-y": 45}
    assert names["rows"]["Muon"]["rate"] == "0.01"
    assert names["rows"]["Muon"]["at the edge"] == "no"
    assert names["rows"]["perpGrad"]["cells"] == "0 of 9"
    assert names["costs"].loc["Muon", "seconds until it holds"] == pytest.approx(1.0)


def test_method_of_a_run_is_its_label():
    for run in experiments.plan("accelerators").runs:
        assert {name: getattr(run, name) for name in METHODS[method_of(run)]} == METHODS[method_of(run)]
    with pytest.raises(ValueError, match="has a method that is none of AdamW, Grokfast-EMA"):
        method_of(Run(operation="x+y", gradient="perp", loss="stablemax"))


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="methods has 'Lion'; the methods are AdamW, Grokfast-EMA"):
        experiments.accelerators(methods=["AdamW", "Lion"])
