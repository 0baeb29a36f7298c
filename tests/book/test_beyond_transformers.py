import pandas as pd
import pytest

from grokking_core.paper import experiments
from grokking_core.runs.record import COLUMNS, Record

STEPS = [0, 100, 1000, 2000, 4000]


@pytest.fixture
def read(run_notebook):
    """What the notebook's names stand for, once its cells have run on made-up records.

    `curves` takes a run to its training, validation and unmirrored accuracies at STEPS; None: missing.
    """

    def read(curves, **parameters):
        def record(run):
            return made_up(run, *curve) if (curve := curves(run)) else None

        return run_notebook("beyond_transformers", record, **parameters)

    return read


def made_up(run, train, validation, unmirrored):
    curve = pd.DataFrame(1.0, index=range(len(STEPS)), columns=pd.Index(COLUMNS)).assign(step=STEPS)
    shares = {"train_accuracy": train, "validation_accuracy": validation, "unmirrored_accuracy": unmirrored}
    return Record(run=run, curve=curve.assign(**shares))


def networks(run):
    """A transformer that first ignores order, an MLP that learns, one that does not."""
    fitted, late, never = [0, 1, 1, 1, 1], [0, 0, 0, 0.5, 1], [0] * 5
    if run.architecture == "transformer":
        return fitted, [0, 0.5, 0.5, 0.5, 1], late
    return (fitted, late, late) if run.n_layers == 2 else (fitted, never, never)


def test_notebook_runs_with_nothing_on_record(read):
    names = read(lambda run: None)
    assert len(names["records"].missing) == len(experiments.plan("beyond_transformers").runs)
    assert "**9 runs are missing**" in names["text"]
    assert names["lines"] == []
    assert names["shown"].isna().to_numpy().all()


def test_networks_that_did_not_learn_are_censored(read):
    names = read(networks)
    assert len(names["records"]) == 9
    shown = names["shown"]["updates to learn the validation set"]
    assert shown["MLP, 2 hidden layers"].startswith("4,000 ")
    assert shown["MLP, 1 hidden layer"] == "not reached [4,000, not reached] (n = 3)"
    assert "had 0 % of the unmirrored equations right. 0 learned" in names["lines"][1]
    assert names["lines"][1].endswith("Suddenness: no run (n = 0).")


def test_symmetric_operation_is_judged_by_unmirrored_equations(read):
    transformer = read(networks, operation="x+y")["lines"][0]
    assert "had 0 % of the unmirrored equations right. 3 learned" in transformer
    assert transformer.endswith("Suddenness: 50 % (n = 3).")  # steps 2,000 to 4,000
    transformer = read(networks, operation="x/y")["lines"][0]
    assert "had 50 % of the validation equations right. 3 learned" in transformer
    assert transformer.endswith("Suddenness: 98 % (n = 3).")  # steps 100 to 4,000
