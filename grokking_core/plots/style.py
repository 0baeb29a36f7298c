"""The look of the figures: one colour and marker for the same thing on every page; axes, legends, marks.

Training is always blue and validation always orange; operations, optimizers, outliers and
architectures have theirs from the tables below. The colours (Okabe and Ito's, and Tol's) can be told
apart by colour-blind readers, and each has a marker or a dash of its own for print. The ground is
white, which a dark page keeps.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence, Sized
from itertools import cycle
from typing import Any, Literal, NamedTuple, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grokking_core import data

Key = TypeVar("Key", bound=Hashable)  #: what a legend tells apart
Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
COLOURS = {"train": "#0072B2", "validation": "#D55E00"}
MARKERS = {"train": "s", "validation": "o"}
NAMES = {"train": "training", "validation": "validation"}
GREY = "#767676"  #: what is not on record, and guides
SMALL, NORMAL = 8, 9  #: points, of text; none is smaller
DASHES = ("-", "--", ":")
CENSORED: dict[str, Any] = {"marker": "^", "mfc": "none", "mew": 1.1, "ls": ""}
CROSS: dict[str, Any] = {"marker": "x", "ms": 4, "mew": 1.1, "ls": "", "clip_on": False}


# -------------------------------------------------------------------------------------------------
# The same look for the same thing


class Style(NamedTuple):
    """Colour, marker and dash of a line; markers of dashed lines are hollow."""

    colour: str
    marker: str
    dash: str = "-"


_BLACK, _SKY, _AMBER, _GREEN, _PINK = "#000000", "#56B4E9", "#E69F00", "#009E73", "#CC79A7"
_INDIGO, _FOREST, _BROWN, _WINE, _PURPLE = "#332288", "#117733", "#997700", "#882255", "#AA4499"

#: Solid where the order of the operands does not matter.
OPERATIONS = {
    "x+y": Style(_BLACK, "o"),
    "x-y": Style(_BLACK, "s", "--"),
    "x*y": Style(_SKY, "D"),
    "x*y!=0": Style(_PINK, "d"),
    "x/y": Style(_SKY, "^", "--"),
    "x/y|x-y": Style(_INDIGO, "v", "--"),
    "x^2+y^2": Style(_GREEN, "P"),
    "x^2+xy+y^2": Style(_AMBER, "X"),
    "x^2+xy+y^2+x": Style(_AMBER, "p", "--"),
    "x^3+xy": Style(_FOREST, "h", "--"),
    "x^3+xy^2+y": Style(_BROWN, "*", "--"),
    "s5:xy": Style(_WINE, ">", "--"),
    "s5:xyx^-1": Style(_PURPLE, "<", "--"),
    "s5:xyx": Style(_PINK, "8", "--"),
}
VARIANTS = {
    "full batch, Adam": Style(_SKY, "s"),
    "minibatch, Adam": Style(_BLACK, "o"),
    "full batch, update noise": Style(_INDIGO, "D"),
    "weight noise": Style(_PINK, "P"),
    "dropout 0.1": Style(_AMBER, "X"),
    "AdamW, decay 1": Style(_GREEN, "*"),
    "AdamW, decay to init": Style(_FOREST, "h", "--"),
    "Adam, lr 3e-4": Style(_BROWN, "v", "--"),
    "Adam, lr 3e-3": Style(_WINE, "^", "--"),
}
ARCHITECTURES = {"transformer": Style(_BLACK, "o"), "mlp": Style(_PINK, "s", "--")}
STYLES = OPERATIONS | VARIANTS | ARCHITECTURES
OTHERS = tuple(map(Style, (_AMBER, _GREEN, _INDIGO, _BROWN, _SKY, _PURPLE, _FOREST), "DPXvh^d"))
COSETS = (_BLACK, _SKY, _AMBER, _GREEN, _INDIGO, _BROWN, _PINK, _WINE)
COLUMNS = {
    "best_train": "training accuracy",
    "best_validation": "validation accuracy",
    "best_unmirrored": "validation accuracy, unmirrored pairs",
}
FOUND = _INDIGO  #: a measured agreement, against chance in black

LABELS = {name: operation.latex for name, operation in data.OPERATIONS.items()} | {"mlp": "MLP"}


def styles(values: Iterable[Key]) -> dict[Key, Style]:
    """The look of each of the values of a column, or labels of groups.

    Names from `STYLES` have their own. Whole numbers, such as counts of outliers, have a sequential colour
    and a marker that depend on the number alone: 0 is dark, 3,000 or more light. All else takes turns, dashed
    where no colour is left.
    """
    others, found = cycle((*OTHERS, *(style._replace(dash="--") for style in OTHERS))), {}
    for value in values:
        counted = isinstance(value, int | np.integer)
        found[value] = _counted(int(value)) if counted else STYLES.get(str(value)) or next(others)
    return found


def _counted(value: int) -> Style:
    height = math.log10(value) if value > 0 else -1
    colour = mpl.colormaps["viridis"](0.88 * min((height + 1) / (math.log10(3000) + 1), 1))
    return Style(to_hex(colour), "oDs^vP*Xph"[max(0, round(2 * height) + 1) % 10])


def coset(label: int) -> Style:
    """The look of coset or residue number `label`: 72 that differ, neighbours in both colour and marker."""
    return Style(COSETS[label % 8], "oDs^vP*Xp"[label % 9])


# -------------------------------------------------------------------------------------------------
# Axes, legends, marks


def axes(ax: Axes | None, figsize: tuple[float, float] = (7, 4)) -> Axes:
    """The axes given, or those of a new figure on white; without a frame at the top and at the right."""
    if ax is None:
        ax = grid(1, 1, figsize)[1][0]
    sns.despine(ax=ax)
    return ax


def grid(
    n_rows: int, n_columns: int, figsize: tuple[float, float], same_x: bool = True
) -> tuple[Figure, list[Axes]]:
    """A new figure on white, and its panels, row by row, with the same axes; `same_x` may except x."""
    with sns.axes_style("ticks"):
        figure = plt.figure(figsize=figsize, dpi=144, layout="constrained", facecolor="white")
        panels = figure.subplots(n_rows, n_columns, sharex=same_x, sharey=True, squeeze=False)
    sns.despine(fig=figure)
    return figure, list(panels.flat)


def centred(ax: Axes, at: tuple[float, float], text: str, ink: str, size: float = SMALL, **more: Any) -> None:
    """Text whose middle is at a place of the axes."""
    ax.text(*at, text, color=ink, fontsize=size, ha="center", va="center_baseline", **more)


def noted(ax: Axes, shown: Sized, size: float = NORMAL) -> Axes:
    """The axes, with a note in the middle if there was nothing to show."""
    if not len(shown):
        centred(ax, (0.5, 0.5), "nothing on record yet", GREY, size, transform=ax.transAxes)
    return ax


def percent(axis: Axis) -> None:
    """Shares written as percent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def legend(ax: Axes, keys: Sequence[Artist], title: str | None = None, place: str = "best") -> None:
    """A legend of these entries, if there are any: in the axes, or `place` "right", "above" or "below"."""
    where: dict[str, Any] = {
        "right": {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)},
        "above": {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 3},
        "below": {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01), "ncols": 2},
    }.get(place, {"loc": place})
    if keys:
        ax.legend(handles=keys, title=title, frameon=False, fontsize=NORMAL, title_fontsize=NORMAL, **where)


