import numpy as np
import pandas as pd

from grokking_core import literature
from grokking_core.paper import experiments
from grokking_core.runs.record import COLUMNS, Record

STEPS = [0, 100, 1000, 2000, 4000]


def lost_and_found(run):
    """Learned after 1,000 updates and lost again at 2,000, half of it for good where the seed is odd.

    With too little decay, or in the last quarter alone, nothing is learned.
    """
    if run.weight_decay <= 0.1 or run.decay_from > 4000:
        return made_up(run, [0, 1, 1, 1, 1], [0] * 5)
    if run.weight_decay >= 10:
        return made_up(run, [0, 0.1, 0.1, 0.1, 0.1], [0] * 5)
    return made_up(run, [0, 1, 1, 0.7, 1], [0, 0, 1, 0.25, 0.5 if run.seed % 2 else 1])


def made_up(run, train, validation):
    curve = pd.DataFrame(1.0, index=range(len(STEPS)), columns=pd.Index(COLUMNS)).assign(step=STEPS)
    curve = curve.assign(train_accuracy=train, validation_accuracy=validation, unmirrored_accuracy=validation)
    kept = {"traps": {"count": np.array([0.0, 1.0 + run.seed])}, "output_rows": {"rows": np.eye(33, 8)}}
    return Record(run=run, curve=curve, kept=kept)


def test_page_runs_with_nothing_on_record(run_notebook):
    names = run_notebook("retention", lambda run: None)
    assert len(names["records"].missing) == len(experiments.plan("retention").runs)
    assert "runs are missing" in names["text"]
    assert {verdict.kind for verdict in names["told"].values()} == {"not reached"}


def test_page_counts_who_fell_and_who_holds(run_notebook):
    names = run_notebook("retention", lost_and_found)
    assert names["text"].startswith("48 of 48 runs are on record. 15 networks were followed on after")
    assert names["text"].endswith("15 of these fell below 90 % later.")
    rows = names["rows"]
    assert rows["networks"].tolist() == [3] * 4 + [5] * 3 + [3]
    assert rows["learned"].tolist() == [0] * 4 + [5] * 3 + [0]
    assert rows["fell"].tolist()[4:7] == [5] * 3
    assert rows["99 % at the end"].tolist()[4:7] == [3] * 3
    assert rows["lowest_train"].tolist()[4:7] == [0.7] * 3
    assert rows["traps"].tolist()[4:7] == [3] * 3
    assert list(names["told"]) == list(literature.of_page("retention"))
    kinds = {literature.LEDGER[id].decide.__name__: found.kind for id, found in names["told"].items()}
    assert kinds["collapse_at_strong_decay"] == "agrees"
    assert kinds["accuracy_collapses_again"] == "partly"
    assert kinds["timing_of_decay_is_nothing"] == "partly"
    assert list(names["names"]) == [*(f"from {i} %" for i in (0, 25, 50, 75)), "throughout", "never"]
