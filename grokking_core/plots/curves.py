"""One function a panel: pictures of records and of the numbers from them, and nothing else.

Nothing here trains, reads or writes a file. A function draws into the axes it is given, or makes
its own, and returns them. The same thing has the same colour on every page (see `look`). What has no
record is a cross at the lower edge, or is counted in the legend: it is never a value, and no line
passes over it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from grokking_core import measures
from grokking_core.plots import style as look
from grokking_core.plots.style import COLOURS, NAMES, SPLITS, Split, Style

if TYPE_CHECKING:
    from grokking_core.runs.record import Record

# -------------------------------------------------------------------------------------------------
# Curves


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
    ax.set(xscale="log", xlabel="optimizer steps", ylabel=COLUMNS[f"best_{which}"], ylim=(-0.02, 1.02))
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
    ax.set(xlabel=f"optimizer steps / the run's own steps to {reach}", ylabel=COLUMNS[f"best_{which}"])
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


# -------------------------------------------------------------------------------------------------
# Against the training fraction

FRACTION = "training fraction (% of the table)"
COLUMNS = {
    "best_train": "training accuracy",
    "best_validation": "validation accuracy",
    "best_unmirrored": "validation accuracy, unmirrored pairs",
}


def steps_by_fraction(summary: pd.DataFrame, ax: Axes | None = None, threshold: float = 0.99) -> Axes:
    """Steps to first reach a threshold against the training fraction: the form of Figure 1, centre.

    A mark a run, lines through the Kaplan-Meier medians over seeds (see `measures.medians`; they break
    where the median was not reached or no run is on record). A censored run is a hollow triangle at the
    last step it was followed to: its own step lies higher.

    Parameters
    ----------
    summary : DataFrame
        Rows of `measures.summary`, of one configuration.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    threshold : float
        The accuracy that `summary` was made with.

    Returns
    -------
    Axes
        With the training fraction in percent across and optimizer steps (log scale) up.
    """
    ax = look.axes(ax)
    ax.set(xlabel=FRACTION, ylabel=f"optimizer steps to first reach {100 * threshold:.0f} %", yscale="log")
    known, missing = _recorded(summary)
    keys = [_steps(ax, known, split) for split in SPLITS] if len(known) else []
    fractions = np.unique(summary["train_fraction"])
    medians = {split: _medians(known, split, fractions) for split in SPLITS if len(known)}
    for split, median in medians.items():
        ax.plot(100 * fractions, median, color=COLOURS[split], lw=1.4, marker="_", ms=10, mew=1.4)
    if not all(np.isnan(median).all() for median in medians.values()):
        keys.append(look.key("median over seeds", color="black", marker="_", ms=10))
    if any(np.isnan(look.floats(known[f"{split}_steps"])).any() for split in SPLITS):
        keys.append(look.key("not reached: last step followed", color="black", ms=6, **look.CENSORED))
    if len(missing):
        x, low = 100 * missing["train_fraction"], np.full(len(missing), 0.025)
        ax.plot(x, low, color=look.GREY, transform=ax.get_xaxis_transform(), **look.CROSS)
        keys.append(look.key("not on record", color=look.GREY, **look.CROSS))
    if summary.empty:
        ax.set_xlim(0, 100)
    look.legend(ax, keys)
    return look.noted(ax, known)


def _recorded(summary: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs on record, and the missing ones."""
    missing = summary["missing"].to_numpy(bool)
    return pd.DataFrame(summary[~missing]), pd.DataFrame(summary[missing])


def _steps(ax: Axes, known: pd.DataFrame, split: Split) -> Line2D:
    """The marks of one side of `steps_by_fraction`; returns their legend entry."""
    x, steps = 100 * known["train_fraction"].to_numpy(), look.floats(known[f"{split}_steps"])
    reached, colour = ~np.isnan(steps), COLOURS[split]
    mark = {"marker": look.MARKERS[split], "ms": 4.5, "mec": "white", "mew": 0.5}
    ax.plot(x[reached], steps[reached], color=colour, ls="", **mark)
    size = 9 if split == "train" else 6  # both are seen where they coincide
    ax.plot(x[~reached], look.floats(known["followed"])[~reached], color=colour, ms=size, **look.CENSORED)
    return look.key(NAMES[split], color=colour, ls="", **mark)


