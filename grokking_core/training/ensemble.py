"""`Ensemble`: slots in one set of tensors, whose runs are updated and evaluated together.

A run holds a slot until it ends, and the next one takes the slot without disturbing the others. What is not
a matrix product is fused: on a GPU by `torch.compile`, on a CPU in the loops of `model.loop_ops`, where Numba
is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from grokking_core import model
from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.model import tensor_ops
from grokking_core.runs import schedule
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.batches import EVALUATION_ROWS, Tables
from grokking_core.training.devices import DTYPES
from grokking_core.training.optimizer import Optimizer


def group_key(run: Run) -> tuple[object, ...]:
    """What runs must share to be trained in one ensemble: shapes, and the path of computation."""
    shape = (
        run.architecture,
        run.n_elements,
        run.n_layers,
        run.d_model,
        run.hidden_width,
        run.effective_batch_size,
    )
    if run.architecture == "transformer":
        shape += (run.n_heads, run.norm)
    noise = (run.dropout > 0, run.weight_noise > 0, run.update_noise > 0, run.decay_toward)
    return (*shape, run.activation, run.optimizer, run.precision, *noise)


class Ensemble:
    """Slots for R runs with one `group_key`.

    Parameters
    ----------
    runs : sequence of Run
        Every run that will ever hold a slot.
    n_slots : int
        R.
    device : torch.device
    compiled : bool, optional
        Whether `torch.compile` fuses what is not a product; by default on CUDA where Triton is there.
    loops : bool, optional
        Whether the loops of `model.loop_ops` take the place of tensor operations, on a CPU where Numba works;
        by default unless compiled.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        n_slots: int,
        device: torch.device,
        compiled: bool | None = None,
        loops: bool | None = None,
    ):
        run, dtype = runs[0], DTYPES[runs[0].precision]
        self.device, self.batch_size = device, run.effective_batch_size
        self.parameters = torch.zeros(n_slots, model.Layout(run).n, dtype=dtype, device=device)
        gradients = torch.zeros_like(self.parameters)
        loops = not compiled if loops is None else loops
        self.loops = model.loops_for(device) if loops else None
        self.optimizer = Optimizer(runs, self.parameters, gradients, self.loops)
        self.network = model.network(run, self.optimizer.noisy, gradients, self.loops)
        self.tables = Tables(runs, n_slots, dtype, device)
        self.step = torch.zeros(n_slots, dtype=torch.int64, device=device)  # of every slot, empty ones too
        self.steps = [0] * n_slots  # the same, known without asking the device
        self.dropout = torch.zeros(n_slots, dtype=torch.float64, device=device) if run.dropout else None
        self.slots: list[Trajectory | None] = [None] * n_slots
        self.evaluator = model.network(run, self.parameters, gradients, self.loops)
        self.one = self.parameters[:1].clone()  # weights of a single slot, for its evaluation
        self.one_evaluator = model.network(run, self.one, gradients[:1], self.loops)
        self._replay: Callable[[], None] | None = None
        self._differentiate: Callable[..., None] | None = None  # compiled, in the place of `_gradients`
        self._optimize: Callable[..., None] | None = None  # compiled, in the place of `optimizer.update`
        if compiled if compiled is not None else device.type == "cuda" and find_spec("triton") is not None:
            self._compile()

    # -- slots ------------------------------------------------------------------------------------------

    @property
    def live(self) -> list[int]:
        """Slots that hold a run."""
        return [slot for slot, trajectory in enumerate(self.slots) if trajectory]

    def load(self, slot: int, trajectory: Trajectory) -> None:
        """Give a slot to a run, new or under way."""
        run, tensors = trajectory.run, trajectory.tensors
        first = model.first_parameters(run)
        self.parameters[slot] = tensors.get("parameters", first).to(self.device)
        moments = (tensors["first_moment"], tensors["second_moment"]) if tensors else None
        self.optimizer.load(slot, run, first.to(self.device), moments)
        self.tables.load(slot, run)
        self.step[slot] = self.steps[slot] = trajectory.step
        if self.dropout is not None:
            self.dropout[slot] = run.dropout
        self.slots[slot] = trajectory

    def snapshot(self, slot: int) -> Trajectory:
        """The run in a slot with a copy of its weights and moments."""
        trajectory, optimizer = self.at(slot), self.optimizer
        flat = (self.parameters, optimizer.first_moment, optimizer.second_moment)
        names = ("parameters", "first_moment", "second_moment")
        trajectory.tensors = {name: a[slot].to("cpu", copy=True) for name, a in zip(names, flat, strict=True)}
        return trajectory

    # -- steps ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def advance(self, interrupted: Callable[[], bool]) -> None:
        """Step every slot until the next evaluation of any run, and evaluate; or until interrupted.

        Runs at step 0 are evaluated first, and none is stepped, since some may end there.
        """
        started, live = time.perf_counter(), [t for t in self.slots if t]
        if not any(trajectory.is_due for trajectory in live):
            self.update(min(schedule.next_evaluation(t.step) - t.step for t in live), interrupted)
        self.evaluate([slot for slot in self.live if self.at(slot).is_due])
        for trajectory in live:
            trajectory.seconds += (time.perf_counter() - started) / len(live)

    @torch.inference_mode()
    def update(self, n_updates: int, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Make some updates of every slot, without evaluation; fewer, but one, if interrupted."""
        for _ in range(n_updates):
            self.tables.renew(self.steps)
            self._update()
            self.steps = [step + 1 for step in self.steps]
            if interrupted():
                break
        for slot in self.live:
            self.at(slot).step = self.steps[slot]

    def at(self, slot: int) -> Trajectory:
        """The run in a slot."""
        trajectory = self.slots[slot]
        assert trajectory is not None
        return trajectory

    def _update(self) -> None:
        """One optimizer update of every slot; on CUDA, the replay of its graph."""
        if self.device.type != "cuda":
            self._update_eagerly()
        elif self._replay is None:
            self._replay = self._capture()
        else:
            self._replay()

    @torch.inference_mode()
    def rehearse(self) -> None:
        """Allocate every buffer of a step and of an evaluation, before any run is in a slot."""
        x, y, _, _ = self.tables.batch(self.step)
        logits = self.network.forward(x, y, self._drop() if self.dropout is not None else None)
        self.network.backward(torch.zeros_like(logits))
        self._measure(self.evaluator, self.parameters, slice(None))

    def _update_eagerly(self) -> None:
        x, y, label, weight = self.tables.batch(self.step)
        self.optimizer.perturb(self.step)
        drop = self._drop() if self.dropout is not None else None
        (self._differentiate or self._gradients)(x, y, label, weight, drop)
        (self._optimize or self.optimizer.update)(self.step)
        self.step += 1

    def _gradients(
        self, x: Tensor, y: Tensor, label: Tensor, weight: Tensor, drop: model.Drop | None
    ) -> None:
        """Write the gradients of each run's mean cross-entropy: (softmax - one_hot) / batch, sent back."""
        dlogits = self.network.forward(x, y, drop).softmax(-1)
        if self.loops:
            self.loops.cross_entropy_backward_(dlogits, label, weight)
        else:
            one = torch.ones_like(label[..., None], dtype=dlogits.dtype)
            dlogits.scatter_add_(-1, label[..., None], -one).mul_(weight[..., None])
        self.network.backward(dlogits)

    def _compile(self) -> None:
        """Compile what has no random numbers in it: the compiler has no 64-bit hashes."""
        if self.dropout is None:
            self._differentiate = torch.compile(self._gradients, fullgraph=True, dynamic=False)
        if not self.optimizer.adds_update_noise:
            self._optimize = torch.compile(self.optimizer.update, fullgraph=True, dynamic=False)

    def _drop(self) -> model.Drop:
        """Dropout factors as `plain.dropout_mask` draws them: by equation, position and dimension."""
        key = streams.stream(self.optimizer.seed, Purpose.DROPOUT, self.step)
        assert self.dropout is not None
        dropout = self.dropout

        def drop(layer: int, branch: Tensor) -> Tensor:
            _, n_rows, width = branch.shape
            counter = self.network.drop_counter(n_rows, self.batch_size, width)
            mask = streams.drop_mask(streams.fold(key, layer), counter, dropout)
            return mask / (1 - dropout[:, None, None]).to(branch.dtype)

        return drop

    def _capture(self) -> Callable[[], None]:
        """Make this update, then the CUDA graph that makes the next ones, launched as one."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._update_eagerly()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._update_eagerly()
        return graph.replay

    # -- evaluation -------------------------------------------------------------------------------------

    def evaluate(self, due: Sequence[int]) -> None:
        """Add a row to the curve of each slot that is due."""
        if len(due) == len(self.slots):
            for slot, row in zip(
                due, self._measure(self.evaluator, self.parameters, slice(None)), strict=True
            ):
                self.at(slot).rows.append((self.at(slot).step, *row))
            return
        for slot in due:
            self.one.copy_(self.parameters[slot : slot + 1])
            (row,) = self._measure(self.one_evaluator, self.one, slice(slot, slot + 1))
            self.at(slot).rows.append((self.at(slot).step, *row))

    def _measure(self, network: model.Network, parameters: Tensor, slots: slice) -> list[tuple[float, ...]]:
        """Losses and accuracies over the whole table, and weight norms, of some slots."""
        total = 0.0
        for x, y, label, groups in self.tables.parts(slots, EVALUATION_ROWS):
            logits = network.forward(x, y)
            loss, right = tensor_ops.cross_entropy(logits, label), logits.argmax(-1) == label
            seen = torch.stack([loss, right.double()], dim=1)  # (R, 2, B)
            # A group that an equation is not in must not see its loss, which may be infinite.
            total = total + torch.where(groups[:, :, None], seen[:, None], 0.0).sum(-1)  # (R, 3, 2)
        assert isinstance(total, Tensor)
        mean = (total / self.tables.counts[slots][:, :, None]).cpu()
        norm = parameters.double().norm(dim=1).cpu()
        order = (
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
            (2, 1),
        )  # (group, loss or accuracy) in the order of the curve
        return [(*(m[i].item() for i in order), float(n)) for m, n in zip(mean, norm, strict=True)]


def make_ensembles(runs: Sequence[Run], width: int, device: torch.device) -> list[Ensemble]:
    """`width` slots: ensembles of one on a CPU, one ensemble on a GPU, halved until its buffers fit."""
    if device.type != "cuda":
        return [Ensemble(runs, 1, device) for _ in range(width)]
    while True:
        try:
            e = Ensemble(runs, width, device)
            e.rehearse()
            return [e]
        except torch.cuda.OutOfMemoryError as error:
            if width == 1:
                raise MemoryError(f"one run does not fit into the memory of {device}: {error}") from error
            width //= 2
            torch.cuda.empty_cache()
