"""`Records`: the records of several runs, and what was asked for and is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from grokking_core.runs.keys import key_of
from grokking_core.runs.provenance import Provenance
from grokking_core.runs.record import Record
from grokking_core.runs.run import Run


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
    missing_steps : dict
        By run that is missing, the most updates that are asked of it.
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
        self.missing_steps: dict[Run, int] = {}
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
        for run, steps in (item for part in parts for item in part.missing_steps.items()):
            whole.missing_steps[run] = max(steps, whole.missing_steps.get(run, 0))
        missing = {key_of(run) for run in whole.missing}
        whole.trained = set[str]().union(*(part.trained for part in parts)) - missing
        whole.read = set[str]().union(*(part.read for part in parts)) - missing - whole.trained
        whole.unwritten = [record for part in parts for record in part.unwritten]
        whole.seconds = sum(part.seconds for part in parts)
        return whole

    @property
    def runs(self) -> list[Run]:
        """All runs that were asked for: those on record, then those that are missing."""
        return [*(record.run for record in self), *self.missing]

    def where(self, asks: Callable[[Run], bool]) -> Records:
        """The records of some of the runs, and those of these runs that are missing."""
        part = Records((record for record in self if asks(record.run)), asked=self.asked)
        part.missing = [run for run in self.missing if asks(run)]
        return part

    def with_kept(self, name: str) -> Records:
        """The records that have kept what is named; the others are missing."""
        part = Records((record for record in self if name in record.kept), asked=self.asked)
        part.missing = self.missing + [record.run for record in self if name not in record.kept]
        return part

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
