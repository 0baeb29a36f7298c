"""`train`: many runs at once, on one device, each followed to its end.

On a GPU one wide ensemble fills the device. On a CPU an ensemble of one run keeps a core's caches warm, and
one thread a core steps an ensemble each: that is faster than splitting every operation among the cores, runs
of any shapes keep all cores busy, and the bits of a run do not depend on which others are trained.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import torch

from grokking_core.runs import schedule
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training import devices
from grokking_core.training.ensemble import Ensemble, make_ensembles


def _nothing(trajectory: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """What `train` calls when something happens, from the calling thread only, but for `finish`."""

    ended: Callable[[Trajectory], None]  # a run has ended
    finish: Callable[[Trajectory], None] = _nothing  # before that, beside the training of others: a worker's
    advanced: Callable[[Sequence[Trajectory]], None] = _nothing  # runs have a new evaluation
    checkpoint: Callable[[Sequence[Trajectory]], None] = _nothing  # runs are under way, to be written


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
        If the precision is not to be had on this device.
    MemoryError
        If not even one run fits into the device's memory.
    """
    device, queue = torch.device(device), deque(trajectories)
    if not queue:
        return
    runs = [trajectory.run for trajectory in queue]
    for run in runs:
        devices.check_precision(run, device)
    on_gpu, cores = device.type == "cuda", torch.get_num_threads()
    width = devices.fitting_width(runs, device, width or devices.default_width(device))
    with devices.settings(device, runs[0].precision):
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
    written_at: dict[int, float] = field(
        default_factory=dict
    )  # time of an ensemble's last checkpoint, by its id

    def conduct(self, n_workers: int, n_beside: int) -> None:
        """Advance the ensemble that is furthest behind, always; whatever happens, save the runs under way.

        What has ended is finished at once, by `n_beside` workers of their own, or if 0 by those who advance.
        """
        workers = ThreadPoolExecutor(n_workers, initializer=devices.begin_worker)
        beside = ThreadPoolExecutor(n_beside, initializer=devices.begin_worker) if n_beside else workers
        advancing, finishing = dict[Future[None], Ensemble](), dict[Future[None], Trajectory]()
        for e in self.ensembles:
            self.written_at[id(e)] = time.monotonic()
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
                self._checkpoint(e)
            if unfinished := [*self.ended, *finishing.values()]:
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
        e = Ensemble([trajectory.run], 1, torch.device("cpu"))
        e.load(0, trajectory)
        self.ensembles.append(e)
        self.written_at[id(e)] = time.monotonic()
        return e

    def _fill(self, e: Ensemble) -> None:
        """Give free slots to the next runs."""
        for slot, held in enumerate(e.slots):
            if held is None and (trajectory := self._next()):
                e.load(slot, trajectory)

    def _settle(self, e: Ensemble) -> None:
        """Take out the runs that have ended, put in the next ones, write checkpoints if it is time."""
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

    def _checkpoint(self, e: Ensemble) -> None:
        if e.live:
            self.listener.checkpoint([e.snapshot(slot) for slot in e.live])
        self.written_at[id(e)] = time.monotonic()
