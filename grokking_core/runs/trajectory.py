"""`Trajectory`: a run under way, as training leaves it and a checkpoint holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from grokking_core.runs import schedule
from grokking_core.runs.record import EVALUATION, Arrays, Record, curve_frame, is_finite, origin
from grokking_core.runs.run import Run

ALWAYS_WATCHED = ("step", "weight_norm")  # the first columns of what any probe sees


@dataclass
class Watched:
    """What a probe has seen of a run so far.

    Attributes
    ----------
    columns : tuple of str
        The probe's own; in a row they come after ALWAYS_WATCHED.
    rows : list of tuple
        One for each step at which it looked.
    state : Tensor or None
        What it carries from one update to the next, on the CPU.
    """

    columns: tuple[str, ...] = ()
    rows: list[tuple[float, ...]] = field(default_factory=list)
    state: Tensor | None = None

    def frame(self) -> pd.DataFrame:
        """The rows as `Record.watched` has them: float32 but for step and norm, which tell whose they are."""
        columns = (*ALWAYS_WATCHED, *self.columns)
        values = np.array(self.rows, np.float64).reshape(-1, len(columns))
        kinds = dict.fromkeys(self.columns, np.float32) | {"step": np.int64}
        with np.errstate(over="ignore"):  # of a network that diverged
            return pd.DataFrame(values, columns=list(columns)).astype(kinds)


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
    watched : dict
        What probes have seen so far, by name; every one that looks has an entry from the start.
    watch_every : int or None
        Updates after which they look between evaluations.
    """

    run: Run
    step: int = 0
    rows: list[tuple[float, ...]] = field(default_factory=list)
    seconds: float = 0.0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    evaluation: int = EVALUATION
    launched: dict[str, str | int] = field(default_factory=dict)
    kept: dict[str, Arrays] = field(default_factory=dict)
    watched: dict[str, Watched] = field(default_factory=dict)
    watch_every: int | None = None

    @property
    def next_stop(self) -> int:
        """The next step at which it is evaluated, or probes look."""
        every = self.watch_every if self.watched else None
        step = schedule.next_evaluation(self.step)
        return min(step, self.step - self.step % every + every) if every else step

    @property
    def is_looked_at(self) -> bool:
        """Whether probes look at its step, and have not yet."""
        rows = next((seen.rows for seen in self.watched.values()), None)
        if rows is None:
            return False
        on_grid = self.is_due or bool(self.watch_every and self.step % self.watch_every == 0)
        return on_grid and (not rows or rows[-1][0] < self.step)

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
            watched={name: seen.frame() for name, seen in self.watched.items() if seen.rows},
            parameters=self.tensors.get("parameters"),
        )
