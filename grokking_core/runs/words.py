"""Runs and numbers in words: names of operations and tasks, steps, shares."""

from __future__ import annotations

from collections.abc import Iterable

from grokking_core import data
from grokking_core.runs.run import Run


def name(label: str) -> str:
    """The name of an operation, or of a variant, in quotes if it has a comma in it."""
    called = data.OPERATIONS[label].words if label in data.OPERATIONS else ""
    return called or (repr(label) if "," in label else label)


def task(run: Run) -> str:
    """The operation, and what it acts on."""
    operation = data.OPERATIONS[run.operation]
    if operation.on_group:
        return name(run.operation).replace("S5", f"S{run.n}")
    return f"{name(run.operation)} mod {run.p}"


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


def exact_percent(share: float) -> str:
    """A share as percent with a decimal; 0 % and 100 % only where it is none and all."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"
