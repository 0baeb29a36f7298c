"""Figure 1 (centre): how long it takes, by training fraction."""

from __future__ import annotations

import math

from grokking_core import measures
from grokking_core.claims.deciding import (
    CENTRE,
    S5,
    TOGETHER,
    Verdict,
    claim,
    fitting,
    kind_of,
    verdict,
)
from grokking_core.paper import evidence
from grokking_core.paper.evidence import UNKNOWN
from grokking_core.runs import words
from grokking_core.runs.record import LEARNED
from grokking_core.runs.records import Records


@claim(
    "figure 1, centre",
    "S5 product, between 25 % and 30 % of the table: one percentage point less data costs 40 to 50 % more "
    "updates in the median.",
)
def c3(fig1_data_fraction: Records) -> Verdict:
    """Decided by the slope that `measures.slope_per_point` fits to S5 product from 25 % to 30 %.

    agrees: its interval meets 40 to 50 % and lies above 0. partly: it lies above 0 but misses that.
    differs: it holds 0 or less and does not come to 40 %. not reached: there is no such interval, or it
    holds 0 as well as 40 %, and tells nothing apart.
    """
    asked = fig1_data_fraction.where(lambda run: run.operation == S5 and 0.25 <= run.train_fraction <= 0.3)
    slope = measures.slope_per_point(measures.summary(asked, LEARNED))
    text = f"One percentage point less data costs more updates, in percent: {slope}."
    if not asked.runs:
        instead = measures.slope_per_point(measures.summary(fig1_data_fraction, LEARNED))
        tasks = words.listed(map(words.task, fig1_data_fraction.runs))
        text = f"Not asked for. Instead, {tasks} at all fractions: one percentage point less data costs more "
        text += f"updates, in percent: {instead}."
        return verdict("not reached", 0, text, fig1_data_fraction)
    kind = "partly" if slope.low > 50 or slope.high < 40 else "agrees"
    if not slope.low > 0:
        kind = "differs" if slope.high < 40 else "not reached"
    return verdict(kind, slope.n, text, asked, steps=CENTRE)


@claim(
    "figure 1, centre",
    "Updates to 99 % training accuracy stay within 1,000 to 10,000 and tend to fall with the training "
    "fraction.",
)
def c4(fig1_data_fraction: Records) -> Verdict:
    """Decided by the first step at which training accuracy is 99 %; earlier than 1,000 counts as within.

    agrees: no run took longer than 10,000 updates, and Spearman's correlation with the training fraction is
    below 0 with its interval. partly: one of the two. differs: neither. A run followed for less without
    getting there is open, and left out. not reached: fewer than two fractions with runs that decide.
    """
    records = evidence.own(fig1_data_fraction, S5)
    table = evidence.outcomes(records).dropna(subset="fitted_soon")
    if len(set(table["train_fraction"])) < 2:
        return verdict("not reached", len(table), fitting(table), records, S5)
    steps = table["train_steps"].astype(float).fillna(math.inf)
    trend = measures.spearman(table["train_fraction"], steps)
    kind = kind_of([all(table["fitted_soon"]), trend.high < 0])
    text = f"{fitting(table)} Spearman's correlation with the training fraction: {trend}."
    return verdict(kind, len(table), text, records, S5)


@claim(
    "section 3.1",
    "Late generalization is typical near the smallest sufficient table; with more data the two curves move "
    "together.",
)
def c5(fig1_data_fraction: Records) -> Verdict:
    """Decided by the gaps of the runs at sufficient fractions; a run that did not learn has the largest.

    agrees: Spearman's correlation of gap and training fraction is below 0 with its interval, and at the
    largest fraction the median gap is TOGETHER or less. partly: the median gap is larger at the smallest
    sufficient fraction than at the largest, but not all of that holds. differs: it is not larger.
    not reached: fewer than two sufficient fractions.
    """
    records = evidence.own(fig1_data_fraction, S5)
    smallest = evidence.fractions_needed(records, lambda run: "all").get("all", UNKNOWN).reached
    largest = max((record.run.train_fraction for record in records), default=None)
    if smallest is None or largest is None or smallest == largest:
        return verdict("not reached", 0, "Fewer than two fractions sufficed.", records, S5, CENTRE)
    fitted = [record for record in records if record.steps_to(LEARNED, "train") is not None]
    enough = [record for record in fitted if record.run.train_fraction >= smallest]
    gaps = [measures.gap(record, LEARNED) or math.inf for record in enough]
    trend = measures.spearman([record.run.train_fraction for record in enough], gaps)
    near, far = (
        evidence.gap(r for r in enough if r.run.train_fraction == fraction)
        for fraction in (smallest, largest)
    )
    longer = not (near.value <= far.value or math.isnan(far.value))  # NaN: half of them never learned
    kind = "agrees" if trend.high < 0 and far.value <= TOGETHER else "partly" if longer else "differs"
    text = f"Median gap at {words.percent(smallest)}, the smallest fraction that sufficed: {near}; at "
    text += f"{words.percent(largest)}: {far}. Spearman's correlation with the fraction: {trend}."
    return verdict(kind, len(enough), text, records, S5)
