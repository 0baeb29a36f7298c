import numpy as np
import pandas as pd

from grokking_core import literature
from grokking_core.paper import experiments
from grokking_core.plans import Plan
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.records import Records

STEPS = [0, 10, 300, 5000, 20_000]


def made_up(run):
    """Fits after 300 updates, groks after 20,000 or, at a rate of 1e-3 and more, 5,000; the norm falls.

    Where the norm is held it groks at once, but at the first norm.
    """
    curve = pd.DataFrame(0.0, index=range(len(STEPS)), columns=pd.Index(COLUMNS)).assign(step=STEPS)
    curve["train_accuracy"] = [0, 0, 1, 1, 1]
    grokked = np.array([0, 0, 0, float(run.lr * run.weight_decay >= 1e-3), 1])
    curve["validation_accuracy"] = curve["unmirrored_accuracy"] = grokked
    curve["weight_norm"] = [30, 30, 20, 10, 5]
    if run.norm_hold * run.init_scale / run.temperature**0.5 >= 1:
        curve[["validation_accuracy", "unmirrored_accuracy"]] = 0.0
    elif run.norm_hold:
        curve["validation_accuracy"] = curve["unmirrored_accuracy"] = curve["train_accuracy"]
    return Record(run=run, curve=curve)


def test_page_runs_with_nothing_on_record(run_notebook, monkeypatch):
    monkeypatch.setattr(Plan, "read", lambda plan: Records(asked=[]))
    names = run_notebook("norm_clock", lambda run: None)
    assert len(names["records"].missing) == len(experiments.plan("norm_clock").runs)
    assert "runs are missing" in names["text"]
    assert {verdict.kind for verdict in names["told"].values()} == {"not reached"}


def test_page_counts_waits_and_tells_every_row(run_notebook, monkeypatch):
    monkeypatch.setattr(Plan, "read", lambda plan: Records(map(made_up, plan.runs[:1]), asked=[]))
    names = run_notebook("norm_clock", made_up)
    assert "45 of 45 runs are on record, 27 of them with the norm held." in names["text"]
    assert "Of the other 18 18 fitted" in names["text"]
    assert names["cells"]["delay"].tolist() == [19_700] * 3 + [4700] + [19_700, 4700]
    assert names["cells"]["grokked"].tolist() == [3] * 6
    assert list(names["told"]) == list(literature.of_page("norm_clock"))
    assert {verdict.n for verdict in names["told"].values()} <= {12, 15, 18}
    kinds = {literature.LEDGER[id].decide.__name__: found.kind for id, found in names["told"].items()}
    assert kinds["logits_carry_the_norm"] == kinds["small_norms_learn_at_once"] == "agrees"
    assert names["shown"]["runs"].tolist() == [3] * 6
    assert names["found"].size().tolist() == [1, 1]  # of two tasks


def test_page_without_a_run_in_the_middle_cell_predicts_nothing(run_notebook, monkeypatch):
    monkeypatch.setattr(Plan, "read", lambda plan: Records(asked=[]))
    names = run_notebook("norm_clock", lambda run: made_up(run) if run.lr != 1e-3 else None)
    verdicts = {literature.LEDGER[id].decide.__name__: found for id, found in names["told"].items()}
    assert verdicts["norm_predicts_the_delay"].kind == "not reached"


def test_other_pages_runs_decay_to_the_origin(run_notebook, monkeypatch):
    monkeypatch.setattr(Plan, "read", lambda plan: Records(map(made_up, plan.runs), asked=[]))
    names = run_notebook("norm_clock", made_up)
    assert {record.run.decay_toward for record in names["others"]} == {"origin"}
    asked = experiments.plan("fig2_optimizers").runs
    assert {run.decay_toward for run in asked} == {"origin", "init"}
