"""`Ensemble`: slots in one set of tensors, whose runs are updated and evaluated together.

A run holds a slot until it ends, and the next one takes the slot without disturbing the others. What is not
a matrix product is fused: on a GPU by `torch.compile` and in the Triton kernels of `kernels._branches`,
on a CPU in the loops of `kernels.loop_ops`, where Numba works.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from grokking_core import kernels, model
from grokking_core.devices import cards, launch, limits
from grokking_core.devices.launch import Backend, LostUpdateError, Update
from grokking_core.model.tensor_ops import cross_entropy
from grokking_core.probes import PROBES
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.batches import Tables
from grokking_core.training.dropout import Dropout
from grokking_core.training.evaluation import Evaluator
from grokking_core.updates.gradients import logit_gradient
from grokking_core.updates.optimizer import Optimizer, needs_first

FEW = 8  #: slots that are evaluated at once where not all are


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
        shape += (run.n_heads, run.norm, run.positions)
    noise = (run.dropout > 0, run.weight_noise > 0, run.update_noise > 0)
    update = (run.loss, run.loss_precision, run.gradient, run.slow_gradient)
    update += ("adam" if run.optimizer == "adamw" else run.optimizer,)
    return (*shape, run.activation, run.precision, *noise, *update)


def evaluated_at_once(n_due: int, n_slots: int) -> int:
    """Slots of one evaluation: all where more than half are due, else a few."""
    return n_slots if 2 * n_due > n_slots else min(n_slots, FEW)


def on_its_device(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method of an ensemble with its card as the current one, which streams and graphs belong to."""

    @wraps(method)
    def there(self: Ensemble, *args: Any, **kwargs: Any) -> Any:
        with limits.current(self.device):
            return method(self, *args, **kwargs)

    return there


