"""What came after the paper as grids of runs; as `experiments` has the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Unpack

from grokking_core.paper.grids import Task, grid
from grokking_core.paper.plans import Part, Plan


def norm_clock(
    *,
    operation: str = "x+y",
    train_fraction: float = 0.6,
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3),
    weight_decays: Sequence[float] = (0.3, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 20_000,
    stop_at: float | None = 0.99,
    **task: Unpack[Task],
) -> Plan:
    """Whether the weight norm tells the time of grokking: a grid of learning rate and decay."""
    cells = [{"lr": lr, "weight_decay": decay} for lr, decay in product(learning_rates, weight_decays)]
    runs = grid(*cells, seeds=seeds, operation=operation, train_fraction=train_fraction, **task)
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))