def _medians(known: pd.DataFrame, split: Split, fractions: np.ndarray) -> np.ndarray:
    """Median steps at each fraction, NaN where not reached or nothing is on record."""
    table = measures.medians(known, column=f"{split}_steps")
    return look.floats(table["value"].reindex(fractions))


def accuracy_by_fraction(
    summary: pd.DataFrame,
    by: str,
    ax: Axes | None = None,
    column: str = "best_validation",
    order: Sequence[Hashable] | None = None,
    names: Mapping[Any, str] | None = None,
) -> Axes:
    """Best accuracy against the training fraction, a line a group: the form of Figures 2 and 6.

    Small marks are runs, lines the means over those on record; they break where none is. Below 0 a row of
    crosses for each group marks the fractions at which it lacks a run.

    Parameters
    ----------
    summary : DataFrame
        Rows of `measures.summary`, with the column `by`.
    by : str
        What makes a line: "operation", "outliers", or a column of one's own such as "variant".
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    column : {"best_validation", "best_unmirrored", "best_train"}
        Whose accuracy.
    order : sequence, optional
        The values of `by` to draw, in the legend's order; without it all of them, numbers sorted and names
        as in `look.STYLES`.
    names : mapping to str, optional
        What the legend calls a value.

    Returns
    -------
    Axes
        With the training fraction in percent across and accuracy (0 to 1) up.

    Raises
    ------
    ValueError
        If `summary` has no column `by`.
    """
    ax = look.axes(ax, (7, 4.4))
    groups, keys = _groups(summary, by, order), []
    lacking = [value for value, table in groups.items() if len(_recorded(table)[1])]
    below = min(0.03, 0.2 / max(1, len(lacking)))  # from one row of crosses to the next
    for value, style in look.styles(groups).items():
        mark = look.marked(style, 5)
        _runs(ax, groups[value], column, style)
        _means(ax, groups[value], column, color=style.colour, ls=style.dash, **mark)
        keys.append(look.key(look.name_of(value, names), color=style.colour, ls=style.dash, **mark))
        if value in lacking:
            _missing(ax, groups[value], -0.03 - below * (1 + lacking.index(value)), style.colour)
    if lacking:
        keys.append(look.key("not on record", color=look.GREY, **look.CROSS))
    ax.set(xlabel=FRACTION, ylabel=f"best {COLUMNS[column]}", xlim=(0, 100), yticks=np.linspace(0, 1, 6))
    ax.set_ylim(-0.02 - (0.03 + below * len(lacking) if lacking else 0), 1.03)
    look.percent(ax.yaxis)
    look.legend(ax, keys, title=by if by == "outliers" else None, place="right")
    return look.noted(ax, _recorded(summary)[0])


