"""Grids of runs, and the fields of `Run` that experiments let a reader choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, TypedDict

from grokking_core.runs.run import Run

Fractions = Sequence[float]  #: shares of the table, in (0, 1)


class Task(TypedDict, total=False):
    """What every figure lets one set of its runs: fields of `Run`, and their defaults there."""

    p: int
    n: int
    d_model: int
    n_heads: int


class Rated(Task, total=False):
    """The same with a learning rate, where the figure has no rates of its own."""

    lr: float


class Shared(Rated, total=False):
    """The same with a precision, where the figure has no precisions of its own."""

    precision: str


def grid(*settings: Mapping[str, Any], seeds: Sequence[int], **common: Any) -> tuple[Run, ...]:
    """Runs of each setting with each seed; a setting goes over what is common.

    Raises
    ------
    ValueError
        If a run is asked for twice, as it is where a seed or a fraction is named twice.
    """
    runs = tuple(Run(**{**common, **setting}, seed=seed) for setting, seed in product(settings, seeds))
    if len(set(runs)) < len(runs):
        raise ValueError(f"{Counter(runs).most_common(1)[0][0]} is asked for twice; name each value once")
    return runs


def by_fraction(**fractions_of: Any) -> list[dict[str, Any]]:
    """A setting for each value of a field and each of its fractions: {"operation": {"x+y": (0.3, 0.4)}}."""
    ((name, of),) = fractions_of.items()
    return [{name: value, "train_fraction": f} for value, shares in of.items() for f in shares]


def setting_of(run: Run, settings: Mapping[str, Mapping[str, Any]], **common: Any) -> str | None:
    """The name of the first setting that a run has, or None; fields that no setting names may be any."""
    decide = {field for setting in settings.values() for field in setting}
    for name, setting in settings.items():
        like = Run(operation=run.operation, **{**common, **setting})
        if all(getattr(run, field) == getattr(like, field) for field in decide):
            return name
    return None
