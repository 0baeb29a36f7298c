"""`sweep`: what is on record is read, what is missing is trained, and nothing is lost on the way."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from tqdm import tqdm

from grokking_core import engine, estimate, files, kept, schedule
from grokking_core.engine import Trajectory
from grokking_core.files import RecordWarning, StoreError
from grokking_core.progress import Bar, Stop
from grokking_core.provenance import Provenance
from grokking_core.record import Record, utc_now
from grokking_core.run import Run
from grokking_core.store import LOCK, Store, key_of

PROCESS_STARTED = utc_now()


class Records(list[Record]):
    """Records in the order in which their runs were asked for.

    Attributes
    ----------
    asked : tuple of (int, float or None)
        `steps`, rounded up to the evaluation grid, and `stop_at`; several where parts were joined.
    read, trained : set of str
        Keys of the runs that were on record, and of those that were trained for this.
    missing : list of Run
        Runs that the time limit left without an answer; their records are not in the list.
    unwritten : list of Record
        Those of them that could not be written to the records folder.
    seconds : float
        What the call took.
    """

    def __init__(self, records: Iterable[Record] = (), *, asked: Iterable[tuple[int, float | None]]):
        super().__init__(records)
        self.asked = tuple(dict.fromkeys(asked))
        self.read: set[str] = set()
        self.trained: set[str] = set()
        self.missing: list[Run] = []
        self.unwritten: list[Record] = []
        self.seconds = 0.0

    @classmethod
    def joined(cls, parts: Iterable[Records]) -> Records:
        """The records of some sweeps, one part after the other.

        A run of several parts counts once: as missing where a part misses it, else as trained where a part
        has trained it.
        """
        parts = list(parts)
        whole = cls((record for part in parts for record in part), asked=(a for p in parts for a in p.asked))
        whole.missing = list(dict.fromkeys(run for part in parts for run in part.missing))
        missing = {key_of(run) for run in whole.missing}
        whole.trained = set[str]().union(*(part.trained for part in parts)) - missing
        whole.read = set[str]().union(*(part.read for part in parts)) - missing - whole.trained
        whole.unwritten = [record for part in parts for record in part.unwritten]
        whole.seconds = sum(part.seconds for part in parts)
        return whole

    @property
    def n_read(self) -> int:
        """Runs that were on record."""
        return len(self.read)

    @property
    def n_trained(self) -> int:
        """Runs that were trained for this."""
        return len(self.trained)

    def provenance(self) -> Provenance:
        """Where these numbers come from, shown as a table in a notebook."""
        counts = {"read": self.n_read, "trained": self.n_trained, "missing": len(set(self.missing))}
        return Provenance.of(self, counts, self.asked, self.seconds)


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a sweep, and all of it is kept; `records` has what is complete."""

    def __init__(self, message: str, records: Records):
        super().__init__(message)
        self.records = records


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of each run."""

    steps: int  # an evaluation step
    stop_at: float | None = None  # validation accuracy in (0, 1]
    keep: tuple[str, ...] = ()  # of the end, names out of kept.KEPT
    keep_checkpoints: bool = False  # what it takes to go on from the end
    since: str = ""  # trained at or after this date, UTC

    @classmethod
    def of(
        cls,
        steps: int,
        stop_at: float | None = None,
        *,
        keep: Sequence[str] = (),
        keep_checkpoints: bool = False,
        fresh: bool | None = None,
    ) -> Question:
        """What `sweep` is asked."""
        return cls(
            steps=schedule.last_step(steps),
            stop_at=stop_at,
            keep=kept.check(keep),
            keep_checkpoints=keep_checkpoints,
            since=_since(fresh),
        )

    def read(self, store: Store, run: Run) -> Record | None:
        """The answer that is on record."""
        return store.answer(run, self.steps, self.stop_at, keep=self.keep, since=self.since)

    def past(self, trajectory: Trajectory, device: str) -> Record | None:
        """The answer that a run under way has come to, or gone past."""
        return trajectory.record(device).until(self.steps, self.stop_at) if trajectory.rows else None

    @property
    def kept_steps(self) -> int | None:
        """Steps, where the record must be found beside a longer one."""
        return self.steps if self.since or self.keep else None


def sweep(
    runs: Sequence[Run],
    steps: int,
    stop_at: float | None = None,
    *,
    keep: Sequence[str] = (),
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
        What of the end is in `Record.kept`: "weights", "output_rows", "answers", "frame" or "sharpness",
        as `kept.KEPT` defines them. Weights on record are enough to compute the others.
    keep_checkpoints : bool
        Whether a run that has ended can be followed further later without starting again.
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
        If `runs`, `steps`, `stop_at`, `keep`, `minutes` or `device` is not one of the above, or a run
        that must be trained has a precision that the device has not.
    ModuleNotFoundError
        If what is to be kept needs a package that is not installed.
    StoreError
        Where records cannot be written, if asked for, or an executor's workers could not find them.
    Stopped
        After Ctrl-C or SIGTERM, with everything kept.
    """
    started, runs = time.monotonic(), list(runs)
    where, device = None if device is None else str(device), str(device or default_device())
    _check(runs, stop_at, minutes, device if executor is None else None)
    store = store if isinstance(store, Store) else Store(store)
    question = Question.of(steps, stop_at, keep=keep, keep_checkpoints=keep_checkpoints, fresh=fresh)
    work = Work(question, store, device, progress, must_write=unwritten == "raise")
    work.read(runs)
    training = {"width": width, "checkpoint_seconds": checkpoint_seconds}
    with Stop(minutes) as stop:
        if executor is None:
            work.compute(work.left.values(), stop)
            work.train_in_turn(stop, **training)
        elif work.left:
            from grokking_core import workers

            workers.train(work, executor, stop, device=where, **training)
    records = work.records(runs, time.monotonic() - started)
    if stop.signal is not None:
        done = f"{len(records)} of {len(runs)} runs are on record in {store.folder}"
        raise Stopped(f"stopped; {done}, the others go on from their checkpoints", records)
    return records


