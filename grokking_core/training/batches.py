"""The equations of R runs on the device, and the batches that an update takes from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.devices.limits import UPDATES_AHEAD, epochs_ahead
from grokking_core.runs import schedule
from grokking_core.runs.run import Run


class Tables:
    """Tables, splits and batch orders of R slots; N = P^2 places each, some unused in a smaller domain.

    Parameters
    ----------
    runs : sequence of Run
        Every run that will ever hold a slot; they share elements and batch size.
    n_slots : int
        R.
    dtype : torch.dtype
        Of the weights of equations.
    device : torch.device
    """

    def __init__(self, runs: Sequence[Run], n_slots: int, dtype: torch.dtype, device: torch.device):
        self.dtype, self.device, self.batch_size = dtype, device, runs[0].effective_batch_size
        n, self.n_train_most = runs[0].n_elements ** 2, max(run.n_train for run in runs)
        self.x, self.y, self.label = torch.zeros(3, n_slots, n, dtype=torch.int64, device=device)
        self.groups = torch.zeros(
            n_slots, 3, n, dtype=torch.bool, device=device
        )  # train, validation, unmirrored
        self.counts = torch.zeros(n_slots, 3, dtype=torch.float64, device=device)  # equations in each group
        self.train = torch.zeros(n_slots, self.n_train_most, dtype=torch.int64, device=device)
        ones = torch.ones(3, n_slots, dtype=torch.int64, device=device)
        self.seed, self.n_train, self.steps_per_epoch = ones
        self.n_epochs = max(epochs_ahead(run) for run in runs)
        longest = max(schedule.steps_per_epoch(run) for run in runs)
        self.steps_per_epoch.fill_(longest)  # of a slot that never had a run: it is stepped with the others
        # The batches to come, one after the other, each filled up to its full size:
        self.n_batches = self.n_epochs * longest
        n_places = self.n_batches * self.batch_size
        self.first_step = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self.equations = torch.zeros(3, n_slots, n_places, dtype=torch.int64, device=device)  # x, y, label
        self.weight = torch.zeros(n_slots, n_places, dtype=dtype, device=device)
        self._row = torch.arange(self.batch_size, device=device)
        self._epoch_length = [longest] * n_slots
        self._ends = [0] * n_slots  # step from which there is no batch for the slot

    def load(self, slot: int, run: Run) -> None:
        """Give a slot to a run."""
        dataset = run.dataset()
        n = len(dataset.x)
        for column, values in ((self.x, dataset.x), (self.y, dataset.y), (self.label, dataset.label)):
            column[slot, :n] = torch.from_numpy(values.copy())
        self.groups[slot] = False
        for group, mask in enumerate((dataset.is_train, ~dataset.is_train, dataset.is_unmirrored)):
            self.groups[slot, group, :n] = torch.from_numpy(mask)
            self.counts[slot, group] = float(np.sum(mask))
        self.train[slot, : run.n_train] = torch.from_numpy(dataset.train)
        self.seed[slot], self.n_train[slot] = run.seed, run.n_train
        self.steps_per_epoch[slot] = self._epoch_length[slot] = schedule.steps_per_epoch(run)
        self._ends[slot] = -1  # no order yet

    def renew(self, steps: Sequence[int]) -> None:
        """Make batch orders for the epochs to come, once a slot at its step has run out of them.

        Those of slots that soon will have are made with them: it takes as many launches for one as for all.
        """
        if any(step >= end for step, end in zip(steps, self._ends, strict=True)):
            soon = UPDATES_AHEAD // 4
            out = [slot for slot, step in enumerate(steps) if step >= self._ends[slot] - soon]
            epochs = [steps[slot] // self._epoch_length[slot] for slot in out]
            for slot, epoch in zip(out, epochs, strict=True):
                self._ends[slot] = (epoch + self.n_epochs) * self._epoch_length[slot]
            whole = len(out) == len(steps)
            slots = slice(None) if whole else torch.tensor(out, device=self.device)
            self._renew(slots, torch.tensor(epochs, device=self.device))

    def _renew(self, slots: slice | Tensor, first_epoch: Tensor) -> None:
        """Make batch orders for some slots, from an epoch (int64) of each on."""
        n_train, steps_per_epoch = self.n_train[slots], self.steps_per_epoch[slots]
        ahead = first_epoch[:, None] + torch.arange(self.n_epochs, device=self.device)
        place = torch.arange(self.n_train_most, device=self.device)
        key = streams.stream(self.seed[slots][:, None], Purpose.ORDER, ahead)
        bits = streams.bits(key, place)  # (R, epochs, n_train_most)
        bits.masked_fill_(place >= n_train[:, None, None], torch.iinfo(torch.int64).max)
        order = bits.argsort(dim=-1, stable=True).flatten(1)  # as `streams.permutation`, unused places last
        self.first_step[slots] = first_epoch * steps_per_epoch
        number = torch.arange(self.n_batches, device=self.device)  # of a batch: the epoch's, and in the epoch
        epoch, in_epoch = (f(number, steps_per_epoch[:, None]) for f in (torch.floor_divide, torch.remainder))
        place = in_epoch[:, :, None] * self.batch_size + self._row  # (R, batches, B)
        used = (place < n_train[:, None, None]) & (epoch < self.n_epochs)[:, :, None]
        at = epoch.clamp(max=self.n_epochs - 1)[:, :, None] * self.n_train_most
        chosen = order.gather(1, (at + place.clamp(max=self.n_train_most - 1)).flatten(1))
        chosen = self.train[slots].gather(1, chosen)
        for column, whole in zip(self.equations, (self.x, self.y, self.label), strict=True):
            column[slots] = whole[slots].gather(1, chosen)
        share = used.to(self.dtype) / used.sum(2, keepdim=True).clamp(min=1)
        self.weight[slots] = share.flatten(1)

    def batch(self, step: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, y, label (int64) and weight (1 / batch, or 0 past the end of a short batch), each (R, B)."""
        place = ((step - self.first_step) * self.batch_size)[:, None] + self._row
        x, y, label = self.equations.gather(2, place.expand(3, -1, -1)).unbind()
        return x, y, label, self.weight.gather(1, place)

    def parts(self, slots: slice | Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The whole tables of some slots in parts of `size`: x, y, label (R, B) and groups (R, 3, B)."""
        columns = [column[slots].split(size, dim=-1) for column in (self.x, self.y, self.label, self.groups)]
        yield from zip(*columns, strict=True)
