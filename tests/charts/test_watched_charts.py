"""Curves of what was watched, and how signals warn, on records and tables made by hand."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from grokking_core import charts
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run

mpl.use("Agg")

STEPS = [0, 100, 200, 300]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def record(learned=None, **columns):
    curve = pd.DataFrame(0.0, index=range(4), columns=pd.Index(COLUMNS))
    curve["step"] = STEPS
    curve["validation_accuracy"] = np.array(STEPS) >= (np.inf if learned is None else learned)
    return Record(
        run=Run(operation="x+y"), curve=curve, watched={"a": pd.DataFrame({"step": STEPS} | columns)}
    )


def seen(found):
    return found.watched["a"].set_index("step")["size"]


def alarms(signal, leads, false_alarms, scores):
    """Learners with these leads, and two controls of which some raised an alarm."""
    n, raised = len(leads), [None if lead is None else 900 - lead for lead in leads]
    columns = {"learned": [900] * n + [None] * 2, "lead": [*leads, None, None]}
    columns["alarm"] = raised + [1] * false_alarms + [None] * (2 - false_alarms)
    table = pd.DataFrame({name: pd.array(values, "Int64") for name, values in columns.items()})
    return table.assign(signal=signal, control=[False] * n + [True] * 2, score=scores)


def test_line_a_run_and_a_dot_where_it_learned():
    found = {"some": [record(200, size=[1.0, 2.0, 3.0, 4.0])], "none": [record(size=[0.0] * 4)], "empty": []}
    ax = charts.watched_curves(found, seen, "size")
    line, dot, other = ax.get_lines()
    assert line.get_xydata().tolist() == [[0, 1], [100, 2], [200, 3], [300, 4]]
    assert dot.get_xydata().tolist() == [[200, 3]]
    assert dot.get_markeredgecolor() == line.get_color()
    assert other.get_ydata().tolist() == [0.0] * 4
    assert [text.get_text() for text in ax.get_legend().texts] == ["some", "none"]
    assert ax.get_ylabel() == "size"


def test_colour_a_column_and_a_line_a_run():
    ax = charts.watched_columns(
        [record(size=[1.0] * 4, the_loss=[2.0] * 4)] * 2, "a", {"size": "size", "the_loss": "a loss"}
    )
    assert [line.get_ydata()[0] for line in ax.get_lines()] == [1.0, 1.0, 2.0, 2.0]
    assert len({line.get_color() for line in ax.get_lines()}) == 2
    assert [text.get_text() for text in ax.get_legend().texts] == ["size", "a loss"]


def test_dot_a_learner_with_an_alarm_and_false_alarms_in_words():
    table = pd.concat([
        alarms("early", [500, 700], 1, [3, 4, 2, 1]), alarms("late", [-100, None], 0, [1, 1, 1, 1]),
    ])  # fmt: skip
    ax = charts.leads(table)
    early, late, _ = ax.get_lines()
    assert early.get_xydata().tolist() == [[500, 0], [700, 0]]
    assert late.get_xydata().tolist() == [[-100, 1]]
    assert [text.get_text() for text in ax.texts] == ["1 of 2 controls", "0 of 2 controls"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["early", "late"]


def test_signal_that_tells_all_passes_through_the_corner():
    ax = charts.operating_curves(alarms("sure", [500, 700], 0, [3.0, 4.0, 2.0, 1.0]))
    assert [0.0, 1.0] in ax.get_lines()[0].get_xydata().tolist()
    assert [text.get_text() for text in ax.get_legend().texts] == ["sure"]


def test_nothing_on_record_is_said():
    empty = alarms("early", [], 0, [1, 1]).head(0)
    panels = [charts.leads(empty), charts.operating_curves(empty), charts.watched_columns([], "a", {})]
    panels.append(charts.watched_curves({}, seen, "size"))
    assert {ax.texts[-1].get_text() for ax in panels} == {"nothing on record yet"}


def published(**curve):
    """A run whose only key has its share from 200 on, with columns of its curve."""
    found = record(300)
    frame = {"share_2": [0.0, 0.05, 0.2, 0.8], "weight_norm": [4.0, 3.0, 2.0, 1.0]}
    frame |= dict.fromkeys(("gini_embedding", "gini_output", "restricted_loss", "excluded_loss"), 0.5)
    found.watched["fourier"] = pd.DataFrame({"step": STEPS} | frame)
    return replace(found, curve=found.curve.assign(**curve))


def test_phases_are_grounds_behind_losses_and_shares():
    run = published(train_loss=1.0, validation_loss=[4.0, 5.0, 2.0, 0.01])
    _, axes = plt.subplots(2, 1)
    charts.phases([run, published()], axes, marks=[250])
    for ax in axes:
        grounds = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches]
        assert grounds == [(0, 200), (200, 200), (200, 300)]
        assert ax.get_xlim() == (0, 300)
    losses, shares = ([line.get_ydata()[-1] for line in ax.get_lines()] for ax in axes)
    assert losses == [1.0, 0.01, 0.5, 0.5, 1]
    assert shares == [0.8, 0.5, 0.5, 1 / 16, 1]


def test_phases_that_have_not_come_end_with_the_run():
    _, axes = plt.subplots(2, 1)
    charts.phases([published(train_loss=1.0, validation_loss=[4.0, 5.0, 5.0, 5.0])], axes)
    assert [patch.get_width() for patch in axes[0].patches] == [200, 100, 0]
    _, axes = plt.subplots(2, 1)
    charts.phases([], axes)
    assert {ax.texts[-1].get_text() for ax in axes} == {"nothing on record yet"}
