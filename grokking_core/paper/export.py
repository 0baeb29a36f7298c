"""Records for others: tidy tables for other tools, packs for shipping."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from grokking_core.plans import Plan
from grokking_core.probes import PROBES
from grokking_core.records import files
from grokking_core.records import shipped as packs
from grokking_core.records.contents import record_parts
from grokking_core.records.files import Damaged, Meta, StoreError
from grokking_core.records.store import Store, step_of
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import KEPT, LEARNED, Arrays, Record

THRESHOLDS = (0.95, LEARNED)
KEY_LENGTH = 12  #: digits of a key, in tables
SIDES = ("train", "validation", "unmirrored")


def write(records: Iterable[Record], folder: Path, kind: str = "csv") -> Iterator[tuple[Path, int]]:
    """Write the tables `curves`, a row an evaluation, and `milestones`, a row a run; yields paths and rows.

    Parameters
    ----------
    kind : {"csv", "parquet"}

    Raises
    ------
    StoreError
        If the folder cannot be written.
    """
    records = list(records)
    tables = {"curves": curves(records), "milestones": milestones(records)}
    for name, table in tables.items():
        path = Path(folder) / f"{name}.{kind}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path, index=False)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
        yield path, len(table)


def curves(records: Sequence[Record]) -> pd.DataFrame:
    """Every evaluation of every run, with the fields of the run."""
    return pd.concat([record.curve.assign(**_fields(record)) for record in records] or [pd.DataFrame()])


def milestones(records: Sequence[Record]) -> pd.DataFrame:
    """One row a run: first and sustained steps to 95 % and 99 %, missing where they were not reached."""
    rows = []
    for record in records:
        row = _fields(record) | {"last_step": record.last_step, "diverged_at": record.diverged_at}
        for side in SIDES:
            for threshold in THRESHOLDS:
                name = f"{side}_{threshold:.0%}".rstrip("%")
                row[f"{name}_first"] = record.steps_to(threshold, side)
                row[f"{name}_sustained"] = record.steps_to(threshold, side, sustained=True)
        rows.append(row | {f"provenance_{name}": value for name, value in record.provenance.items()})
    table = pd.DataFrame(rows)
    steps = [c for c in table if str(c).endswith(("_first", "_sustained", "diverged_at"))]
    return table.astype(dict.fromkeys(steps, "Int64"))


def _fields(record: Record) -> dict[str, Any]:
    fields = record.run.identity()
    first, second = fields.pop("betas")
    fields |= {"beta1": first, "beta2": second}
    # "full" and numbers in one column are text to every tool
    return {"key": key_of(record.run)[:KEY_LENGTH]} | fields | {"batch_size": str(fields["batch_size"])}


def pack(
    store: Store, path: Path, plans: Sequence[Plan], *, weights: bool = False, begun: bool = False
) -> tuple[int, int]:
    """Add a user's records to a pack, those of some plans or all; returns its records and its bytes.

    What the pack holds stays in it, but for shorter records of the same runs. What was kept of the ends of
    these records, but for weights, and what was watched, goes into one file beside the pack, and stays there
    likewise.

    Parameters
    ----------
    weights : bool
        Whether kept weights of these runs are copied into the pack's folder.
    begun : bool
        Whether checkpoints of runs under way are copied there too, from which any machine goes on that has
        the pack; those of runs that the pack has as far are removed.

    Raises
    ------
    StoreError
        If the pack is there and cannot be read, or cannot be written.
    """
    own = Store(store.folder, store.folder)  # without the shipped ones
    found, merged = list(_own(own, plans)), _held(path, packs.Pack)
    size = _pack_kept(own, path.with_suffix(".kept.safetensors"), found)
    for record in found:
        key, (meta, arrays) = key_of(record.run), record_parts(record)
        if key not in merged or merged[key][1]["step"][-1] <= record.last_step:
            merged[key] = meta, arrays
    size += packs.write(path, ((key, meta, arrays) for key, (meta, arrays) in merged.items()))
    for record in found if weights else ():
        name = store.path(record.run, f"weights-{record.last_step}").name
        if (store.folder / name).exists():
            shutil.copyfile(store.folder / name, path.parent / name)
    if begun:
        asked = {key_of(run) for plan in plans for run in plan.runs} if plans else None
        _copy_begun(own, path.parent, asked)
        _remove_overtaken(path.parent, {key: int(arrays["step"][-1]) for key, (_, arrays) in merged.items()})
    return len(merged), size


def _copy_begun(own: Store, folder: Path, asked: set[str] | None) -> None:
    """Copy the checkpoints of runs, by key, or of all, where a pack's folder has none that is as far."""
    for entry in own.entries():
        there = folder / entry.path.name
        wanted = entry.kind == "checkpoint" and (asked is None or there.name[:64] in asked)
        if wanted and step_of(entry.path) > step_of(there):
            files.write(there, entry.path.read_bytes())


def _remove_overtaken(folder: Path, followed: Mapping[str, int]) -> None:
    """Remove checkpoints from a pack's folder that its records, here their last steps, have overtaken."""
    for entry in Store(folder, folder).entries():
        key = entry.path.name[:64]
        if entry.kind == "checkpoint" and step_of(entry.path) <= followed.get(key, -1):
            entry.path.unlink(missing_ok=True)


def _own(own: Store, plans: Sequence[Plan]) -> Iterator[Record]:
    """The records that answer the plans' parts, with what is kept of their ends where that is there."""
    if not plans:
        yield from own.records()
    for part in (part for plan in plans for part in plan.parts):
        found = Plan((replace(part, keep=tuple(_small(part.keep))),)).read(own, fresh=False)
        yield from found
        if found.missing:
            bare = replace(part, runs=tuple(found.missing), keep=(), watch=(), watch_every=None)
            yield from Plan((bare,)).read(own, fresh=False)


def _pack_kept(own: Store, path: Path, records: Sequence[Record]) -> int:
    """Add what was kept of the ends of records, and watched, to a file of it; its bytes, or 0."""
    merged = _held(path, packs.KeptPack)
    for record in records:
        for name in _small(KEPT):
            held = own.kept(record, name)
            if held:
                merged[f"{key_of(record.run)}.{name}-{record.last_step}"] = held
        for name in PROBES:
            for held in own.watched_files(record, name):
                merged[f"{key_of(record.run)}.watched-{name}"] = held
    return packs.write_kept(path, ((name, *held) for name, held in merged.items())) if merged else 0


def _small(names: Iterable[str]) -> list[str]:
    """What is packed of what was kept."""
    return [name for name in names if name != "weights"]


def _held(path: Path, kind: type[packs.Pack | packs.KeptPack]) -> dict[str, tuple[Meta, Arrays]]:
    if not path.exists():
        return {}
    try:
        held = kind(path)
        return {name: held.checked(name) for name in held.rows}
    except Damaged as error:
        raise StoreError(f"{path}: {error}; nothing was written") from error
