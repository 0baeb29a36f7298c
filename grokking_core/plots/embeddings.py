"""Pictures of operation tables and of what the weights have learned; `plots` offers them as its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from grokking_core import data
from grokking_core.plots import style as look
from grokking_core.weights import cosets, structure

if TYPE_CHECKING:
    from grokking_core.runs.record import Record
    from grokking_core.runs.run import Run
    from grokking_core.weights.structure import Structure

# -------------------------------------------------------------------------------------------------
# Operation tables

LETTERS = "abcdefghijkl"  # of tables that are shown by their symbols
PAPER, SHADE = "#FFFFFF", "#EAEFF3"  # of cells without and with an answer
KINDS = {  # of equations, with the colour of their cell
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
            label = (
                f"{name}: {n:,} ({_share(n, side)})" if given is not None else name.removesuffix(", right")
            )
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


def _share(n: int, total: int) -> str:
    """Percent with a decimal, and 100 % only where none is left out."""
    return "100 %" if n == total else f"{min(max(100 * n / total, 0.1), 99.9):.1f} %"


# -------------------------------------------------------------------------------------------------
# What the weights have learned

CLASSES = 10  # of subgroups, in the test beside a picture


def embedding(
    points: ArrayLike,
    labels: ArrayLike | None = None,
    step: int | None = None,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Elements as points in the plane, such as t-SNE of output rows: the form of Figure 3.

    The same colour and marker mean the same label. Such a picture's axes have no unit and no meaning, so
    they bear no numbers.

    Parameters
    ----------
    points : array_like, shape (V, 2)
        One row an element; none draws an empty frame.
    labels : array_like, shape (V,), optional
        What to tell apart, such as the coset of each element: up to 72 values. Without it, the residue of
        the element mod `step`.
    step : int, optional
        Joins each element x to x + step (mod V); without labels dotted where that wraps around.
    names : sequence of V str, optional
        Written on the points, which are discs then.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    """
    ax, points = look.axes(ax, (7, 6)), np.reshape(np.asarray(points, float), (-1, 2))
    n, of_residues = len(points), labels is None
    if labels is None:
        labels = np.arange(n) % (step or 1)
    values, label = np.unique(np.asarray(labels), return_inverse=True)
    for x in range(n if step else 0):
        further = x + (step or 0)
        ends, dash = points[[x, further % n]], ":" if of_residues and further >= n else "-"
        ax.plot(ends[:, 0], ends[:, 1], dash, color=look.coset(label[x]).colour, lw=1.0, alpha=0.7, zorder=1)
    if names is None:
        for i in range(len(values)):
            style = look.coset(i)
            mark = {"ms": 9 if style.marker in "*PX" else 7, "mec": "white", "mew": 0.5}
            x, y = points[label == i].T
            ax.plot(x, y, style.marker, color=style.colour, label=str(values[i]), **mark)
    else:
        for i, (x, y) in enumerate(points):  # each name above its own disc, below later ones
            colour = look.coset(label[i]).colour
            ax.plot(x, y, "o", ms=13, color=colour, mec="white", mew=0.6, zorder=2 + i / n)
            look.centred(ax, (x, y), names[i], look.ink(colour), zorder=2 + (i + 0.5) / n)
    if step and of_residues:
        keys = [look.key(str(v), color=look.coset(i).colour, lw=3) for i, v in enumerate(values[:12])]
        look.legend(ax, keys, title=f"x mod {step}", place="right")
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    sns.despine(ax=ax, top=False, right=False)
    return look.noted(ax, points)


def coset_agreement(table: pd.DataFrame, ax: Axes | None = None, most: int = 12, level: float = 0.05) -> Axes:
    """How many neighbours lie in the same coset, against chance: the first rows of a coset test.

    A bar is chance, a dot what was found: filled where p, corrected for all tests, is below `level`.

    Parameters
    ----------
    table : DataFrame
        Of `cosets.coset_test`, or `cosets.best_conjugates` of it: name, order, side, agreement, chance,
        p_corrected, the strongest first.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    most : int
        Rows to show.
    level : float
        Of significance.

    Returns
    -------
    Axes
        With the share of neighbours in percent across and a row for each subgroup and side.
    """
    ax, table = look.axes(ax, (7, 4.4)), table.head(most)
    rows, found, chance = np.arange(len(table)), look.floats(table["agreement"]), look.floats(table["chance"])
    ax.hlines(rows, chance, found, color=look.GREY, lw=1.0, zorder=1)
    ax.plot(chance, rows, "|", color="black", ms=11, mew=1.6, label="chance")
    _found(ax, found, rows, look.floats(table["p_corrected"]) < level, level)
    kinds = zip(table["name"], table["order"], table["side"], strict=True)
    ax.set_yticks(rows, [f"{name} (order {order}), {side}" for name, order, side in kinds])
    ax.set(xlabel="neighbours in the same coset", ylim=(max(len(rows), 1) - 0.5, -0.5))
    ax.set_xlim(left=0)
    ax.tick_params(axis="y", length=0)
    look.percent(ax.xaxis)
    return look.noted(ax, table)


