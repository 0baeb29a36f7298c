"""What grows when the softmax collapses, from what the probes `softmax_collapse` and `spikes` saw of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from grokking_core.measures.watched import GROKKED
from grokking_core.runs.record import LEARNED, Record
from grokking_core.runs.run import Run

COLLAPSED = 0.01  #: share of the training equations from which on the softmax counts as collapsed


def collapse_table(records: Iterable[Record], arm_of: Callable[[Run], str]) -> pd.DataFrame:
    """A row a run: whether its softmax collapsed, and what had grown by the end.

    Returns
    -------
    DataFrame
        arm, seed; fitted and learned, first steps with 99 % in training and 95 % in validation, and
        collapsed, the first with COLLAPSED of the training equations, NA where not reached; collapse, the
        largest share; growth, of the norm of the mean output row from fitting to the end, NaN of a run that
        has not fitted; at the end cosine (of that row and the mean feature), logit (the largest of all) and
        norm (of the weights); spikes.
    """
    rows = []
    for record in records:
        frame: Any = record.watched["softmax_collapse"].set_index("step")
        spikes: Any = record.watched["spikes"]["spikes"]
        fitted, learned = record.steps_to(LEARNED, "train"), record.steps_to(GROKKED, "validation")
        reached = frame.index[frame["collapse"] > COLLAPSED]
        length, last = frame["output_mean_norm"], frame.iloc[-1]
        row = {"arm": arm_of(record.run), "seed": record.run.seed, "fitted": fitted, "learned": learned}
        row |= {"collapsed": int(reached[0]) if len(reached) else None, "collapse": frame["collapse"].max()}
        row |= {"growth": np.nan if fitted is None else length.iloc[-1] / length.loc[fitted]}
        row |= {"cosine": last["cosine"], "logit": last["largest_logit"], "norm": last["weight_norm"]}
        rows.append(row | {"spikes": spikes.max()})
    steps, numbers = ("fitted", "learned", "collapsed"), ("collapse", "growth", "cosine", "logit", "norm")
    kinds: dict[str, Any] = dict.fromkeys(steps, "Int64") | dict.fromkeys((*numbers, "spikes"), float)
    return pd.DataFrame(rows, columns=["arm", "seed", *kinds]).astype(kinds)


def by_arm(table: pd.DataFrame) -> pd.DataFrame:
    """A row an arm of `collapse_table`: how many runs collapsed, learned and spiked, and medians.

    collapsed from and learned at are medians over all runs, NaN where half or more never did.
    """
    rows = {}
    for arm in dict.fromkeys(table["arm"]):
        of: Any = table[table["arm"] == arm]
        row: dict[str, float] = {"runs": len(of), "collapsed": of["collapsed"].notna().sum()}
        row |= {"collapsed from": _median(of["collapsed"]), "largest share": of["collapse"].median()}
        row |= {name: of[name].median() for name in ("growth", "cosine", "logit", "norm")}
        row |= {"with spikes": (of["spikes"] > 0).sum(), "learned": of["learned"].notna().sum()}
        rows[arm] = row | {"learned at": _median(of["learned"])}
    return pd.DataFrame.from_dict(rows, orient="index")


def _median(steps: Any) -> float:
    """The median where a step that was not reached is later than all others; NaN if it is such a one."""
    median = float(np.median(steps.astype(float).fillna(np.inf)))
    return median if np.isfinite(median) else np.nan
