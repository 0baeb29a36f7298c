"""What groups of runs reach, against the training fraction."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grokking_core import measures
from grokking_core.plots import style as look
from grokking_core.plots.style import COLOURS, NAMES, SPLITS, Split, Style

if TYPE_CHECKING:
    pass

FRACTION = "training fraction (% of the table)"


def steps_by_fraction(summary: pd.DataFrame, ax: Axes | None = None, threshold: float = 0.99) -> Axes:
    """Steps to first reach a threshold against the training fraction: the form of Figure 1, centre.

    A mark a run, lines through the Kaplan-Meier medians over seeds (see `measures.medians`; they break
    where the median was not reached or no run is on record). A censored run is a hollow triangle at the
    last step it was followed to: its own step lies higher.

    Parameters
    ----------
    summary : DataFrame
        Rows of `measures.summary`, of one configuration.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    threshold : float
        The accuracy that `summary` was made with.

    Returns
    -------
    Axes
        With the training fraction in percent across and optimizer steps (log scale) up.
    """
    ax = look.axes(ax)
    ax.set(xlabel=FRACTION, ylabel=f"optimizer steps to first reach {100 * threshold:.0f} %", yscale="log")
    known, missing = look.recorded(summary)
    keys = [_steps(ax, known, split) for split in SPLITS] if len(known) else []
    fractions = np.unique(summary["train_fraction"])
    medians = {split: _medians(known, split, fractions) for split in SPLITS if len(known)}
    for split, median in medians.items():
        ax.plot(100 * fractions, median, color=COLOURS[split], lw=1.4, marker="_", ms=10, mew=1.4)
    if not all(np.isnan(median).all() for median in medians.values()):
        keys.append(look.key("median over seeds", color="black", marker="_", ms=10))
    if any(np.isnan(measures.floats(known[f"{split}_steps"])).any() for split in SPLITS):
        keys.append(look.key("not reached: last step followed", color="black", ms=6, **look.CENSORED))
    if len(missing):
        x, low = 100 * missing["train_fraction"], np.full(len(missing), 0.025)
        ax.plot(x, low, color=look.GREY, transform=ax.get_xaxis_transform(), **look.CROSS)
        keys.append(look.key("not on record", color=look.GREY, **look.CROSS))
    if summary.empty:
        ax.set_xlim(0, 100)
    look.legend(ax, keys)
    return look.noted(ax, known)


def _steps(ax: Axes, known: pd.DataFrame, split: Split) -> Line2D:
    """The marks of one side of `steps_by_fraction`; returns their legend entry."""
    x, steps = 100 * known["train_fraction"].to_numpy(), measures.floats(known[f"{split}_steps"])
    reached, colour = ~np.isnan(steps), COLOURS[split]
    mark = {"marker": look.MARKERS[split], "ms": 4.5, "mec": "white", "mew": 0.5}
    ax.plot(x[reached], steps[reached], color=colour, ls="", **mark)
    size = 9 if split == "train" else 6  # both are seen where they coincide
    ax.plot(x[~reached], measures.floats(known["followed"])[~reached], color=colour, ms=size, **look.CENSORED)
    return look.key(NAMES[split], color=colour, ls="", **mark)


def _medians(known: pd.DataFrame, split: Split, fractions: np.ndarray) -> np.ndarray:
    """Median steps at each fraction, NaN where not reached or nothing is on record."""
    table = measures.medians(known, column=f"{split}_steps")
    return measures.floats(table["value"].reindex(fractions))


def accuracy_by_fraction(
    summary: pd.DataFrame,
    by: str,
    ax: Axes | None = None,
    column: str = "best_validation",
    order: Sequence[Hashable] | None = None,
    names: Mapping[Any, str] | None = None,
    needed: Mapping[Any, measures.Needed] | None = None,
) -> Axes:
    """Best accuracy against the training fraction, a line a group: the form of Figures 2 and 6.

    Small marks are runs, lines the means over those on record; they break where none is. A hollow triangle
    is a run that was given up unlearned, and earlier than others: it has not failed. Below 0 each group has
    a row: crosses are fractions at which it lacks a run, a bar is where the fraction needed lies.

    Parameters
    ----------
    summary : DataFrame
        Rows of `measures.summary`, with the column `by`.
    by : str
        What makes a line: "operation", "outliers", or a column of one's own such as "variant".
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    column : {"best_validation", "best_unmirrored", "best_train"}
        Whose accuracy.
    order : sequence, optional
        The values of `by` to draw, in the legend's order; without it all of them, numbers sorted and names
        as in `look.STYLES`.
    names : mapping to str, optional
        What the legend calls a value.
    needed : mapping to Needed, optional
        Between which fractions a group's need lies: the bar ends in an arrow where none tried sufficed.

    Returns
    -------
    Axes
        With the training fraction in percent across and accuracy (0 to 1) up.

    Raises
    ------
    ValueError
        If `summary` has no column `by`.
    """
    ax = look.axes(ax, (7, 4.4))
    groups, keys = look.groups(summary, by, order), []
    needed = needed or {}
    lacking = [value for value, table in groups.items() if len(look.recorded(table)[1])]
    rows = [value for value in groups if value in lacking or value in needed]
    below = min(0.03, 0.2 / max(1, len(lacking))) if not needed else 0.035  # from one row to the next
    for value, style in look.styles(groups).items():
        mark, height = look.marked(style, 5), -0.03 - below * (1 + rows.index(value)) if value in rows else 0
        _runs(ax, groups[value], column, style)
        _means(ax, groups[value], column, color=style.colour, ls=style.dash, **mark)
        keys.append(look.key(look.name_of(value, names), color=style.colour, ls=style.dash, **mark))
        _missing(ax, groups[value], height, style.colour)
        if value in needed:
            _bracket(ax, needed[value], height, style.colour)
    early = _given_up(summary)
    ax.plot(100 * early["train_fraction"], early[column], color=look.GREY, ms=8, **look.CENSORED)
    if len(early):
        keys.append(look.key("given up early", color=look.GREY, ms=6, **look.CENSORED))
    if needed:
        keys.append(look.key("fraction needed", color=look.GREY, lw=3))
    if lacking:
        keys.append(look.key("not on record", color=look.GREY, **look.CROSS))
    ax.set(xlabel=FRACTION, ylabel=f"best {look.COLUMNS[column]}", xlim=(0, 100), yticks=np.linspace(0, 1, 6))
    ax.set_ylim(-0.02 - (0.03 + below * len(rows) if rows else 0), 1.03)
    look.percent(ax.yaxis)
    look.legend(ax, keys, title=by if by == "outliers" else None, place="right")
    return look.noted(ax, look.recorded(summary)[0])


def accuracy_panels(
    summary: pd.DataFrame,
    by: str,
    columns: Sequence[str] = ("best_validation", "best_unmirrored"),
    order: Sequence[Hashable] | None = None,
    names: Mapping[Any, str] | None = None,
) -> Figure:
    """The lines of `accuracy_by_fraction`, a small panel a group, a dash a column.

    For a symmetric operation, a validation pair whose mirror is in the training set is no evidence of
    generalization; `best_unmirrored` leaves these pairs out.

    Parameters
    ----------
    summary, by, order, names
        As in `accuracy_by_fraction`.
    columns : sequence of str
        One to three of best_validation, best_unmirrored, best_train: solid, dashed, dotted.

    Returns
    -------
    Figure
        A grid of panels with the same axes, each with its group's name.

    Raises
    ------
    ValueError
        If `summary` has no column `by`.
    """
    groups = look.groups(summary, by, order)
    n_columns = min(4, max(1, math.ceil(math.sqrt(len(groups)))))
    n_rows = max(1, math.ceil(len(groups) / n_columns))
    figure, panels = look.grid(n_rows, n_columns, (7, 1 + (1.5 if n_rows > 1 else 2.4) * n_rows))
    dashes = dict(zip(columns, look.DASHES, strict=False))
    for ax, (value, style) in zip(panels, look.styles(groups).items(), strict=False):
        _panel(ax, groups[value], dashes, style)
        ax.set_title(look.name_of(value, names), fontsize=look.NORMAL)
    for ax in panels:
        ax.tick_params(labelsize=look.SMALL)
    for ax in panels[len(groups) :]:
        ax.set_axis_off()
    for ax in panels[len(groups) - n_columns : len(groups)] if groups else ():
        ax.tick_params(labelbottom=True)  # also above a gap in the last row
    if not groups:
        look.noted(panels[0], ())
    panels[0].set(xlim=(0, 102), xticks=[0, 50, 100], ylim=(-0.16, 1.06), yticks=[0, 0.5, 1])
    look.percent(panels[0].yaxis)
    figure.supxlabel(FRACTION, fontsize=10)
    figure.supylabel("best accuracy", fontsize=10)
    keys = [look.key(look.COLUMNS[name], color="black", ls=dash) for name, dash in dashes.items()]
    if len(look.recorded(summary)[1]):
        keys.append(look.key("not on record", color=look.GREY, **look.CROSS))
    figure.legend(handles=keys, loc="outside upper center", ncols=4, frameon=False, fontsize=look.NORMAL)
    return figure


def _panel(ax: Axes, table: pd.DataFrame, dashes: Mapping[str, str], style: Style) -> None:
    """One group of `accuracy_panels`."""
    for column, dash in dashes.items():
        mark = look.marked(style._replace(dash=dash), 3.5)
        _means(ax, table, column, color=style.colour, ls=dash, **mark)
    _runs(ax, table, next(iter(dashes)), style)
    _missing(ax, table, -0.09, style.colour)
    look.noted(ax, look.recorded(table)[0], look.SMALL)


def _means(ax: Axes, table: pd.DataFrame, column: str, **line: Any) -> None:
    """Means over runs; NaN, which breaks the line, at a fraction of which no run is on record."""
    fractions, place = np.unique(table["train_fraction"], return_inverse=True)
    mean = pd.Series(measures.floats(table[column])).groupby(place).agg("mean")
    ax.plot(100 * fractions, mean.to_numpy(float), lw=1.4, **line)


def _runs(ax: Axes, table: pd.DataFrame, column: str, style: Style) -> None:
    known = table.dropna(subset=column)
    x = 100 * known["train_fraction"]
    ax.plot(x, known[column], style.marker, color=style.colour, ms=2.5, mew=0, alpha=0.6)


def _missing(ax: Axes, table: pd.DataFrame, height: float, colour: str) -> None:
    x = 100 * np.unique(look.recorded(table)[1]["train_fraction"])
    if len(x):
        ax.plot(x, np.full(len(x), height), color=colour, **look.CROSS)


def _bracket(ax: Axes, needed: measures.Needed, height: float, colour: str) -> None:
    """A bar from the fraction that failed to the one that sufficed; to the edge where there is none."""
    if needed == (None, None):
        return
    ends = 100 * np.array([needed.failed or 0, needed.reached or 1])
    ax.plot(ends, [height] * 2, color=colour, lw=3, alpha=0.75, solid_capstyle="butt")
    if needed.reached is None:
        ax.plot(ends[-1:], [height], ">", color=colour, ms=5, clip_on=False)


def _given_up(summary: pd.DataFrame) -> pd.DataFrame:
    """Runs that did not learn in fewer updates than others were followed for, without diverging."""
    known = look.recorded(summary)[0]
    early = known["validation_steps"].isna() & known["followed"].lt(known["followed"].max())
    return pd.DataFrame(known[early & ~known["diverged"]])
