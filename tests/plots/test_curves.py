from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text

from grokking_core import Run, measures, plots
from grokking_core.plots import style
from grokking_core.plots import style as look

BLUE, ORANGE = style.COLOURS["train"].lower(), style.COLOURS["validation"].lower()


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
    found = [line for line in ax.lines if to_hex(line.get_color()) == colour.lower()]
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
    ax.figure.draw_without_rendering()
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


# -------------------------------------------------------------------------------------------------
# Groups of records


class Records(list):
    missing = ()


def never(seed: int) -> SimpleNamespace:
    return record(seed, learned={"train": 100, "validation": None})


def test_validation_curves_have_a_line_a_seed_and_a_marker_where_it_learned():
    ax = plots.validation_curves({"x+y": [record(0), record(1)], "x-y": [record(0), never(1)]})
    solid, dashed = look.STYLES["x+y"], look.STYLES["x-y"]
    assert len(lines(ax, solid.colour, "-")) == len(lines(ax, dashed.colour, "--")) == 2
    marks = [(line.get_marker(), list(line.get_xdata())) for line in lines(ax, solid.colour, "None")]
    assert marks == [("o", [1000, 1001]), ("s", [1000])]


def test_validation_curves_count_what_is_not_on_record():
    group = Records([record(0)])
    group.missing = (1, 2)
    ax = plots.validation_curves({"x+y": group}, names={"x+y": "sum"})
    assert legend(ax) == ["sum; 2 not on record"]


def test_transition_curves_pass_through_one_and_leave_out_runs_that_never_learned():
    ax = plots.transition_curves({"transformer": [record(0), record(1)], "mlp": [record(0), never(1)]})
    curves = lines(ax, look.STYLES["transformer"].colour)
    assert len(curves) == 2
    assert [curve.get_xdata()[4] for curve in curves] == [1000 / 1000, 1000 / 1001]
    assert len(lines(ax, look.STYLES["mlp"].colour, "--")) == 1
    assert legend(ax) == ["transformer: 2 of 2 reached 90 %", "MLP: 1 of 2 reached 90 %"]


@pytest.mark.parametrize("draw", [plots.validation_curves, plots.transition_curves])
def test_curves_are_of_the_accuracy_that_is_asked_for(draw):
    one = record(0, learned={"validation": None, "unmirrored": 1000})
    one.curve["unmirrored_accuracy"] = one.curve["validation_accuracy"] / 2
    ax = draw({"transformer": [one]}, which="unmirrored")
    assert ax.get_ylabel() == "validation accuracy, unmirrored pairs"
    (curve,) = lines(ax, look.STYLES["transformer"].colour)
    assert max(curve.get_ydata()) == 0.5
    assert draw({"transformer": [one]}).get_ylabel() == "validation accuracy"


# -------------------------------------------------------------------------------------------------
# Against the training fraction


def run(fraction: float, validation: int | None = None, best: float = 0.5, **more) -> dict:
    """A made-up row of a summary: training learned after 100 steps, followed for 5,000."""
    row = {"train_fraction": fraction, "seed": 0, "operation": "x+y", "diverged": False, "missing": False}
    row |= {"train_steps": 100, "validation_steps": validation, "followed": 5000}
    return row | {"best_train": 1.0, "best_validation": best, "best_unmirrored": best / 2} | more


def lost(fraction: float, **more) -> dict:
    nothing = {"train_steps": None, "followed": None, "best_train": np.nan, "missing": True}
    return run(fraction, None, np.nan, **nothing, **more)


def table(*rows: dict) -> pd.DataFrame:
    whole = dict.fromkeys(("train_steps", "validation_steps", "followed"), "Int64")
    return pd.DataFrame(rows).astype(whole)


def points(line) -> list[tuple[float, float]]:
    x, y = (np.asarray(data, float) for data in line.get_data())
    return [(round(a, 6), round(b, 6)) for a, b in zip(x, y, strict=True) if not np.isnan(b)]


def marks(ax, colour: str, marker: str) -> list[tuple[float, float]]:
    found = [line for line in ax.lines if to_hex(line.get_color()) == colour.lower()]
    return sorted(p for line in found if line.get_marker() == marker for p in points(line))


def legend(ax) -> list[str]:
    return [] if ax.get_legend() is None else [text.get_text() for text in ax.get_legend().get_texts()]


