"""Training of many runs at once: batches, steps, evaluation, stopping, slots.

An `Ensemble` is a fixed number of slots in one set of tensors; a run holds a slot until it ends, and the
next one takes the slot without disturbing the others. On a GPU one wide ensemble fills the device. On a
CPU an ensemble of one run keeps a core's caches warm, and one thread a core steps an ensemble each: that
is faster than splitting every operation among the cores, runs of any shapes keep all cores busy, and the
bits of a run do not depend on which others are trained. What is not a matrix product is fused: on a GPU by
`torch.compile`, on a CPU in the loops of `kernels.py`, where Numba is there.

`train` agrees with `train.train`, its plain twin, to rounding.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from grokking_core import model as model_room
from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.model import networks as ensemble
from grokking_core.model import tensor_ops as layers
from grokking_core.runs import schedule
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.batches import Tables, epochs_ahead
from grokking_core.training.optimizer import Optimizer

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp64": torch.float64}
EVALUATION_ROWS = 1024  # equations of the table that are evaluated at once


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
        Whether the loops of `kernels.py` take the place of tensor operations; by default on a CPU where
        Numba is there, unless compiled.
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
        self.parameters = torch.zeros(n_slots, ensemble.Layout(run).n, dtype=dtype, device=device)
        gradients = torch.zeros_like(self.parameters)
        loops = model_room.has_loops(device) and not compiled if loops is None else loops
        self.loops = loops
        self.optimizer = Optimizer(runs, self.parameters, gradients, loops)
        self.network = model_room.network(run, self.optimizer.noisy, gradients, loops)
        self.tables = Tables(runs, n_slots, dtype, device)
        self.step = torch.zeros(n_slots, dtype=torch.int64, device=device)  # of every slot, empty ones too
        self.steps = [0] * n_slots  # the same, known without asking the device
        self.dropout = torch.zeros(n_slots, dtype=torch.float64, device=device) if run.dropout else None
        self.slots: list[Trajectory | None] = [None] * n_slots
        self.evaluator = model_room.network(run, self.parameters, gradients, loops)
        self.one = self.parameters[:1].clone()  # weights of a single slot, for its evaluation
        self.one_evaluator = model_room.network(run, self.one, gradients[:1], loops)
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
        first = ensemble.first_parameters(run)
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
        self, x: Tensor, y: Tensor, label: Tensor, weight: Tensor, drop: ensemble.Drop | None
    ) -> None:
        """Write the gradients of each run's mean cross-entropy: (softmax - one_hot) / batch, sent back."""
        dlogits = self.network.forward(x, y, drop).softmax(-1)
        if self.loops:
            from grokking_core.model import loop_ops as kernels  # needs Numba

            kernels.cross_entropy_backward_(dlogits, label, weight)
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

    def _drop(self) -> ensemble.Drop:
        """Dropout factors as `train.dropout_mask` draws them: by equation, position and dimension."""
        key = streams.stream(self.optimizer.seed, Purpose.DROPOUT, self.step)
        assert self.dropout is not None
        dropout = self.dropout

        def drop(layer: int, branch: Tensor) -> Tensor:
            _, n_rows, width = branch.shape
            counter = self.network.drop_counter(n_rows, self.batch_size, width)
            keep = streams.keep(streams.fold(key, layer), counter, dropout)
            return keep / (1 - dropout[:, None, None]).to(branch.dtype)

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

    def _measure(
        self, network: ensemble.Network, parameters: Tensor, slots: slice
    ) -> list[tuple[float, ...]]:
        """Losses and accuracies over the whole table, and weight norms, of some slots."""
        total = 0.0
        for x, y, label, groups in self.tables.parts(slots, EVALUATION_ROWS):
            logits = network.forward(x, y)
            loss, right = layers.cross_entropy(logits, label), logits.argmax(-1) == label
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


# -----------------------------------------------------------------------------------------------------
# Many ensembles, one queue