def line_agreement(table: pd.DataFrame, ax: Axes | None = None, level: float = 0.05) -> Axes:
    """How many neighbours are one step of a number line apart, against chance, for every step.

    A dash is chance, a dot what was found: filled where p, corrected for all tests, is below `level`.
    The step that agrees best is named.

    Parameters
    ----------
    table : DataFrame
        Of `number_line.line_test`: step, agreement, chance, p_corrected.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    level : float
        Of significance.

    Returns
    -------
    Axes
        With the step across and the share of neighbours in percent up.
    """
    ax, table = look.axes(ax), table.sort_values("step")
    step, found = look.floats(table["step"]), look.floats(table["agreement"])
    ax.plot(step, look.floats(table["chance"]), "_", color="black", ms=7, mew=1.2, label="chance")
    _found(ax, step, found, look.floats(table["p_corrected"]) < level, level)
    if len(table):
        i = int(found.argmax())
        ax.annotate(f"+{step[i]:.0f}", (step[i], found[i]), (7, 0), textcoords="offset points", va="center")
    ax.set(xlabel="step of the number line", ylabel="neighbours one step apart")
    ax.set_ylim(bottom=min(0, *ax.get_ylim()))
    look.percent(ax.yaxis)
    return look.noted(ax, table)


def structures(networks: Sequence[Structure], missing: Sequence[Run] = ()) -> Figure:
    """What the output rows of some networks show, a row a network: the picture, and the test beside it.

    Left t-SNE of the rows, coloured by the cosets of the best subgroup, or by stretches of the best line,
    whose steps are drawn; right the test in the full space (see `coset_agreement` and `line_agreement`),
    of each class of subgroups and side the best conjugate. What the paper found is bold, or a dotted line.
    The title has its accuracy at the end, and says if it did not learn its task (see `structure.knows`).

    Parameters
    ----------
    networks : sequence of Structure
        Of one operation.
    missing : sequence of Run
        Runs without a record: their rows are empty.
    """
    n_rows = max(1, len(networks) + len(missing))
    with sns.axes_style("ticks"):
        figure = plt.figure(figsize=(7, 3 * n_rows), dpi=144, layout="constrained", facecolor="white")
    rows = figure.subfigures(n_rows, 1, squeeze=False)[:, 0]
    titles = [_known_by(network.record) for network in networks]
    titles += [f"{_trained(run)}: not on record" for run in missing]
    for row, title in zip(rows, titles, strict=False):
        row.suptitle(title, x=0.01, ha="left", fontsize=look.NORMAL + 1, weight="bold")
    keys, tests = {}, []
    for i, row in enumerate(rows):
        left, right = row.subplots(1, 2)
        if i < len(networks):
            keys |= _structure(networks[i], left, right)
            tests.append(right)
        else:
            for ax in (embedding([], ax=left), look.noted(look.axes(right), ())):
                ax.set(xticks=[], yticks=[])
    for ax in tests:  # on the same scale
        on_group = networks[0].on_group
        ax.set(**{"xlim" if on_group else "ylim": _widest(tests, on_group)})
    if keys:
        how = {"loc": "outside lower right", "ncols": 3, "frameon": False, "fontsize": look.NORMAL}
        figure.legend(keys.values(), keys, **how)
    return figure


def _structure(network: Structure, left: Axes, right: Axes) -> dict[str, Artist]:
    """One row of `structures`; returns the entries of its legend."""
    best = network.test.iloc[0] if len(network.test) else None
    step = None if network.on_group or best is None else int(best["step"])
    embedding(network.points(), network.labels(), step, ax=left)
    for line in left.lines:
        line.set_markersize(0.7 * line.get_markersize())
    if best is not None:
        told = f"line of step {step}" if step else f"cosets of {structure.name_of(best)}"
        left.set_title(told, fontsize=look.NORMAL)
    theirs = network.paper.head(1)
    if network.on_group:
        shown = cosets.best_conjugates(network.test).head(CLASSES)
        shown = pd.concat([shown, theirs]).drop_duplicates(["name", "side"], ignore_index=True)
        coset_agreement(shown, right, most=len(shown))
        for label, name in zip(right.get_yticklabels(), shown["name"], strict=True):
            label.set(weight="bold" if name in [*theirs["name"]] else "normal", size=look.SMALL)
    else:
        line_agreement(network.test, right)
        for step in theirs["step"]:
            right.axvline(step, color=look.GREY, lw=1.0, ls=":", zorder=0)
    return look.legend_taken(right)


def _widest(panels: Sequence[Axes], across: bool) -> tuple[float, float]:
    """Limits that hold those of all panels, across or up."""
    limits = np.array([ax.get_xlim() if across else ax.get_ylim() for ax in panels])
    return limits[:, 0].min(), limits[:, 1].max()


def _trained(run: Run) -> str:
    return f"decay {run.weight_decay:g}, seed {run.seed}"


def _known_by(record: Record) -> str:
    """How a network was trained, and how much of its task it knew at the end."""
    last = record.curve.iloc[-1]
    text = f"{_trained(record.run)}, {record.last_step:,} updates: "
    text += f"validation {_accuracy(last['validation_accuracy'])}"
    if data.is_symmetric(record.run.operation):
        text += f" (unmirrored {_accuracy(last['unmirrored_accuracy'])})"
    return text if structure.knows(record) else f"{text}, NOT learned"


def _accuracy(share: float) -> str:
    """Percent with a decimal, and 100 % only where it is all."""
    return "100 %" if share == 1 else f"{min(100 * share, 99.9):.1f} %"


def _found(ax: Axes, x: np.ndarray, y: np.ndarray, sure: np.ndarray, level: float) -> None:
    """Dots, filled where that is sure, and the legend of chance and dots."""
    for chosen, sign, fill in ((sure, "<", look.FOUND), (~sure, "≥", PAPER)):
        if chosen.any():
            label = f"found, corrected p {sign} {level:g}"
            ax.plot(x[chosen], y[chosen], "o", color=look.FOUND, mfc=fill, ms=6, label=label)
    look.legend(ax, ax.get_legend_handles_labels()[0] if len(x) else [], place="above")
