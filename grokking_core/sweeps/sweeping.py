"""`sweep`: what is on record is read, what is missing is trained, and nothing is lost on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Literal

import torch

from grokking_core import devices, probes
from grokking_core.records.store import Store, finished_bytes
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.signals import Stop
from grokking_core.sweeps.question import Question
from grokking_core.sweeps.reading import Reading
from grokking_core.sweeps.trainer import Options, Trainer
from grokking_core.sweeps.writing import Writing


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a sweep, and all of it is kept; `records` has what is complete."""

    def __init__(self, message: str, records: Records):
        super().__init__(message)
        self.records = records


def sweep(
    runs: Sequence[Run],
    steps: int,
    stop_at: float | None = None,
    *,
    keep: Sequence[str] = (),
    watch: Sequence[str] = (),
    watch_every: int | None = None,
    keep_checkpoints: bool = False,
    minutes: float | None = None,
    fresh: bool | None = None,
    store: Store | str | os.PathLike[str] | None = None,
    device: torch.device | str | None = None,
    width: int | None = None,
    executor: Executor | None = None,
    checkpoint_seconds: float | None = None,
    unwritten: Literal["warn", "raise"] = "warn",
    progress: bool = True,
) -> Records:
    """Records of the runs: read where they are on record, trained all together where they are not.

    Every run that ends is on record at once, and every run under way each `checkpoint_seconds`. After
    Ctrl-C, SIGTERM or a power cut the same call goes on from there and ends with the same numbers.
    Sweeps on one device for one records folder take turns, also those of different processes: each has the
    device to itself, and reads what the others have trained.

    Parameters
    ----------
    runs : sequence of Run
        A run that is named twice is trained once.
    steps : int
        Updates to follow each run for, at least 1; rounded up to the evaluation grid.
    stop_at : float, optional
        Validation accuracy in (0, 1] at which a run ends early.
    keep : sequence of str
        What of the end is in `Record.kept`: "weights", "output_rows", "answers", "frame", "sharpness" or
        "traps", as `record.KEPT` lists them. Weights on record are enough to compute the others.
    watch : sequence of str
        What probes see while it is trained is in `Record.watched`, a frame by step for each name out of
        `probes.PROBES`; no bit of the run depends on it. What is not on record is seen by training again.
    watch_every : int, optional
        Updates, at least 1, after which probes look between evaluations; by default at evaluations only.
    keep_checkpoints : bool
        Whether the checkpoint of a run that has ended stays whatever the limit of the disk. Others stay
        as long as they take less than GROKKING_CHECKPOINTS_GB, 2 by default.
    minutes : float, optional
        Time limit, above 0. What is then without an answer is in `missing`.
    fresh : bool, optional
        Train everything again, but nothing twice; by default as GROKKING_FRESH says: 1, or a date
        (UTC, ISO 8601) from which on records count.
    store : Store or path, optional
        By default the user's own and the shipped records.
    device : torch.device or str, optional
        By default, also for workers, CUDA if it is there, else the CPU.
    width : int, optional
        Runs trained at a time; by default what the device does best.
    executor : concurrent.futures.Executor, optional
        Where to train instead of here; all of its workers must see the records folder.
    checkpoint_seconds : float, optional
        Seconds between two checkpoints of a run, at least 0; by default 60 on a CPU, and 300 on a
        GPU, which waits while a hundred runs are written.
    unwritten : {"warn", "raise"}
        What to do when records cannot be written: train on and return them, or `StoreError`.
    progress : bool
        Show a bar, and an estimate before a long sweep.

    Raises
    ------
    ValueError
        If `runs`, `steps`, `stop_at`, `keep`, `watch`, `watch_every`, `minutes` or `device` is not one of the
        above, a probe cannot watch a run, or a run that must be trained has a precision that the device has
        not.
    ModuleNotFoundError
        If what is to be kept needs a package that is not installed.
    StoreError
        Where records cannot be written, if asked for, or an executor's workers could not find them.
    ConnectionError
        If an executor is a Dask cluster's, and its scheduler is gone.
    Stopped
        After Ctrl-C or SIGTERM, with everything kept.
    """
    started, runs = time.monotonic(), list(runs)
    name = None if device is None else str(device)
    options = Options(device=name, width=width, checkpoint_seconds=checkpoint_seconds, progress=progress)
    _check(runs, stop_at, minutes, options.trains_on if executor is None else None)
    store = store if isinstance(store, Store) else Store(store)
    finished_bytes()  # wrong settings now, not after training
    watching = {"watch": probes.check(watch, watch_every, runs), "watch_every": watch_every}
    question = Question.of(
        steps, stop_at, keep=keep, keep_checkpoints=keep_checkpoints, fresh=fresh, **watching
    )
    reading, writing = Reading(question, store), Writing(question, store, must_write=unwritten == "raise")
    reading.read(runs)
    with Stop(minutes) as stop:
        _train(reading, writing, options, executor, stop)
    records = reading.records(runs, time.monotonic() - started)
    records.unwritten = writing.unwritten
    if stop.signal is not None:
        done = f"{len(records)} of {len(runs)} runs are on record in {store.folder}"
        raise Stopped(f"stopped; {done}, the others go on from their checkpoints", records)
    return records


def _train(
    reading: Reading, writing: Writing, options: Options, executor: Executor | None, stop: Stop
) -> None:
    """Train what is left, here or by an executor's workers."""
    if executor is None:
        Trainer(reading, writing, options).train_in_turn(stop)
    elif reading.left:
        from grokking_core.sweeps import workers

        workers.train(reading, writing, options, executor, stop)


def _check(runs: list[Run], stop_at: float | None, minutes: float | None, device: str | None) -> None:
    for run in runs:
        if not isinstance(run, Run):
            raise ValueError(f"runs holds {run!r}; it must hold objects of type Run")
    if device:
        devices.check_device(device)
    if stop_at is not None and not 0 < stop_at <= 1:
        raise ValueError(f"stop_at={stop_at} must lie in (0, 1]; write 99 % as 0.99")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes={minutes} must be above 0")
