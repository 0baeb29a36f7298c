"""What records show: who learned, how much data it took, what the output rows hold; and that in words.

`claims` decides by these. A fraction of the table suffices where the median run learns, and the fraction
needed lies between the largest that failed and the smallest that sufficed. For a symmetric operation,
accuracy on unmirrored pairs counts as well: a network that only ignores the order of the operands has not
learned it. A run that was given up unlearned, and earlier than others, is open: it has not failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from grokking_core import data, measures
from grokking_core.measures import Estimate, Needed
from grokking_core.runs import words
from grokking_core.runs.record import LEARNED, Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run

UNMIRRORED = 0.9  #: of a symmetric operation's unmirrored pairs: runs end at 99 % of all pairs
BUDGET = 100_000  #: updates, of the paper's figure 2
UNKNOWN = Needed(None, None)


# -------------------------------------------------------------------------------------------------
# Which runs


def own(records: Records, operation: str) -> Records:
    """The runs of the paper's operation and size, where any is asked for; else all: a substitute, alone."""
    papers = records.where(lambda run: run.operation == operation and not _unlike_the_papers(run))
    return papers if papers.runs else records


def distinct(parts: Iterable[Records]) -> Records:
    """The records of several experiments, each run once, followed as far as any of them follows it."""
    whole, longest = Records.joined(parts), dict[Run, Record]()
    for record in whole:
        longest[record.run] = max(longest.get(record.run, record), record, key=lambda each: each.last_step)
    found = Records(longest.values(), asked=whole.asked)
    found.missing = [run for run in whole.missing if run not in longest]
    return found


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
    symmetric = table["operation"].map(lambda name: data.OPERATIONS[name].symmetric).astype(bool)
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
# In words


def bracket(needed: Needed) -> str:
    """Where a fraction needed lies: "30 to 40 %" where 30 % failed and 40 % sufficed."""
    if needed.reached is None:
        return "unknown" if needed.failed is None else f"above {words.percent(needed.failed)}"
    if needed.failed is None:
        return f"at most {words.percent(needed.reached)}"
    return f"{100 * needed.failed:.3g} to {words.percent(needed.reached)}"


def brackets(needed: Mapping[str, Needed]) -> str:
    """Where fractions needed lie, by name."""
    text = (f"{words.name(label)} {bracket(found)}" for label, found in needed.items())
    return f"Fraction needed: {'; '.join(text)}." if needed else ""


def notes(records: Records, operation: str | None = None, steps: int | None = None) -> list[str]:
    """What is missing, and where the setting is not the paper's, a sentence each.

    `operation` and `steps` are the paper's, where a claim depends on them.
    """
    runs, text = records.runs, []
    others = [run for run in runs if operation and run.operation != operation]
    if operation and others:
        text.append(
            f"This is {words.listed(map(words.task, others))}; the paper's is {words.name(operation)}."
        )
    if sizes := words.listed(size for run in runs for size in _unlike_the_papers(run)):
        text.append(f"Not the paper's size: {sizes}.")
    cut = [r.last_step for r in records if not has_learned(r) and r.diverged_at is None]
    short = bool(steps and cut and max(cut) < steps)
    if short:
        followed = words.span(cut)
        text.append(
            f"Runs that did not learn were followed for {followed} updates; the paper's, for {steps:,}."
        )
    theirs = ["operation"] if operation and not others and not sizes else []
    theirs += ["budget"] if steps and not short else []
    if records and theirs:
        text.append(f"The paper's own {' and '.join(theirs)}.")
    if records.missing:
        text.append(f"Missing: {len(records.missing)} of {len(runs)} runs.")
    return text


def _unlike_the_papers(run: Run) -> list[str]:
    sizes = [f"width {run.d_model}"] if run.d_model != 128 else []
    if data.OPERATIONS[run.operation].on_group:
        return sizes + [f"S{run.n}"] * (run.n != 5)
    return sizes + [f"modulus {run.p}"] * (run.p not in (96, 97))  # 96: the twin of x*y mod 97
