from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from grokking_core import plots

BLUE, ORANGE = plots.COLOURS["train"].lower(), plots.COLOURS["validation"].lower()


@pytest.fixture(autouse=True)
def _no_windows():
    mpl.use("Agg")
    yield
    plt.close("all")


def record(seed: int, length: int = 6, learned: dict | None = None) -> SimpleNamespace:
    """A made-up record: accuracies climb by steps of ten, the training loss ends at exactly 0."""
    step = np.array([0, 1, 10, 100, 1000, 10_000])[:length]
    curve = pd.DataFrame({"step": step})
    curve["train_accuracy"] = np.linspace(0, 1, 6)[:length]
    curve["validation_accuracy"] = np.linspace(0, 1, 6)[:length] ** (2 + seed)
    curve["train_loss"] = np.linspace(4.5, 0, 6)[:length]
    curve["validation_loss"] = 4.5 + seed
    reached = {"train": 100 + seed, "validation": 1000 + seed} if learned is None else learned
    return SimpleNamespace(curve=curve, steps_to=lambda threshold, split: reached[split])


def lines(ax, colour, style="-"):
    found = [line for line in ax.lines if to_hex(line.get_color()) == colour]
    return [line for line in found if line.get_linestyle() == style]


@pytest.mark.parametrize("draw", [plots.accuracy_curves, plots.loss_curves])
def test_panel_has_one_line_a_seed_in_the_colour_of_its_split(draw):
    ax = draw([record(0), record(1), record(2)])
    assert len(lines(ax, BLUE)) == len(lines(ax, ORANGE)) == 3
    assert ax.get_xscale() == "log"
    assert "steps" in ax.get_xlabel()
    assert [t.get_text() for t in ax.get_legend().get_texts()][:2] == ["training", "validation"]


@pytest.mark.parametrize("draw", [plots.accuracy_curves, plots.loss_curves])
def test_panel_draws_into_the_axes_it_is_given(draw):
    _, ax = plt.subplots()
    assert draw([record(0)], ax) is ax
    assert len(plt.get_fignums()) == 1


def test_curve_starts_at_step_1_because_a_log_axis_has_no_0():
    ax = plots.accuracy_curves([record(0)])
    (line,) = lines(ax, BLUE)
    np.testing.assert_array_equal(line.get_xdata(), [1, 10, 100, 1000, 10_000])
    np.testing.assert_allclose(line.get_ydata(), [0.2, 0.4, 0.6, 0.8, 1.0])


def test_band_reaches_from_the_lowest_to_the_highest_seed():
    ax = plots.accuracy_curves([record(0), record(1), record(2)])
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert [to_hex(band.get_facecolor()[0]) for band in bands] == [BLUE, ORANGE]
    at_10 = [y for x, y in bands[1].get_paths()[0].vertices if x == 10]
    assert (min(at_10), max(at_10)) == pytest.approx((0.4**4, 0.4**2))


def test_band_ends_where_the_shortest_seed_does():
    ax = plots.accuracy_curves([record(0), record(1, length=4)])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 0].max() == 100
    assert max(line.get_xdata().max() for line in lines(ax, BLUE)) == 10_000


def test_milestones_are_marked_a_dot_a_seed_and_a_line_at_the_median():
    ax = plots.accuracy_curves([record(0), record(1), record(2)])
    (dots,) = lines(ax, ORANGE, "None")
    np.testing.assert_array_equal(dots.get_xdata(), [1000, 1001, 1002])
    np.testing.assert_array_equal(dots.get_ydata(), [0.99] * 3)
    assert lines(ax, BLUE, ":")[0].get_xdata()[0] == 101
    assert [text.get_text() for text in ax.texts] == ["101", "1,001"]


def test_censored_seeds_count_as_later_than_all_others_in_the_median():
    never = {"train": 100, "validation": None}
    late = record(0, learned={"train": 100, "validation": 900})
    ax = plots.accuracy_curves([late, record(1, learned=never), record(2, learned=never)])
    assert len(lines(ax, ORANGE, ":")) == 0
    assert list(lines(ax, ORANGE, "None")[0].get_xdata()) == [900]
    ax = plots.accuracy_curves([late, late, record(2, learned=never)])
    assert lines(ax, ORANGE, ":")[0].get_xdata()[0] == 900


def test_two_seeds_of_which_one_is_censored_have_no_median():
    never = {"train": None, "validation": None}
    ax = plots.accuracy_curves([record(0), record(1, learned=never)])
    assert len(ax.texts) == 0


def test_loss_of_exactly_0_leaves_a_gap_and_no_warning():
    ax = plots.loss_curves([record(0), record(1)])
    ax.figure.canvas.draw()
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] > 1e-3


def test_grids_are_joined_without_reaching_beyond_a_curve():
    long, short = record(0), record(0, length=4)
    short.curve = short.curve[short.curve["step"] != 10]
    table = plots.on_one_grid([long, short], "train_accuracy")
    assert list(table.index) == [1, 10, 100, 1000, 10_000]
    assert table.loc[10, 1] == pytest.approx(0.2 + 0.4 * 9 / 99)
    assert table[1].isna().tolist() == [False, False, False, True, True]


def test_figure_is_drawn_on_white():
    ax = plots.accuracy_curves([record(0)])
    assert to_hex(ax.figure.get_facecolor()) == to_hex(ax.get_facecolor()) == "#ffffff"
