"""What a sweep shows while it trains."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tqdm import tqdm

from grokking_core._streams import Forgiving
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import LEARNED, Record
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory


def looked_through(runs: Iterable[Run], what: str, disable: bool) -> Iterable[Run]:
    """The runs, with a bar if it takes long."""
    file: Any = Forgiving(sys.stderr)
    return tqdm(list(runs), desc=what, disable=disable, leave=False, delay=2.0, file=file)


class Bar:
    """One line: runs read, trained and left, steps a second, time left, runs that grokked."""

    def __init__(self, n_left: int, steps: int, disable: bool):
        self.steps, self.step = steps, dict[str, int]()
        file: Any = Forgiving(sys.stderr)
        self.bar = tqdm(
            total=n_left * steps,
            unit=" run-steps",
            unit_scale=True,
            disable=disable,
            leave=False,
            mininterval=0.5,
            file=file,
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
        grokked = sum(r.steps_to(LEARNED, "validation") is not None for r in answers)
        message = f"read {n_read}, trained {len(answers) - n_read}, left {n_left}, grokked {grokked}"
        self.bar.set_description_str(message)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()
