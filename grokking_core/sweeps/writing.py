"""`Writing`: records and checkpoints of a sweep onto the disk, and what happens where that fails."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

from grokking_core.records.files import RecordWarning, StoreError
from grokking_core.records.store import Store
from grokking_core.runs.record import Record
from grokking_core.runs.trajectory import Trajectory
from grokking_core.sweeps.question import Question


@dataclass
class Writing:
    """What a sweep writes; one warning for all that cannot be written, or an error."""

    question: Question
    store: Store
    must_write: bool = False  #: whether what cannot be written is an error
    unwritten: list[Record] = field(default_factory=list)
    problem: str = ""  #: the first thing that could not be written, and why

    def check(self) -> None:
        """Warn now of a folder that cannot be written."""
        try:
            self.store.check_writable()
        except StoreError as error:
            self.failed(error)

    def write(self, record: Record) -> bool:
        """Put a record into the folder; whether it is there now."""
        try:
            self.store.write(record, self.question.beside_steps, self.question.since)
        except StoreError as error:
            self.unwritten.append(record)
            self.failed(error)
            return False
        return True

    def write_end(self, record: Record) -> None:
        """Put what is kept of a record's end into the folder."""
        try:
            self.store.write_kept(record)
        except StoreError as error:
            self.unwritten.append(record)
            self.failed(error)

    def write_checkpoints(self, trajectories: Sequence[Trajectory]) -> None:
        """Put runs under way into the folder."""
        try:
            for trajectory in trajectories:
                self.store.write_checkpoint(trajectory)
        except StoreError as error:
            self.failed(error)

    def failed(self, error: StoreError | str) -> None:
        """Warn of the first thing that cannot be written; training goes on, unless that is no use."""
        if self.must_write:
            raise StoreError(str(error))
        if not self.problem:
            self.problem = str(error)
            message = f"{error}; training goes on, and its results are in memory only"
            warnings.warn(message, RecordWarning, stacklevel=2)

    def write_again(self) -> None:
        """Try once more to write what could not be written."""
        for record in self.unwritten.copy():
            try:
                self.store.write(record, self.question.beside_steps, self.question.since)
            except StoreError:
                return
            self.unwritten.remove(record)
