"""Runs and numbers in words: names of operations and tasks, steps, shares."""

from __future__ import annotations

from collections.abc import Iterable

from grokking_core import data
from grokking_core.runs.run import Run

NAMES = {"s5:xy": "S5 product", "s5:xyx": "xyx on S5", "s5:xyx^-1": "xyx^-1 on S5"}


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
