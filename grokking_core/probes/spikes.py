"""Spikes of the training loss, seen at every update: the slingshots of arXiv 2605.06152."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from grokking_core.probes.probe import Probe, Seen
from grokking_core.runs.run import Run

FACTOR = 100.0  # times the running mean: what counts as a spike
MEMORY = 0.99  # of the running mean of the loss's logarithm, an update
LEAST = 1e-12  # nats: as small as losses are told apart


class Spikes(Probe):
    """The largest loss of a batch since the curve's last row, and how many were spikes so far.

    A spike begins where a batch's loss is FACTOR times its running geometric mean, and ends below that.
    """

    sees_loss = True

    @classmethod
    def columns(cls, run: Run) -> tuple[str, ...]:
        """Nats; a count from the start of the run; nats."""
        return ("largest_loss", "spikes", "mean_loss")

    def first_state(self, n_slots: int, device: torch.device) -> Tensor:
        """Largest loss, spikes, mean logarithm, whether in a spike."""
        first = torch.tensor([-math.inf, 0.0, math.nan, 0.0], dtype=torch.float64, device=device)
        return first.repeat(n_slots, 1)

    def update(self, loss: Tensor | None, gradients: Tensor) -> None:
        """Take a loss into all of these."""
        assert self.state is not None
        assert loss is not None
        largest, spikes, mean, spiking = self.state.unbind(1)
        log = loss.clamp(min=LEAST).log()
        mean = mean.where(~mean.isnan(), log)
        high = log > mean + math.log(FACTOR)
        count = spikes + (high & (spiking == 0))
        mean = MEMORY * mean + (1 - MEMORY) * log
        self.state.copy_(torch.stack([torch.maximum(largest, loss), count, mean, high.double()], dim=1))

    def measure(self, seen: Seen) -> Tensor:
        """A row for each of the K slots, float64 (K, C); the largest loss begins anew on the curve's grid."""
        assert self.state is not None
        state = self.state[seen.slots]
        self.state[seen.slots, 0] = state[:, 0].masked_fill(seen.on_grid, -math.inf)
        largest = state[:, 0].masked_fill(state[:, 0].isinf(), math.nan)
        return torch.stack([largest, state[:, 1], state[:, 2].exp()], dim=1)
