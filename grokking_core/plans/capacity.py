"""Networks of many widths on a rule and on random answers: when they generalize, and when they memorise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from grokking_core.model import plain
from grokking_core.plans.grids import grid
from grokking_core.plans.parts import Part, Plan
from grokking_core.runs.run import Run


class Sized(TypedDict, total=False):
    """What is left of `grids.Rated` where the widths are what is asked."""

    p: int
    n: int
    n_heads: int
    lr: float


def capacity(
    *,
    operation: str = "x/y",
    architecture: str = "transformer",
    n_layers: int = 2,
    train_fraction: float = 0.5,
    weight_decay: float = 1.0,
    widths: Sequence[int] = (8, 16, 32, 64, 128),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 5000,
    stop_at: float | None = 0.99,
    random_steps: int = 5000,
    **sized: Unpack[Sized],
) -> Plan:
    """Whether validation lags from the size on at which random answers are learned as soon as the rule.

    The random answers take the place of all training answers; `random_steps` is their budget.
    """
    common: dict[str, Any] = {"operation": operation, "train_fraction": train_fraction, **sized}
    n_train = Run(**common, architecture="mlp").n_train  # of which the width decides nothing
    common |= {"architecture": architecture, "n_layers": n_layers, "weight_decay": weight_decay}
    of = [{"d_model": width} for width in widths]
    return Plan(
        (
            Part(runs=grid(*of, seeds=seeds, **common), steps=steps, stop_at=stop_at),
            Part(runs=grid(*of, seeds=seeds, outliers=n_train, **common), steps=random_steps),
        )
    )


def n_parameters(run: Run) -> int:
    """Weights of a run's network."""
    return sum(parameter.numel() for parameter in plain.build(run).parameters())
