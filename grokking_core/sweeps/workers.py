"""Training in other processes, on this machine or on others, through any `concurrent.futures.Executor`.

A task is some runs of one group. It answers what is on record, goes on from checkpoints and writes
what it trains into the records folder, which all workers must see; so a task whose worker died is
simply given out again. Workers stop, and keep checkpoints, when the file `Task.going` disappears.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch

from grokking_core import devices
from grokking_core.records import files
from grokking_core.records.store import Store
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import Record
from grokking_core.runs.run import Run
from grokking_core.signals import POLITE, Stop
from grokking_core.sweeps import estimate
from grokking_core.sweeps.cluster import Cluster, closing
from grokking_core.sweeps.progress import Bar
from grokking_core.sweeps.question import Question
from grokking_core.sweeps.reading import Reading
from grokking_core.sweeps.trainer import Options, Trainer, groups
from grokking_core.sweeps.writing import Writing
from grokking_core.weights import ends

MOST_ATTEMPTS = 4  #: at a task whose worker dies
POLL_SECONDS = 1.0
GRACE_SECONDS = 30.0  #: for checkpoints, once workers have to stop
LEAVING = threading.Event()  #: this worker is to end
AT_WORK = threading.Lock()  #: held by a worker while it does a task


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker is given."""

    runs: tuple[Run, ...]  #: of one group
    question: Question
    folder: str  #: of the records
    shipped: str
    going: str  #: the file whose absence says: stop
    options: Options  #: a device that is not named is the worker's best
    attempt: int = 1


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a worker gives back."""

    records: tuple[Record, ...]  #: the answers, so that a slow file system does not hide them
    read: frozenset[str]  #: keys of those of them that others had trained meanwhile
    problem: str  #: what could not be written, and why; or nothing


def perform(task: Task) -> Report:
    """Do a task; this runs in the worker."""
    stop, store = Gone(Path(task.going)), Store(task.folder, task.shipped)
    reading, writing = Reading(task.question, store), Writing(task.question, store)
    reading.read(task.runs)
    if reading.left and not stop():
        trainer = Trainer(reading, writing, task.options)
        trainer.check()
        trainer.train(stop)
    return Report(
        records=tuple(reading.answers.values()), read=frozenset(reading.was_read), problem=writing.problem
    )


class Gone:
    """Whether a file is gone, or this worker is to end; looks twice a second."""

    def __init__(self, path: Path):
        self.path, self.looked, self.gone = path, -math.inf, False
        self.closing = closing()

    def __call__(self) -> bool:
        """Whether to stop."""
        if not self.gone and time.monotonic() > self.looked + 0.5:
            self.looked = time.monotonic()
            self.gone = not self.path.exists()
        return self.gone or LEAVING.is_set() or self.closing()


def train(reading: Reading, writing: Writing, options: Options, executor: Executor, stop: Stop) -> None:
    """Have the executor's workers train what is left.

    Raises
    ------
    ConnectionError
        If the scheduler of a Dask cluster is gone.
    RuntimeError
        If a task's worker dies again and again.
    StoreError
        If the records folder cannot be written.
    """
    Conductor(reading, writing, options, executor, stop).conduct()


def chunked(runs: Sequence[Run], width: int | None, n_cards: int = 0) -> list[Sequence[Run]]:
    """A group cut into tasks: one a card, else eight or more where it can be; none wider than a worker likes.

    A card takes about as long for an update of few runs as for one of many, so it is not given crumbs.
    """
    most = width or 4 * devices.default_width(torch.device("cuda" if n_cards else devices.default_device()))
    size = max(1, min(most, math.ceil(len(runs) / (n_cards or 8))))
    return [runs[i : i + size] for i in range(0, len(runs), size)]


class Conductor:
    """Gives tasks out, and out again, until all runs have an answer or it is time to stop."""

    def __init__(self, reading: Reading, writing: Writing, options: Options, executor: Executor, stop: Stop):
        self.reading, self.writing, self.options = reading, writing, options
        self.executor, self.stop, self.cluster = executor, stop, Cluster(executor)
        self.bar = Bar(len(reading.left), reading.question.steps, disable=not options.progress)
        folder = reading.store.folder.absolute()
        self.going = folder / f".{os.getpid()}-{time.time_ns()}.going"

    def conduct(self) -> None:
        """Have all runs that are left trained."""
        self._check()
        pending = dict[Future[Report], Task]()
        deadline = math.inf
        try:
            files.write(self.going, b"")
            pending |= {self._submit(task): task for task in self.tasks()}
            self._show()
            while pending and time.monotonic() < deadline:
                self.cluster.look()
                for future in wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done:
                    again = self._settle(pending.pop(future), future)
                    if again and not self.stop():
                        pending[self._submit(again)] = again
                self._read(self.reading.left.values())
                if not self.stop():
                    _say_going(self.going)
                elif deadline == math.inf:
                    deadline = time.monotonic() + (0 if self.cluster.lacks else GRACE_SECONDS)
                    self.going.unlink(missing_ok=True)
        finally:
            self.going.unlink(missing_ok=True)
            self.bar.close()
            self.writing.write_again()

    def _submit(self, task: Task) -> Future[Report]:
        try:
            return self.executor.submit(perform, task)
        except Exception:
            self.cluster.look(now=True)  # may say better why
            raise

    def _check(self) -> None:
        """Raise, or warn, now of what would fail after training; say how long it will take."""
        n_devices = getattr(self.executor, "n_devices", 0)  # 0: unknown
        ends.prepare(self.reading.question.keep)
        device = self.options.trains_on
        for run in self.reading.left.values() if n_devices else ():
            devices.check_precision(run, torch.device(device))
        self.writing.check()
        if n_devices and self.options.progress and not self.reading.question.keep_checkpoints:
            estimate.announce(self.reading, device, n_devices)

    def tasks(self) -> list[Task]:
        """What is left, in tasks."""
        store = self.reading.store
        form = Task(
            runs=(),
            question=self.reading.question,
            folder=str(store.folder.absolute()),
            shipped=str(store.shipped.absolute()),
            going=str(self.going),
            options=replace(self.options, progress=False),
        )
        n_cards = len(getattr(self.executor, "gpus", ()))
        n_cards = min(n_cards, getattr(self.executor, "n_devices", 0))  # the workers may be fewer
        width = self.options.width
        chunks = (chunked(group, width, n_cards) for group in groups(self.reading.left.values()))
        return [replace(form, runs=tuple(chunk)) for some in chunks for chunk in some]

    def _settle(self, task: Task, future: Future[Report]) -> Task | None:
        """Take what a task has brought; what must be done again, if its worker died or was stopped."""
        error = future.exception() if not future.cancelled() else CancelledError()
        if error is None:
            report = future.result()
            self._read(task.runs)
            for record in report.records:
                if key_of(record.run) in self.reading.left:
                    self.bar.found(record)
                    self.reading.take(record)
                    self.writing.write(record)
            self.reading.was_read |= report.read
            if report.problem:
                self.writing.failed(report.problem)
            left = tuple(run for run in task.runs if key_of(run) in self.reading.left)
            return replace(task, runs=left, attempt=task.attempt + 1) if left else None
        if not _died(error):
            raise error
        if task.attempt == MOST_ATTEMPTS:
            message = f"workers died {task.attempt} times at {len(task.runs)} runs, the first {task.runs[0]}"
            raise RuntimeError(message) from error
        return replace(task, attempt=task.attempt + 1)

    def _read(self, runs: Iterable[Run]) -> None:
        """Take the answers that workers have put on record by now."""
        reading = self.reading
        for run in list(runs):
            record = reading.question.read(reading.store, run) if key_of(run) in reading.left else None
            if record is not None:
                reading.take(record)
                self.bar.found(record)
        self._show()

    def _show(self) -> None:
        reading = self.reading
        self.bar.show(reading.answers.values(), len(reading.was_read), len(reading.left))


def _say_going(path: Path) -> None:
    """Let the workers go on: the file is there, and young, even if somebody has cleaned the folder."""
    try:
        os.utime(path)
    except FileNotFoundError:
        files.write(path, b"")
    except OSError:
        pass  # it is there


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
            resource_tracker.ensure_running()  # which would let some of them through again
            with _signals_held():
                forkserver.ensure_running()
        gpus: SimpleQueue[str | None] = context.SimpleQueue()
        for i in range(self.n_workers):
            gpus.put(self.gpus[i] if self.gpus else None)
        threads = max(1, (os.cpu_count() or 1) // self.n_workers)
        arguments = (gpus, threads)
        return ProcessPoolExecutor(self.n_workers, context, initializer=_begin, initargs=arguments)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call a function."""
        try:
            return self.pool.submit(_at_work, fn, *args, **kwargs)
        except BrokenExecutor:
            self.pool = self._pool()
            return self.pool.submit(_at_work, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers."""
        self.pool.shutdown(wait, cancel_futures=cancel_futures)


def visible_gpus() -> list[str]:
    """What to set CUDA_VISIBLE_DEVICES to, for each GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return (visible.split(",") if visible else [str(i) for i in range(count)])[:count]


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back what ends processes politely; what is started meanwhile never hears it, so its parent has to.

    A signal to all processes of a terminal would else end the server that workers are forked from.
    """
    numbers = [getattr(signal, name) for name in POLITE if hasattr(signal, name)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(gpus: SimpleQueue[str | None], threads: int) -> None:
    """Begin a worker: without the parent, or after SIGTERM, it ends once its checkpoints are written."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to hear
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=_leave).start())
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # the pool sends it, too
    gpu = gpus.get()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(threads)
    threading.Thread(target=_outlive, daemon=True).start()


def _at_work(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with AT_WORK:
        return fn(*args, **kwargs)


def _outlive() -> None:
    """Wait for the parent's end, and end this process."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        _leave()


def _leave() -> None:
    """Have this worker's task stop, leave time for checkpoints, and end this process."""
    LEAVING.set()
    AT_WORK.acquire(timeout=GRACE_SECONDS)
    os._exit(1)
