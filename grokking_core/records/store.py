"""Records on disk: what was trained is found again by what decides it.

A record is found by its key: a hash of every field of `Run` that decides the trajectory and of
`NUMERICS`. A user's own records are single files in a folder of theirs; the shipped ones are packed
(see `shipped`). What a user has trained wins over what was shipped, where it answers the question.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from grokking_core import _shipped
from grokking_core.records import contents, files, shipped
from grokking_core.records.contents import (
    head,
    parting,
    record_from,
    record_parts,
    watched_from,
    watched_parts,
    weight_norm,
)
from grokking_core.records.files import Damaged, Meta, RecordWarning, StoreError
from grokking_core.records.shipped import KeptPack, Pack
from grokking_core.runs.keys import NUMERICS, key_of
from grokking_core.runs.record import COLUMNS, KEPT, Arrays, Record, utc_now
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import ALWAYS_WATCHED, Trajectory, Watched

KINDS = ("record", *KEPT, "watched", "checkpoint", "finished")
SUFFIX = ".safetensors"
LONGEST_WAIT = 10.0  #: seconds for a process that writes a record, which may have been paused
LOCK = ".lock"  #: a hidden file with nothing in it, see `sweep`
OURS = re.compile(rf"[0-9a-f]{{64}}\.({'|'.join(KINDS)})(?:-\w+)?\.safetensors")
PathLike = str | os.PathLike[str]


def default_folder() -> Path:
    """The user's records folder: GROKKING_RECORDS, or one in the user's cache."""
    if named := os.environ.get("GROKKING_RECORDS"):
        return expanded(named)
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # no home folder
        raise ValueError(f"{error}: name a folder for records in GROKKING_RECORDS") from error
    return expanded(cache) / "grokking-companion" / "records"


def expanded(path: PathLike) -> Path:
    """A path with ~ replaced, where there is a home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error


def finished_bytes() -> float:
    """Bytes that checkpoints of finished runs may take: GROKKING_CHECKPOINTS_GB, 2 without it.

    Raises
    ------
    ValueError
        If it is not a number of at least 0.
    """
    asked = os.environ.get("GROKKING_CHECKPOINTS_GB") or "2"
    try:
        limit = 1e9 * float(asked)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise ValueError(f"GROKKING_CHECKPOINTS_GB={asked} must be a number of at least 0")
    return limit


def shipped_folder() -> Path:
    """Where shipped records lie: GROKKING_SHIPPED, or those of the project.

    Raises
    ------
    ValueError
        If GROKKING_SHIPPED is no folder.
    """
    named = os.environ.get("GROKKING_SHIPPED")
    if named and not expanded(named).is_dir():
        raise ValueError(f"GROKKING_SHIPPED={named} must be a folder with packs of records")
    return expanded(named or _shipped.folder_of("records"))


@dataclass(frozen=True)
class Entry:
    """A file in a records folder: its kind ("other" for what is not ours), and what is wrong."""

    path: Path
    kind: str
    size: int  #: bytes
    modified: float = 0.0  #: seconds since 1970
    trouble: str | None = None
    note: str | None = None  #: what a reader may want to know, and is nothing wrong