def default_device() -> str:
    """The device that trains where none is named."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """A device's name that no other has, on this machine or on others; letters, digits and - only."""
    name = f"{platform.node()}-{torch.device(device).type}"
    if name.endswith("-cuda"):
        name += f"-{torch.cuda.get_device_properties(device).uuid}"  # its number is another elsewhere
    return re.sub(r"[^0-9A-Za-z]+", "-", name)


def _check(runs: list[Run], stop_at: float | None, minutes: float | None, device: str | None) -> None:
    for run in runs:
        if not isinstance(run, Run):
            raise ValueError(f"runs holds {run!r}; it must hold objects of type Run")
    known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if device and device not in known and not (device == "cuda" and known[1:]):
        raise ValueError(f"device={device!r} is not here; choose from {', '.join(known)}")
    if stop_at is not None and not 0 < stop_at <= 1:
        raise ValueError(f"stop_at={stop_at} must lie in (0, 1]; write 99 % as 0.99")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes={minutes} must be above 0")


def _since(fresh: bool | None) -> str:
    """The date from which on records count; nothing is before the empty one."""
    asked = os.environ.get("GROKKING_FRESH", "")
    if fresh is not None:
        return utc_now() if fresh else ""
    return PROCESS_STARTED if asked == "1" else "" if asked == "0" else asked


