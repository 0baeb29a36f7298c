"""Collapse, growth and spikes on records made by hand."""

import numpy as np
import pandas as pd
import pytest

from grokking_core import measures
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run

STEPS = [0, 100, 200, 300]


def record(fitted=100, learned=None, collapse=0.0, lengths=(1, 2, 4, 8), spikes=0, **fields):
    steps = np.array(STEPS)
    curve = pd.DataFrame(0.0, index=range(4), columns=pd.Index(COLUMNS)).assign(step=steps)
    curve["train_accuracy"] = steps >= (np.inf if fitted is None else fitted)
    curve["validation_accuracy"] = steps >= (np.inf if learned is None else learned)
    seen = {"step": steps, "collapse": collapse, "output_mean_norm": lengths, "cosine": [0.0, 0.0, 0.0, -1.0]}
    seen |= {"largest_logit": [1.0, 2.0, 3.0, 9.0], "weight_norm": [5.0, 5.0, 5.0, 6.0]}
    watched = {"softmax_collapse": seen, "spikes": {"step": steps, "spikes": spikes}}
    watched = {name: pd.DataFrame(columns) for name, columns in watched.items()}
    return Record(run=Run(operation="x+y", **fields), curve=curve, watched=watched)


def arm_of(run):
    return run.loss


def test_run_collapses_above_one_percent_and_grows_from_fitting_on():
    found = record(collapse=(0, 0.01, 0.02, 0.5), spikes=(0, 1, 2, 2))
    (row,) = measures.collapse_table([found], arm_of).to_dict("records")
    assert (row["fitted"], row["collapsed"], row["collapse"], row["growth"]) == (100, 200, 0.5, 4.0)
    assert (row["cosine"], row["logit"], row["norm"], row["spikes"]) == (-1.0, 9.0, 6.0, 2.0)
    assert (row["arm"], row["seed"], row["learned"]) == ("cross_entropy", 0, None)


def test_run_that_has_not_fitted_has_not_grown():
    (row,) = measures.collapse_table([record(None)], arm_of).to_dict("records")
    assert np.isnan(row["growth"])
    assert row["collapsed"] is None


def test_arms_are_counted_and_a_median_needs_half_of_them():
    found = [record(seed=s, learned=at, spikes=(0, 0, 0, s)) for s, at in enumerate((200, 300, None))]
    found += [record(seed=s, learned=at, loss="stablemax") for s, at in enumerate((200, None, None))]
    table = measures.by_arm(measures.collapse_table(found, arm_of))
    first, second = table.loc["cross_entropy"], table.loc["stablemax"]
    assert (first["runs"], first["learned"], first["learned at"], first["with spikes"]) == (3, 2, 300, 2)
    assert (second["learned"], second["with spikes"]) == (1, 0)
    assert np.isnan(second["learned at"])
    assert np.isnan(first["collapsed from"])
    assert first["growth"] == pytest.approx(4.0)


def test_nothing_on_record_is_an_empty_table():
    table = measures.collapse_table([], arm_of)
    assert table.empty
    assert measures.by_arm(table).empty
