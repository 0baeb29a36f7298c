"""Pictures of what the weights have learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from grokking_core import data, measures
from grokking_core.plots import style as look
from grokking_core.runs import words
from grokking_core.weights import cosets, structure

if TYPE_CHECKING:
    from grokking_core.runs.record import Record
    from grokking_core.runs.run import Run
    from grokking_core.weights.structure import Structure

CLASSES = 10  #: of subgroups, in the test beside a picture


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
    rows, found, chance = (
        np.arange(len(table)),
        measures.floats(table["agreement"]),
        measures.floats(table["chance"]),
    )
    ax.hlines(rows, chance, found, color=look.GREY, lw=1.0, zorder=1)
    ax.plot(chance, rows, "|", color="black", ms=11, mew=1.6, label="chance")
    _found(ax, found, rows, measures.floats(table["p_corrected"]) < level, level)
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
    step, found = measures.floats(table["step"]), measures.floats(table["agreement"])
    ax.plot(step, measures.floats(table["chance"]), "_", color="black", ms=7, mew=1.2, label="chance")
    _found(ax, step, found, measures.floats(table["p_corrected"]) < level, level)
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
    text += f"validation {words.exact_percent(last['validation_accuracy'])}"
    if data.OPERATIONS[record.run.operation].symmetric:
        text += f" (unmirrored {words.exact_percent(last['unmirrored_accuracy'])})"
    return text if structure.knows(record) else f"{text}, NOT learned"


def _found(ax: Axes, x: np.ndarray, y: np.ndarray, sure: np.ndarray, level: float) -> None:
    """Dots, filled where that is sure, and the legend of chance and dots."""
    for chosen, sign, fill in ((sure, "<", look.FOUND), (~sure, "≥", "#FFFFFF")):
        if chosen.any():
            label = f"found, corrected p {sign} {level:g}"
            ax.plot(x[chosen], y[chosen], "o", color=look.FOUND, mfc=fill, ms=6, label=label)
    look.legend(ax, ax.get_legend_handles_labels()[0] if len(x) else [], place="above")
