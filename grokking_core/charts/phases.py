"""The phases of one run against optimizer steps: its losses, and what changes beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.axes import Axes

from grokking_core import measures
from grokking_core.plots import style as look

if TYPE_CHECKING:
    from grokking_core.runs.record import Record

SHADES = ("0.95", "0.9", "0.82")  # memorising, a circuit that forms, clean-up


def phases(records: Sequence[Record], axes: Sequence[Axes], marks: Iterable[int] = ()) -> None:
    """Draw two panels of the first record: losses in nats; shares, each in [0, 1].

    The grounds are the run's phases, see `measures.phases`: memorising, a circuit that forms, clean-up.

    Parameters
    ----------
    records : sequence of Record
        With what `fourier` watched; may be empty.
    axes : sequence of two matplotlib Axes
        Where to draw.
    marks : iterable of int
        Updates that get a dotted line, such as those of another run.
    """
    losses, shares = map(look.axes, axes)
    for record in records[:1]:
        curve: Any = record.curve.set_index("step")
        frame: Any = record.watched["fourier"].set_index("step")
        norms = frame["weight_norm"] ** 2
        _lines(losses, {
            "training": curve["train_loss"], "validation": curve["validation_loss"],
            "restricted to keys": frame["restricted_loss"], "training, without keys": frame["excluded_loss"],
        })  # fmt: skip
        _lines(shares, {
            "share of the last keys": measures.key_share(record),
            "Gini, embedding": frame["gini_embedding"],
            "Gini, output rows": frame["gini_output"],
            "squared norm / largest": norms / norms.max(),
        })  # fmt: skip
        found = measures.phases(record)
        ends = [
            0,
            *(record.last_step if at is None else at for at in (found.shows, found.begins, found.ends)),
        ]
        for ax in axes:
            for mark in marks:
                ax.axvline(mark, color=look.GREY, ls=":", lw=0.8)
            for (start, end), shade in zip(pairwise(ends), SHADES, strict=True):
                ax.axvspan(start, end, color=shade, lw=0, zorder=0)
            ax.set_xlim(0, record.last_step)
    losses.set(ylabel="loss (nats)", yscale="log")
    shares.set(ylabel="share", ylim=(0, 1.02))
    for ax in axes:
        ax.set_xlabel("optimizer steps")
        look.noted(ax, list(records))


def _lines(ax: Axes, series: dict[str, pd.Series]) -> None:
    """A colour a name."""
    for name, style in look.styles(series).items():
        ax.plot(series[name].index, series[name], style.dash, color=style.colour, lw=1.2, label=name)
    look.legend(ax, ax.get_legend_handles_labels()[0], place="above")
