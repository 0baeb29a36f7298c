import numpy as np
import pandas as pd

from grokking_core.paper import experiments
from grokking_core.plans.softmax import arm_of
from grokking_core.runs.record import COLUMNS, Record


def made_up(run):
    """A run that collapses and spikes with nothing done, and learns with perpGrad."""
    bare, steps = arm_of(run) == "nothing", np.array([0, 50, 1000, 4000])
    curve = pd.DataFrame(1.0, index=range(4), columns=pd.Index(COLUMNS)).assign(step=steps)
    curve["validation_accuracy"] = (steps >= 1000) & (arm_of(run) == "perpGrad")
    seen = {"step": steps, "collapse": [0, 0, bare, bare], "largest_logit": 9.0}
    seen |= {"output_mean_norm": [0.1, 0.1, 1, 40 if bare else 0.1]}
    seen |= {"cosine": -0.99, "weight_norm": 9.0}
    spikes = {"step": steps, "spikes": [0, 0, bare, bare], "largest_loss": 1.0}
    watched = {"softmax_collapse": pd.DataFrame(seen), "spikes": pd.DataFrame(spikes)}
    return Record(run=run, curve=curve, watched=watched, provenance={"seconds": 4.0, "date": "2026"})


def test_notebook_runs_with_nothing_on_record(run_notebook):
    names = run_notebook("softmax_collapse", lambda run: None)
    assert len(names["records"].missing) == len(experiments.plan("softmax_collapse").runs)
    assert names["text"].startswith("0 of 45 runs are on record.")
    assert names["text"].count("not reached.") == len(names["told"])


def test_notebook_has_a_row_an_arm_and_the_verdicts(run_notebook):
    names = run_notebook("softmax_collapse", made_up)
    found = names["found"]
    assert list(found.index) == names["arms"]
    assert found.loc["nothing", ["runs", "collapsed", "with spikes", "growth"]].tolist() == [5, 5, 5, 400]
    assert found.loc["perpGrad", ["collapsed", "learned", "learned at"]].tolist() == [0, 5, 1000]
    kinds = [verdict.kind for verdict in names["told"].values()]
    assert kinds == ["agrees", "agrees", "agrees", "partly", "agrees", "agrees"]