def notes(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_steps_are_a_mark_a_run_at_its_fraction_in_percent():
    ax = plots.steps_by_fraction(table(run(0.3, 900), run(0.3, 700), run(0.5, 400)))
    assert marks(ax, ORANGE, "o") == [(30, 700), (30, 900), (50, 400)]
    assert marks(ax, BLUE, "s") == [(30, 100), (30, 100), (50, 100)]
    assert ax.get_yscale() == "log"
    assert legend(ax) == ["training", "validation", "median over seeds"]


def test_steps_of_censored_runs_are_hollow_triangles_where_following_ended():
    ax = plots.steps_by_fraction(table(run(0.3, None), run(0.3, None, followed=800), run(0.5, 400)))
    assert marks(ax, ORANGE, "^") == [(30, 800), (30, 5000)]
    assert marks(ax, ORANGE, "o") == [(50, 400)]
    (triangles,) = [line for line in lines(ax, ORANGE, "None") if line.get_marker() == "^"]
    assert triangles.get_markerfacecolor() == "none"
    assert legend(ax)[-1] == "not reached: last step followed"


def test_steps_have_a_median_line_that_breaks_where_it_was_not_reached():
    rows = [run(0.3, 900), run(0.4, None), run(0.5, 400), run(0.5, 500), run(0.5, None)]
    (median,) = lines(plots.steps_by_fraction(table(*rows)), ORANGE, "-")
    np.testing.assert_allclose(median.get_xdata(), [30, 40, 50])
    np.testing.assert_array_equal(median.get_ydata(), [900, np.nan, 500])


def test_steps_have_a_median_line_that_breaks_where_nothing_is_on_record():
    (median,) = lines(plots.steps_by_fraction(table(run(0.3, 900), lost(0.4), run(0.5, 400))), BLUE, "-")
    np.testing.assert_array_equal(median.get_ydata(), [100, np.nan, 100])


def test_steps_of_missing_runs_are_crosses_at_the_lower_edge():
    ax = plots.steps_by_fraction(table(run(0.3, 900), lost(0.4)))
    assert marks(ax, look.GREY, "x") == [(40, 0.025)]
    (cross,) = lines(ax, look.GREY.lower(), "None")
    assert cross.get_transform() == ax.get_xaxis_transform()
    assert legend(ax)[-1] == "not on record"
    assert ax.get_ylim()[0] > 10  # the crosses do not stretch the axis


def test_steps_never_reached_have_no_median_in_the_legend():
    ax = plots.steps_by_fraction(table(run(0.3, None, train_steps=None)))
    assert legend(ax) == ["training", "validation", "not reached: last step followed"]


def test_accuracy_has_a_line_of_means_and_a_small_mark_a_run():
    rows = [run(0.3, best=0.2), run(0.3, best=0.4), run(0.5, best=1.0)]
    ax = plots.accuracy_by_fraction(table(*rows), "operation")
    (means,) = lines(ax, look.STYLES["x+y"].colour)
    assert points(means) == [(30, 0.3), (50, 1.0)]
    (runs,) = lines(ax, look.STYLES["x+y"].colour, "None")
    assert points(runs) == [(30, 0.2), (30, 0.4), (50, 1.0)]


def test_accuracy_has_a_colour_a_group_and_its_name_in_the_legend():
    rows = [run(0.3, operation=name) for name in ("x-y", "s5:xy")]
    ax = plots.accuracy_by_fraction(table(*rows), "operation", names={"s5:xy": "product"})
    assert legend(ax) == ["$x-y$", "product"]
    for name in ("x-y", "s5:xy"):
        assert len(lines(ax, look.STYLES[name].colour, "--")) == 1


def test_accuracy_line_breaks_where_a_run_is_missing_and_a_cross_below_0_says_so():
    rows = [run(0.3), lost(0.4), run(0.5), run(0.3, operation="x/y"), lost(0.5, operation="x/y")]
    ax = plots.accuracy_by_fraction(table(*rows), "operation")
    (means,) = lines(ax, look.STYLES["x+y"].colour)
    np.testing.assert_array_equal(means.get_ydata(), [0.5, np.nan, 0.5])
    ((x, y),) = marks(ax, look.STYLES["x+y"].colour, "x")
    ((other_x, other_y),) = marks(ax, look.STYLES["x/y"].colour, "x")
    assert (x, other_x) == (40, 50)
    assert ax.get_ylim()[0] < other_y < y < 0
    assert legend(ax)[-1] == "not on record"


def test_accuracy_of_some_missing_seeds_is_the_mean_of_the_others():
    ax = plots.accuracy_by_fraction(table(run(0.3, best=0.2), lost(0.3)), "operation")
    (means,) = lines(ax, look.STYLES["x+y"].colour)
    assert points(means) == [(30, 0.2)]
    assert len(marks(ax, look.STYLES["x+y"].colour, "x")) == 1


def test_accuracy_is_drawn_in_the_order_asked_for_or_of_the_numbers():
    summary = table(*[run(0.3, outliers=k) for k in (1000, 0, 10)])
    assert legend(plots.accuracy_by_fraction(summary, "outliers")) == ["0", "10", "1,000"]
    assert legend(plots.accuracy_by_fraction(summary, "outliers", order=[10, 0, 7])) == ["10", "0"]


def test_accuracy_of_names_has_the_same_order_whatever_is_on_record():
    rows = [run(0.3, operation="x/y"), run(0.3, operation="other"), lost(0.3, operation="x+y")]
    expected = ["$x+y$", "$x/y$", "other", "not on record"]
    assert legend(plots.accuracy_by_fraction(table(*rows), "operation")) == expected


def test_accuracy_of_another_column_is_drawn_and_named():
    ax = plots.accuracy_by_fraction(table(run(0.3)), "operation", column="best_unmirrored")
    (means,) = lines(ax, look.STYLES["x+y"].colour)
    assert points(means) == [(30, 0.25)]
    assert "unmirrored" in ax.get_ylabel()


@pytest.mark.parametrize("draw", [plots.accuracy_by_fraction, plots.accuracy_panels])
def test_accuracy_by_an_unknown_column_is_an_error(draw):
    with pytest.raises(
        ValueError, match="by='variant' is no column of the table; choose from train_fraction"
    ):
        draw(table(run(0.3)), "variant")


def test_panels_have_the_first_column_solid_and_the_second_dashed():
    rows = [run(0.3), run(0.5), run(0.3, operation="x/y"), lost(0.5, operation="x/y")]
    figure = plots.accuracy_panels(table(*rows), "operation")
    first, second = figure.axes[:2]
    assert [first.get_title(), second.get_title()] == ["$x+y$", "$x/y$"]
    (raw,), (unmirrored,) = (lines(first, look.STYLES["x+y"].colour, dash) for dash in ("-", "--"))
    assert unmirrored.get_markerfacecolor() == "white"
    assert points(raw) == [(30, 0.5), (50, 0.5)]
    assert points(unmirrored) == [(30, 0.25), (50, 0.25)]
    assert marks(second, look.STYLES["x/y"].colour, "x") == [(50, -0.09)]
    assert not marks(first, look.STYLES["x+y"].colour, "x")


def test_panels_are_a_grid_with_nothing_drawn_beyond_the_last_group():
    rows = [run(0.3, operation=name) for name in list(look.OPERATIONS)[:5]]
    figure = plots.accuracy_panels(table(*rows), "operation")
    assert [ax.axison for ax in figure.axes] == [True] * 5 + [False]


def test_fractions_needed_are_bars_from_what_failed_to_what_sufficed():
    rows = [run(f, operation=name) for name in ("x+y", "x/y") for f in (0.3, 0.5)]
    needed = {"x+y": measures.Needed(0.3, 0.5), "x/y": measures.Needed(0.5, None)}
    ax = plots.accuracy_by_fraction(table(*rows), "operation", needed=needed)
    bars = [line for line in ax.lines if line.get_linewidth() == 3]
    assert [list(np.round(bar.get_xdata(), 9)) for bar in bars] == [[30, 50], [50, 100]]
    assert all(bar.get_ydata()[0] < 0 for bar in bars)
    assert len(marks(ax, look.STYLES["x/y"].colour, ">")) == 1
    assert not marks(ax, look.STYLES["x+y"].colour, ">")
    assert "fraction needed" in legend(ax)


def test_run_that_was_given_up_early_is_told_from_one_that_failed():
    found = table(run(0.3), run(0.5))
    found["validation_steps"] = pd.array([None, None], dtype="Int64")
    found["followed"] = pd.array([1000, 4000], dtype="Int64")
    ax = plots.accuracy_by_fraction(found, "operation")
    assert [x for x, _ in marks(ax, look.GREY, "^")] == [30]
    assert "given up early" in legend(ax)
    found["diverged"] = True
    assert "given up early" not in legend(plots.accuracy_by_fraction(found, "operation"))


# -------------------------------------------------------------------------------------------------
# One mark a network


def test_sharpness_is_a_mark_a_network_at_the_mean_of_its_subspaces():
    phi = [[1.0, 3.0, 2.0], [30.0, 10.0, 20.0]]
    ax = plots.sharpness_scatter(phi, [0.9, 0.1], ["minibatch, Adam", "AdamW, decay 1"])
    one, other = look.STYLES["minibatch, Adam"], look.STYLES["AdamW, decay 1"]
    assert marks(ax, one.colour, one.marker) == [(2, 0.9)]
    assert marks(ax, other.colour, other.marker) == [(20, 0.1)]
    assert list(lines(ax, one.colour)[0].get_xdata()) == [1, 3]
    assert ax.get_xscale() == "log"


def test_sharpness_of_a_network_that_did_not_fit_is_hollow():
    groups = ["Adam, lr 3e-4"] * 3  # whose lines are dashed, so that its markers are hollow elsewhere
    ax = plots.sharpness_scatter([1.0, 2.0, 0.0], [0.9, 0.1, 0.2], groups, fitted=[True, False, False])
    style = look.STYLES[groups[0]]
    fills = [line.get_markerfacecolor() for line in ax.lines if line.get_marker() == style.marker]
    assert fills == [style.colour, "none", "none"]
    assert legend(ax)[1] == "hollow: training set not fitted"


def sharp(phi, released, train=1.0, validation=0.5):
    """A made-up record with sharpness."""
    curve = pd.DataFrame({"train_accuracy": [0.0, train], "validation_accuracy": [1.0, validation]})
    kept = {"sharpness": {"phi": np.array(phi), "released": np.array(released)}}
    return SimpleNamespace(curve=curve, kept=kept)


def test_sharpness_panels_correlate_what_is_fitted_at_the_end():
    networks = [sharp([10.0**-i, 3 * 10.0**-i], [0.0, i], validation=i / 4) for i in range(4)]
    records = Records([*networks, sharp([9.0, 9.0], [9.0, 9.0], train=0.98)])
    records.missing = [Run(operation="x+y")]
    figure = plots.sharpness_panels(records, ["weight noise"] * 5, threshold=0.99)
    left, right = figure.axes
    style = look.STYLES["weight noise"]
    assert marks(left, style.colour, style.marker) == [
        (0.002, 0.75), (0.02, 0.5), (0.2, 0.25), (2, 0), (9, 0.5)
    ]  # fmt: skip
    assert [ax.get_title().splitlines()[1] for ax in (left, right)] == [
        "Spearman -1 [-1, -1] (n = 4)",
        "Spearman 1 [1, 1] (n = 4)",
    ]
    (keys,) = figure.legends
    assert [text.get_text() for text in keys.texts] == [
        "weight noise",
        "hollow: training set not fitted",
        "left edge: not positive",
        "1 not on record",
    ]
    assert left.get_legend() is right.get_legend() is None


def test_sharpness_of_0_lies_at_the_edge_and_none_is_counted():
    ax = plots.sharpness_scatter([1.0, 0.0, np.nan], [0.9, 0.5, 0.2], ["dropout 0.1"] * 3)
    style = look.STYLES["dropout 0.1"]
    on_log, at_edge = (line for line in ax.lines if line.get_marker() == style.marker)
    assert (points(on_log), points(at_edge)) == ([(1, 0.9)], [(0.01, 0.5)])
    assert at_edge.get_transform() == ax.get_yaxis_transform()
    assert legend(ax) == ["dropout 0.1", "left edge: not positive", "1 not on record"]


def test_sharpness_of_nothing_positive_has_a_linear_scale():
    ax = plots.sharpness_scatter([0.0], [0.5], ["dropout 0.1"])
    assert (ax.get_xscale(), list(ax.get_xticks())) == ("linear", [])


def test_strip_has_a_row_a_group_with_its_runs_and_their_median():
    values = {"architecture": ["mlp"] * 3 + ["transformer"], "suddenness": [0.6, 0.4, None, 0.2]}
    ax = plots.suddenness_strip(pd.DataFrame(values), "architecture")
    style = look.STYLES["mlp"]
    assert [x for x, _ in marks(ax, style.colour, style.marker)] == [0.4, 0.6]
    assert list(lines(ax, style.colour)[0].get_xdata()) == [0.5, 0.5]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["transformer", "MLP\n1 of 3 not reached"]


def test_strip_counts_missing_runs_apart():
    values = {"architecture": "mlp", "suddenness": [0.6, np.nan], "missing": [False, True]}
    ax = plots.suddenness_strip(pd.DataFrame(values), "architecture")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["MLP\n1 not on record"]


def test_strip_by_an_unknown_column_is_an_error():
    with pytest.raises(ValueError, match="by='operation' is no column"):
        plots.suddenness_strip(pd.DataFrame({"suddenness": [0.1]}), "operation")


# -------------------------------------------------------------------------------------------------
# Little or nothing to show

NOTHING = measures.summary([])
CENSORED = table(run(0.3, None, train_steps=None))
MISSING = table(lost(0.3), lost(0.5), lost(0.3, operation="x-y"))
EMPTY = {
    "accuracy": lambda: plots.accuracy_curves([]),
    "loss": lambda: plots.loss_curves([]),
    "validation": lambda: plots.validation_curves({}),
    "validation of a group": lambda: plots.validation_curves({"x+y": []}),
    "transition": lambda: plots.transition_curves({"mlp": []}),
    "steps": lambda: plots.steps_by_fraction(NOTHING),
    "steps, missing": lambda: plots.steps_by_fraction(MISSING),
    "fraction": lambda: plots.accuracy_by_fraction(NOTHING, "operation"),
    "fraction, missing": lambda: plots.accuracy_by_fraction(MISSING, "operation"),
    "panels": lambda: plots.accuracy_panels(NOTHING, "operation").axes[0],
    "panels, missing": lambda: plots.accuracy_panels(MISSING, "operation").axes[0],
    "sharpness": lambda: plots.sharpness_scatter([], [], []),
    "sharpness panels": lambda: plots.sharpness_panels([], []).axes[0],
    "sharpness, missing": lambda: plots.sharpness_scatter([np.nan], [np.nan], ["dropout 0.1"]),
    "strip": lambda: plots.suddenness_strip(pd.DataFrame({"by": [], "suddenness": []}), "by"),
}


@pytest.mark.parametrize("draw", EMPTY.values(), ids=EMPTY)
def test_panel_of_nothing_says_so_and_has_its_axes_named(draw):
    ax = draw()
    ax.figure.draw_without_rendering()
    assert notes(ax) == ["nothing on record yet"]
    assert ax.get_xlabel() or ax.figure.get_supxlabel()


def test_panels_of_missing_runs_have_their_crosses():
    assert marks(plots.steps_by_fraction(MISSING), look.GREY, "x") == [(30, 0.025), (30, 0.025), (50, 0.025)]
    ax = plots.accuracy_by_fraction(MISSING, "operation")
    assert len({x for x, _ in marks(ax, look.STYLES["x+y"].colour, "x")}) == 2


@pytest.mark.parametrize("seeds", [1, 3])
def test_panel_is_drawn_without_warnings_and_no_text_is_small(seeds):
    summary = pd.concat([CENSORED, MISSING, table(*[run(0.4, 900 + s, seed=s) for s in range(seeds)])])
    group = Records([record(seed) for seed in range(seeds)])
    figures = [
        plots.steps_by_fraction(summary).figure,
        plots.accuracy_by_fraction(summary, "operation").figure,
        plots.accuracy_panels(summary, "operation"),
        plots.validation_curves({"x+y": group}).figure,
        plots.transition_curves({"mlp": group}).figure,
        plots.sharpness_scatter(range(seeds), range(seeds), ["a"] * seeds).figure,
    ]
    for figure in figures:
        figure.draw_without_rendering()
        assert to_hex(figure.get_facecolor()) == "#ffffff"
        assert all(text.get_fontsize() >= look.SMALL for text in figure.findobj(Text) if text.get_text())


def test_accuracy_axes_are_in_percent():
    panels = [
        plots.accuracy_curves([record(0)]),
        plots.validation_curves({"x+y": [record(0)]}),
        plots.transition_curves({"x+y": [record(0)]}),
        plots.accuracy_by_fraction(table(run(0.3)), "operation"),
        plots.accuracy_panels(table(run(0.3)), "operation").axes[0],
        plots.sharpness_scatter([1.0], [0.5], ["a"]),
    ]
    assert [ax.yaxis.get_major_formatter()(0.5, 0) for ax in panels] == ["50 %"] * len(panels)
