"""What every probe is given, and what it gives back.

Axes: R slots, K of them looked at together, N = P^2 places of the table (a smaller domain leaves the last
ones unused, and in no group), P elements, V tokens, D width of the last hidden layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from grokking_core.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What an evaluation has of K slots."""

    slots: Tensor  # (K,), int64
    label: Tensor  # (K, N), int64: what each equation is trained on or measured against
    groups: Tensor  # (K, 3, N), bool: training, validation, unmirrored
    logits: Tensor  # (K, N, V), in the run's precision
    features: Tensor  # (K, N, D): the input of the output layer at the last position
    weights: dict[str, Tensor]  # by name, (K, *shape)
    curve: Tensor  # (K, 6), float64: the curve's columns after the step
    on_grid: Tensor  # (K,), bool: whether the step is one of the curve


class Probe:
    """Numbers of R slots, at every evaluation and maybe from every update.

    Parameters
    ----------
    run : Run
        Any of the runs: only sizes are read from it.
    n_slots : int
        R.
    device : torch.device

    Attributes
    ----------
    state : Tensor or None
        (R, any), float64: what a probe carries from one update to the next, part of a checkpoint.
    """

    sees_loss: ClassVar[bool] = False  # whether `update` needs the losses of batches

    def __init__(self, run: Run, n_slots: int, device: torch.device):
        self.n_slots, self.device, self.state = n_slots, device, self.first_state(n_slots, device)

    @classmethod
    def check(cls, run: Run) -> None:
        """Raise `ValueError`, with what is allowed, for a run that it cannot watch."""

    @classmethod
    def columns(cls, run: Run) -> tuple[str, ...]:
        """Names of the C numbers of a row."""
        raise NotImplementedError

    def first_state(self, n_slots: int, device: torch.device) -> Tensor | None:
        """The state before the first update."""
        return None

    def load(self, slot: int, run: Run, state: Tensor | None = None) -> None:
        """Give a slot to a run, new or with the state of its checkpoint."""
        if self.state is not None:
            first = self.first_state(1, self.device)
            assert first is not None
            self.state[slot] = first[0] if state is None else state.to(self.device)

    def update(self, loss: Tensor | None, gradients: Tensor) -> None:
        """See an update: losses of the batches (R,), where asked for, and gradients (R, n); in place only."""

    def measure(self, seen: Seen) -> Tensor:
        """A row for each of the K slots, float64 (K, C)."""
        raise NotImplementedError
