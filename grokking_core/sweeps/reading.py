"""`Reading`: which runs of a question have an answer on record, and which have none. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from grokking_core.records.store import Store
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.sweeps.question import Question


@dataclass
class Reading:
    """The runs of one question: those with an answer, and those without."""

    question: Question
    store: Store
    answers: dict[str, Record] = field(default_factory=dict)  #: by key
    left: dict[str, Run] = field(default_factory=dict)  #: by key
    was_read: set[str] = field(default_factory=set)  #: keys of the answers that were on record

    def read(self, runs: Iterable[Run]) -> None:
        """Answer from the records what can be answered; the others are left."""
        for run in runs:
            key = key_of(run)
            if key in self.answers:
                continue
            record = self.question.read(self.store, run)
            if record is None:
                self.left[key] = run
            else:
                self.take(record, was_read=True)

    def take(self, record: Record, was_read: bool = False) -> None:
        """Take an answer."""
        key = key_of(record.run)
        self.answers[key] = record
        self.left.pop(key, None)
        if was_read:
            self.was_read.add(key)

    def records(self, runs: Sequence[Run], seconds: float = 0.0) -> Records:
        """The answers in the order asked for; `seconds` is what the call took."""
        found = [(run, self.answers.get(key_of(run))) for run in runs]
        asked = [(self.question.steps, self.question.stop_at)]
        records = Records((replace(record, run=run) for run, record in found if record), asked=asked)
        records.missing = [run for run, record in found if record is None]
        records.missing_steps = dict.fromkeys(records.missing, self.question.steps)
        records.read, records.trained = self.was_read, set(self.answers) - self.was_read
        records.seconds = round(seconds, 3)
        return records
