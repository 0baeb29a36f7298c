"""What groups of runs reach on a grid of two settings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from grokking_core import measures
from grokking_core.plots import style as look


def steps_by_cell(
    summary: pd.DataFrame,
    by: str,
    rows: str = "lr",
    columns: str = "weight_decay",
    column: str = "validation_sustained",
    order: Sequence[Hashable] | None = None,
    labels: tuple[str, str] = ("weight decay", "learning rate"),
) -> Figure:
    """Median steps (see `measures.medians`) in each cell of a grid, a panel a group, written into the cell.

    Lighter is sooner. A cell whose median was not reached says how many runs got there; one without a run on
    record is empty.

    Parameters
    ----------
    summary : DataFrame
        Rows of `measures.summary`, with the column `by`.
    by : str
        What makes a panel.
    rows, columns : str
        The settings of the grid, up and across.
    column : str
        Whose steps, as for `measures.medians`.
    order : sequence, optional
        The values of `by` to draw, in order.
    labels : tuple of str
        Of the axes: across, up.

    Raises
    ------
    ValueError
        If `summary` has no column `by`.
    """
    groups = look.groups(summary, by, order)
    figure, panels = look.grid(-(-len(groups) // 3) or 1, 3, (7, 0.6 + 2.1 * (-(-len(groups) // 3) or 1)))
    known = look.recorded(summary)[0]
    up, across = (sorted(set(summary[name])) for name in (rows, columns))
    found = measures.medians(known, [by, rows, columns], column).to_dict("index") if len(known) else {}
    reached = [cell["value"] for cell in found.values() if not np.isnan(cell["value"])] or [1.0]
    shades = LogNorm(min(reached), max(*reached, 1.01 * min(reached)))
    for ax, name in zip(panels, groups, strict=False):
        ax.set(title=look.name_of(name), xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5))
        ax.set_xticks(range(len(across)), [f"{value:g}" for value in across], fontsize=look.SMALL)
        ax.set_yticks(range(len(up)), [f"{value:g}" for value in up], fontsize=look.SMALL)
        for place in np.ndindex(len(up), len(across)):
            cell = (name, up[place[0]], across[place[1]])
            if cell in found:
                _cell(ax, place, found[cell], shades)
        look.noted(ax, known.loc[known[by].eq(name)], look.SMALL)
    for ax in panels[len(groups) :]:
        ax.remove()
    figure.supxlabel(labels[0], fontsize=look.NORMAL)
    figure.supylabel(labels[1], fontsize=look.NORMAL)
    return figure


def _cell(ax: Axes, place: tuple[int, ...], found: dict[str, float], shades: LogNorm) -> None:
    (i, j), steps = place, found["value"]
    if np.isnan(steps):
        look.centred(ax, (j, i), f"{found['reached']:.0f} of {found['n']:.0f}", look.GREY)
        return
    colour = to_hex(colormaps["viridis"](0.25 + 0.75 * (1 - float(shades(steps)))))
    ax.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, color=colour))
    look.centred(ax, (j, i), f"{steps:,.0f}", look.ink(colour))
