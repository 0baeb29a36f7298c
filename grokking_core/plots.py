"""One function a panel: pictures of records, and nothing else.

Nothing here trains, reads or writes a file. A function draws into the axes it is given, or makes
its own, and returns them. Training is always blue and validation always orange (Okabe and Ito's
colours, which colour-blind readers can tell apart), on a white ground that a dark page keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

if TYPE_CHECKING:
    from grokking_core.record import Record

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
COLOURS = {"train": "#0072B2", "validation": "#D55E00"}
NAMES = {"train": "training", "validation": "validation"}


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
    ax = _axes(ax)
    for split in SPLITS:
        _seeds_and_band(ax, records, f"{split}_accuracy", split)
        _milestones(ax, records, split, threshold)
    ax.set(xscale="log", xlabel="optimizer steps", ylabel="accuracy", ylim=(-0.02, 1.02))
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.legend(loc="center left", frameon=False)
    return ax


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
    ax = _axes(ax)
    for split in SPLITS:
        _seeds_and_band(ax, records, f"{split}_loss", split)
    ax.set(xscale="log", xlabel="optimizer steps", ylabel="cross-entropy of an answer (nats)")
    ax.set_yscale("log", nonpositive="mask")  # float32 reaches a loss of exactly 0
    ax.legend(loc="lower left", frameon=False)
    return ax


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
    curves = [record.curve.set_index("step")[column] for record in records]
    table = pd.concat(curves, axis="columns", keys=range(len(curves))).sort_index()
    return table.interpolate(method="index", limit_area="inside").loc[1:]


def _seeds_and_band(ax: Axes, records: Sequence[Record], column: str, split: Split) -> None:
    table = on_one_grid(records, column)
    whole = table.dropna()  # where every seed has a value
    colour = COLOURS[split]
    ax.fill_between(whole.index, whole.min(axis=1), whole.max(axis=1), color=colour, alpha=0.15, lw=0)
    for seed, curve in table.items():
        label = NAMES[split] if seed == 0 else None
        ax.plot(curve.index, curve, color=colour, lw=1.0, alpha=0.9, label=label)


def _milestones(ax: Axes, records: Sequence[Record], split: Split, threshold: float) -> None:
    steps = [record.steps_to(threshold, split) for record in records]
    reached = [step for step in steps if step is not None]
    colour = COLOURS[split]
    label = f"first at {100 * threshold:.0f} %" if split == SPLITS[-1] else None
    ax.plot(reached, [threshold] * len(reached), "o", color=colour, ms=5, mec="white", label=label)
    median = float(np.median([np.inf if step is None else step for step in steps]))
    if np.isfinite(median):
        ax.axvline(median, color=colour, lw=1.0, ls=":")
        side = "right" if split == "train" else "left"
        where = (median, 1.01)
        ax.text(*where, f"{median:,.0f}", color=colour, ha=side, va="bottom",
                transform=ax.get_xaxis_transform())  # fmt: skip


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        with sns.axes_style("ticks"):
            _, ax = plt.subplots(figsize=(7, 4), dpi=144, layout="constrained", facecolor="white")
    sns.despine(ax=ax)
    return ax
