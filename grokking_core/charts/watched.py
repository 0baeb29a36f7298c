"""What was watched of runs, against optimizer steps, and how signals warn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from grokking_core import measures
from grokking_core.plots import style as look

if TYPE_CHECKING:
    from grokking_core.runs.record import Record


def watched_curves(
    groups: Mapping[str, Sequence[Record]],
    values: Callable[[Record], pd.Series],
    label: str,
    ax: Axes | None = None,
    *,
    keys: str = "best",
    since: int = 10,
) -> Axes:
    """A number that was watched against optimizer steps, a colour a group, a line a run.

    A dot is where a run first had 95 % of the validation equations right.

    Parameters
    ----------
    groups : mapping from str to sequence of Record
        Runs by label.
    values : callable
        The number of a run, by step.
    label : str
        Of the axis.
    ax : matplotlib Axes, optional
        Where to draw; a new figure without it.
    keys : str
        Place of the legend, as `legend` of the style has it; "" for none.
    since : int
        The update from which on the axis of steps is logarithmic.
    """
    ax, styles = look.axes(ax), look.styles(groups)
    for name, records in groups.items():
        style = styles[name]
        for record in records:
            series = values(record)
            ax.plot(series.index, series, style.dash, color=style.colour, lw=1.0, alpha=0.9)
            learned = record.steps_to(measures.GROKKED, "validation")
            if learned is not None:
                dot = look.marked(style, 5)
                ax.plot([learned], [series.loc[learned]], ls="", color=style.colour, **dot)
    ax.set(ylabel=label)
    _steps(ax, since)
    shown = [
        look.key(name, color=styles[name].colour, ls=styles[name].dash) for name in groups if groups[name]
    ]
    look.legend(ax, shown if keys else [], place=keys)
    return look.noted(ax, [record for records in groups.values() for record in records])


def _steps(ax: Axes, since: int) -> None:
    """An axis of steps, logarithmic from `since` on, with a short linear piece before."""
    ax.set_xscale("symlog", linthresh=since, linscale=10 / since)
    ax.set(xlabel="optimizer steps", xlim=(0, None))


def watched_columns(
    records: Sequence[Record],
    probe: str,
    columns: Mapping[str, str],
    ax: Axes | None = None,
    *,
    since: int = 10,
) -> Axes:
    """Columns of what a probe saw against optimizer steps, a colour a column, a line a run.

    `columns` has the label of each; `since` is as for `watched_curves`.
    """
    ax = look.axes(ax)
    for column, style in look.styles(columns).items():
        for record in records:
            frame = record.watched[probe]
            ax.plot(frame["step"], frame[column], style.dash, color=style.colour, lw=1.0, alpha=0.9)
    _steps(ax, since)
    keys = [(columns[column], style) for column, style in look.styles(columns).items()]
    look.legend(ax, [look.key(label, color=of.colour, ls=of.dash) for label, of in keys])
    return look.noted(ax, records)


def leads(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Updates from the alarm of each signal to 95 % validation accuracy, a dot a run; `measures.alarms`.

    Right of the line at 0 an alarm comes before the event; beside each name how many controls it alarmed.
    """
    ax = look.axes(ax, (7, 4.5))
    found = measures.judged(table)
    for place, (name, row) in enumerate(found.iterrows()):
        lead = table.loc[table["signal"].eq(name), "lead"].dropna().astype(float)
        ax.plot(lead, np.full(len(lead), place), "o", ms=5, color=look.COLOURS["validation"], alpha=0.6)
        text = f"{row['false_alarms']:.0f} of {row['controls']:.0f} controls"
        ax.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=look.SMALL)
    ax.axvline(0, color=look.GREY, lw=0.8)
    ax.set_yticks(range(len(found)), [str(name) for name in found.index], fontsize=look.SMALL)
    ax.invert_yaxis()
    ax.set_xlabel("updates from the alarm to 95 % validation accuracy")
    return look.noted(ax, table)


def operating_curves(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Learners warned against controls alarmed for every threshold of each signal of `measures.alarms`."""
    ax = look.axes(ax, (7, 3.8))
    names = list(dict.fromkeys(table["signal"]))
    for name, style in look.styles(names).items():
        points = measures.operating_points(pd.DataFrame(table[table["signal"] == name]))
        ax.plot(points["false_alarms"], points["warned"], style.dash, color=style.colour, lw=1.2, label=name)
    ax.plot([0, 1], [0, 1], ":", color=look.GREY, lw=0.8)
    ax.set(xlabel="controls with an alarm", ylabel="learners with an alarm in time", xlim=(-0.02, 1.02))
    look.percent(ax.xaxis)
    look.percent(ax.yaxis)
    look.legend(ax, ax.get_legend_handles_labels()[0], place="right")
    return look.noted(ax, table)
