import numpy as np
import pandas as pd

from grokking_core.paper import experiments
from grokking_core.runs.record import COLUMNS, Record


def made_up(run):
    """A network that lags and learns random answers from width 10 on, and else does neither."""
    large, steps = run.d_model >= 10, np.array([0, 100, 200, 4000])
    random = run.outliers == run.n_train
    curve = pd.DataFrame(1.0, index=range(4), columns=pd.Index(COLUMNS)).assign(step=steps)
    curve["train_accuracy"] = (steps >= 100) if large else (steps >= 200) & (not random)
    curve["validation_accuracy"] = (steps >= 200) & (not random)
    return Record(run=run, curve=curve, provenance={"seconds": 4.0, "date": "2026"})


def test_notebook_runs_with_nothing_on_record(run_notebook):
    names = run_notebook("capacity", lambda run: None)
    assert len(names["records"].missing) == len(experiments.plan("capacity").runs)
    assert [verdict.kind for verdict in names["told"].values()] == ["not reached"] * 2


def test_notebook_has_a_row_a_size_and_the_verdicts(run_notebook):
    names = run_notebook("capacity", made_up)
    table = names["table"].set_index("width")
    assert list(table.index) == names["widths"]
    assert table.loc[8, ["fitted", "generalized", "memorised", "delay"]].tolist() == [200, 200, np.inf, 0]
    assert table.loc[10, ["fitted", "generalized", "memorised", "delay"]].tolist() == [100, 200, 100, 100]
    assert [verdict.kind for verdict in names["told"].values()] == ["agrees", "partly"]
