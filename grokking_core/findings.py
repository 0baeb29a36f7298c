"""What records show: who learned, how much data it took, what the output rows hold; and that in words.

`claims` decides by these. A fraction of the table suffices where the median run learns, and the fraction
needed lies between the largest that failed and the smallest that sufficed. For a symmetric operation,
accuracy on unmirrored pairs counts as well: a network that only ignores the order of the operands has not
learned it. A run that was given up unlearned, and earlier than others, is open: it has not failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from grokking_core import cosets, data, measures, number_line
from grokking_core.measures import Estimate, Needed
from grokking_core.record import Record
from grokking_core.run import Run
from grokking_core.sweep import Records

LEARNED = 0.99  # accuracy that counts as learned, the paper's own
UNMIRRORED = 0.9  # of a symmetric operation's unmirrored pairs: runs end at 99 % of all pairs
KNOWS = 0.9  # accuracy of a network whose output rows are worth a look
BUDGET = 100_000  # updates, of the paper's figure 2
UNKNOWN = Needed(None, None)
NAMES = {"s5:xy": "S5 product", "s5:xyx": "xyx on S5", "s5:xyx^-1": "xyx^-1 on S5"}


# -------------------------------------------------------------------------------------------------
# Which runs


def of(records: Records, asks: Callable[[Run], bool]) -> Records:
    """The records of some of the runs, and those of these runs that are missing."""
    part = Records((record for record in records if asks(record.run)), asked=records.asked)
    part.missing = [run for run in records.missing if asks(run)]
    return part


def with_kept(records: Records, name: str) -> Records:
    """The records that have kept what is named; the others are missing."""
    part = Records((record for record in records if name in record.kept), asked=records.asked)
    part.missing = records.missing + [record.run for record in records if name not in record.kept]
    return part


def runs_of(records: Records) -> list[Run]:
    """All runs that were asked for."""
    return [*(record.run for record in records), *records.missing]


@lru_cache
def is_symmetric(operation: str) -> bool:
    """Whether the answers do not depend on the order of the operands."""
    x, y, answer = (column.tolist() for column in data.operation_table(operation, 5, 3))
    known = dict(zip(zip(x, y, strict=True), answer, strict=True))
    return all(known.get((b, a)) == z for (a, b), z in known.items())


# -------------------------------------------------------------------------------------------------
# How far they came


def has_learned(record: Record) -> bool:
    """Whether validation accuracy reached LEARNED."""
    return record.steps_to(LEARNED, "validation") is not None


def has_failed(record: Record, budget: int = BUDGET) -> bool:
    """Whether the run was followed for `budget` updates without learning, or diverged."""
    return not has_learned(record) and (record.last_step >= budget or record.diverged_at is not None)


def gap(records: Iterable[Record]) -> Estimate:
    """Median over these runs of updates to 99 % in validation over those in training; see `measures.gaps`."""
    found = measures.gaps(measures.summary(list(records), LEARNED), "missing")  # one group: all are on record
    first = (found[name].iloc[0] for name in Estimate._fields)
    return measures.NOTHING if found.empty else Estimate(*first)


def outcomes(records: Sequence[Record]) -> pd.DataFrame:
    """`measures.summary` of the runs on record, in order, with what they show.

    accuracy: the best in validation, of a symmetric operation on unmirrored pairs. enough: whether the run
    learned, a symmetric operation with UNMIRRORED on these. fitted_soon: whether training accuracy reached
    99 % within 10,000 updates; NA where the run was given up earlier.
    """
    table = measures.summary(records, LEARNED).query("not missing")
    symmetric = table["operation"].map(is_symmetric).astype(bool)
    table["accuracy"] = table["best_validation"].mask(symmetric, table["best_unmirrored"])
    shown = ~symmetric | (table["accuracy"] >= UNMIRRORED)
    table["enough"] = (table["best_validation"] >= LEARNED) & shown
    is_open = table["train_steps"].isna() & (table["followed"] < 10_000) & ~table["diverged"]
    table["fitted_soon"] = (table["train_steps"] <= 10_000).fillna(False).mask(is_open)
    return table


# -------------------------------------------------------------------------------------------------
# How much data it took


def fractions_needed(records: Sequence[Record], label: Callable[[Run], str]) -> dict[str, Needed]:
    """The fraction needed by the runs of each label, in order; what was given up early counts for nothing."""
    table = outcomes(records)
    lower = table[["best_validation", "accuracy"]].min(axis=1)
    table["best_validation"] = table["best_validation"].where(table["enough"], lower)
    table["label"] = [label(record.run) for record in records]
    given_up_last = table["followed"].eq(table["followed"].max()) | table["diverged"]
    decided = table.loc[table["enough"] | given_up_last]
    return {
        name: measures.fraction_needed(decided.loc[decided["label"].eq(name)], LEARNED)
        for name in dict.fromkeys(table["label"])
    }


def needs_less(a: Needed, b: Needed) -> bool | None:
    """Whether what sufficed for a failed for b; None where they are not told apart."""
    if a.reached is not None and b.failed is not None and a.reached <= b.failed:
        return True
    if b.reached is not None and a.failed is not None and b.reached <= a.failed:
        return False
    return None


def ratio(a: Needed, b: Needed) -> tuple[float, float]:
    """Bounds of the fraction that a needs over the one that b needs; it lies above the first of them."""
    low = a.failed / b.reached if a.failed is not None and b.reached is not None else 0.0
    return low, a.reached / b.failed if a.reached is not None and b.failed is not None else math.inf


def places(needed: Needed, tried: Sequence[float]) -> tuple[int, int]:
    """First and last place in `tried` at which the smallest sufficient fraction may be; its end: beyond."""
    first = 0 if needed.failed is None else tried.index(needed.failed) + 1
    return first, len(tried) if needed.reached is None else tried.index(needed.reached)


# -------------------------------------------------------------------------------------------------
# What the output rows hold


def has_rows(record: Record) -> bool:
    """Whether output rows are kept, finite, and of enough elements to test."""
    rows = record.kept.get("output_rows", {}).get("rows")
    return rows is not None and bool(np.isfinite(rows).all()) and record.run.n_elements >= 4


def knows(record: Record) -> bool:
    """Whether the network answers KNOWS of what it was not shown, or of its unmirrored pairs, at its end."""
    side = "unmirrored" if is_symmetric(record.run.operation) else "validation"
    return bool(record.curve[f"{side}_accuracy"].iloc[-1] >= KNOWS)


def structure(record: Record) -> pd.DataFrame:
    """The test of a network's output rows, for cosets or number lines, what stands out most first."""
    run, rows = record.run, record.kept["output_rows"]["rows"]
    on_group = data.OPERATIONS[run.operation].on_group
    return cosets.coset_test(rows, run.n) if on_group else number_line.line_test(rows, run.p)