def accuracy_panels(
    summary: pd.DataFrame,
    by: str,
    columns: Sequence[str] = ("best_validation", "best_unmirrored"),
    order: Sequence[Hashable] | None = None,
    names: Mapping[Any, str] | None = None,
) -> Figure:
    """The lines of `accuracy_by_fraction`, a small panel a group, a dash a column.

    For a symmetric operation, a validation pair whose mirror is in the training set is no evidence of
    generalization; `best_unmirrored` leaves these pairs out.

    Parameters
    ----------
    summary, by, order, names
        As in `accuracy_by_fraction`.
    columns : sequence of str
        One to three of best_validation, best_unmirrored, best_train: solid, dashed, dotted.

    Returns
    -------
    Figure
        A grid of panels with the same axes, each with its group's name.

    Raises
    ------
    ValueError
        If `summary` has no column `by`.
    """
    groups = _groups(summary, by, order)
    n_columns = min(4, max(1, math.ceil(math.sqrt(len(groups)))))
    n_rows = max(1, math.ceil(len(groups) / n_columns))
    figure, panels = look.grid(n_rows, n_columns, (7, 1 + (1.5 if n_rows > 1 else 2.4) * n_rows))
    dashes = dict(zip(columns, look.DASHES, strict=False))
    for ax, (value, style) in zip(panels, look.styles(groups).items(), strict=False):
        _panel(ax, groups[value], dashes, style)
        ax.set_title(look.name_of(value, names), fontsize=look.NORMAL)
    for ax in panels:
        ax.tick_params(labelsize=look.SMALL)
    for ax in panels[len(groups) :]:
        ax.set_axis_off()
    for ax in panels[len(groups) - n_columns : len(groups)] if groups else ():
        ax.tick_params(labelbottom=True)  # also above a gap in the last row
    if not groups:
        look.noted(panels[0], ())
    panels[0].set(xlim=(0, 102), xticks=[0, 50, 100], ylim=(-0.16, 1.06), yticks=[0, 0.5, 1])
    look.percent(panels[0].yaxis)
    figure.supxlabel(FRACTION, fontsize=10)
    figure.supylabel("best accuracy", fontsize=10)
    keys = [look.key(COLUMNS[name], color="black", ls=dash) for name, dash in dashes.items()]
    if len(_recorded(summary)[1]):
        keys.append(look.key("not on record", color=look.GREY, **look.CROSS))
    figure.legend(handles=keys, loc="outside upper center", ncols=4, frameon=False, fontsize=look.NORMAL)
    return figure


def _panel(ax: Axes, table: pd.DataFrame, dashes: Mapping[str, str], style: Style) -> None:
    """One group of `accuracy_panels`."""
    for column, dash in dashes.items():
        mark = look.marked(style._replace(dash=dash), 3.5)
        _means(ax, table, column, color=style.colour, ls=dash, **mark)
    _runs(ax, table, next(iter(dashes)), style)
    _missing(ax, table, -0.09, style.colour)
    look.noted(ax, _recorded(table)[0], look.SMALL)


def _groups(table: pd.DataFrame, by: str, order: Sequence[Hashable] | None) -> dict[Hashable, pd.DataFrame]:
    if by not in table:
        raise ValueError(f"by={by!r} is no column of the table; choose from {', '.join(map(str, table))}")
    values = list(table[by].unique())
    if order is None and pd.api.types.is_numeric_dtype(table[by]):
        order = sorted(values)
    elif order is None:  # what is on record must not decide
        order = [name for name in look.STYLES if name in values]
        order += [value for value in values if value not in look.STYLES]
    return {value: pd.DataFrame(table[table[by] == value]) for value in order if value in values}


def _means(ax: Axes, table: pd.DataFrame, column: str, **line: Any) -> None:
    """Means over runs; NaN, which breaks the line, at a fraction of which no run is on record."""
    fractions, place = np.unique(table["train_fraction"], return_inverse=True)
    mean = pd.Series(look.floats(table[column])).groupby(place).mean()
    ax.plot(100 * fractions, look.floats(mean), lw=1.4, **line)


def _runs(ax: Axes, table: pd.DataFrame, column: str, style: Style) -> None:
    known = table.dropna(subset=column)
    x = 100 * known["train_fraction"]
    ax.plot(x, known[column], style.marker, color=style.colour, ms=2.5, mew=0, alpha=0.6)


def _missing(ax: Axes, table: pd.DataFrame, height: float, colour: str) -> None:
    x = 100 * np.unique(_recorded(table)[1]["train_fraction"])
    if len(x):
        ax.plot(x, np.full(len(x), height), color=colour, **look.CROSS)


# -------------------------------------------------------------------------------------------------
# One mark a network


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
    groups = _groups(table, by, None)
    for i, (value, style) in enumerate(look.styles(groups).items()):
        group = groups[value]
        known, missing = _recorded(group) if "missing" in group else (group, ())
        values = look.floats(known[column])
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