class Ensemble:
    """Slots for R runs with one `group_key`.

    Parameters
    ----------
    runs : sequence of Run
        Every run that will ever hold a slot.
    n_slots : int
        R.
    device : torch.device
    path : {"kernels", "compiled", "graph", "eager"}
        How updates are launched, see `launch`; one that fails gives way to the next, and "kernels" to
        "compiled" where they compute no part of these runs' updates.
    loops : bool, optional
        Whether the loops of `kernels.loop_ops` take the place of tensor operations, on a CPU where Numba
        works; by default on the path "eager".
    backend : launch.Backend, optional
        What compiles and captures; by default torch, which captures on CUDA only.
    watch : sequence of str
        Names of the probes that look at every run.

    Raises
    ------
    ValueError
        If `path` is not one of these.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        n_slots: int,
        device: torch.device,
        path: str = "eager",
        loops: bool | None = None,
        backend: Backend | None = None,
        watch: Sequence[str] = (),
    ):
        if path not in launch.PATHS:
            raise ValueError(f"path={path!r} must be one of {', '.join(launch.PATHS)}")
        run, dtype = runs[0], limits.DTYPES[runs[0].precision]  # any of them
        self.run, self.device, self.batch_size = run, device, run.effective_batch_size
        self.path = "compiled" if path == "kernels" and not kernels.fit(run) else path
        self.backend = backend or launch.backend_for(device)
        layout = model.Layout(run)
        self.parameters = torch.zeros(n_slots, layout.n, dtype=dtype, device=device)
        gradients = torch.zeros_like(self.parameters)
        self.loops = model.loops_for(device) if (path == "eager" if loops is None else loops) else None
        self.optimizer = Optimizer(runs, self.parameters, gradients, self.loops, layout.shapes)
        self.network = model.network(run, self.optimizer.noisy, gradients, self.loops)
        self.tables = Tables(runs, n_slots, dtype, device)
        self.step = torch.zeros(n_slots, dtype=torch.int64, device=device)  # of every slot, empty ones too
        self.steps = [0] * n_slots  # the same, known without asking the device
        drawn = (self.network, self.batch_size, self.optimizer.seed, self.step, dtype)
        self.dropout = Dropout(*drawn) if run.dropout else None
        heated = any(run.temperature != 1 for run in runs)
        self.temperature = torch.ones(n_slots, 1, 1, dtype=torch.float64, device=device) if heated else None
        self.slots: list[Trajectory | None] = [None] * n_slots
        shared = (run, self.parameters, gradients, self.tables, self.step)
        sizes = {n_slots, min(n_slots, FEW)}
        self.evaluators = {size: Evaluator(*shared, size, self.loops, bool(watch)) for size in sizes}
        self.probes = {name: PROBES[name](run, n_slots, device) for name in watch}
        sees_loss = any(probe.sees_loss for probe in self.probes.values())
        self.batch_loss = torch.zeros(n_slots, dtype=torch.float64, device=device) if sees_loss else None
        self._replay: Update | None = None  # makes an update
        self._replays: dict[int, Update] = {}  # makes an evaluation, by the number of its slots
        self._differentiate: Callable[..., None] | None = None  # compiled, in the place of `_gradients`
        self._optimize: Callable[..., None] | None = None  # compiled, in the place of `optimizer.apply`

    def close(self) -> None:
        """Let go of all memory, whoever still names the ensemble, and of what was compiled and captured."""
        vars(self).clear()

    # -- slots ------------------------------------------------------------------------------------------

    @property
    def live(self) -> list[int]:
        """Slots that hold a run."""
        return [slot for slot, trajectory in enumerate(self.slots) if trajectory]

    @on_its_device
    def load(self, slot: int, trajectory: Trajectory) -> None:
        """Give a slot to a run, new or under way."""
        run, tensors = trajectory.run, trajectory.tensors
        weights = tensors.get("parameters")
        goes_without = weights is not None and not needs_first(run)  # what takes a while
        first = None if goes_without else model.first_parameters(run).to(self.device)
        weights = first if weights is None else weights
        assert weights is not None
        self.parameters[slot] = weights.to(self.device)
        self.optimizer.load(slot, run, first, tensors)
        self.tables.load(slot, run)
        self.step[slot] = self.steps[slot] = trajectory.step
        if self.dropout is not None:
            self.dropout.load(slot, run)
        if self.temperature is not None:
            self.temperature[slot] = run.temperature
        for name, probe in self.probes.items():
            seen = trajectory.watched[name]
            seen.columns = probe.columns(run)
            probe.load(slot, run, seen.state)
        self.slots[slot] = trajectory

    @on_its_device
    def snapshot(self, slot: int) -> Trajectory:
        """The run in a slot with a copy of its weights and of the optimizer's state."""
        trajectory, state = self.at(slot), {"parameters": self.parameters} | self.optimizer.state
        trajectory.tensors = {name: a[slot].to("cpu", copy=True) for name, a in state.items()}
        for name, probe in self.probes.items():
            if probe.state is not None:
                trajectory.watched[name].state = probe.state[slot].to("cpu", copy=True)
        if self.device.type == "cuda":
            trajectory.launched = {"path": self.path, "width": len(self.slots), "driver": str(cards.driver())}
        return trajectory

    # -- steps ------------------------------------------------------------------------------------------

    @on_its_device
    @torch.inference_mode()
    def advance(self, interrupted: Callable[[], bool]) -> None:
        """Step every slot until the next evaluation, or look, at any run, and make it; or until interrupted.

        Runs at step 0 are evaluated first, and none is stepped, since some may end there.
        """
        started, live = time.perf_counter(), [t for t in self.slots if t]
        if not any(trajectory.is_due for trajectory in live):
            self.update(min(t.next_stop - t.step for t in live), interrupted)
        self.evaluate([slot for slot in self.live if self.at(slot).is_due or self.at(slot).is_looked_at])
        for trajectory in live:
            trajectory.seconds += (time.perf_counter() - started) / len(live)

    @on_its_device
    @torch.inference_mode()
    def update(self, n_updates: int, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Make some updates of every slot, without evaluation; fewer, but one, if interrupted."""
        try:
            for _ in range(n_updates):
                self.tables.renew(self.steps)
                self._update()
                self.steps = [step + 1 for step in self.steps]
                if interrupted():
                    break
        finally:
            for slot in self.live:
                self.at(slot).step = self.steps[slot]

    def at(self, slot: int) -> Trajectory:
        """The run in a slot."""
        trajectory = self.slots[slot]
        assert trajectory is not None
        return trajectory

    @on_its_device
    @torch.inference_mode()
    def rehearse(self) -> None:
        """Allocate every buffer of a step and of an evaluation."""
        x, y, _, _ = self.tables.batch(self.step)
        logits = self.network.forward(x, y, self.dropout.draw() if self.dropout else None)
        self.network.backward(torch.zeros_like(logits))
        for evaluator in self.evaluators.values():
            evaluator.measure()

    def _update(self) -> None:
        """One optimizer update of every slot."""
        if self._replay is None and self.path != "eager":
            self._launch()
        else:
            (self._replay or self._update_eagerly)()

    def _launch(self) -> None:
        """Make the first update by the best path that works, each from the weights before it."""
        states = (probe.state for probe in self.probes.values() if probe.state is not None)
        state = (self.parameters, *self.optimizer.state.values(), self.step, *states)
        before = [a.clone() for a in state]
        while self._replay is None and self.path != "eager":
            try:
                self._replay = self._begin()
            except Exception as error:  # from the compiler, the capture or the card
                for a, b in zip(state, before, strict=True):
                    a.copy_(b)
                self._replay = self._differentiate = self._optimize = self.network.fused = None
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                failed, self.path = self.path, launch.next_path(self.path)
                _say_fallback(self.device, failed, self.path, error)
        if self._replay is None:
            self._update_eagerly()

    def _begin(self) -> Update:
        """Make an update by `path`; what makes the next ones."""
        if self.path == "graph":
            return self.backend.capture(self._update_eagerly, self.device)
        self.rehearse()  # with every buffer there, the first call is like all others: it compiles once
        self.network.fused = kernels.load("branches") if self.path == "kernels" else None
        self._differentiate = self.backend.compile(self._gradients)
        self._optimize = self.backend.compile(self.optimizer.apply)
        with launch.any_number_of_shapes():
            return self.backend.capture(self._update_eagerly, self.device)

    def _update_eagerly(self) -> None:
        """The update itself. Weights change in its last operations only, after all memory is allocated."""
        x, y, label, weight = self.tables.batch(self.step)
        self.optimizer.perturb(self.step)
        (self._differentiate or self._gradients)(x, y, label, weight)
        for probe in self.probes.values():
            probe.update(self.batch_loss, self.optimizer.gradients)
        self.optimizer.update(self.step, self._optimize)
        self.step += 1

    def _gradients(self, x: Tensor, y: Tensor, label: Tensor, weight: Tensor) -> None:
        """Write the gradients of each run's mean training loss: with respect to the logits, sent back."""
        logits = self.network.forward(x, y, self.dropout.draw() if self.dropout else None)
        if self.batch_loss is not None:
            self.batch_loss.copy_((cross_entropy(logits, label) * weight).sum(1))
        self.network.backward(logit_gradient(self.run, logits, label, weight, self.temperature, self.loops))
        if torch.compiler.is_compiling():
            self.network.forget()

    # -- evaluation -------------------------------------------------------------------------------------

    @on_its_device
    @torch.inference_mode()
    def evaluate(self, due: Sequence[int]) -> None:
        """Add a row to the curve of each slot that is due, and what probes see: of all at once, or of a few.

        Raises
        ------
        LostUpdateError
            If the device's step of such a slot is not the host's.
        """
        most = max(self.evaluators)
        size = evaluated_at_once(len(due), most)
        for i in range(0, len(due), size):
            chosen = due[i : i + size] if size < most else due
            place = {slot: slot if size == most else at for at, slot in enumerate(chosen)}
            rows = self._measure(size, chosen)
            looked = {slot: place[slot] for slot in chosen if self.at(slot).is_looked_at}
            between = {slot for slot in looked if not self.at(slot).is_due}  # the curve has no row there
            self._look(looked, size)
            for slot in chosen:
                *row, step = rows[place[slot]]
                if step != self.steps[slot]:
                    made = f"{self.device} is at step {step:.0f} where {self.steps[slot]} were asked for"
                    raise LostUpdateError(f"{made}, on the path {self.path!r}: its weights are not kept")
                if slot not in between:
                    self.at(slot).rows.append((self.at(slot).step, *row))

    def _look(self, place: dict[int, int], size: int) -> None:
        """Add what probes see of slots, at their places in an evaluator that has measured them."""
        evaluator, slots = self.evaluators[size], list(place) if self.probes else []
        for i in range(0, len(slots), FEW):
            some = [self.at(slot) for slot in slots[i : i + FEW]]
            at = torch.tensor([place[slot] for slot in slots[i : i + FEW]], device=self.device)
            seen = evaluator.seen(at, [trajectory.is_due for trajectory in some])
            norm = seen.curve[:, -1:]
            for name, probe in self.probes.items():
                rows = torch.cat([norm, probe.measure(seen).to(self.device)], dim=1).tolist()
                for trajectory, row in zip(some, rows, strict=True):
                    trajectory.watched[name].rows.append((trajectory.step, *row))

    def _measure(self, size: int, chosen: Sequence[int]) -> list[tuple[float, ...]]:
        """What an evaluator measures, by a graph of its own where updates have one."""
        evaluator = self.evaluators[size]
        evaluator.choose(chosen)
        if size not in self._replays and self.path != "eager":
            try:
                self._replays[size] = self.backend.capture(evaluator.measure, self.device)
                return evaluator.read()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._replays[size] = evaluator.measure
                _say_fallback(self.device, "graph of evaluation", "eager", error)
        self._replays.get(size, evaluator.measure)()
        return evaluator.read()


def _say_fallback(device: torch.device, failed: str, path: str, error: Exception) -> None:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    message = f"{device}: the path {failed!r} failed ({reason}); {path!r} takes its place"
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def make_ensemble(
    runs: Sequence[Run],
    width: int,
    device: torch.device,
    path: str,
    backend: Backend | None = None,
    watch: Sequence[str] = (),
) -> Ensemble:
    """An ensemble of `width` slots, halved until its buffers fit.

    Raises
    ------
    MemoryError
        If not even one run fits.
    """
    while True:
        made = _try(runs, width, device, path, backend, watch)
        if isinstance(made, Ensemble):
            return made
        # Out of the failed attempt, whose exception held what was too wide:
        limits.give_back(device)
        if width == 1:
            raise MemoryError(f"one run does not fit into the memory of {device}: {made}")
        width //= 2


def _try(
    runs: Sequence[Run],
    width: int,
    device: torch.device,
    path: str,
    backend: Backend | None,
    watch: Sequence[str],
) -> Ensemble | str:
    """An ensemble with all of its buffers, or why there is no memory for it."""
    try:
        e = Ensemble(runs, width, device, path, backend=backend, watch=watch)
        e.rehearse()
        return e
    except torch.OutOfMemoryError as error:
        return str(error)
