"""`train`: many runs at once, on one device, each followed to its end.

On a GPU one wide ensemble fills the device. On a CPU an ensemble of one run keeps a core's caches warm, and
one thread a core steps an ensemble each: that is faster than splitting every operation among the cores, runs
of any shapes keep all cores busy, and the bits of a run do not depend on which others are trained.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import torch

from grokking_core.devices import cards, limits
from grokking_core.devices.launch import COMPILED, LostUpdateError, pays, slots_for
from grokking_core.runs import schedule
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.ensemble import Ensemble, make_ensemble


def _nothing(trajectory: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """What `train` calls when something happens, from the calling thread only, but for `finish`."""

    ended: Callable[[Trajectory], None]  #: a run has ended
    finish: Callable[[Trajectory], None] = _nothing  #: before that, beside the training of others: a worker's
    advanced: Callable[[Sequence[Trajectory]], None] = _nothing  #: runs have a new evaluation
    checkpoint: Callable[[Sequence[Trajectory]], None] = _nothing  #: runs are under way, to be written


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
        New or under way, started in this order; on a GPU all with one `group_key`. All are watched alike.
    steps : int
        Updates, rounded up to the evaluation grid.
    stop_at : float, optional
        Validation accuracy in (0, 1].
    listener : Listener
        Called at every end, and with every run under way each `checkpoint_seconds` and when training is
        interrupted.
    device : torch.device or str
    width : int, optional
        Runs trained at a time; by default what the device does best.
    interrupted : callable
        Asked after every update; once it says true, all stop.

    Raises
    ------
    ValueError
        If the precision is not to be had on this device, or the device cannot be used.
    LostUpdateError
        If the device did not make the updates that it was asked for.
    MemoryError
        If not even one run fits into the device's memory.
    """
    device, queue = torch.device(device), deque(trajectories)
    if not queue:
        return
    runs, watch = [trajectory.run for trajectory in queue], tuple(queue[0].watched)
    for run in runs:
        limits.check_precision(run, device)
    cores, last_step = torch.get_num_threads(), schedule.last_step(steps)
    width = limits.fitting_width(runs, device, width or limits.default_width(device))
    conductor = Conductor(
        make=_maker(runs, device, last_step, watch),
        n_alone=0 if device.type == "cuda" else width,
        queue=queue,
        last_step=last_step,
        stop_at=stop_at,
        listener=listener,
        checkpoint_seconds=checkpoint_seconds,
        asked_to_stop=interrupted,
    )
    with limits.settings(device, runs[0].precision), limits.current(device):
        if device.type != "cuda":
            conductor.conduct(n_workers=cores, n_beside=0)
            return
        conductor.make_one(width)
        try:
            conductor.conduct(n_workers=1, n_beside=max(1, cores - 1))
        finally:
            conductor.close()
            limits.give_back(device)


