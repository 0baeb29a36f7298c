"""What a sweep shows while it trains, and how it is told to stop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Collection, Sequence
from types import FrameType
from typing import Any

from tqdm import tqdm

from grokking_core.runs.keys import key_of
from grokking_core.runs.record import Record
from grokking_core.runs.trajectory import Trajectory

GROKKED = 0.99  # validation accuracy, of the bar's count


class Bar:
    """One line: runs read, trained and left, steps a second, time left, runs that grokked."""

    def __init__(self, n_left: int, steps: int, disable: bool):
        self.steps, self.step = steps, dict[str, int]()
        self.bar = tqdm(
            total=n_left * steps,
            unit=" run-steps",
            unit_scale=True,
            disable=disable,
            leave=False,
            mininterval=0.5,
            file=sys.stderr,
            bar_format="{desc} |{bar:16}| {percentage:3.0f} %, {rate_fmt}, {elapsed} < {remaining}",
        )

    def started(self, trajectories: Sequence[Trajectory]) -> None:
        """Runs begin, or go on."""
        for trajectory in trajectories:
            self.step[key_of(trajectory.run)] = trajectory.step
            self._less(trajectory.step)

    def advanced(self, trajectories: Sequence[Trajectory]) -> None:
        """Runs have made steps."""
        for trajectory in trajectories:
            key = key_of(trajectory.run)
            self.bar.update(trajectory.step - self.step.get(key, 0))
            self.step[key] = trajectory.step

    def ended(self, trajectory: Trajectory) -> None:
        """A run has ended, maybe early."""
        self._less(self.steps - trajectory.step)

    def found(self, record: Record) -> None:
        """A run that was trained elsewhere is on record."""
        self._less(self.steps - record.last_step)
        self.bar.update(record.last_step)

    def _less(self, steps: int) -> None:
        if self.bar.total is not None:
            self.bar.total -= steps

    def show(self, answers: Collection[Record], n_read: int, n_left: int) -> None:
        """Say how many runs are read, trained and left, and how many of them grokked."""
        if self.bar.disable:
            return
        grokked = sum(r.steps_to(GROKKED, "validation") is not None for r in answers)
        message = f"read {n_read}, trained {len(answers) - n_read}, left {n_left}, grokked {grokked}"
        self.bar.set_description_str(message)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


class Stop:
    """Whether to stop: the time is over, or Ctrl-C or SIGTERM has come. A second one stops at once."""

    def __init__(self, minutes: float | None):
        self.deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        self.signal: int | None = None
        self.before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None or time.monotonic() > self.deadline

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
