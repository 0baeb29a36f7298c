"""The weight norm held: what it does for the delay, and through what."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from grokking_core import data, measures
from grokking_core.claims.deciding import TOGETHER, Verdict
from grokking_core.literature.rows import judged, row
from grokking_core.measures.clock import GROKKED
from grokking_core.paper import evidence
from grokking_core.runs import words
from grokking_core.runs.records import Records

ALL, SOME = 0.25, 0.75  #: how far a share may be from 1 to be all of a delay, and to be some of it


@row(
    "arXiv:2606.18465",
    "What the weight norm does for the delay it does through the scale of the logits: divided as at a "
    "smaller norm they take back 83 to 89 % of the delay.",
    "transformers with a last layer norm and without, modular addition with two moduli; the norm held",
)
def logits_carry_the_norm(norm_clock: Records) -> Verdict:
    """Decided by `updates_held` at the smallest and the largest norm, and at this one with divided logits.

    Divided they are on the scale that they have at the smallest norm. The share taken back is (largest -
    divided) / (largest - smallest); where most did not grok at the largest norm the updates followed stand
    for theirs, and it is at least that. agrees: it is at most ALL from 1. partly: at most SOME. differs:
    further, and no least share. not reached: otherwise, or a cell has no run, or most did not grok at the
    smallest norm, or the largest takes less than TOGETHER times as long, or at it neither scale lets grok.
    """
    cells = updates_held(norm_clock)
    known: dict[Any, dict] = cells.set_index(["norm", "like"]).to_dict("index")
    low = min((norm for norm, _ in known), default=0.0)
    high = max((norm for norm, like in known if like == low), default=low)
    if low == high or not {(low, low), (high, high)} <= {*known}:
        return judged("not reached", 0, "Norms and logits to compare are not all there.", norm_clock)
    there = [known[cell] for cell in ((low, low), (high, high), (high, low))]
    small, large, divided = (cell["updates"] for cell in there)
    told = [f"{cell['updates']:,.0f}{' (not reached)' * cell['late']}" for cell in there]
    text = f"Updates until {words.percent(GROKKED)} are right: {told[0]} at {low:g} of the first norm,"
    text += f" {told[1]} at {high:g}, {told[2]} there with logits as at {low:g}."
    n = sum(int(cell["n"]) for cell in known.values())
    if there[0]["late"] or (there[1]["late"] and there[2]["late"]) or large < TOGETHER * small:
        return judged("not reached", n, text, norm_clock)
    back = (large - divided) / (large - small)
    kind = "agrees" if abs(1 - back) <= ALL else "partly" if abs(1 - back) <= SOME else "differs"
    least = "at least " * there[1]["late"]
    kind = "not reached" if least and kind == "differs" else kind
    return judged(kind, n, f"{text} Taken back: {least}{words.percent(back)}.", norm_clock)


@row(
    "arXiv:2210.01117",
    "At a norm of the weights that is held small enough training and validation move together.",
    "1-layer transformer, x+y mod 113 on 30 % of the table; float64, Adam without decay, full batches",
)
def small_norms_learn_at_once(norm_clock: Records) -> Verdict:
    """Decided by networks that keep the norm that they begin with: `gaps_held`, by the scale of that norm.

    agrees: at a scale below 1 the gap is TOGETHER or less, at 1 it is more. partly: at a scale below 1 it is
    smaller than at 1. differs: at none. not reached: at 1 it is TOGETHER or less, or at none below most
    learned.
    """
    gaps, n = gaps_held(norm_clock)
    below = min((gap for scale, gap in gaps.items() if scale < 1), default=math.inf)
    first = gaps.get(1.0, 0.0)
    kind = "agrees" if below <= TOGETHER else "partly" if below < first else "differs"
    if first <= TOGETHER or below == math.inf:
        kind = "not reached"
    text = "; ".join(f"{gap:.3g} at {scale:g}" for scale, gap in gaps.items()).replace("inf", "not learned")
    text = f"Median gap, by the scale of the first norm: {text}."
    return judged(kind, n, text, norm_clock)


def updates_held(records: Records) -> pd.DataFrame:
    """Updates to `clock.GROKKED` by the norm held and the one whose logits' scale is taken, medians.

    Returns
    -------
    DataFrame
        norm, like (shares of the first norm); updates, those followed where the median was not reached; late
        (whether it was not); n (runs).
    """
    table, by = summary_held(records).query("not missing"), ["norm", "like"]
    if table.empty:
        return pd.DataFrame(columns=[*by, "updates", "late", "n"])
    found = measures.medians(table, by)
    updates = found["value"].fillna(table.groupby(by)["followed"].max())
    return found.assign(updates=updates, late=found["value"].isna())[["updates", "late", "n"]].reset_index()


def summary_held(records: Records) -> pd.DataFrame:
    """`measures.summary` at `clock.GROKKED` of runs whose norm is held at a share of the first, norm.

    like is the share at which their logits' scale is this: it goes with the square of the norm, by the output
    layer and the gain before it. validation_steps is of unmirrored pairs, where the operation is symmetric.
    """
    held = records.where(lambda run: run.norm_hold > 0 and run.init_scale == 1)
    table = measures.summary(held, GROKKED)
    symmetric = [data.OPERATIONS[name].symmetric for name in table["operation"]]
    table["validation_steps"] = table["unmirrored_steps"].where(symmetric, table["validation_steps"])
    like = table["norm_hold"].astype(float) / np.sqrt(table["temperature"].astype(float))
    return table.assign(norm=table["norm_hold"], like=like.round(4))


def gaps_held(records: Records) -> tuple[dict[float, float], int]:
    """Median gaps (see `evidence.gap`) of networks that keep their first norm, by its scale; their number.

    A gap is infinite where most did not learn.
    """
    kept = evidence.distinct([records.where(lambda run: run.norm_hold == 1 and run.temperature == 1)])
    gaps = {}
    for scale in sorted({record.run.init_scale for record in kept}):
        alike = [record for record in kept if record.run.init_scale == scale]
        most = 2 * sum(map(evidence.has_learned, alike)) > len(alike)
        gaps[scale] = evidence.gap(alike).value if most else math.inf
    return gaps, len(kept)
