"""Capacity: the size from which on validation lags; see `measures.capacity`."""

from __future__ import annotations

import math

from grokking_core import measures
from grokking_core.claims.deciding import Verdict
from grokking_core.literature.rows import judged, row
from grokking_core.measures.capacity import Between
from grokking_core.plans.capacity import n_parameters
from grokking_core.runs.records import Records

SETTING = "2-layer pre-norm transformer, x/y mod ten primes on half of the table, widths 10 to 1,000, decay 1"
NEAR = 2.0  #: factor up to which sizes are near each other
BITS = 2.16  #: a parameter, theirs


@row(
    "arXiv:2605.09724",
    "Validation lags behind training from the size on at which random answers are learned as soon as the "
    "rule.",
    SETTING,
)
def delay_starts_at_the_crossing(capacity: Records) -> Verdict:
    """Decided by two brackets of sizes: `measures.crossing` and `measures.onset`.

    agrees: they meet. partly: they are at most a factor NEAR apart. differs: further, also where the smallest
    network that learned lags and is so much smaller than the crossing. not reached: otherwise where all
    networks are on one side.
    """
    table = measures.by_size(capacity, n_parameters)
    crossing, onset = measures.crossing(table), measures.onset(table)
    text = f"Parameters: random answers are learned as soon as the rule {_told(crossing)};"
    text += f" validation lags {_told(onset)}."
    if math.isnan(sum(crossing) + onset.high):
        return judged("not reached", len(capacity), text, capacity)
    is_open, low = math.isnan(onset.low), 0.0 if math.isnan(onset.low) else onset.low
    apart = max(crossing.low, low) / min(crossing.high, onset.high)
    kind = "agrees" if apart <= 1 else "partly" if apart <= NEAR else "differs"
    return judged("not reached" if is_open and kind != "differs" else kind, len(capacity), text, capacity)


@row("arXiv:2605.09724", "A network stores some 2.16 bits a parameter.", SETTING)
def bits_a_parameter(capacity: Records) -> Verdict:
    """Decided by the sizes between which most networks begin to learn 99 % of random answers.

    The bits are the training equations times the logarithm of the number of answers. agrees: BITS lies
    between those a parameter at the two sizes. partly: it is at most a factor NEAR away. differs: further.
    not reached: one end is open.
    """
    table = measures.by_size(capacity, n_parameters)
    found, runs = measures.memorising(table), [run for run in capacity.runs if run.outliers == run.n_train]
    if not runs or math.isnan(sum(found)):
        text = f"Parameters with which most networks learn random answers: {_told(found)}."
        return judged("not reached", len(capacity), text, capacity)
    bits = runs[0].n_train * math.log2(runs[0].n_elements)
    least, most = bits / found.high, bits / found.low
    apart = max(least / BITS, BITS / most)
    kind = "agrees" if apart <= 1 else "partly" if apart <= NEAR else "differs"
    text = f"{runs[0].n_train:,} random answers, {bits:,.0f} bits, are learned with parameters"
    text += f" {_told(found)}: {least:.2f} to {most:.2f} bits each."
    return judged(kind, len(capacity), text, capacity)


def _told(sizes: Between) -> str:
    """From which size on, in words."""
    if math.isnan(sizes.high):
        return "at no size"
    below = "the smallest" if math.isnan(sizes.low) else f"not at {sizes.low:,.0f}"
    return f"from {sizes.high:,.0f} on ({below})"
