"""Curves of records, against optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from grokking_core import measures
from grokking_core.plots import style as look
from grokking_core.plots.style import COLOURS, NAMES, SPLITS, Split

if TYPE_CHECKING:
    from grokking_core.runs.record import Record


def accuracy_curves(records: Sequence[Record], ax: Axes | None = None, threshold: float = 0.99) -> Axes:
    """Accuracy against optimizer steps: the form of Figure 1, left.

    A thin line a seed, a band from the lowest to the highest seed, a dot where a seed first
    reaches `threshold`, and the median of these steps above the frame (none where half of the
    seeds or more never reach it).

    Parameters
    ----------
    records : sequence of Record
        One configuration's runs, a seed each.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    threshold : float
        Accuracy in (0, 1] that counts as learned.

    Returns
    -------
    Axes
        With optimizer steps (log scale) across and accuracy (0 to 1) up.
    """
    ax = look.axes(ax)
    for split in SPLITS:
        _seeds_and_band(ax, records, f"{split}_accuracy", split)
        _milestones(ax, records, split, threshold)
    ax.set(xscale="log", xlabel="optimizer steps", ylabel="accuracy", ylim=(-0.02, 1.02))
    look.percent(ax.yaxis)
    look.legend(ax, ax.get_legend_handles_labels()[0], place="center left")
    return look.noted(ax, records)


def loss_curves(records: Sequence[Record], ax: Axes | None = None) -> Axes:
    """Cross-entropy against optimizer steps, both on log scales: the form of Figure 4.

    Parameters
    ----------
    records : sequence of Record
        One configuration's runs, a seed each.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes
        With optimizer steps across and the mean cross-entropy of an answer, in nats, up.
    """
    ax = look.axes(ax)
    for split in SPLITS:
        _seeds_and_band(ax, records, f"{split}_loss", split)
    ax.set(xscale="log", xlabel="optimizer steps", ylabel="cross-entropy of an answer (nats)")
    ax.set_yscale("log", nonpositive="mask")  # float32 reaches a loss of exactly 0
    look.legend(ax, ax.get_legend_handles_labels()[0], place="lower left")
    return look.noted(ax, records)


def validation_curves(
    groups: Mapping[str, Sequence[Record]],
    ax: Axes | None = None,
    threshold: float = 0.99,
    names: Mapping[str, str] | None = None,
    which: measures.Side = "validation",
) -> Axes:
    """Validation accuracy against optimizer steps, a colour a group: tasks or networks side by side.

    A thin line a seed, and a marker where a seed first reaches `threshold`.

    Parameters
    ----------
    groups : mapping from str to sequence of Record
        Runs by label; operations and architectures have their own colours (see `look.styles`).
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    threshold : float
        Validation accuracy in (0, 1] that counts as learned.
    names : mapping from str to str, optional
        What the legend calls a label.
    which : {"validation", "unmirrored", "train"}
        Whose accuracy.

    Returns
    -------
    Axes
        With optimizer steps (log scale) across and accuracy (0 to 1) up.
    """
    ax = look.axes(ax)
    ax.set(xscale="log", xlabel="optimizer steps", ylabel=look.COLUMNS[f"best_{which}"], ylim=(-0.02, 1.02))
    keys = []
    for label, style in look.styles(groups).items():
        for _, curve in on_one_grid(groups[label], f"{which}_accuracy").items():
            ax.plot(curve.index, curve, style.dash, color=style.colour, lw=1.0, alpha=0.9)
        reached, mark = _reached(groups[label], threshold, which), look.marked(style, 5)
        ax.plot(reached, [threshold] * len(reached), color=style.colour, ls="", **mark)
        name = look.name_of(label, names) + _lacking(groups[label])
        keys.append(look.key(name, color=style.colour, ls=style.dash, lw=1.2, **mark))
    look.percent(ax.yaxis)
    look.legend(ax, keys)
    return look.noted(ax, _all(groups))


def transition_curves(
    groups: Mapping[str, Sequence[Record]],
    ax: Axes | None = None,
    threshold: float = 0.9,
    names: Mapping[str, str] | None = None,
    which: measures.Side = "validation",
) -> Axes:
    """Validation accuracy against each run's steps over its own steps to `threshold`: transitions aligned.

    Every curve first reaches `threshold` at 1; the distance across from 10 % to there is the run's
    suddenness (see `measures.suddenness`). A run that never reached `threshold` has no place here; the
    legend says how many did.

    Parameters
    ----------
    groups : mapping from str to sequence of Record
        Runs by label, such as their architecture.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    threshold : float
        Validation accuracy in (0, 1].
    names : mapping from str to str, optional
        What the legend calls a label.
    which : {"validation", "unmirrored", "train"}
        Whose accuracy.

    Returns
    -------
    Axes
        With a share of steps across and accuracy (0 to 1) up.
    """
    ax, reach = look.axes(ax), f"{100 * threshold:.0f} %"
    ax.set(xlabel=f"optimizer steps / the run's own steps to {reach}", ylabel=look.COLUMNS[f"best_{which}"])
    keys = []
    for label, style in look.styles(groups).items():
        for record in groups[label]:
            if end := record.steps_to(threshold, which):
                share, accuracy = record.curve["step"] / end, record.curve[f"{which}_accuracy"]
                ax.plot(share, accuracy, style.dash, color=style.colour, lw=1.0, alpha=0.9)
        told = f"{len(_reached(groups[label], threshold, which))} of {len(groups[label])} reached {reach}"
        name = f"{look.name_of(label, names)}: {told}{_lacking(groups[label])}"
        keys.append(look.key(name, color=style.colour, ls=style.dash, lw=1.2))
    for guide in (0.1, threshold):
        ax.axhline(guide, color=look.GREY, lw=0.6, ls=":", zorder=0)
    ax.set(xlim=(0, 1.3), ylim=(-0.02, 1.02))
    look.percent(ax.yaxis)
    look.legend(ax, keys, place="center left")
    return look.noted(ax, _all(groups))


def on_one_grid(records: Sequence[Record], column: str) -> pd.DataFrame:
    """One column of every curve, side by side on the union of their evaluation steps.

    Parameters
    ----------
    records : sequence of Record
        Runs with curves of any length.
    column : str
        A column of `Record.curve`, such as `validation_loss`.

    Returns
    -------
    DataFrame
        Index: step, from 1 (a log axis has no 0). One column a record, in order; linear between
        a curve's own steps, NaN before its first and after its last.
    """
    if not len(records):
        return pd.DataFrame(index=pd.Index([], name="step", dtype="int64"))
    curves = [record.curve.set_index("step")[column] for record in records]
    table = pd.concat(curves, axis="columns", keys=range(len(curves))).sort_index()
    return table.interpolate(method="index", limit_area="inside").loc[1:]


def _seeds_and_band(ax: Axes, records: Sequence[Record], column: str, split: Split) -> None:
    table = on_one_grid(records, column)
    whole = table.dropna()  # where every seed has a value
    colour = COLOURS[split]
    if len(whole):
        ax.fill_between(whole.index, whole.min(axis=1), whole.max(axis=1), color=colour, alpha=0.15, lw=0)
    for seed, curve in table.items():
        label = NAMES[split] if seed == 0 else None
        ax.plot(curve.index, curve, color=colour, lw=1.0, alpha=0.9, label=label)


def _milestones(ax: Axes, records: Sequence[Record], split: Split, threshold: float) -> None:
    steps = [record.steps_to(threshold, split) for record in records]
    reached = [step for step in steps if step is not None]
    colour = COLOURS[split]
    label = f"first at {100 * threshold:.0f} %" if split == SPLITS[-1] and reached else None
    ax.plot(reached, [threshold] * len(reached), "o", color=colour, ms=5, mec="white", label=label)
    median = float(np.median([np.inf if step is None else step for step in steps] or [np.inf]))
    if np.isfinite(median):
        ax.axvline(median, color=colour, lw=1.0, ls=":")
        side = "right" if split == "train" else "left"
        where = (median, 1.01)
        ax.text(*where, f"{median:,.0f}", color=colour, ha=side, va="bottom",
                transform=ax.get_xaxis_transform())  # fmt: skip


def _reached(records: Sequence[Record], threshold: float, which: measures.Side) -> list[int]:
    steps = (record.steps_to(threshold, which) for record in records)
    return [step for step in steps if step is not None]


def _lacking(records: Sequence[Record]) -> str:
    """What the legend adds to a group of which runs are missing."""
    missing = len(getattr(records, "missing", ()))
    return f"; {missing} not on record" if missing else ""


def _all(groups: Mapping[str, Sequence[Record]]) -> list[Record]:
    return [record for records in groups.values() for record in records]