class Store:
    """A user's records, with the shipped ones behind them.

    Parameters
    ----------
    folder : path, optional
        Made when the first record is written; `default_folder()` without it.
    shipped : path, optional
        Where packs lie, and beside them what was kept; `shipped_folder()` without it. May be absent.

    Raises
    ------
    ValueError
        If `folder` is a file.
    """

    def __init__(self, folder: PathLike | None = None, shipped: PathLike | None = None):
        self.folder = expanded(folder) if folder else default_folder()
        self.shipped = expanded(shipped) if shipped else shipped_folder()
        file = next((p for p in (self.folder, *self.folder.parents) if p.exists() and not p.is_dir()), None)
        if file:
            raise ValueError(f"the records folder {self.folder} is to be a folder; {file} is a file")

    @cached_property
    def packs(self) -> list[Pack]:
        """The shipped records."""
        return shipped.in_folder(self.shipped)

    @cached_property
    def kept_packs(self) -> list[KeptPack]:
        """What was kept of the shipped records."""
        return shipped.kept_in_folder(self.shipped)

    def path(self, run: Run, kind: str) -> Path:
        """The file of a run in the user's folder."""
        return self.folder / f"{key_of(run)}.{kind}{SUFFIX}"

    # -- records ------------------------------------------------------------------------------------

    def answer(
        self,
        run: Run,
        steps: int,
        stop_at: float | None = None,
        *,
        keep: Sequence[str] = (),
        watch: Sequence[str] = (),
        watch_every: int | None = None,
        since: str = "",
    ) -> Record | None:
        """What is on record of a run, up to an evaluation step `steps` or `stop_at`; else None.

        Parameters
        ----------
        keep : sequence of str
            Only with these, names out of `KEPT`, kept of the end, which the record then has.
        watch : sequence of str
            Only with what these probes saw, which the record then has.
        watch_every : int, optional
            Only with rows after every so many updates, too.
        since : str
            Only what was trained at or after this date (UTC, ISO 8601).
        """
        for record in self._found(run, f"record-{steps}" if since or keep or watch else None):
            part = record.until(steps, stop_at)
            if part is None or record.provenance["date"] < since:
                continue
            kept = {name: held[1] for name in keep if (held := self.kept(part, name, since))}
            seen = ((name, self.watched(part, name, watch_every, since)) for name in watch)
            watched = {name: frame for name, frame in seen if frame is not None}
            if len(kept) == len(keep) and len(watched) == len(watch):
                return replace(part, kept=kept, watched=watched)
        return None

    def write(self, record: Record, asked: int | None = None, since: str = "") -> None:
        """Keep a record, what was kept of its end and what was watched; a longer record stays as it is.

        Parameters
        ----------
        asked : int, optional
            Steps of a question with `since`, `keep` or `watch`, which must find this record beside a longer
            one: that is older, or another machine's.
        since : str
            What was watched before this date does not count.

        Raises
        ------
        StoreError
            With the path and the reason.
        """
        self.write_kept(record)
        self.write_watched(record, since)
        path = self.path(record.run, "record")
        deadline = time.monotonic() + LONGEST_WAIT
        late = lambda: time.monotonic() > deadline  # noqa: E731
        with files.locked(self.folder / f".records{LOCK}", late, poll_seconds=0.005):
            known = self._own(record.run)
            longer = known is not None and known.last_step > record.last_step
            if not longer:
                files.write(path, files.to_bytes(*record_parts(record)))
        if longer and asked:
            files.write(self.path(record.run, f"record-{asked}"), files.to_bytes(*record_parts(record)))

    def write_kept(self, record: Record) -> None:
        """Keep what was kept of a record's end, a file a name.

        Raises
        ------
        StoreError
            With the path and the reason.
        """
        for name, arrays in record.kept.items():
            meta = head(record.run, name) | {"weight_norm": weight_norm(record), "date": utc_now()}
            meta["step"] = record.last_step
            files.write(self.path(record.run, f"{name}-{record.last_step}"), files.to_bytes(meta, arrays))

    def kept(self, record: Record, name: str, since: str = "") -> tuple[Meta, Arrays] | None:
        """What was kept of a record's end under a name, at or after a date; None where it is not there.

        The norm of the weights tells whether it is of this record, or of another machine's, whose numbers
        differ by rounding and what follows from it. Weights of earlier versions do not have the norm.
        """
        path = self.path(record.run, f"{name}-{record.last_step}")
        norm = weight_norm(record)
        singles = (self._read(folder / path.name) for folder in (self.folder, self.shipped))
        packed = (pack.get(path.name.removesuffix(SUFFIX)) for pack in self.kept_packs)
        for held in chain(singles, packed):
            if held and held[0].get("weight_norm", norm) == norm and held[0].get("date", since) >= since:
                return held
        return None

    def write_watched(self, record: Record, since: str = "") -> None:
        """Write what probes saw, a file a probe; one with more rows of the same run stays as it is.

        Raises
        ------
        StoreError
            With the path and the reason.
        """
        for name, frame in record.watched.items():
            path = self.path(record.run, f"watched-{name}")
            held = self._read(path)
            if held and held[0]["date"] >= since and len(held[1]["step"]) > len(frame):
                here = np.isin(held[1]["step"], frame["step"])
                if np.array_equal(held[1]["weight_norm"][here], frame["weight_norm"], equal_nan=True):
                    continue
            files.write(path, files.to_bytes(*watched_parts(record.run, name, frame)))

    def watched(
        self, record: Record, name: str, every: int | None = None, since: str = ""
    ) -> pd.DataFrame | None:
        """What a probe saw of a record's run to its end, at or after a date; None where it is not there."""
        for held in self.watched_files(record, name):
            frame = watched_from(*held, record, every) if held[0]["date"] >= since else None
            if frame is not None:
                return frame
        return None

    def watched_files(self, record: Record, name: str) -> Iterator[tuple[Meta, Arrays]]:
        """Every file of what a probe saw of a record's run, also of another machine's."""
        path = self.path(record.run, f"watched-{name}")
        singles = (self._read(folder / path.name) for folder in (self.folder, self.shipped))
        packed = (pack.get(path.name.removesuffix(SUFFIX)) for pack in self.kept_packs)
        yield from (held for held in chain(singles, packed) if held)

    def check_writable(self) -> None:
        """Raise `StoreError`, with the path and the reason, where nothing can be written."""
        probe = self.folder / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
        files.write(probe, b"")
        with contextlib.suppress(OSError):  # `clean` removes it
            probe.unlink(missing_ok=True)

    def _found(self, run: Run, beside: str | None) -> Iterator[Record]:
        for kind in ("record", beside) if beside else ("record",):
            held = self._read(self.path(run, kind))
            if held:
                yield record_from(*held, run)
        for pack in self.packs:
            held = pack.get(key_of(run))
            if held is not None:
                yield record_from(*held, run)

    def _own(self, run: Run) -> Record | None:
        held = _checked(self.path(run, "record"))
        return record_from(*held, run) if held else None

    # -- checkpoints --------------------------------------------------------------------------------

    def write_checkpoint(self, trajectory: Trajectory, kind: str = "checkpoint") -> None:
        """Write what a run under way needs to go on, in the place of its checkpoint before.

        Raises
        ------
        StoreError
            With the path and the reason.
        """
        meta = head(trajectory.run, kind)
        meta |= {"step": trajectory.step, "seconds": trajectory.seconds, "evaluation": trajectory.evaluation}
        meta |= {"date": utc_now(), "watch_every": trajectory.watch_every}
        meta["watched"] = {name: list(seen.columns) for name, seen in trajectory.watched.items()}
        rows = np.array(trajectory.rows, np.float64).reshape(-1, len(COLUMNS))
        arrays = {name: t.numpy() for name, t in trajectory.tensors.items()} | {"rows": rows}
        for name, seen in trajectory.watched.items():
            width = len(ALWAYS_WATCHED) + len(seen.columns)
            arrays[f"watched {name}"] = np.array(seen.rows, np.float64).reshape(-1, width)
            if seen.state is not None:
                arrays[f"state {name}"] = seen.state.numpy()
        files.write(self.path(trajectory.run, kind), files.to_bytes(meta, arrays))

    def checkpoint(self, run: Run, since: str = "") -> Trajectory | None:
        """A run as its furthest checkpoint has it, the user's or a shipped one; None without one.

        Parameters
        ----------
        since : str
            Date before which a checkpoint does not count.
        """
        held = None
        for path in sorted(self._checkpoints(run), key=step_of, reverse=True):
            held = self._read(path)
            if held is not None and held[0]["date"] >= since:
                break
        else:
            return None
        meta, arrays = held
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        watched = {}
        for name, columns in meta.get("watched", {}).items():
            seen = _rows(tensors.pop(f"watched {name}"))
            watched[name] = Watched(tuple(columns), seen, tensors.pop(f"state {name}", None))
        return Trajectory(
            run,
            meta["step"],
            _rows(tensors.pop("rows")),
            meta["seconds"],
            tensors,
            meta.get("evaluation", 1),
            watched=watched,
            watch_every=meta.get("watch_every"),
        )

    def checkpoint_step(self, run: Run, since: str = "") -> int:
        """Updates that a run's checkpoint has behind it, by the file's header alone; 0 without one.

        Parameters
        ----------
        since : str
            Date before which a checkpoint does not count, as in `checkpoint`.
        """
        return max(step_of(path, since) for path in self._checkpoints(run))

    def _checkpoints(self, run: Run) -> list[Path]:
        """Where a run's checkpoints are if there are any."""
        own = [self.path(run, kind) for kind in ("checkpoint", "finished")]
        return [*own, self.shipped / own[0].name]

    def write_finished(self, trajectory: Trajectory) -> None:
        """Write what it takes to follow a run further that has ended, and remove the oldest beyond the limit.

        Nothing needs it: where it cannot be written, it is not there.
        """
        limit = finished_bytes()
        if limit <= 0:
            return
        with contextlib.suppress(StoreError, OSError):
            self.write_checkpoint(trajectory, "finished")
            paths = [p for p in os.scandir(self.folder) if p.name.endswith(f".finished{SUFFIX}")]
            total = 0
            for path in sorted(paths, key=lambda p: p.stat().st_mtime, reverse=True):
                total += path.stat().st_size
                if total > limit:
                    Path(path).unlink(missing_ok=True)

    def forget(self, run: Run) -> None:
        """Remove a run's checkpoint, if there is one."""
        try:
            self.path(run, "checkpoint").unlink(missing_ok=True)
        except OSError as error:
            warnings.warn(f"a checkpoint was not removed: {error}", RecordWarning, stacklevel=2)

    # -- the folder as a whole ----------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """Every file of the user's folder but locks, by name, as its name has it; nothing is opened."""
        return _entries(self.folder)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Files and bytes of each kind."""
        found: dict[str, tuple[int, int]] = {}
        for entry in self.entries():
            count, size = found.get(entry.kind, (0, 0))
            found[entry.kind] = count + 1, size + entry.size
        return found

    def verify(self) -> Iterator[Entry]:
        """Every file of ours, opened and checked, and every pack; nothing is moved or changed."""
        for entry in chain(self.entries(), (e for e in _entries(self.shipped) if e.kind in KINDS)):
            if entry.kind in KINDS:
                trouble = _trouble(entry.path)
                if trouble or entry.path.exists():  # else another process was faster
                    note = self._parting(entry) if entry.kind == "record" and not trouble else None
                    yield replace(entry, trouble=trouble, note=note)
            elif entry.kind == "other":
                yield replace(entry, trouble="not one of our files")
        for kind, paths in (("pack", shipped.paths), ("kept pack", shipped.kept_paths)):
            for path in paths(self.shipped):
                for trouble in shipped.troubles(path) or [None]:
                    yield Entry(path, kind, path.stat().st_size, trouble=trouble)

    def _parting(self, entry: Entry) -> str | None:
        """Where a user's record leaves the shipped one of the same run; None where it does not."""
        key = entry.path.name.split(".")[0]
        for pack in self.packs:
            held, own = pack.get(key), self._read(entry.path) if key in pack.rows else None
            step = parting(own[1], held[1]) if own and held else None
            if own and held and step is not None:
                n = [int(arrays["step"][-1]) for arrays in (own[1], held[1])]
                return (
                    f"parts at step {step:,} from {pack.path.name} (followed to {n[0]:,}, there to {n[1]:,})"
                )
        return None

    def records(self) -> Iterator[Record]:
        """Every readable record of this version, the user's and the shipped ones, the longest of a run."""
        best: dict[str, Record] = {}
        for key, held in self._all():
            try:
                record = record_from(*held)
            except (TypeError, ValueError) as error:
                warnings.warn(f"{key}: {error}", RecordWarning, stacklevel=2)
                continue
            if key not in best or record.last_step > best[key].last_step:
                best[key] = record
        yield from best.values()

    def newest(self, n: int = 100, *, own: bool = True) -> Iterator[Record]:
        """The user's own records that were written last, or shipped ones; what cannot be read is left out."""
        if own:
            entries = sorted(self.entries(), key=lambda entry: entry.modified, reverse=True)
            paths = islice((entry.path for entry in entries if entry.kind == "record"), n)
            found = (self._read(path) for path in paths)
        else:
            found = (pack.get(key) for pack in self.packs for key in pack.rows)
        for held in found:
            if held is not None:
                with contextlib.suppress(TypeError, ValueError):  # of another version
                    yield record_from(*held)

    def _all(self) -> Iterator[tuple[str, tuple[Meta, Arrays]]]:
        for entry in self.entries():
            if entry.kind == "record":
                held = self._read(entry.path)
                if held and held[0].get("numerics") == NUMERICS:
                    yield entry.path.name.split(".")[0], held
        for pack in self.packs:
            yield from ((key, held) for key in pack.rows if (held := pack.get(key)) is not None)

    # -- one file -----------------------------------------------------------------------------------

    def _read(self, path: Path) -> tuple[Meta, Arrays] | None:
        """A checked file's content; None, with a warning, where it cannot be had."""
        try:
            return _checked(path)
        except StoreError as error:
            warnings.warn(str(error), RecordWarning, stacklevel=3)
            return None


