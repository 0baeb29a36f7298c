"""Softmax collapse, its cures, and perpGrad without decay against AdamW, as one grid of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from grokking_core.plans.grids import Rated, grid, setting_of
from grokking_core.plans.parts import Part, Plan
from grokking_core.runs.run import Run

ARMS: dict[str, dict[str, Any]] = {  #: what is done against softmax collapse; all without decay unless named
    "nothing": {},
    "loss in fp64": {"loss_precision": "fp64"},
    "zero-sum gradient": {"gradient": "zero_sum"},
    "epsilon 1e-5": {"eps": 1e-5},
    "StableMax": {"loss": "stablemax"},
    "perpGrad": {"gradient": "perp"},
    "decay 0.3": {"optimizer": "adamw", "weight_decay": 0.3},
    "decay 1": {"optimizer": "adamw", "weight_decay": 1.0},
    "decay 3": {"optimizer": "adamw", "weight_decay": 3.0},
}
_COMMON: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0.0, "batch_size": "full"}


def softmax_collapse(
    *,
    operation: str = "x+y",
    architecture: str = "transformer",
    n_layers: int = 2,
    train_fraction: float = 0.5,
    arms: Sequence[str] = tuple(ARMS),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: int = 4000,
    **rated: Unpack[Rated],
) -> Plan:
    """Whether the softmax collapses, what grows then, and what cures it; full batches, to the end."""
    if unknown := [name for name in arms if name not in ARMS]:
        raise ValueError(f"arms has {unknown[0]!r}; the arms are {', '.join(map(repr, ARMS))}")
    network = {"architecture": architecture, "n_layers": n_layers, "train_fraction": train_fraction}
    settings = [_COMMON | ARMS[name] for name in arms]
    runs = grid(*settings, seeds=seeds, operation=operation, **network, **rated)
    return Plan((Part(runs=runs, steps=steps, watch=("softmax_collapse", "spikes")),))


def arm_of(run: Run) -> str:
    """The name of a run's arm among `ARMS`.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if name := setting_of(run, ARMS, **_COMMON):
        return name
    raise ValueError(f"{run} is none of the arms {', '.join(ARMS)}")