def _nothing(trajectory: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Who is told what happens during `train`; called from the calling thread only, but for `finish`."""

    ended: Callable[[Trajectory], None]  # a run has ended
    finish: Callable[[Trajectory], None] = _nothing  # before that, beside the training of others: a worker's
    advanced: Callable[[Sequence[Trajectory]], None] = _nothing  # runs have a new evaluation
    checkpoint: Callable[[Sequence[Trajectory]], None] = _nothing  # keep these


def train(
    trajectories: Iterable[Trajectory],
    *,
    steps: int,
    stop_at: float | None = None,
    listener: Listener,
    device: torch.device | str = "cpu",
    width: int | None = None,
    checkpoint_seconds: float = 60.0,
    interrupted: Callable[[], bool] = lambda: False,
) -> None:
    """Follow runs to `steps`, or until their validation accuracy reaches `stop_at`.

    Parameters
    ----------
    trajectories : iterable of Trajectory
        New or under way, started in this order; on a GPU all with one `group_key`.
    steps : int
        Updates, rounded up to the evaluation grid.
    stop_at : float, optional
        Validation accuracy in (0, 1].
    listener : Listener
        Told of every end, and given every run under way each `checkpoint_seconds` and when training is
        interrupted.
    device : torch.device or str
    width : int, optional
        Runs trained at a time; by default what the device does best.
    interrupted : callable
        Asked after every update; once it says true, all stop.

    Raises
    ------
    ValueError
        If the precision is not to be had on this device.
    MemoryError
        If not even one run fits into the device's memory.
    """
    device, queue = torch.device(device), deque(trajectories)
    if not queue:
        return
    runs = [trajectory.run for trajectory in queue]
    for run in runs:
        check_precision(run, device)
    on_gpu, cores = device.type == "cuda", torch.get_num_threads()
    width = fitting_width(runs, device, width or default_width(device))
    with settings(device, runs[0].precision):
        Conductor(
            ensembles=make_ensembles(runs, width, device) if on_gpu else [],
            n_alone=0 if on_gpu else width,
            queue=queue,
            last_step=schedule.last_step(steps),
            stop_at=stop_at,
            listener=listener,
            checkpoint_seconds=checkpoint_seconds,
            asked_to_stop=interrupted,
        ).conduct(n_workers=1 if on_gpu else cores, n_beside=max(1, cores - 1) if on_gpu else 0)


@dataclass(kw_only=True)
class Conductor:
    """Keeps slots full and workers busy until the queue is empty and every run has ended; see `train`."""

    ensembles: list[Ensemble]
    n_alone: int  # ensembles of one to have beside them, each made for one run and its shapes
    queue: deque[Trajectory]
    last_step: int
    stop_at: float | None
    listener: Listener
    checkpoint_seconds: float
    asked_to_stop: Callable[[], bool]
    ended: deque[Trajectory] = field(default_factory=deque)  # to be finished
    stopped: threading.Event = field(default_factory=threading.Event)  # after an exception
    kept_at: dict[int, float] = field(default_factory=dict)  # when an ensemble was last kept, by its id

    def conduct(self, n_workers: int, n_beside: int) -> None:
        """Advance the ensemble that is furthest behind, always; whatever happens, keep the runs under way.

        What has ended is finished at once, by `n_beside` workers of their own, or if 0 by those who advance.
        """
        workers = ThreadPoolExecutor(n_workers, initializer=begin_worker)
        beside = ThreadPoolExecutor(n_beside, initializer=begin_worker) if n_beside else workers
        advancing, finishing = dict[Future[None], Ensemble](), dict[Future[None], Trajectory]()
        for e in self.ensembles:
            self.kept_at[id(e)] = time.monotonic()
            self._fill(e)
        ready = [e for e in self.ensembles if e.live]
        try:
            while True:
                while len(self.ensembles) < self.n_alone and (e := self._alone()):
                    ready.append(e)
                while self.ended:
                    trajectory = self.ended.popleft()
                    finishing[beside.submit(self.listener.finish, trajectory)] = trajectory
                n_free = n_workers - len(advancing) - (len(finishing) if beside is workers else 0)
                while ready and n_free > 0 and not self.interrupted():
                    e = min(ready, key=lambda e: min(t.step for t in e.slots if t))
                    ready.remove(e)
                    advancing[workers.submit(e.advance, self._pauses(e))] = e
                    n_free -= 1
                if not advancing and not finishing:
                    break
                for future in wait([*advancing, *finishing], return_when=FIRST_COMPLETED).done:
                    future.result()
                    if future in finishing:
                        self.listener.ended(finishing.pop(future))
                        continue
                    e = advancing.pop(future)
                    self._settle(e)
                    if e.live:
                        ready.append(e)
        finally:
            self.stopped.set()
            for pool in (workers, beside):
                pool.shutdown(cancel_futures=True)
            for e in self.ensembles:
                self._keep(e)
            if unfinished := [*self.ended, *finishing.values()]:
                self.listener.checkpoint(unfinished)

    def interrupted(self) -> bool:
        """Whether to stop: asked to by the caller, or after an exception."""
        return self.stopped.is_set() or self.asked_to_stop()

    def _pauses(self, e: Ensemble) -> Callable[[], bool]:
        """Whether an ensemble must return between two updates: to stop, or to be kept."""
        until = self.kept_at[id(e)] + self.checkpoint_seconds
        return lambda: self.interrupted() or time.monotonic() > until

    def _next(self) -> Trajectory | None:
        """The next run that is not at its end."""
        while self.queue:
            trajectory = self.queue.popleft()
            if not trajectory.ended(self.last_step, self.stop_at):
                return trajectory
            self.ended.append(trajectory)
        return None

    def _alone(self) -> Ensemble | None:
        """A new ensemble of one, on the CPU, with the next run."""
        trajectory = self._next()
        if trajectory is None:
            return None
        e = Ensemble([trajectory.run], 1, torch.device("cpu"))
        e.load(0, trajectory)
        self.ensembles.append(e)
        self.kept_at[id(e)] = time.monotonic()
        return e

    def _fill(self, e: Ensemble) -> None:
        """Give free slots to the next runs."""
        for slot, held in enumerate(e.slots):
            if held is None and (trajectory := self._next()):
                e.load(slot, trajectory)

    def _settle(self, e: Ensemble) -> None:
        """Take out the runs that have ended, put in the next ones, keep the others if it is time."""
        self.listener.advanced([t for t in e.slots if t])
        for slot in e.live:
            if e.at(slot).ended(self.last_step, self.stop_at):
                self.ended.append(e.snapshot(slot))
                e.slots[slot] = None
        if not self.n_alone:
            self._fill(e)
        elif not e.live:
            self.ensembles.remove(e)
        if time.monotonic() > self.kept_at[id(e)] + self.checkpoint_seconds:
            self._keep(e)

    def _keep(self, e: Ensemble) -> None:
        if e.live:
            self.listener.checkpoint([e.snapshot(slot) for slot in e.live])
        self.kept_at[id(e)] = time.monotonic()


# -----------------------------------------------------------------------------------------------------
# Devices


def precisions(device: torch.device | str) -> tuple[str, ...]:
    """The precisions that a device computes in."""
    return tuple(name for name in DTYPES if name != "tf32" or torch.device(device).type == "cuda")


def check_precision(run: Run, device: torch.device) -> None:
    """Raise `ValueError` if the device does not compute in the run's precision."""
    if run.precision not in precisions(device):
        raise ValueError(
            f"precision='tf32' is not to be had on device={str(device)!r}, only on CUDA; use 'fp32'"
        )


def default_width(device: torch.device) -> int:
    """Runs trained at a time: two a core on a CPU, so that the cores end together; 128 on a GPU."""
    return 128 if device.type == "cuda" else 2 * torch.get_num_threads()


def fitting_width(runs: Sequence[Run], device: torch.device, width: int) -> int:
    """The width that fits into free memory, at most `width` and at most the number of runs.

    Raises
    ------
    MemoryError
        If it is less than one run; says what was needed and what there is.
    """
    largest = max({group_key(run): run for run in runs}.values(), key=bytes_per_run)
    needed, free = bytes_per_run(largest), free_bytes(device)
    if needed > free:
        raise MemoryError(
            f"{largest} needs about {needed / 2**20:,.0f} MiB; {device} has {free / 2**20:,.0f} MiB free"
        )
    return max(1, min(width, len(runs), int(0.9 * free / needed)))


def bytes_per_run(run: Run) -> int:
    """Memory that a slot takes: weights, moments, tables, and the buffers of a step and of an evaluation."""
    itemsize = DTYPES[run.precision].itemsize
    n_flat = 4 + bool(run.weight_noise) + (run.decay_toward == "init")
    parameters = n_flat * ensemble.Layout(run).n
    n_rows = 0
    for n_equations in (run.effective_batch_size, EVALUATION_ROWS):
        n_x = n_equations if run.dropout else run.n_elements
        n_rows += 2 * n_x + 2 * n_equations
    rows = (run.n_layers + 1) * (run.hidden_width + 16 * run.d_model) + 4 * run.n_elements  # numbers a row
    places = epochs_ahead(run) * schedule.steps_per_epoch(run) * run.effective_batch_size
    tables = 8 * run.n_elements**2 * 4 + 96 * places
    return itemsize * (parameters + n_rows * rows) + tables


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        kib = dict(line.split()[:2] for line in meminfo.read_text().splitlines())
        return int(kib["MemAvailable:"]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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


def begin_worker() -> None:
    """Settings of the calling thread, which steps runs: one core, and no numbers too small to be fast.

    Every thread needs this for itself: how many threads a matrix product uses is not passed on to it.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@contextmanager
def settings(device: torch.device, precision: str) -> Iterator[None]:
    """One thread an operation on a CPU; matrix products in the run's precision on a GPU."""
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)
