"""Figure 2 (right): operations; and one task under two names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from grokking_core import data, measures
from grokking_core.claims.deciding import (
    PAIRS,
    Verdict,
    claim,
    in_order,
    verdict,
)
from grokking_core.measures import Needed
from grokking_core.paper import evidence
from grokking_core.paper.evidence import BUDGET, UNKNOWN
from grokking_core.runs import words
from grokking_core.runs.record import LEARNED
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run


@claim("figure 2, right", "More complicated, less symmetric operations need a larger fraction.")
def c6(fig2_operations: Records) -> Verdict:
    """Decided by pairs of operations of which one is simpler, and the fractions needed are told apart.

    Simpler, in our reading: its term has no more operations (n_operations), it is symmetric if the other is,
    and one of the two is strict. agrees: the simpler one needs less in more than half of these pairs, with
    the interval of their share, by bootstrap over operations. partly: without it. differs: in half or
    fewer. not reached: fewer than PAIRS pairs.
    """
    records = _operations(fig2_operations, *data.OPERATIONS)
    needed = evidence.fractions_needed(records, lambda run: run.operation)
    less = np.array([[_simpler_needs_less(a, b, needed) for b in needed] for a in needed], float)
    n_pairs = int(np.isfinite(less).sum())
    if n_pairs < PAIRS:
        text = f"{evidence.brackets(needed)} {n_pairs} pairs are told apart."
        return verdict("not reached", len(records), text, records, steps=BUDGET, needed=needed)

    def share(drawn: np.ndarray) -> float:
        known = less[np.ix_(drawn.astype(int), drawn.astype(int))]
        known = known[np.isfinite(known)]
        return known.mean() if len(known) else math.nan

    found = measures.interval(np.arange(len(needed)), share)
    kind = "agrees" if found.low > 0.5 else "partly" if found.value > 0.5 else "differs"
    text = (
        f"The simpler operation needs less in {np.nansum(less):.0f} of {n_pairs} pairs told apart: a share "
    )
    text += f"of {found}, where n counts operations. {evidence.brackets(needed)}"
    return verdict(kind, len(records), text, records, steps=BUDGET, needed=needed)


def _simpler_needs_less(a: str, b: str, needed: Mapping[str, Needed]) -> float:
    """Whether `a` needs less than `b`, 0 or 1; NaN where `a` is not simpler, or they are not told apart."""
    one, other = data.OPERATIONS[a], data.OPERATIONS[b]
    no_more = one.n_operations <= other.n_operations and one.symmetric >= other.symmetric
    strict = one.n_operations < other.n_operations or one.symmetric > other.symmetric
    less = evidence.needs_less(needed[a], needed[b]) if no_more and strict else None
    return math.nan if less is None else float(less)


def _operations(records: Records, *operations: str) -> Records:
    """The records of some operations, without the two names of C22."""
    renamed = _is_renamed(records)
    return records.where(lambda run: run.operation in operations and not renamed(run))


@claim("figure 2, right", "x-y and x/y need about the same fraction.")
def c7(fig2_operations: Records) -> Verdict:
    """Decided by where the smallest sufficient fractions may be among all fractions tried for the two.

    That is above the one that failed, up to the one that sufficed, or anywhere beyond. agrees: both
    sufficed, and these places are equal or neighbours. differs: they are further apart. not reached:
    neither operation sufficed, neither failed, or one did not suffice and may be a neighbour.
    """
    records = _operations(fig2_operations, "x-y", "x/y")
    needed = evidence.fractions_needed(records, lambda run: run.operation)
    tried = sorted({record.run.train_fraction for record in records})
    a, b = (needed.get(name, UNKNOWN) for name in ("x-y", "x/y"))
    (first_a, last_a), (first_b, last_b) = (evidence.places(found, tried) for found in (a, b))
    apart = max(first_a - last_b, first_b - last_a)
    kind = "agrees" if apart <= 1 else "differs"
    if (a.failed is None and b.failed is None) or (apart <= 1 and None in (a.reached, b.reached)):
        kind = "not reached"
    text = f"{evidence.brackets(needed)} Tried: {words.listed(map(words.percent, tried))}."
    return verdict(kind, len(records), text, records, steps=BUDGET, needed=needed)


@claim("figure 2, right", "Symmetric operations need a smaller fraction than close ones that are not.")
def c8(fig2_operations: Records) -> Verdict:
    """Decided by x+y against x-y, and x^2+y^2 and x^2+xy+y^2 against x^2+xy+y^2+x.

    A pair is decided if what sufficed for one failed for the other. agrees: the symmetric one needs less
    in two pairs or more, and more in none. partly: it needs less in a pair, but not all of that. differs:
    it needs more in a pair, and less in none. not reached: no pair is decided.
    """
    close = [("x+y", "x-y"), ("x^2+y^2", "x^2+xy+y^2+x"), ("x^2+xy+y^2", "x^2+xy+y^2+x")]
    records = _operations(fig2_operations, *(name for pair in close for name in pair))
    return in_order(records, lambda run: run.operation, close, enough=2)


@claim("figure 2, right", "x^3+xy^2+y does not generalize, up to 95 % of the table.")
def c9(fig2_operations: Records) -> Verdict:
    """Decided by the best validation accuracy of any run at any fraction.

    differs: a fraction suffices. agrees: none does, up to 95 % and with BUDGET updates, and no run answers
    half of what it was not shown. partly: one does. not reached: smaller fractions or fewer updates only.
    """
    name = "x^3+xy^2+y"
    records = _operations(fig2_operations, name)
    needed = evidence.fractions_needed(records, lambda run: run.operation).get(name, UNKNOWN)
    followed = any(r.run.train_fraction >= 0.95 and evidence.has_failed(r) for r in records)
    best = max(map(measures.best_accuracy, records), default=math.nan)
    kind = "not reached" if not followed else "agrees" if best < 0.5 else "partly"
    text = f"{evidence.brackets({name: needed})} Best accuracy of any run: {words.percent(best)}."
    return verdict("differs" if needed.reached else kind, len(records), text, records, steps=BUDGET)


@claim("figure 2, right", "The mixed operation, x/y for odd y and else x-y, does generalize.")
def c10(fig2_operations: Records) -> Verdict:
    """Decided by whether any fraction suffices.

    agrees: one does. differs: none does, up to 95 % and with BUDGET updates. not reached: none does, but
    with smaller fractions or fewer updates only.
    """
    name = "x/y|x-y"
    records = _operations(fig2_operations, name)
    needed = evidence.fractions_needed(records, lambda run: run.operation).get(name, UNKNOWN)
    followed = any(r.run.train_fraction >= 0.95 and evidence.has_failed(r) for r in records)
    kind = "agrees" if needed.reached else "differs" if followed else "not reached"
    return verdict(kind, len(records), evidence.brackets({name: needed}), records, steps=BUDGET)


@claim(
    "section 3.2",
    "x+y mod p-1 and x*y mod p on nonzero operands are one task up to renaming, and so train alike.",
)
def c22(fig2_operations: Records) -> Verdict:
    """Decided by the ratio of their updates to 99 % in validation.

    agrees: 1 is in its interval, which lies within 1/2 to 2. partly: 1 is in it, but it is wider.
    differs: 1 is not in it. not reached: fewer than two runs of either, or one that did not learn in time.
    """
    records = fig2_operations.where(_is_renamed(fig2_operations))
    table = measures.summary(records, LEARNED)
    product = table["operation"].eq("x*y!=0")
    sides = table.loc[~product], table.loc[product]
    ratio = measures.steps_ratio(*sides)
    kind = "agrees" if ratio.low >= 0.5 and ratio.high <= 2 else "partly"
    if math.isnan(ratio.value):
        kind = "not reached"
    elif not ratio.low <= 1 <= ratio.high:
        kind = "differs"
    medians = [measures.median_steps(side["validation_steps"], side["followed"]) for side in sides]
    text = f"Median updates to 99 %: x+y {medians[0]}, x*y {medians[1]}. Ratio of the means: {ratio}."
    return verdict(kind, ratio.n, text, records)


def _is_renamed(records: Records) -> Callable[[Run], bool]:
    """Whether a run is of x*y on nonzero operands, or of x+y under the modulus that makes it the same."""
    moduli = {run.p - 1 for run in records.runs if run.operation == "x*y!=0"}
    return lambda run: run.operation == "x*y!=0" or (run.operation == "x+y" and run.p in moduli)
