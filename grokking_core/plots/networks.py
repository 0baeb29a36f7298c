"""One mark a network: sharpness, and how suddenly it learned."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from grokking_core import measures
from grokking_core.plots import style as look
from grokking_core.plots.style import SPLITS

if TYPE_CHECKING:
    from grokking_core.runs.record import Record

SHARPNESS = {"phi": "as defined", "released": "as in the authors' code"}


def sharpness_scatter(
    phi: ArrayLike,
    accuracy: ArrayLike,
    groups: Sequence[Hashable],
    ax: Axes | None = None,
    names: Mapping[Any, str] | None = None,
    fitted: ArrayLike | None = None,
) -> Axes:
    """Validation accuracy against sharpness, a mark a network: the form of Figure 7.

    Parameters
    ----------
    phi : array_like, shape (N,) or (N, S)
        Sharpness of N networks, each in S random subspaces: the mark is at the mean, a line reaches from
        the lowest to the highest. Log scale; what is not positive lies at the left edge. NaN: not drawn,
        and counted in the legend.
    accuracy : array_like, shape (N,)
        Validation accuracy in [0, 1]; NaN as for `phi`.
    groups : sequence of N labels
        What colour and marker mean, such as the optimizer of each network.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    names : mapping to str, optional
        What the legend calls a group.
    fitted : array_like of bool, shape (N,), optional
        Networks that fit their training set; the marks of others are hollow.

    Returns
    -------
    Axes
        With sharpness (log scale) across and accuracy (0 to 1) up.
    """
    ax = look.axes(ax, (7, 4.4))
    phi = np.reshape(np.asarray(phi, float), (len(groups), -1 if len(groups) else 1))
    height, middle = np.asarray(accuracy, float), phi.mean(axis=1)
    fitted = np.ones(len(groups), bool) if fitted is None else np.asarray(fitted, bool)
    known = ~np.isnan(middle) & ~np.isnan(height)
    if (middle[known] > 0).any():
        ax.set_xscale("log")
    else:
        ax.set_xticks([])
    keys = []
    for value, style in look.styles(dict.fromkeys(groups)).items():
        mark = {"color": style.colour, "ls": "", **look.marked(style._replace(dash="-"), 6)}
        for i in np.flatnonzero(known & np.array([group == value for group in groups])):
            _network(ax, phi[i], height[i], **mark | ({} if fitted[i] else {"mfc": "none"}))
        keys.append(look.key(look.name_of(value, names), **mark))
    if not fitted[known].all():
        hollow = {"marker": "o", "mfc": "none", "color": look.GREY, "ls": ""}
        keys.append(look.key("hollow: training set not fitted", **hollow))
    if (known & (middle <= 0)).any():
        keys.append(look.key("left edge: not positive", color=look.GREY, ls="", marker="|"))
    if not known.all():
        keys.append(look.key(f"{(~known).sum()} not on record", color=look.GREY, ls=""))
    ax.set(xlabel="sharpness φ (rise of the loss in % of 1 + loss)", ylabel="validation accuracy")
    ax.set_ylim(-0.02, 1.03)
    look.percent(ax.yaxis)
    look.legend(ax, keys, place="right")
    return look.noted(ax, height[known])


def _network(ax: Axes, phi: np.ndarray, height: float, **mark: Any) -> None:
    """One network of `sharpness_scatter`."""
    if (middle := phi.mean()) > 0:
        ends = [phi[phi > 0].min(), phi.max()]
        ax.plot(ends, [height] * 2, color=mark["color"], lw=0.8, zorder=1)
        ax.plot([middle], [height], **mark)
    else:
        ax.plot([0.01], [height], transform=ax.get_yaxis_transform(), **mark)


def sharpness_panels(
    records: Sequence[Record], groups: Sequence[Hashable], threshold: float = 0.99
) -> Figure:
    """Validation accuracy against sharpness, as defined and as the authors' code has it: Figure 7.

    Each title has Spearman's correlation of the networks that fit their training set (see
    `sharpness_scatter`) at the end, where sharpness is measured.

    Parameters
    ----------
    records : sequence of Record
        With sharpness kept; those in `missing` are counted.
    groups : sequence of labels
        One a record: what colour and marker mean.
    threshold : float
        Training accuracy at the end that counts as fitted, in (0, 1].
    """
    figure, panels = look.grid(1, 2, (7, 4.8), same_x=False)
    train, accuracy = (
        np.array([record.curve[f"{split}_accuracy"].iloc[-1] for record in records]) for split in SPLITS
    )
    fitted, entries = train >= threshold, {}
    for ax, (name, title) in zip(panels, SHARPNESS.items(), strict=True):
        phi = [record.kept["sharpness"][name] for record in records]
        sharpness_scatter(phi, accuracy, groups, ax, fitted=fitted)
        mean = np.array([values.mean() for values in phi])
        found = measures.spearman(mean[fitted], accuracy[fitted])
        ax.set_title(f"{title}\nSpearman {found}", fontsize=look.NORMAL)
        ax.set_xlabel("sharpness φ (%)" if name == "phi" else "what it gives (%)")
        entries |= look.legend_taken(ax)
    panels[1].set_ylabel("")
    if n_missing := len(getattr(records, "missing", ())):
        entries[f"{n_missing} not on record"] = look.key("", color=look.GREY, ls="")
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=3, frameon=False)
    return figure


def suddenness_strip(
    table: pd.DataFrame,
    by: str,
    ax: Axes | None = None,
    column: str = "suddenness",
    names: Mapping[Any, str] | None = None,
) -> Axes:
    """How suddenly runs learned: a mark a run, a row a group, a bar at the median of those that did.

    Parameters
    ----------
    table : DataFrame
        A row a run, with the columns `by` and `column`, and `missing` where it is a `measures.summary`.
    by : str
        What makes a row, such as "architecture" or "operation".
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    column : str
        Numbers of `measures.suddenness`, in [0, 1]; NaN where the run did not reach 90 %. Such runs, and
        missing ones, are counted beside the name.
    names : mapping to str, optional
        What a group is called.

    Returns
    -------
    Axes
        With suddenness in percent across and a row for each group.

    Raises
    ------
    ValueError
        If `table` has no column `by`.
    """
    ax = look.axes(ax)
    ticks = []
    groups = look.groups(table, by, None)
    for i, (value, style) in enumerate(look.styles(groups).items()):
        group = groups[value]
        known, missing = look.recorded(group) if "missing" in group else (group, ())
        values = measures.floats(known[column])
        learned = np.sort(values[~np.isnan(values)])
        heights = i + 0.2 * np.linspace(-1, 1, len(learned)) * (len(learned) > 1)
        ax.plot(learned, heights, color=style.colour, ls="", **look.marked(style, 6))
        if len(learned):
            ax.plot([np.median(learned)] * 2, [i - 0.35, i + 0.35], color=style.colour, lw=1.6)
        late = len(values) - len(learned)
        parts = [look.name_of(value, names), f"{late} of {len(values)} not reached" if late else ""]
        parts.append(f"{len(missing)} not on record" if len(missing) else "")
        ticks.append("\n".join(filter(None, parts)))
    ax.set_yticks(range(len(ticks)), ticks)
    ax.set(ylim=(len(ticks) - 0.4, -0.6), xlim=(-0.02, 1.02))
    ax.set_xlabel("steps from 10 % to 90 %, over steps to 90 % (0 %: sudden, 100 %: gradual)")
    ax.tick_params(axis="y", length=0)
    look.percent(ax.xaxis)
    return look.noted(ax, table)
