"""Evaluation over the whole table: losses, accuracies and weight norms of some slots at a time."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from grokking_core import model
from grokking_core.devices.limits import EVALUATION_ROWS
from grokking_core.model import tensor_ops
from grokking_core.probes import Seen
from grokking_core.runs.run import Run
from grokking_core.training.batches import Tables

#: (group, loss or accuracy) in the order of the curve
ORDER = ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1))


def rows_at_once(n_some: int, n_slots: int) -> int:
    """Equations that are evaluated at once of some slots of an ensemble: as many numbers, however few."""
    return EVALUATION_ROWS * n_slots // n_some


def n_parts(n_equations: int, n_some: int, n_slots: int) -> int:
    """Parts in which so many equations of some slots are evaluated."""
    return -(-n_equations // rows_at_once(n_some, n_slots))


class Evaluator:
    """Evaluates K slots of an ensemble at once: all R of them in their order, or any K.

    Parameters
    ----------
    run : Run
        Any of the runs.
    parameters, gradients : Tensor
        Of the ensemble, (R, n) each.
    tables : Tables
    step : Tensor
        The device's own count of updates, int64 (R,).
    n_slots : int
        K, at most R.
    loops : module, optional
        `model.loops_for` the device.
    watches : bool
        Whether `seen` is asked for: logits and features of the whole tables are then written too.
    """

    def __init__(
        self,
        run: Run,
        parameters: Tensor,
        gradients: Tensor,
        tables: Tables,
        step: Tensor,
        n_slots: int,
        loops: ModuleType | None = None,
        watches: bool = False,
    ):
        self.parameters, self.tables, self.step = parameters, tables, step
        self.whole, self.n_slots = n_slots == len(parameters), n_slots
        self.rows = rows_at_once(n_slots, len(parameters))
        self.slots = torch.arange(n_slots, device=parameters.device)
        self.weights = parameters if self.whole else parameters[:n_slots].clone()
        self.network = model.network(run, self.weights, gradients[:n_slots], loops)
        shape = (n_slots, tables.x.shape[1]) if watches else (0, 0)
        output = self.network.w["output.weight"]  # (K, V, D)
        self.logits, self.features = (output.new_zeros(*shape, size) for size in output.shape[1:])
        self.result = torch.zeros(n_slots, len(ORDER) + 2, dtype=torch.float64, device=parameters.device)

    def choose(self, slots: Sequence[int]) -> None:
        """Say which slots `measure` is to evaluate, at most K."""
        if not self.whole:
            some = [*slots, *[slots[0]] * (self.n_slots - len(slots))]
            self.slots.copy_(torch.tensor(some))

    def measure(self) -> None:
        """Write losses (nats) and accuracies, the norm of the weights and the step of each slot."""
        if not self.whole:
            torch.index_select(self.parameters, 0, self.slots, out=self.weights)
        slots = slice(None) if self.whole else self.slots
        total: Tensor | float = 0.0
        for i, (x, y, label, groups) in enumerate(self.tables.parts(slots, self.rows)):
            logits = self.network.forward(x, y)
            if self.logits.numel():
                part = slice(i * self.rows, i * self.rows + x.shape[1])
                self.logits[:, part], self.features[:, part] = logits, self.network.final
            loss, right = tensor_ops.cross_entropy(logits, label), logits.argmax(-1) == label
            seen = torch.stack([loss, right.double()], dim=1)  # (K, 2, B)
            # A group that an equation is not in must not see its loss, which may be infinite.
            total = total + torch.where(groups[:, :, None], seen[:, None], 0.0).sum(-1)  # (K, 3, 2)
        mean = total / self.tables.counts[slots][:, :, None]
        norm, step = self.weights.double().norm(dim=1), self.step[slots].double()
        torch.stack([*(mean[:, i, j] for i, j in ORDER), norm, step], dim=1, out=self.result)

    def read(self) -> list[tuple[float, ...]]:
        """What `measure` wrote, a row a slot: the curve's columns after the step, then the step."""
        return [tuple(row) for row in self.result.tolist()]

    def seen(self, places: Tensor, on_grid: Sequence[bool]) -> Seen:
        """What `measure` has seen of some of its K slots, and whether they are at a step of the curve."""
        slots = self.slots[places]
        return Seen(
            slots=slots,
            label=self.tables.label[slots],
            groups=self.tables.groups[slots],
            logits=self.logits[places],
            features=self.features[places],
            weights={name: of[places] for name, of in self.network.w.items()},
            curve=self.result[places, :-1],
            on_grid=torch.tensor(on_grid, device=slots.device),
        )