def legend_taken(ax: Axes) -> dict[str, Artist]:
    """Entries of the axes' legend, which is removed: for one legend of several panels."""
    if (held := ax.get_legend()) is None:
        return {}
    held.remove()
    return {
        text.get_text(): entry for text, entry in zip(held.texts, held.legend_handles, strict=True) if entry
    }


def key(label: str, **line: Any) -> Line2D:
    """A legend entry that looks like a line or marker."""
    return Line2D([], [], label=label, **line)


def marked(style: Style, size: float) -> dict[str, Any]:
    """The marker of a style, hollow where the line is dashed."""
    fill = style.colour if style.dash == "-" else "white"
    larger = 1.4 if style.marker == "*" else 1
    return {"marker": style.marker, "ms": larger * size, "mfc": fill, "mew": 1.0}


def name_of(value: Any, names: Mapping[Any, str] | None = None) -> str:
    """What a page calls a value of a column."""
    text = f"{value:,}" if isinstance(value, int | np.integer) else str(value)
    return (names or {}).get(value, LABELS.get(text, text))


def ink(colour: str) -> str:
    """Black or white, whichever reads better on a colour."""
    return "black" if np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) > 0.55 else "white"


def groups(table: pd.DataFrame, by: str, order: Sequence[Hashable] | None) -> dict[Hashable, pd.DataFrame]:
    """The rows of each value of a column, in order; names as in `STYLES`."""
    if by not in table:
        raise ValueError(f"by={by!r} is no column of the table; choose from {', '.join(map(str, table))}")
    values = list(table[by].unique())
    if order is None and pd.api.types.is_numeric_dtype(table[by]):
        order = sorted(values)
    elif order is None:  # what is on record must not decide
        order = [name for name in STYLES if name in values]
        order += [value for value in values if value not in STYLES]
    return {value: pd.DataFrame(table[table[by] == value]) for value in order if value in values}


def recorded(summary: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs on record, and the missing ones."""
    missing = summary["missing"].to_numpy(bool)
    return pd.DataFrame(summary[~missing]), pd.DataFrame(summary[missing])
