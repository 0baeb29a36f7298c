"""`Trajectory`: a run under way, as training leaves it and a checkpoint holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from grokking_core.runs import schedule
from grokking_core.runs.record import EVALUATION, Arrays, Record, curve_frame, is_finite, origin
from grokking_core.runs.run import Run


@dataclass
class Trajectory:
    """A run under way: what a checkpoint holds.

    Attributes
    ----------
    step : int
        Updates done.
    rows : list of tuple
        The curve so far, in the order of `record.COLUMNS`.
    seconds : float
        Time its slot took, the share of an ensemble's.
    tensors : dict
        "parameters" (n,) and the state of the optimizer, by name, on the CPU; empty before the first step.
    evaluation : int
        The oldest `record.EVALUATION` of a row of the curve.
    launched : dict
        How a GPU made its updates: path and width, with the driver; not part of a checkpoint.
    kept : dict
        What is kept of its end by name, see `weights.ends`; not part of a checkpoint.
    """

    run: Run
    step: int = 0
    rows: list[tuple[float, ...]] = field(default_factory=list)
    seconds: float = 0.0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    evaluation: int = EVALUATION
    launched: dict[str, str | int] = field(default_factory=dict)
    kept: dict[str, Arrays] = field(default_factory=dict)

    @property
    def is_due(self) -> bool:
        """Whether its step is one of evaluation, and is not yet evaluated."""
        return not self.rows or self.step == schedule.next_evaluation(int(self.rows[-1][0]))

    def ended(self, last_step: int, stop_at: float | None) -> bool:
        """Whether the last evaluation ends the run: the last step, the stop rule, or divergence."""
        if not self.rows:
            return False
        step, accuracy = self.rows[-1][0], self.rows[-1][4]
        return (
            step >= last_step or (stop_at is not None and accuracy >= stop_at) or not is_finite(self.rows[-1])
        )

    def record(self, device: torch.device | str) -> Record:
        """The record of what was seen so far."""
        return Record(
            run=self.run,
            curve=curve_frame(self.rows),
            diverged_at=None if is_finite(self.rows[-1]) else int(self.rows[-1][0]),
            provenance=origin(device, self.run.precision, self.seconds, self.evaluation) | self.launched,
            kept=self.kept,
            parameters=self.tensors.get("parameters"),
        )
