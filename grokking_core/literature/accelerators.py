"""What hastens grokking."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd

from grokking_core import measures
from grokking_core.claims.deciding import Verdict, kind_of
from grokking_core.literature.rows import judged, row
from grokking_core.plans.followups import method_of
from grokking_core.runs import words
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run

KNOWN = 0.95  #: validation accuracy, first reached and from where it holds, as in 2607.20512
SOONER = 0.9  #: of the updates of AdamW or fewer: more than the grid of evaluations leaves open
BASELINE = "AdamW"


@row(
    "arXiv:2405.20233",
    "To amplify the slow part of the gradients, by a moving average, hastens grokking many times over.",
    "2-layer pre-norm transformer, x*y mod 97 without 0 on half of the table; Adam, decay in the gradient",
)
def slow_gradients_hasten(accelerators: Records) -> Verdict:
    """Decided by `sooner` for Grokfast-EMA and for Grokfast-MA.

    agrees: both are. partly: one is. differs: neither is. not reached: one, or AdamW, has no run on record,
    or no cell of any was learned.
    """
    return _judged(accelerators, ["Grokfast-EMA", "Grokfast-MA"])


@row(
    "arXiv:2504.16041",
    "With Muon networks grok after about two thirds of the epochs of AdamW (remembered, not checked).",
    "not in the material that we could read",
)
def muon_hastens(accelerators: Records) -> Verdict:
    """Decided by `sooner` for Muon, at one rate for all of its parameters.

    agrees: it is. differs: it is not. not reached: it, or AdamW, has no run on record, or no cell of any
    was learned.
    """
    return _judged(accelerators, ["Muon"])


@row(
    "arXiv:2607.20512",
    "With Muon x+y takes fewer updates than with AdamW (1,856 against 4,488 until 95 % hold), x-y more "
    "(8,925 against 5,850).",
    "1-layer transformer, x+y and x-y mod 97 on 40 % of the table, learning rate 1e-3",
)
def muon_hastens_sums_alone(accelerators: Records) -> Verdict:
    """Decided by `sooner` on two operations: for Muon on x+y, for AdamW, held against Muon, on x-y.

    agrees: both are. partly: one is. differs: neither is. not reached: on one of them Muon or AdamW has no
    run on record, or no cell of either was learned.
    """
    parts, text, asked = [], [], 0
    for operation, ahead, behind in (("x+y", "Muon", BASELINE), ("x-y", BASELINE, "Muon")):
        of = accelerators.where(lambda run, name=operation: run.operation == name and _among(run, "Muon"))
        best = best_cells(of)
        if not {ahead, behind} <= {*best.index} or not sum(best["learned"]):
            return judged("not reached", 0, f"On {operation} there is nothing to compare.", accelerators)
        parts.append(sooner(best, ahead, behind))
        told = (f"{name} {_told(best.loc[name].to_dict())}" for name in (BASELINE, "Muon"))
        text.append(f"{operation}: {', '.join(told)}")
        asked += len(of)
    return judged(kind_of(parts), asked, f"In the best cell, {'; '.join(text)}.", accelerators)


def sooner(best: pd.DataFrame, method: str, than: str = BASELINE) -> bool:
    """Whether a method holds KNOWN after SOONER of the updates of another or fewer, each in its best cell."""
    steps: dict[str, float] = best["value"].fillna(math.inf).to_dict()
    return steps[method] <= SOONER * steps[than] and steps[method] < math.inf


def on_main_operation(records: Records) -> Records:
    """The runs of the operation on which all methods stand: the one with most runs."""
    counts = Counter(run.operation for run in records.runs)
    most = min(counts, key=lambda name: (-counts[name], name), default="")
    return records.where(lambda run: run.operation == most)


def best_cells(records: Records, column: str = "validation_sustained") -> pd.DataFrame:
    """`measures.best_cells` by method, at KNOWN."""
    table = measures.summary([*records], KNOWN)
    table["method"] = [method_of(record.run) for record in records]
    return measures.best_cells(table, "method", column=column)


def _among(run: Run, *methods: str) -> bool:
    """Whether a run is of AdamW or of one of these methods."""
    return method_of(run) in {BASELINE, *methods}


def _judged(records: Records, methods: list[str]) -> Verdict:
    """The verdict on these methods against AdamW."""
    records = on_main_operation(records)
    if not records or not {BASELINE, *methods} <= {method_of(record.run) for record in records}:
        return judged("not reached", 0, f"{BASELINE} and {words.listed(methods)} are not all there.", records)
    best = best_cells(records)
    parts = [sooner(best, name) for name in methods]
    text = "; ".join(f"{name} {_told(best.loc[name].to_dict())}" for name in (BASELINE, *methods))
    asked = [record for record in records if _among(record.run, *methods)]
    kind = kind_of(parts) if sum(best["learned"]) else "not reached"
    return judged(kind, len(asked), f"In the best cell: {text}.", records)


def _told(cell: dict) -> str:
    """When a method held KNOWN in its best cell, in words."""
    if math.isnan(cell["value"]):
        return f"in none of {cell['cells']} cells"
    steps = measures.Estimate(*(cell[name] for name in measures.Estimate._fields))
    return f"{steps} updates at rate {cell['lr']:g} and decay {cell['weight_decay']:g}"
