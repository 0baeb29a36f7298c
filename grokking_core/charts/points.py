"""A mark a run: one number against another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from grokking_core.plots import style as look


def points(
    table: pd.DataFrame,
    x: str,
    y: str,
    by: str,
    ax: Axes | None = None,
    *,
    names: Mapping[Any, str] | None = None,
    lines: bool = False,
    diagonal: bool = False,
    **axis: Any,
) -> Axes:
    """One column of a table against another, on log scales, a colour and marker a group.

    Parameters
    ----------
    table : DataFrame
        A row a mark. What is not positive has no place on a log scale, and is counted in the legend.
    x, y, by : str
        Columns: across, up, and the groups.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    names : mapping to str, optional
        What the legend calls a group.
    lines : bool
        Join the medians of each group at each x.
    diagonal : bool
        Draw the line on which both are equal.
    **axis
        As for `Axes.set`, such as labels, or another scale.
    """
    ax, keys = look.axes(ax, (7, 4.4)), []
    axis = {"xscale": "log", "yscale": "log", "xlabel": x, "ylabel": y} | axis
    ax.set(**axis)
    lowest = {"log": 0.0, "linear": -math.inf}
    shown = table.loc[(table[x] > lowest[axis["xscale"]]) & (table[y] > lowest[axis["yscale"]])]
    for value, style in look.styles(dict.fromkeys(table[by])).items():
        group = shown.loc[shown[by].eq(value)]
        mark = {"color": style.colour, **look.marked(style, 5)}
        ax.plot(group[x], group[y], ls="", **mark)
        if lines:
            median = group.groupby(x)[[y]].median()
            ax.plot(median.index, median[y], style.dash, color=style.colour, lw=1.2)
        lacking = len(table.loc[table[by].eq(value)]) - len(group)
        name = look.name_of(value, names) + f" ({lacking} without a place)" * bool(lacking)
        keys.append(look.key(name, ls=style.dash if lines else "", **mark))
    if diagonal and len(shown):
        values = shown[[x, y]].to_numpy(float)
        ends = [values.min(), values.max()]
        ax.plot(ends, ends, color=look.GREY, lw=0.8, ls=":", zorder=0)
    look.legend(ax, keys)
    return look.noted(ax, shown)
