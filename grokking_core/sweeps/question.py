"""`Question`: what a sweep asks of each of its runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from grokking_core import probes
from grokking_core.records.store import Store
from grokking_core.runs import schedule
from grokking_core.runs.record import Record, utc_now
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory, Watched
from grokking_core.weights import ends

PROCESS_STARTED = utc_now()


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of each run."""

    steps: int  #: an evaluation step
    stop_at: float | None = None  #: validation accuracy in (0, 1]
    keep: tuple[str, ...] = ()  #: of the end, names out of record.KEPT
    watch: tuple[str, ...] = ()  # names out of probes.PROBES
    watch_every: int | None = None  # updates after which they look between evaluations
    keep_checkpoints: bool = False  #: whatever the limit of the disk: a later question goes on from there
    since: str = ""  #: trained at or after this date, UTC

    @classmethod
    def of(
        cls,
        steps: int,
        stop_at: float | None = None,
        *,
        keep: Sequence[str] = (),
        watch: Sequence[str] = (),
        watch_every: int | None = None,
        keep_checkpoints: bool = False,
        fresh: bool | None = None,
    ) -> Question:
        """What `sweep` is asked."""
        return cls(
            steps=schedule.last_step(steps),
            stop_at=stop_at,
            keep=ends.check(keep),
            watch=probes.check(watch, watch_every),
            watch_every=watch_every,
            keep_checkpoints=keep_checkpoints,
            since=_since(fresh),
        )

    def read(self, store: Store, run: Run) -> Record | None:
        """The answer that is on record."""
        watch = {"watch": self.watch, "watch_every": self.watch_every}
        return store.answer(run, self.steps, self.stop_at, keep=self.keep, since=self.since, **watch)

    def begin(self, run: Run, checkpoint: Trajectory | None) -> Trajectory:
        """Where to go on with a run: at its checkpoint, if that has all that is watched, else at step 0."""
        trajectory = checkpoint or Trajectory(run)
        every = trajectory.watch_every
        as_often = every == self.watch_every or (every and self.watch_every and self.watch_every % every == 0)
        if not self.watch:
            trajectory.watch_every = None
        elif not trajectory.watched.keys() >= {*self.watch} or not (as_often or self.watch_every is None):
            trajectory = Trajectory(run, watch_every=self.watch_every)
        trajectory.watched = {name: trajectory.watched.get(name, Watched()) for name in self.watch}
        return trajectory

    def past(self, trajectory: Trajectory, device: str) -> Record | None:
        """The answer that a run under way has come to, or gone past."""
        return trajectory.record(device).until(self.steps, self.stop_at) if trajectory.rows else None

    @property
    def beside_steps(self) -> int | None:
        """Steps, where the record must be found beside a longer one."""
        return self.steps if self.since or self.keep or self.watch else None


def _since(fresh: bool | None) -> str:
    """The date from which on records count; nothing is before the empty one.

    Raises
    ------
    ValueError
        If GROKKING_FRESH is none, or lies in the future.
    """
    asked = os.environ.get("GROKKING_FRESH", "").strip()
    if fresh is not None:
        return utc_now() if fresh else ""
    if asked in ("", "0", "1"):
        return PROCESS_STARTED if asked == "1" else ""
    return date_of("GROKKING_FRESH", asked, "1, 0 or a date")


def date_of(name: str, asked: str, allowed: str = "a date") -> str:
    """A date that an environment variable names, as records have it.

    Raises
    ------
    ValueError
        If it is none, or lies in the future.
    """
    try:
        date = datetime.fromisoformat(asked)
    except ValueError:
        raise ValueError(f"{name}={asked} must be {allowed} such as {utc_now()}") from None
    since = date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC).isoformat(timespec="milliseconds")
    if since > utc_now():
        raise ValueError(f"{name}={asked} lies in the future: nothing could be trained after it")
    return since
