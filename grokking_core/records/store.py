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
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from grokking_core.records import files
from grokking_core.records import shipped as packed
from grokking_core.records.files import Damaged, Meta, RecordWarning, StoreError
from grokking_core.records.shipped import KeptPack, Pack
from grokking_core.runs.keys import NUMERICS, key_of
from grokking_core.runs.record import COLUMNS, KEPT, Arrays, Record, utc_now
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory

KINDS = ("record", *KEPT, "checkpoint")
SUFFIX = ".safetensors"
LOCK = ".lock"  # a hidden file with nothing in it, see `sweep`
OURS = re.compile(rf"[0-9a-f]{{64}}\.({'|'.join(KINDS)})(?:-\d+)?\.safetensors")
PathLike = str | os.PathLike[str]


def default_folder() -> Path:
    """The user's records folder: GROKKING_RECORDS, or one in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    default = Path(cache) / "grokking-companion" / "records"
    return Path(os.environ.get("GROKKING_RECORDS") or default).expanduser()


def shipped_folder() -> Path:
    """Where shipped records lie: GROKKING_SHIPPED, or book/records beside the package."""
    beside = Path(__file__).parents[2] / "book" / "records"
    return Path(os.environ.get("GROKKING_SHIPPED") or beside).expanduser()


@dataclass(frozen=True)
class Entry:
    """A file in a records folder: its kind ("other" for what is not ours), and what is wrong."""

    path: Path
    kind: str
    size: int  # bytes
    modified: float = 0.0  # seconds since 1970
    trouble: str | None = None


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
        self.folder = Path(folder).expanduser() if folder else default_folder()
        self.shipped = Path(shipped).expanduser() if shipped else shipped_folder()
        file = next((p for p in (self.folder, *self.folder.parents) if p.is_file()), None)
        if file:
            raise ValueError(f"the records folder {self.folder} is to be a folder; {file} is a file")

    @cached_property
    def packs(self) -> list[Pack]:
        """The shipped records."""
        return packed.in_folder(self.shipped)

    @cached_property
    def kept_packs(self) -> list[KeptPack]:
        """What was kept of the shipped records."""
        return packed.kept_in_folder(self.shipped)

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
        since: str = "",
    ) -> Record | None:
        """What is on record of a run, up to an evaluation step `steps` or `stop_at`; else None.

        Parameters
        ----------
        keep : sequence of str
            Only with these, names out of `KEPT`, kept of the end, which the record then has.
        since : str
            Only what was trained at or after this date (UTC, ISO 8601).
        """
        for record in self._found(run, f"record-{steps}" if since or keep else None):
            part = record.until(steps, stop_at)
            if part is None or record.provenance["date"] < since:
                continue
            kept = {name: held[1] for name in keep if (held := self.kept(part, name, since))}
            if len(kept) == len(keep):
                return replace(part, kept=kept)
        return None

    def write(self, record: Record, asked: int | None = None) -> None:
        """Keep a record and what was kept of its end; a longer record stays as it is.

        Parameters
        ----------
        asked : int, optional
            Steps of a question with `since` or `keep`, which must find this record beside a longer one:
            that is older, or another machine's.

        Raises
        ------
        StoreError
            With the path and the reason.
        """
        self.write_kept(record)
        path = self.path(record.run, "record")
        known = self._own(record.run)
        if known is None or known.last_step <= record.last_step:
            files.write(path, files.to_bytes(*record_parts(record)))
        elif asked:
            files.write(self.path(record.run, f"record-{asked}"), files.to_bytes(*record_parts(record)))

    def write_kept(self, record: Record) -> None:
        """Keep what was kept of a record's end, a file a name.

        Raises
        ------
        StoreError
            With the path and the reason.
        """
        for name, arrays in record.kept.items():
            meta = _head(record.run, name) | {"weight_norm": _weight_norm(record), "date": utc_now()}
            files.write(self.path(record.run, f"{name}-{record.last_step}"), files.to_bytes(meta, arrays))

    def kept(self, record: Record, name: str, since: str = "") -> tuple[Meta, Arrays] | None:
        """What was kept of a record's end under a name, at or after a date; None where it is not there.

        The norm of the weights tells whether it is of this record, or of another machine's, whose numbers
        differ by rounding and what follows from it. Weights of earlier versions do not have the norm.
        """
        path = self.path(record.run, f"{name}-{record.last_step}")
        norm = _weight_norm(record)
        singles = (self._read(folder / path.name, record.run, name) for folder in (self.folder, self.shipped))
        shipped = (pack.get(path.name.removesuffix(SUFFIX)) for pack in self.kept_packs)
        for held in chain(singles, shipped):
            if held and held[0].get("weight_norm", norm) == norm and held[0].get("date", since) >= since:
                return held
        return None

    def check_writable(self) -> None:
        """Raise `StoreError`, with the path and the reason, where nothing can be written."""
        probe = self.folder / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
        files.write(probe, b"")
        probe.unlink(missing_ok=True)

    def _found(self, run: Run, beside: str | None) -> Iterator[Record]:
        for kind in ("record", beside) if beside else ("record",):
            held = self._read(self.path(run, kind), run, "record")
            if held:
                yield record_from(*held, run)
        for pack in self.packs:
            held = pack.get(key_of(run))
            if held is not None:
                yield record_from(*held, run)

    def _own(self, run: Run) -> Record | None:
        held = self._checked(self.path(run, "record"), run, "record")
        return record_from(*held, run) if held else None

    # -- checkpoints --------------------------------------------------------------------------------

    def write_checkpoint(self, trajectory: Trajectory) -> None:
        """Write what a run under way needs to go on, in the place of its checkpoint before.

        Raises
        ------
        StoreError
            With the path and the reason.
        """
        meta = _head(trajectory.run, "checkpoint")
        meta |= {"step": trajectory.step, "seconds": trajectory.seconds, "evaluation": trajectory.evaluation}
        meta |= {"date": utc_now()}
        rows = np.array(trajectory.rows, np.float64).reshape(-1, len(COLUMNS))
        arrays = {name: t.numpy() for name, t in trajectory.tensors.items()} | {"rows": rows}
        files.write(self.path(trajectory.run, "checkpoint"), files.to_bytes(meta, arrays))

    def checkpoint(self, run: Run, since: str = "") -> Trajectory | None:
        """A run as its checkpoint has it; None without one, or where it is from before a date."""
        held = self._read(self.path(run, "checkpoint"), run, "checkpoint")
        if held is None or held[0]["date"] < since:
            return None
        meta, arrays = held
        rows: list[tuple[float, ...]] = [(int(row[0]), *row[1:]) for row in arrays.pop("rows").tolist()]
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        evaluation = meta.get("evaluation", 1)
        return Trajectory(run, meta["step"], rows, meta["seconds"], tensors, evaluation)

    def checkpoint_step(self, run: Run) -> int:
        """Updates that a run's checkpoint has behind it, by the file's header alone; 0 without one."""
        meta = files.header(self.path(run, "checkpoint"))
        return int(meta.get("step", 0)) if meta.get("kind") == "checkpoint" else 0

    def forget(self, run: Run) -> None:
        """Remove a run's checkpoint, if there is one."""
        try:
            self.path(run, "checkpoint").unlink(missing_ok=True)
        except OSError as error:
            warnings.warn(f"a checkpoint was not removed: {error}", RecordWarning, stacklevel=2)

    # -- the folder as a whole ----------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """Every file of the user's folder but locks, by name, as its name has it; nothing is opened."""
        for path in sorted(self.folder.glob("*")) if self.folder.is_dir() else []:
            if path.name.endswith(LOCK):
                continue
            ours = OURS.fullmatch(path.name)
            kind = ours[1] if ours else "set aside" if ".damaged" in path.name else "other"
            if path.name.startswith("."):
                kind = "unfinished" if path.name.endswith((".tmp", ".going")) else "hidden"
            try:
                found = path.stat()
            except FileNotFoundError:  # another process was faster
                continue
            yield Entry(path, kind, found.st_size, found.st_mtime)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Files and bytes of each kind."""
        found: dict[str, tuple[int, int]] = {}
        for entry in self.entries():
            count, size = found.get(entry.kind, (0, 0))
            found[entry.kind] = count + 1, size + entry.size
        return found

    def verify(self) -> Iterator[Entry]:
        """Every file of ours, opened and checked, and every pack; nothing is moved or changed."""
        for entry in self.entries():
            if entry.kind in KINDS:
                yield replace(entry, trouble=_trouble(entry))
            elif entry.kind == "other":
                yield replace(entry, trouble="not one of our files")
        for kind, paths in (("pack", packed.paths), ("kept pack", packed.kept_paths)):
            for path in paths(self.shipped):
                for trouble in packed.troubles(path) or [None]:
                    yield Entry(path, kind, path.stat().st_size, trouble=trouble)

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

    def _read(self, path: Path, run: Run | None = None, kind: str = "record") -> tuple[Meta, Arrays] | None:
        """A checked file's content; None, with a warning, where it cannot be had."""
        try:
            return self._checked(path, run, kind)
        except StoreError as error:
            warnings.warn(str(error), RecordWarning, stacklevel=3)
            return None

    def _checked(self, path: Path, run: Run | None, kind: str = "record") -> tuple[Meta, Arrays] | None:
        held = files.read(path)
        if held is None:
            return None
        trouble = mismatch(path, held[0], kind)
        if trouble is None and run and key_of(run) != key_of(held[0]["run"]):
            trouble = "it is of another run"
        if trouble:
            files.set_aside(path, trouble)
            return None
        return held