def step_of(path: Path, since: str = "") -> int:
    """Updates that a checkpoint has behind it, by its header; 0 without one, or from before a date."""
    said = files.header(path)
    step, date = said.get("step", 0), said.get("date", "")
    return step if isinstance(step, int) and isinstance(date, str) and date >= since else 0


def _rows(values: torch.Tensor) -> list[tuple[float, ...]]:
    return [(int(row[0]), *row[1:]) for row in values.tolist()]


def _entries(folder: Path) -> Iterator[Entry]:
    for path in files.listed(folder):
        if path.name.endswith(LOCK):
            continue
        ours = OURS.fullmatch(path.name)
        kind = ours[1] if ours else "set aside" if ".damaged" in path.name else "other"
        if path.name.startswith("."):
            kind = "unfinished" if path.name.endswith((".tmp", ".going")) else "hidden"
        try:
            found = path.stat()
            yield Entry(path, kind, found.st_size, found.st_mtime)
        except FileNotFoundError:  # another process was faster
            continue
        except OSError as error:
            yield Entry(path, kind, 0, trouble=f"cannot be read: {error.strerror or error}")


def _checked(path: Path) -> tuple[Meta, Arrays] | None:
    name = path.name.removesuffix(SUFFIX)
    return files.read(path, lambda meta, arrays: contents.check(name, meta, arrays))


def _trouble(path: Path) -> str | None:
    """What is wrong with a file of ours; None if nothing is, or it is gone."""
    try:
        meta, arrays = files.from_bytes(path.read_bytes())
        contents.check(path.name.removesuffix(SUFFIX), meta, arrays)
    except FileNotFoundError:
        return None
    except (Damaged, OSError) as error:
        return str(error)
    return None
