"""Pictures of operation tables, with holes or filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from grokking_core.plots import style as look
from grokking_core.runs import words

if TYPE_CHECKING:
    pass

LETTERS = "abcdefghijkl"  #: of tables that are shown by their symbols
PAPER, SHADE = "#FFFFFF", "#EAEFF3"  #: of cells without and with an answer
#: Of equations, with the colour of their cell.
KINDS = {
    "training, right": "#BBD9EC",
    "training, wrong": look.COLOURS["train"],
    "held out, right": "#E0854A",
    "held out, wrong": "#000000",
    "held out, not on record": PAPER,
}


def table_with_holes(
    x: ArrayLike,
    y: ArrayLike,
    answer: ArrayLike,
    hidden: ArrayLike | None = None,
    ax: Axes | None = None,
    symbols: Sequence[str] = LETTERS,
) -> Axes:
    """An operation table with blank cells to guess: the form of Figure 1, right.

    Up to twelve elements are shown by their symbols; more by a colour each, on a cyclic scale.

    Parameters
    ----------
    x, y, answer : array_like of int, shape (N,)
        Equations, such as those of `data.operation_table`; x is the row, y the column.
    hidden : array_like of bool, shape (N,), optional
        The equations whose cells stay blank.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    symbols : sequence of str
        Of the elements 0, 1, ..., where there are at most twelve.

    Returns
    -------
    Axes
        With y across and x down.
    """
    cells = _Cells(x, y)
    shown = np.asarray(answer, float)
    values = cells.grid(shown if hidden is None else np.where(np.asarray(hidden, bool), np.nan, shown))
    ax = look.axes(ax, (4.6, 4.4) if cells.small else (7, 5.6))
    if cells.small:
        ax.imshow(~np.isnan(values), cmap=ListedColormap([PAPER, SHADE]), vmin=0, vmax=1)
        cells.write(ax, values, np.full(values.shape, "black"), symbols)
    else:
        image = ax.imshow(values, cmap=_cyclic(), interpolation="nearest")
        ax.figure.colorbar(image, ax=ax, label="answer", shrink=0.8)
    cells.name_axes(ax, symbols)
    return ax


def filled_table(
    x: ArrayLike,
    y: ArrayLike,
    answer: ArrayLike,
    given: ArrayLike | None,
    is_train: ArrayLike,
    ax: Axes | None = None,
    symbols: Sequence[str] = LETTERS,
) -> Axes:
    """An operation table as a network filled it in, right or wrong: the form of Figure 5.

    Parameters
    ----------
    x, y, answer : array_like of int, shape (N,)
        The equations; x is the row, y the column.
    given : array_like of int, shape (N,), or None
        The network's answers; None if they are not on record: what was held out stays blank.
    is_train : array_like of bool, shape (N,)
        The equations that it was shown.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    symbols : sequence of str
        Of the elements 0, 1, ...: where there are at most twelve, the answers are written out.

    Returns
    -------
    Axes
        With y across, x down, and in the legend the equations of each kind, counted.
    """
    cells, train = _Cells(x, y), np.asarray(is_train, bool)
    told = np.asarray(answer if given is None else given, float)
    kind = 2 * ~train + (told != np.asarray(answer))
    if given is None:
        kind, told = np.where(train, 0, 4), np.where(train, told, np.nan)
    ax = look.axes(ax, (5, 5.2) if cells.small else (7, 7.4))
    shades, grid = ListedColormap(list(KINDS.values())), cells.grid(kind)
    ax.imshow(grid, cmap=shades, vmin=0, vmax=len(KINDS) - 1, interpolation="nearest")
    if cells.small:
        cells.write(ax, cells.grid(told), np.where(np.isin(grid, (1, 3)), "white", "black"), symbols)
    cells.name_axes(ax, symbols)
    patches = []
    for i, (name, colour) in enumerate(KINDS.items()):
        n, side = int((kind == i).sum()), int((train if i < 2 else ~train).sum())
        if n:
            label = name.removesuffix(", right")
            if given is not None:
                label = f"{name}: {n:,} ({words.exact_percent(n / side)})"
            patches.append(Patch(facecolor=colour, edgecolor="black", lw=0.5, label=label))
    look.legend(ax, patches, place="below")
    return ax


class _Cells:
    """Where the equations of a table lie: a row for each x, a column for each y."""

    def __init__(self, x: ArrayLike, y: ArrayLike) -> None:
        self.rows, self.row = np.unique(np.asarray(x), return_inverse=True)
        self.columns, self.column = np.unique(np.asarray(y), return_inverse=True)
        self.small = max(len(self.rows), len(self.columns)) <= len(LETTERS)

    def grid(self, values: np.ndarray) -> np.ndarray:
        """Values, shape (N,), as floats in their cells; NaN where there is no equation."""
        grid = np.full((len(self.rows), len(self.columns)), np.nan)
        grid[self.row, self.column] = values
        return grid

    def write(self, ax: Axes, values: np.ndarray, inks: np.ndarray, symbols: Sequence[str]) -> None:
        """The symbol of every value in its cell; a cell of NaN stays blank."""
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                look.centred(ax, (j, i), symbols[int(value)], str(inks[i, j]), size=11)

    def name_axes(self, ax: Axes, symbols: Sequence[str]) -> None:
        """x down and y across, by their symbols in a small table, else by every twentieth number."""
        ax.set(xlabel="y", ylabel="x")
        ax.xaxis.set_label_position("top")
        ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False)
        sns.despine(ax=ax, left=True, bottom=True)
        for axis, elements in ((ax.xaxis, self.columns), (ax.yaxis, self.rows)):
            if self.small:
                names = [str(symbols[element]) for element in elements]
                axis.set_ticks(range(len(elements)), names, weight="bold", fontsize=11)
                axis.set_ticks(np.arange(len(elements) + 1) - 0.5, minor=True)
                axis.set_tick_params(which="both", length=0)
                axis.grid(which="minor", color="#9A9A9A", lw=0.8)
            else:
                places = np.flatnonzero(elements % 20 == 0)
                axis.set_ticks(places, [str(element) for element in elements[places]])


def _cyclic() -> ListedColormap:
    """Twilight, darkened so that its lightest colour is not taken for a blank cell."""
    return ListedColormap(0.88 * mpl.colormaps["twilight"](np.linspace(0, 1, 256))[:, :3])