# -------------------------------------------------------------------------------------------------
# What is in a file


def _head(run: Run, kind: str) -> Meta:
    return {"kind": kind, "numerics": NUMERICS, "run": run.identity()}


def record_parts(record: Record) -> tuple[Meta, Arrays]:
    """A record without what was kept of its end, as plain values and arrays."""
    meta = _head(record.run, "record")
    meta |= {"diverged_at": record.diverged_at, "provenance": record.provenance}
    return meta, {name: record.curve[name].to_numpy() for name in COLUMNS}


def record_from(meta: Meta, arrays: Arrays, run: Run | None = None) -> Record:
    """The inverse of `record_parts`; `run` spares making it again."""
    return Record(
        run=run or Run(**meta["run"]),
        curve=pd.DataFrame({name: arrays[name] for name in COLUMNS}),
        diverged_at=meta["diverged_at"],
        provenance=meta["provenance"],
    )


def _weight_norm(record: Record) -> float | None:
    """Norm of the weights at a record's end; None where it is not finite."""
    norm = float(record.curve["weight_norm"].iloc[-1])
    return norm if math.isfinite(norm) else None


def mismatch(path: Path, meta: Meta, kind: str) -> str | None:
    """How a readable file is not the one that its name promises; None if it is."""
    key = path.name.split(".")[0]
    if meta.get("kind") != kind:
        return f"a {meta.get('kind')} under the name of a {kind}"
    if key_of(meta["run"], meta["numerics"]) != key:
        return "it belongs to another run than its name says"
    return None


def _trouble(entry: Entry) -> str | None:
    try:
        meta, _ = files.from_bytes(entry.path.read_bytes())
    except (Damaged, OSError) as error:
        return str(error)
    return mismatch(entry.path, meta, entry.kind)
