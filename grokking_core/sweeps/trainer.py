"""`Trainer`: the runs of a question that have no answer are trained on one device."""

from __future__ import annotations

import platform
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from grokking_core import devices, training
from grokking_core._streams import say
from grokking_core.records import files
from grokking_core.records.store import LOCK
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import Record, is_finite
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.sweeps import estimate
from grokking_core.sweeps.progress import Bar, looked_through
from grokking_core.sweeps.reading import Reading
from grokking_core.sweeps.writing import Writing
from grokking_core.weights import ends

Stops = Callable[[], bool]  #: asked again and again; once it says true, training ends


@dataclass(frozen=True, kw_only=True)
class Options:
    """How runs are trained; nothing here changes a number of theirs."""

    device: str | None = None  #: None: CUDA if it is there, else the CPU
    width: int | None = None  #: runs at a time; None: what the device does best
    checkpoint_seconds: float | None = None  #: between two checkpoints; None: 60 on a CPU, 300 on a GPU
    progress: bool = True  #: whether to show an estimate and a bar

    @property
    def trains_on(self) -> str:
        """The device, where none is named the best one here."""
        return self.device or devices.default_device()


class Trainer:
    """Trains what a reading has left, and writes it."""

    def __init__(self, reading: Reading, writing: Writing, options: Options):
        self.reading, self.writing, self.options = reading, writing, options
        self.question, self.store = reading.question, reading.store
        self.device = options.trains_on
        self.bar = Bar(0, self.question.steps, disable=True)

    def train_in_turn(self, stop: Stops) -> None:
        """Train what is left, once no other process trains on this device for the same records."""
        reading, store = self.reading, self.store
        self.compute(reading.left.values(), stop)
        if not reading.left:
            return
        self.check()
        others = f"another process trains on {self.device} for {store.folder}"
        name = f".training-{device_name(self.device)}{LOCK}"
        waits = files.locked(
            store.folder / name, stop, lambda: say(f"{others}: waiting, to read what it has trained")
        )
        with waits as waited:
            if waited:
                reading.read(list(reading.left.values()))
            if reading.left and not stop():
                if self.options.progress and not self.question.keep_checkpoints:  # else a stage of the way
                    estimate.announce(reading, self.device)
                self.train(stop)

    def check(self) -> None:
        """Raise, or warn, now of what would fail after training."""
        ends.prepare(self.question.keep)
        for run in self.reading.left.values():
            devices.check_precision(run, torch.device(self.device))
        self.writing.check()

    def compute(self, runs: Iterable[Run], stop: Stops) -> None:
        """Answer what weights on record answer, once what else is to be kept is computed from them."""
        question, store = self.question, self.store
        if not set(question.keep) - {"weights"}:
            return
        what = "computing from weights on record"
        for run in looked_through(runs, what, disable=not self.options.progress):
            record = None
            if not stop():
                record = replace(question, keep=("weights",)).read(store, run)
            if record is None:
                continue
            has = ((name, store.kept(record, name, question.since)) for name in question.keep)
            known = {name: held[1] for name, held in has if held}
            missing = [name for name in question.keep if name not in known]
            new = ends.measure(missing, run, torch.from_numpy(record.kept["weights"]["parameters"]))
            self.reading.take(replace(record, kept=known | new), was_read=True)
            self.writing.write_end(replace(record, kept=new))

    def train(self, stop: Stops) -> None:
        """Train what is left; on a GPU group by group."""
        on_gpu, trained_together = self.device.startswith("cuda"), groups(self.reading.left.values())
        if not on_gpu:
            trained_together = [[run for group in trained_together for run in group]]
        seconds = self.options.checkpoint_seconds
        self.bar = Bar(len(self.reading.left), self.question.steps, disable=not self.options.progress)
        self._show()
        try:
            for runs in trained_together:
                if stop():
                    break
                training.train(
                    self.start(runs, stop),
                    steps=self.question.steps,
                    stop_at=self.question.stop_at,
                    listener=self._listener(),
                    device=self.device,
                    width=self.options.width,
                    checkpoint_seconds=(300.0 if on_gpu else 60.0) if seconds is None else seconds,
                    interrupted=stop,
                )
        finally:
            self.bar.close()
            self.writing.write_again()

    def start(self, runs: Sequence[Run], stop: Stops) -> list[Trajectory]:
        """Where the runs are: at a checkpoint, or at step 0; without those that have an answer by now."""
        reading, question = self.reading, self.question
        reading.read(runs)  # another process may have trained them meanwhile
        self.compute([run for run in runs if key_of(run) in reading.left], stop)
        trajectories = []
        for run in runs:
            if key_of(run) in reading.answers:
                continue
            trajectory = question.begin(run, self.store.checkpoint(run, question.since))
            past = question.past(trajectory, self.device)
            if past is None:
                trajectories.append(trajectory)
            elif question.keep and past.last_step != trajectory.step:
                trajectories.append(question.begin(run, None))  # the weights are no longer those of that step
            elif question.keep:
                reading.was_read.add(key_of(run))
                trajectories.append(trajectory)  # what is to be kept is computed
            else:
                self._answered(replace(past, parameters=None), was_read=True)
        self.bar.started(trajectories)
        return trajectories

    # -- what training reports ----------------------------------------------------------------------

    def _listener(self) -> training.Listener:
        return training.Listener(
            ended=self.ended,
            finish=self.finish,
            advanced=lambda trajectories: self.bar.advanced(trajectories),
            checkpoint=self.writing.write_checkpoints,
        )

    def finish(self, trajectory: Trajectory) -> None:
        """Compute what is to be kept of a run that has ended; called by a worker thread."""
        if trajectory.tensors:
            parameters = trajectory.tensors["parameters"]
            trajectory.kept = ends.measure(self.question.keep, trajectory.run, parameters)

    def ended(self, trajectory: Trajectory) -> None:
        """A run has ended, and what is kept of it is computed."""
        self.bar.ended(trajectory)
        written = self._answered(replace(trajectory.record(self.device), parameters=None))
        if self.question.keep_checkpoints:
            self.writing.write_checkpoints([trajectory])
        elif written:
            if trajectory.tensors and is_finite(trajectory.rows[-1]):  # a later question goes on from here
                self.store.write_finished(trajectory)
            self.store.forget(trajectory.run)

    def _answered(self, record: Record, was_read: bool = False) -> bool:
        """Take an answer and write it; whether it is on record now."""
        self.reading.take(record, was_read)
        written = self.writing.write(record)
        self._show()
        return written

    def _show(self) -> None:
        reading = self.reading
        self.bar.show(reading.answers.values(), len(reading.was_read), len(reading.left))


def device_name(device: str) -> str:
    """A device's name that no other has, on this machine or on others; letters, digits and - only."""
    name = f"{platform.node()}-{torch.device(device).type}"
    if name.endswith("-cuda"):
        card = torch.cuda.get_device_properties(device)
        name += f"-{getattr(card, 'uuid', device)}"  # its number is another elsewhere
    return re.sub(r"[^0-9A-Za-z]+", "-", name)


def groups(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that can be trained in one ensemble, the cheapest group first so that results come early."""
    found: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        found[training.group_key(run)].append(run)
    return sorted(found.values(), key=lambda group: len(group) * estimate.work(group[0]))