@dataclass
class Work:
    """The runs of one sweep: those with an answer, those without, and how far these are."""

    question: Question
    store: Store
    device: str
    progress: bool
    must_write: bool = False
    answers: dict[str, Record] = field(default_factory=dict)  # by key
    left: dict[str, Run] = field(default_factory=dict)
    was_read: set[str] = field(default_factory=set)  # keys of the answers that were on record
    unwritten: list[Record] = field(default_factory=list)
    complaint: str = ""

    @property
    def n_read(self) -> int:
        """Answers that were on record."""
        return len(self.was_read)

    def read(self, runs: Iterable[Run]) -> None:
        """Answer from the records what can be answered; the others are left."""
        for run in runs:
            key = key_of(run)
            if key in self.answers:
                continue
            record = self.question.read(self.store, run)
            if record is None:
                self.left[key] = run
                continue
            self.take(record)
            self.was_read.add(key)

    def compute(self, runs: Iterable[Run], stop: Callable[[], bool]) -> None:
        """Answer what weights on record answer, once what else is to be kept is computed from them."""
        question, store = self.question, self.store
        if not set(question.keep) - {"weights"}:
            return
        told = {"desc": "computing from weights on record", "leave": False, "delay": 2.0}
        for run in tqdm(list(runs), disable=not self.progress, **told):
            asked = {"keep": ("weights",), "since": question.since}
            record = None if stop() else store.answer(run, question.steps, question.stop_at, **asked)
            if record is None:
                continue
            has = ((name, store.kept(record, name, question.since)) for name in question.keep)
            known = {name: held[1] for name, held in has if held}
            missing = [name for name in question.keep if name not in known]
            new = kept.measure(missing, run, torch.from_numpy(record.kept["weights"]["parameters"]))
            self.was_read.add(key_of(run))
            self.take(replace(record, kept=known | new))
            try:
                store.write_kept(replace(record, kept=new))
            except StoreError as error:
                self.unwritten.append(replace(record, kept=new))
                self.complain(error)

    def take(self, record: Record) -> None:
        """Take an answer."""
        key = key_of(record.run)
        self.answers[key] = record
        self.left.pop(key, None)

    def found(self, runs: Iterable[Run]) -> None:
        """Take the answers that workers have put on record by now."""
        for run in list(runs):
            key = key_of(run)
            record = self.question.read(self.store, run) if key in self.left else None
            if record is not None:
                self.answers[key] = record
                del self.left[key]
                self.bar.found(record)
        self.bar.show()

    def check(self, n_devices: int = 1) -> None:
        """Complain now of what would fail after training, on devices like this if on any that is known."""
        kept.prepare(self.question.keep)
        for run in self.left.values() if n_devices else ():
            engine.check_precision(run, torch.device(self.device))
        try:
            self.store.check_writable()
        except StoreError as error:
            self.complain(error)

    def begin(self, n_devices: int = 1) -> None:
        """Say how long it will take on devices like this, show the bar."""
        if self.progress and n_devices and not self.question.keep_checkpoints:  # else but a stage of the way
            estimate.announce(list(self.left.values()), self.question.steps, self.device, n_devices)
        self.bar = Bar(self, disable=not self.progress)
        self.bar.show()

    def train_in_turn(self, stop: Callable[[], bool], **how: Any) -> None:
        """Train what is left on this device, once no other process trains there for the same records."""

        def told() -> None:
            others = f"another process trains on {self.device} for {self.store.folder}"
            print(f"{others}: waiting, to read what it has trained", file=sys.stderr, flush=True)

        if not self.left:
            return
        self.check()
        name = f".training-{device_name(self.device)}{LOCK}"
        with files.locked(self.store.folder / name, stop, told) as waited:
            if waited:
                self.read(list(self.left.values()))
            if self.left and not stop():
                self.begin()
                self.train(stop, **how)

    def train(self, stop: Callable[[], bool], width: int | None, checkpoint_seconds: float | None) -> None:
        """Train what is left on this device; on a GPU group by group."""
        on_gpu, trained_together = self.device.startswith("cuda"), groups(self.left.values())
        if not on_gpu:
            trained_together = [[run for group in trained_together for run in group]]
        if checkpoint_seconds is None:
            checkpoint_seconds = 300.0 if on_gpu else 60.0
        listener = engine.Listener(
            ended=self.ended, finish=self.finish, advanced=self.advanced, checkpoint=self.keep
        )
        try:
            for runs in trained_together:
                if stop():
                    break
                trajectories = self.start(runs, stop)
                engine.train(
                    trajectories,
                    steps=self.question.steps,
                    stop_at=self.question.stop_at,
                    listener=listener,
                    device=self.device,
                    width=width,
                    checkpoint_seconds=checkpoint_seconds,
                    interrupted=stop,
                )
        finally:
            self.bar.close()
            self.write_again()

    def start(self, runs: Sequence[Run], stop: Callable[[], bool]) -> list[Trajectory]:
        """Where the runs are: at a checkpoint, or at step 0; without those that have an answer by now."""
        self.read(runs)  # another process may have trained them meanwhile
        self.compute([run for run in runs if key_of(run) in self.left], stop)
        trajectories = []
        for run in runs:
            if key_of(run) in self.answers:
                continue
            trajectory = self.store.checkpoint(run, self.question.since) or Trajectory(run)
            past = self.question.past(trajectory, self.device)
            if past is None:
                trajectories.append(trajectory)
            elif self.question.keep and past.last_step != trajectory.step:
                trajectories.append(Trajectory(run))  # the weights are no longer those of that step
            else:
                self.was_read.add(key_of(run))
                if self.question.keep:
                    trajectories.append(trajectory)  # to be finished
                else:
                    self.answered(replace(past, parameters=None))
        self.bar.started(trajectories)
        return trajectories

    # -- what the engine tells ----------------------------------------------------------------------

    def finish(self, trajectory: Trajectory) -> None:
        """Compute what is to be kept of a run that has ended; called by a worker thread."""
        if trajectory.tensors:
            parameters = trajectory.tensors["parameters"]
            trajectory.kept = kept.measure(self.question.keep, trajectory.run, parameters)

    def ended(self, trajectory: Trajectory) -> None:
        """A run has ended, and is finished."""
        self.bar.ended(trajectory)
        written = self.answered(replace(trajectory.record(self.device), parameters=None))
        if self.question.keep_checkpoints:
            self.keep([trajectory])
        elif written:
            self.store.forget(trajectory.run)

    def advanced(self, trajectories: Sequence[Trajectory]) -> None:
        """Runs have made steps."""
        self.bar.advanced(trajectories)

    def keep(self, trajectories: Sequence[Trajectory]) -> None:
        """Keep checkpoints."""
        try:
            for trajectory in trajectories:
                self.store.keep(trajectory)
        except StoreError as error:
            self.complain(error)

    def answered(self, record: Record) -> bool:
        """Take an answer and put it on record; whether it is there now."""
        self.take(record)
        try:
            self.store.write(record, self.question.kept_steps)
        except StoreError as error:
            self.unwritten.append(record)
            self.complain(error)
            return False
        finally:
            self.bar.show()
        return True

    # -- what cannot be written ---------------------------------------------------------------------

    def complain(self, error: StoreError | str) -> None:
        """Warn of the first thing that cannot be written; training goes on, unless that is no use."""
        if self.must_write:
            raise StoreError(str(error))
        if not self.complaint:
            self.complaint = str(error)
            told = f"{error}; training goes on, and its results are in memory only"
            warnings.warn(told, RecordWarning, stacklevel=2)

    def write_again(self) -> None:
        """Try once more to write what could not be written."""
        for record in self.unwritten.copy():
            try:
                self.store.write(record, self.question.kept_steps)
            except StoreError:
                return
            self.unwritten.remove(record)

    def records(self, runs: Sequence[Run], seconds: float) -> Records:
        """The answers in the order asked for."""
        found = [(run, self.answers.get(key_of(run))) for run in runs]
        asked = [(self.question.steps, self.question.stop_at)]
        records = Records((replace(record, run=run) for run, record in found if record), asked=asked)
        records.missing = [run for run, record in found if record is None]
        records.read, records.trained = self.was_read, set(self.answers) - self.was_read
        records.seconds = round(seconds, 3)
        records.unwritten = self.unwritten
        return records


def groups(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that can be trained in one ensemble, the cheapest group first so that results come early."""
    found: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        found[engine.group_key(run)].append(run)
    return sorted(found.values(), key=lambda group: len(group) * estimate.work(group[0]))
