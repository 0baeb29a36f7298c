"""Grids of cells: what is written into each, and what is left empty."""

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from grokking_core import charts

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def rows(name, steps, lr, weight_decay, missing=False):
    return pd.DataFrame({
        "name": name, "validation_sustained": pd.array(steps, "Int64"), "followed": None if missing else 900,
        "lr": lr, "weight_decay": weight_decay, "diverged": False, "missing": missing,
    })  # fmt: skip


def texts(ax):
    return {text.get_position(): text.get_text() for text in ax.texts}


def test_cell_has_its_median_or_how_many_got_there_and_is_empty_without_runs():
    table = pd.concat([
        rows("a", [100, 200, 300], 0.1, 1.0), rows("a", [None, None, 400], 0.2, 1.0),
        rows("a", [None], 0.2, 3.0, missing=True), rows("b", [800, 800, 800], 0.2, 3.0),
    ])  # fmt: skip
    figure = charts.steps_by_cell(table, "name", order=["b", "a"])
    b, a = figure.axes
    assert [ax.get_title() for ax in (b, a)] == ["b", "a"]
    assert texts(a) == {(0, 0): "200", (0, 1): "1 of 3"}
    assert texts(b) == {(1, 1): "800"}
    assert len(a.patches) == len(b.patches) == 1
    assert [tick.get_text() for tick in b.get_yticklabels()] == ["0.1", "0.2"]


def test_nothing_on_record_is_said():
    figure = charts.steps_by_cell(rows("a", [None], 0.1, 1.0, missing=True), "name")
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing on record yet"]


def test_unknown_column_is_named():
    with pytest.raises(ValueError, match="by='other' is no column of the table"):
        charts.steps_by_cell(rows("a", [1], 0.1, 1.0), "other")