def decay_pairs(records: Iterable[Record]) -> pd.DataFrame:
    """Pairs of a network with weight decay that knows its task and one without, else the same.

    Columns task, train_fraction, seed, more (by how much z of what stands out most is larger with decay),
    knows_without (whether the network without decay knows it as well).
    """
    columns = ["task", "train_fraction", "seed", "decays", "z", "knows"]
    rows = []
    for record in filter(has_rows, records):
        run, z = record.run, structure(record)["z"].max()
        rows.append((task(run), run.train_fraction, run.seed, run.weight_decay > 0, z, knows(record)))
    table = pd.DataFrame(rows, columns=columns).astype({"decays": bool, "knows": bool, "z": float})
    with_decay = table.loc[table["decays"] & table["knows"]]
    pairs = with_decay.merge(table.loc[~table["decays"]], on=columns[:3], suffixes=("", "_without"))
    return pairs.assign(more=pairs["z"] - pairs["z_without"])


# -------------------------------------------------------------------------------------------------
# In words


def name(label: str) -> str:
    """The name of an operation, or of a variant, in quotes if it has a comma in it."""
    return NAMES.get(label, repr(label) if "," in label else label)


def task(run: Run) -> str:
    """The operation, and what it acts on."""
    named = NAMES.get(run.operation, f"{run.operation} mod {run.p}")
    return named.replace("S5", f"S{run.n}") if data.OPERATIONS[run.operation].on_group else named


def listed(values: Iterable[object]) -> str:
    """The different values, in order."""
    return ", ".join(dict.fromkeys(f"{v:g}" if isinstance(v, float) else str(v) for v in values))


def span(steps: Iterable[int]) -> str:
    """From the smallest to the largest."""
    known = sorted(steps)
    return f"{known[0]:,}" if known[0] == known[-1] else f"{known[0]:,} to {known[-1]:,}"


def percent(share: float) -> str:
    """A share as percent."""
    return f"{100 * share:.3g} %"


def bracket(needed: Needed) -> str:
    """Where a fraction needed lies: "30 to 40 %" where 30 % failed and 40 % sufficed."""
    if needed.reached is None:
        return "unknown" if needed.failed is None else f"above {percent(needed.failed)}"
    if needed.failed is None:
        return f"at most {percent(needed.reached)}"
    return f"{100 * needed.failed:.3g} to {percent(needed.reached)}"


def brackets(needed: Mapping[str, Needed]) -> str:
    """Where fractions needed lie, by name."""
    told = (f"{name(label)} {bracket(found)}" for label, found in needed.items())
    return f"Fraction needed: {'; '.join(told)}." if needed else ""


def notes(records: Records, operation: str | None = None, steps: int | None = None) -> list[str]:
    """What is missing, and where the setting is not the paper's, a sentence each.

    `operation` and `steps` are the paper's, where a claim depends on them.
    """
    runs, told = runs_of(records), []
    others = [run for run in runs if operation and run.operation != operation]
    if operation and others:
        told.append(f"This is {listed(map(task, others))}; the paper's is {name(operation)}.")
    if sizes := listed(size for run in runs for size in _unlike_the_papers(run)):
        told.append(f"Not the paper's size: {sizes}.")
    cut = [r.last_step for r in records if not has_learned(r) and r.diverged_at is None]
    if steps and cut and max(cut) < steps:
        told.append(
            f"Runs that did not learn were followed for {span(cut)} updates; the paper's, for {steps:,}."
        )
    if records.missing:
        told.append(f"Missing: {len(records.missing)} of {len(runs)} runs.")
    return told


def _unlike_the_papers(run: Run) -> list[str]:
    sizes = [f"width {run.d_model}"] if run.d_model != 128 else []
    if data.OPERATIONS[run.operation].on_group:
        return sizes + [f"S{run.n}"] * (run.n != 5)
    return sizes + [f"modulus {run.p}"] * (run.p not in (96, 97))  # 96: the twin of x*y mod 97
