"""Dropout of R runs at once, drawn by equation, position and dimension, as the plain loop draws it."""

from __future__ import annotations

import torch
from torch import Tensor

from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.model import Drop, Network
from grokking_core.runs.run import Run


class Dropout:
    """Factors 0 or 1 / (1 - dropout) for the branches of an ensemble's networks.

    Parameters
    ----------
    network : Network
    batch_size : int
    seed, step : Tensor
        Of each slot, int64 (R,); the caller keeps them up to date.
    dtype : torch.dtype
        Of the factors.
    """

    def __init__(self, network: Network, batch_size: int, seed: Tensor, step: Tensor, dtype: torch.dtype):
        self.network, self.batch_size, self.seed, self.step = network, batch_size, seed, step
        self.threshold = torch.zeros_like(step)
        self.factor = torch.ones_like(step, dtype=dtype)
        self._offsets: dict[tuple[int, int], Tensor] = {}

    def load(self, slot: int, run: Run) -> None:
        """Give a slot to a run."""
        drop = torch.tensor(run.dropout, dtype=torch.float64)
        self.threshold[slot] = streams.drop_threshold(drop)
        self.factor[slot] = 1 / (1 - drop).to(self.factor.dtype)

    def draw(self) -> Drop:
        """What gives the factors of each layer at the present step."""
        key = streams.stream(self.seed, Purpose.DROPOUT, self.step)

        def drop(layer: int, branch: Tensor) -> Tensor:
            bits = streams.bits_at(streams.fold(key, layer), self._offset(*branch.shape[1:]))
            return streams.is_kept(bits, self.threshold) * self.factor[:, None, None]

        return drop

    def _offset(self, n_rows: int, width: int) -> Tensor:
        """What the counters of a branch add to a key: made once, before anything is compiled."""
        if (n_rows, width) not in self._offsets:
            counter = self.network.drop_counter(n_rows, self.batch_size, width)
            self._offsets[n_rows, width] = streams.offsets(counter)
        return self._offsets[n_rows, width]