def _maker(
    runs: Sequence[Run], device: torch.device, last_step: int, watch: Sequence[str]
) -> Callable[[int, int], Ensemble]:
    """Makes ensembles of some width for runs that are at some step or further."""
    best = cards.path_of(device, runs) if device.type == "cuda" else "eager"

    def make(width: int, step: int) -> Ensemble:
        n_updates = last_step * max(1, len(runs) // width) - step  # roughly: some end early
        path = "graph" if best in COMPILED and not pays(width, n_updates) else best
        return make_ensemble(runs, width, device, path, watch=watch)

    return make


@dataclass(kw_only=True)
class Conductor:
    """Keeps slots full and workers busy until the queue is empty and every run has ended; see `train`."""

    make: Callable[[int, int], Ensemble]  #: of a width, for runs from a step on
    n_alone: int  #: ensembles of one to have at a time, each made for one run and its shapes; 0: a wide one
    queue: deque[Trajectory]
    last_step: int
    stop_at: float | None
    listener: Listener
    checkpoint_seconds: float
    asked_to_stop: Callable[[], bool]
    ensembles: list[Ensemble] = field(default_factory=list)
    ended: deque[Trajectory] = field(default_factory=deque)  #: to be finished
    stopped: threading.Event = field(default_factory=threading.Event)  #: after an exception
    written_at: dict[int, float] = field(default_factory=dict)  #: last writing of an ensemble, by its id

    def make_one(self, width: int, trajectories: Sequence[Trajectory] = ()) -> Ensemble:
        """An ensemble for these runs, then for those of the queue; those it has no slot for go back there."""
        step = min((t.step for t in trajectories), default=0)
        try:
            e = self.make(width, step)
        except BaseException:
            self.ended.extend(trajectories)  # to be saved with the others
            raise
        for slot, trajectory in enumerate(trajectories[: len(e.slots)]):
            e.load(slot, trajectory)
        self.queue.extendleft(reversed(trajectories[len(e.slots) :]))
        self.ensembles.append(e)
        self.written_at[id(e)] = time.monotonic()
        self._fill(e)
        return e

    def close(self) -> None:
        """Let go of the ensembles."""
        while self.ensembles:
            self.ensembles.pop().close()

    def conduct(self, n_workers: int, n_beside: int) -> None:
        """Advance the ensemble that is furthest behind, always; whatever happens, save the runs under way.

        What has ended is finished at once, by `n_beside` workers of their own, or if 0 by those who advance.
        """
        workers = ThreadPoolExecutor(n_workers, initializer=limits.begin_worker)
        beside = ThreadPoolExecutor(n_beside, initializer=limits.begin_worker) if n_beside else workers
        finishing = dict[Future[None], Trajectory]()
        cause = None
        try:
            self._conduct(workers, n_workers, beside, finishing)
        except BaseException as error:
            cause = error
            raise
        finally:
            self.stopped.set()
            for pool in (workers, beside):
                pool.shutdown(cancel_futures=True)
            self._save([*self.ended, *finishing.values()], cause)

    def _conduct(
        self,
        workers: ThreadPoolExecutor,
        n_workers: int,
        beside: ThreadPoolExecutor,
        finishing: dict[Future[None], Trajectory],
    ) -> None:
        advancing = dict[Future[None], Ensemble]()
        ready = [e for e in self.ensembles if e.live]
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
                return
            for future in wait([*advancing, *finishing], return_when=FIRST_COMPLETED).done:
                if future in finishing:
                    future.result()
                    self.listener.ended(finishing.pop(future))
                    continue
                e = advancing.pop(future)
                e = self._settle(e) if _had_memory(future) else self._narrower(e, len(e.slots) // 2)
                if e.live:
                    ready.append(e)

    def _save(self, unfinished: list[Trajectory], cause: BaseException | None) -> None:
        """Checkpoint the runs under way; what ails a device after an error must not hide that error."""
        for e in [] if isinstance(cause, LostUpdateError) else self.ensembles:
            try:
                self._checkpoint(e)
            except RuntimeError as error:
                if cause is None:
                    raise
                cause.add_note(f"The runs under way go on from their last checkpoints: {error}")
        if unfinished:
            self.listener.checkpoint(unfinished)

    def interrupted(self) -> bool:
        """Whether to stop: asked to by the caller, or after an exception."""
        return self.stopped.is_set() or self.asked_to_stop()

    def _pauses(self, e: Ensemble) -> Callable[[], bool]:
        """Whether an ensemble must return between two updates: to stop, or for a checkpoint."""
        until = self.written_at[id(e)] + self.checkpoint_seconds
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
        e = Ensemble([trajectory.run], 1, torch.device("cpu"), watch=tuple(trajectory.watched))
        e.load(0, trajectory)
        self.ensembles.append(e)
        self.written_at[id(e)] = time.monotonic()
        return e

    def _fill(self, e: Ensemble) -> None:
        """Give free slots to the next runs."""
        for slot, held in enumerate(e.slots):
            if held is None and (trajectory := self._next()):
                e.load(slot, trajectory)

    def _settle(self, e: Ensemble) -> Ensemble:
        """Take out the runs that have ended, put in the next ones, write checkpoints if it is time.

        A wide ensemble with nothing to fill its slots goes on as a narrower one, where that pays.
        """
        self.listener.advanced([t for t in e.slots if t])
        for slot in e.live:
            if e.at(slot).ended(self.last_step, self.stop_at):
                self.ended.append(e.snapshot(slot))
                e.slots[slot] = None
        if not self.n_alone:
            self._fill(e)
        elif not e.live:
            self.ensembles.remove(e)
        if time.monotonic() > self.written_at[id(e)] + self.checkpoint_seconds:
            self._checkpoint(e)
        if not e.live:
            return e
        n_updates = self.last_step - min(e.at(slot).step for slot in e.live)  # at most
        width = slots_for(len(e.live), len(e.slots), n_updates)
        return e if width == len(e.slots) else self._narrower(e, width)

    def _narrower(self, e: Ensemble, width: int) -> Ensemble:
        """The same runs in an ensemble of another width, made after the memory of this one is free.

        Raises
        ------
        MemoryError
            If it is 0.
        """
        if not width:
            raise MemoryError(f"one run does not fit into the memory of {e.device}")
        trajectories, device = [e.snapshot(slot) for slot in e.live], e.device
        self.ensembles.remove(e)
        del self.written_at[id(e)]
        e.close()
        limits.give_back(device)
        return self.make_one(width, trajectories)

    def _checkpoint(self, e: Ensemble) -> None:
        if e.live:
            self.listener.checkpoint([e.snapshot(slot) for slot in e.live])
        self.written_at[id(e)] = time.monotonic()


def _had_memory(future: Future[None]) -> bool:
    """Whether an ensemble has advanced, rather than run out of memory."""
    try:
        future.result()
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # they hold the memory that was too little
        return False
    return True
