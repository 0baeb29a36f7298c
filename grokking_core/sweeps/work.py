"""The runs of one sweep: what is asked, which have an answer, how the others get one."""

from __future__ import annotations

import os
import platform
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from tqdm import tqdm

from grokking_core import training
from grokking_core.records import files
from grokking_core.records.files import RecordWarning, StoreError
from grokking_core.records.store import LOCK, Store
from grokking_core.runs import schedule
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import Record, utc_now
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.sweeps import estimate
from grokking_core.sweeps.progress import Bar
from grokking_core.weights import ends as kept

PROCESS_STARTED = utc_now()


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


def _since(fresh: bool | None) -> str:
    """The date from which on records count; nothing is before the empty one."""
    asked = os.environ.get("GROKKING_FRESH", "")
    if fresh is not None:
        return utc_now() if fresh else ""
    return PROCESS_STARTED if asked == "1" else "" if asked == "0" else asked


def default_device() -> str:
    """The device that trains where none is named."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """A device's name that no other has, on this machine or on others; letters, digits and - only."""
    name = f"{platform.node()}-{torch.device(device).type}"
    if name.endswith("-cuda"):
        name += f"-{torch.cuda.get_device_properties(device).uuid}"  # its number is another elsewhere
    return re.sub(r"[^0-9A-Za-z]+", "-", name)


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
        self.show()

    def show(self) -> None:
        """Show how many runs are read, trained and left."""
        self.bar.show(self.answers.values(), self.n_read, len(self.left))

    def check(self, n_devices: int = 1) -> None:
        """Complain now of what would fail after training, on devices like this if on any that is known."""
        kept.prepare(self.question.keep)
        for run in self.left.values() if n_devices else ():
            training.check_precision(run, torch.device(self.device))
        try:
            self.store.check_writable()
        except StoreError as error:
            self.complain(error)

    def begin(self, n_devices: int = 1) -> None:
        """Say how long it will take on devices like this, show the bar."""
        if self.progress and n_devices and not self.question.keep_checkpoints:  # else but a stage of the way
            estimate.announce(list(self.left.values()), self.question.steps, self.device, n_devices)
        self.bar = Bar(len(self.left), self.question.steps, disable=not self.progress)
        self.show()

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
        listener = training.Listener(
            ended=self.ended, finish=self.finish, advanced=self.advanced, checkpoint=self.keep
        )
        try:
            for runs in trained_together:
                if stop():
                    break
                trajectories = self.start(runs, stop)
                training.train(
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

    # -- what training tells ----------------------------------------------------------------------

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
            self.show()
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
        found[training.group_key(run)].append(run)
    return sorted(found.values(), key=lambda group: len(group) * estimate.work(group[0]))
