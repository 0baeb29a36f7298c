"""Figure 7 (appendix A.5): sharpness."""

from __future__ import annotations

import math

from grokking_core import data, measures
from grokking_core.claims.deciding import (
    NETWORKS,
    S5,
    Verdict,
    claim,
    verdict,
)
from grokking_core.paper import evidence
from grokking_core.paper.evidence import BUDGET
from grokking_core.runs import words
from grokking_core.runs.record import LEARNED
from grokking_core.runs.records import Records
from grokking_core.weights import sharpness


@claim("figure 7, appendix A.5", "Sharpness and validation accuracy correlate: Spearman's rho is -0.795.")
def c21(fig7_sharpness: Records) -> Verdict:
    """Decided by Spearman's correlation of phi (mean over subspaces) and validation accuracy at the end.

    Networks that did not fit their training set are in no minimum, and do not count. Of a symmetric
    operation it is the accuracy on unmirrored pairs, with that on all pairs beside it. agrees: below 0 with
    its interval. partly: below 0, but the interval holds 0. differs: 0 or above. not reached: fewer than
    NETWORKS.
    """
    records = evidence.own(fig7_sharpness, S5).with_kept("sharpness")
    table = sharpness.table(records)
    table = table[table["train"] >= LEARNED]
    side = "unmirrored" if any(data.OPERATIONS[r.run.operation].symmetric for r in records) else "validation"
    found = measures.spearman(table["phi"], table[side])
    kind = "agrees" if found.high < 0 else "partly" if found.value < 0 else "differs"
    if found.n < NETWORKS or math.isnan(found.value):
        kind = "not reached"
    text = f"Spearman's correlation: {found} (the paper: -0.795). On all pairs, mirrored ones included: "
    text += f"{measures.spearman(table['phi'], table['validation'])}. With sharpness as released: "
    text += f"{measures.spearman(table['released'], table[side])}."
    if unfitted := len(records) - len(table):
        text += f" {unfitted} did not fit their training set, and do not count."
    if stops := [stop for _, stop in records.asked if stop is not None and stop < 1]:
        text += f" Runs ended as soon as {words.percent(max(stops))} of validation was right."
    return verdict(kind, found.n, text, records, S5, BUDGET)
