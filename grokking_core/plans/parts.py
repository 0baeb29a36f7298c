"""What is asked of runs: the parts of a plan, and several plans merged into one sweep."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from grokking_core.records.store import Store
from grokking_core.runs.keys import key_of
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.sweeps.question import Question, date_of
from grokking_core.sweeps.reading import Reading
from grokking_core.sweeps.sweeping import sweep


@dataclass(frozen=True, kw_only=True)
class Part:
    """Runs of which the same is asked; one that is named twice counts once."""

    runs: tuple[Run, ...]
    steps: int  #: optimizer updates
    stop_at: float | None = None  #: validation accuracy in (0, 1] that ends a run
    keep: tuple[str, ...] = ()  #: names in record.KEPT: what the records must have of the end
    watch: tuple[str, ...] = ()  #: names in probes.PROBES: what is watched along the way
    watch_every: int | None = None  #: updates after which probes look between evaluations
    goes_on: bool = False  #: later parts follow these runs further: their checkpoints stay

    def __post_init__(self) -> None:
        """Take every run once: a seed, or a share, named twice is no second sample."""
        object.__setattr__(self, "runs", tuple(dict.fromkeys(self.runs)))

    @property
    def asks(self) -> dict[str, Any]:
        """What the records must have beside a curve, as `sweep` is asked for it."""
        return {"keep": self.keep, "watch": self.watch, "watch_every": self.watch_every}


@dataclass(frozen=True)
class Plan:
    """What a figure asks, in parts."""

    parts: tuple[Part, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of all parts, each once."""
        return tuple(dict.fromkeys(run for part in self.parts for run in part.runs))

    def sweep(self, **options: Any) -> Records:
        """Records of all parts; what is not on record is trained, with `sweep`'s options.

        Under `make book`, which trains what all notebooks ask for before it executes them, they are read.
        """
        if since := os.environ.get("GROKKING_TRAINED_SINCE"):
            return self.read(options.get("store"), date_of("GROKKING_TRAINED_SINCE", since))
        return self._joined(
            sweep(part.runs, part.steps, part.stop_at, **part.asks, keep_checkpoints=part.goes_on, **options)
            for part in self.parts
        )

    def read(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        trained_since: str = "",
        fresh: bool | None = None,
    ) -> Records:
        """What is on record of it; the other runs are in `missing`. Nothing is trained.

        Parameters
        ----------
        store : Store or path, optional
            By default the user's own and the shipped records.
        trained_since : str
            Runs from this date on (UTC, ISO 8601) count as trained.
        fresh : bool, optional
            As for `sweep`; False: records of any date count.
        """
        store = store if isinstance(store, Store) else Store(store)
        parts = []
        for part in self.parts:
            reading = Reading(Question.of(part.steps, part.stop_at, **part.asks, fresh=fresh), store)
            reading.read(part.runs)
            parts.append(reading.records(part.runs))
        records = self._joined(parts)
        if trained_since:
            new = {key_of(r.run) for r in records if r.provenance["date"] >= trained_since}
            records.trained |= new & records.read
            records.read -= records.trained
        return records

    def _joined(self, answers: Iterable[Records]) -> Records:
        """The parts' answers as one; what was asked is how far runs are followed in the end."""
        answers = list(answers)
        ends = [
            asked
            for part, records in zip(self.parts, answers, strict=True)
            if not part.goes_on
            for asked in records.asked
        ]
        records = Records.joined(answers)
        records.asked = tuple(dict.fromkeys(ends))
        return records


End = tuple[int, float | None]  #: of a question: steps, and the validation accuracy at which a run ends early
Asked = dict[End, tuple[str, ...]]  #: what is to be kept, by the end of the question
Watch = dict[Run, tuple[tuple[str, ...], int | None]]  #: what is to be watched of a run, and how often


def merged(plans: Iterable[Plan]) -> list[Part]:
    """The parts to sweep one after the other so that no run is trained twice for different figures.

    First come the runs that go on: each is asked in the order in which it comes to the ends of all questions
    about it. Of the others the longest questions come first, those without a stop rule before those with:
    they answer the others. What is watched of a run for one question is watched for all.
    """
    parts = [part for plan in plans for part in plan.parts]
    asked: dict[Run, Asked] = {}
    watch: Watch = {}
    for part in parts:
        for run in part.runs:
            of_run, end = asked.setdefault(run, {}), (part.steps, part.stop_at)
            of_run[end] = tuple(dict.fromkeys((*of_run.get(end, ()), *part.keep)))
            names, every = watch.get(run, ((), None))
            every = math.gcd(every or 0, part.watch_every or 0) or None
            watch[run] = tuple(dict.fromkeys((*names, *part.watch))), every
    going = {run for part in parts if part.goes_on for run in part.runs}
    stages = ((run, *stage) for run in asked if run in going for stage in _stages(asked[run]))
    ends = ((run, *end, asked[run][end], False) for run in asked if run not in going for end in asked[run])
    first, others = _alike(stages, watch), _alike(ends, watch)
    first.sort(key=lambda part: (_height(part.stop_at), part.steps))
    others.sort(key=lambda part: (-_height(part.stop_at), -part.steps))
    return first + others


def _alike(asked: Iterable[tuple[Run, int, float | None, tuple[str, ...], bool]], watch: Watch) -> list[Part]:
    """A part for all the runs of which the same is asked."""
    runs: dict[tuple[Any, ...], list[Run]] = {}
    for run, *of_run in asked:
        runs.setdefault((*of_run, *watch[run]), []).append(run)
    names = ("steps", "stop_at", "keep", "goes_on", "watch", "watch_every")
    return [Part(runs=tuple(found), **dict(zip(names, key, strict=True))) for key, found in runs.items()]


def _height(stop_at: float | None) -> float:
    """A stop rule as a number: a run comes to those that are lower first, and to None never."""
    return math.inf if stop_at is None else stop_at


def _stages(asked: Asked) -> Iterator[tuple[int, float | None, tuple[str, ...], bool]]:
    """What to ask of one run so that it never has to go back: steps, stop_at, keep, whether it goes on.

    A run ends at `min(steps, step of stop_at)`, and the latter is not known before. So it is followed by the
    lowest stop rule through all steps that are asked for by this one or by a higher one, keeping what they
    keep; then by the next one, which it answers as far as it goes. So no end comes before one that is behind.
    """
    stages = []
    for stop_at in sorted({stop_at for _, stop_at in asked}, key=_height):
        reach = {end: keep for end, keep in asked.items() if _height(end[1]) >= _height(stop_at)}
        for steps in sorted({steps for steps, _ in reach}):
            keep = [name for end, names in reach.items() if end[0] == steps for name in names]
            stages.append((steps, stop_at, tuple(dict.fromkeys(keep))))
    for i, stage in enumerate(stages, start=1):
        yield *stage, i < len(stages)
