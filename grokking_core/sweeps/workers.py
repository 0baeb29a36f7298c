"""Training in other processes, on this machine or on others, through any `concurrent.futures.Executor`.

A task is some runs of one group. It answers what is on record, goes on from checkpoints and writes
what it trains into the records folder, which all workers must see; so a task whose worker died is
simply given out again. Workers stop, and keep checkpoints, when the file `Task.going` disappears.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch

from grokking_core import training
from grokking_core.records import files
from grokking_core.records.store import Store
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import Record
from grokking_core.runs.run import Run
from grokking_core.sweeps.progress import Stop
from grokking_core.sweeps.work import Question, Work, default_device, groups

MOST_ATTEMPTS = 4  # at a task whose worker dies
POLL_SECONDS = 1.0
GRACE_SECONDS = 30.0  # for checkpoints, once workers have to stop
ORPHANED = threading.Event()  # the process that a worker works for has died


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker is given."""

    runs: tuple[Run, ...]  # of one group
    question: Question
    folder: str  # of the records
    shipped: str
    going: str  # the file whose absence says: stop
    device: str | None  # None: the worker's best
    width: int | None
    checkpoint_seconds: float | None
    attempt: int = 1


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a worker gives back."""

    records: tuple[Record, ...]  # the answers, so that a slow file system does not hide them
    read: frozenset[str]  # keys of those of them that others had trained meanwhile
    complaint: str  # why something could not be written, or nothing


def perform(task: Task) -> Report:
    """Do a task; this runs in the worker."""
    stop = Gone(Path(task.going))
    device = task.device or default_device()
    work = Work(task.question, Store(task.folder, task.shipped), device, progress=False)
    work.read(task.runs)
    if work.left and not stop():
        work.check()
        work.begin()
        work.train(stop, task.width, task.checkpoint_seconds)
    return Report(
        records=tuple(work.answers.values()), read=frozenset(work.was_read), complaint=work.complaint
    )


class Gone:
    """Whether a file is gone, or the process that this one works for; looks twice a second."""

    def __init__(self, path: Path):
        self.path, self.looked, self.gone = path, -math.inf, False

    def __call__(self) -> bool:
        """Whether to stop."""
        if not self.gone and time.monotonic() > self.looked + 0.5:
            self.looked = time.monotonic()
            self.gone = not self.path.exists()
        return self.gone or ORPHANED.is_set()


def train(
    work: Work,
    executor: Executor,
    stop: Stop,
    *,
    device: str | None,
    width: int | None,
    checkpoint_seconds: float | None,
) -> None:
    """Have the executor's workers train what is left.

    Raises
    ------
    RuntimeError
        If a task's worker dies again and again.
    StoreError
        If the records folder cannot be written.
    """
    n_devices = getattr(executor, "n_devices", 0)
    work.check(n_devices)
    work.begin(n_devices)
    going = work.store.folder.absolute() / f".{os.getpid()}-{time.time_ns()}.going"
    files.write(going, b"")
    form = Task(
        runs=(),
        question=work.question,
        folder=str(work.store.folder.absolute()),
        shipped=str(work.store.shipped.absolute()),
        going=str(going),
        device=device,
        width=width,
        checkpoint_seconds=checkpoint_seconds,
    )
    chunks = [chunk for group in groups(work.left.values()) for chunk in chunked(group, width)]
    try:
        _conduct(work, executor, stop, [replace(form, runs=tuple(chunk)) for chunk in chunks])
    finally:
        going.unlink(missing_ok=True)
        work.bar.close()
        work.write_again()


def chunked(runs: Sequence[Run], width: int | None) -> list[Sequence[Run]]:
    """A group cut into tasks: eight or more where it can be, none wider than a worker likes."""
    most = width or 4 * training.default_width(torch.device(default_device()))
    size = max(1, min(most, math.ceil(len(runs) / 8)))
    return [runs[i : i + size] for i in range(0, len(runs), size)]


def _conduct(work: Work, executor: Executor, stop: Stop, tasks: Sequence[Task]) -> None:
    """Give tasks out, and out again, until all are done or it is time to stop."""
    pending: dict[Future[Report], Task] = {executor.submit(perform, task): task for task in tasks}
    going, deadline = Path(tasks[0].going), math.inf
    while pending and time.monotonic() < deadline:
        for future in wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done:
            task = pending.pop(future)
            again = _settle(work, task, future)
            if again and not stop():
                pending[executor.submit(perform, again)] = again
        work.found(work.left.values())
        if not stop():
            _say_going(going)
        elif deadline == math.inf:
            deadline = time.monotonic() + GRACE_SECONDS
            going.unlink(missing_ok=True)


def _say_going(path: Path) -> None:
    """Let the workers go on: the file is there, and young, even if somebody has cleaned the folder."""
    try:
        os.utime(path)
    except FileNotFoundError:
        files.write(path, b"")


def _settle(work: Work, task: Task, future: Future[Report]) -> Task | None:
    """Take what a task has brought; what must be done again, if its worker died or was stopped."""
    error = future.exception() if not future.cancelled() else CancelledError()
    if error is None:
        report = future.result()
        work.found(task.runs)
        for record in report.records:
            if key_of(record.run) in work.left:
                work.bar.found(record)
                work.answered(record)
        work.was_read |= report.read
        if report.complaint:
            work.complain(report.complaint)
        left = tuple(run for run in task.runs if key_of(run) in work.left)
        return replace(task, runs=left, attempt=task.attempt + 1) if left else None
    if not _died(error):
        raise error
    if task.attempt == MOST_ATTEMPTS:
        told = f"workers died {task.attempt} times at {len(task.runs)} runs, the first {task.runs[0]}"
        raise RuntimeError(told) from error
    return replace(task, attempt=task.attempt + 1)


def _died(error: BaseException) -> bool:
    """Whether a worker died, rather than that what it did failed."""
    return isinstance(error, BrokenExecutor | CancelledError) or type(error).__module__.startswith(
        "distributed"
    )


# -------------------------------------------------------------------------------------------------
# Workers on this machine


class LocalWorkers(Executor):
    """Processes on this machine, one a GPU where there are GPUs; new ones in the place of dead ones.

    Parameters
    ----------
    n_workers : int
        At least 1; with GPUs, each has one of them.

    Raises
    ------
    ValueError
        If `n_workers` is below 1, or more than there are GPUs.
    """

    def __init__(self, n_workers: int):
        self.gpus = visible_gpus()
        if n_workers < 1:
            raise ValueError(f"workers={n_workers} must be at least 1")
        if self.gpus and n_workers > len(self.gpus):
            raise ValueError(f"workers={n_workers} must not exceed the {len(self.gpus)} GPUs of this machine")
        self.n_workers = n_workers
        self.n_devices = n_workers if self.gpus else 1
        self.pool = self._pool()

    def _pool(self) -> ProcessPoolExecutor:
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            context.set_forkserver_preload([__name__])  # torch is imported once, not by each worker
        gpus: SimpleQueue[str | None] = context.SimpleQueue()
        for i in range(self.n_workers):
            gpus.put(self.gpus[i] if self.gpus else None)
        threads = max(1, (os.cpu_count() or 1) // self.n_workers)
        arguments = (gpus, threads)
        return ProcessPoolExecutor(self.n_workers, context, initializer=_begin, initargs=arguments)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call a function."""
        try:
            return self.pool.submit(fn, *args, **kwargs)
        except BrokenExecutor:
            self.pool = self._pool()
            return self.pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers."""
        self.pool.shutdown(wait, cancel_futures=cancel_futures)


def visible_gpus() -> list[str]:
    """What to set CUDA_VISIBLE_DEVICES to, for each GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return (visible.split(",") if visible else [str(i) for i in range(count)])[:count]


def _begin(gpus: SimpleQueue[str | None], threads: int) -> None:
    """Begin a worker: Ctrl-C is the parent's to hear; without the parent it ends."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gpu = gpus.get()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(threads)
    threading.Thread(target=_outlive, daemon=True).start()


def _outlive() -> None:
    """Wait for the parent's end, leave time for checkpoints, and end this process."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        ORPHANED.set()
        time.sleep(GRACE_SECONDS)
        os._exit(1)


def dask_client(address: str) -> Any:
    """A client of a running Dask scheduler.

    Raises
    ------
    ConnectionError
        If it does not answer within 3 seconds.
    ModuleNotFoundError
        If `distributed` is not installed.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a scheduler needs the package distributed: pip install 'grokking-companion[distributed]'"
        ) from error
    try:
        return Client(address, timeout=3, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(f"no scheduler answers at {address!r}: {error}") from error
