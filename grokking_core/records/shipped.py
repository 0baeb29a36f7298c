"""Many records in one Parquet file, and what was kept of their ends in one file beside it: how they ship.

A row of the pack is a record: its key, one JSON text, a checksum over key, text and curve, and a
list for each column of the curve. Beside `laptop.parquet`, `laptop.kept.safetensors` has the single files
of a user's folder with what was kept of the ends and what was watched, compressed, under their names.
"""

from __future__ import annotations

import io
import json
import lzma
import warnings
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from safetensors import safe_open

from grokking_core.records import contents, files
from grokking_core.records.files import FORMAT, Damaged, Meta, RecordWarning, checksum
from grokking_core.runs.keys import canonical, key_of
from grokking_core.runs.record import COLUMNS, Arrays

REPEATING = ("step", "train_accuracy", "validation_accuracy", "unmirrored_accuracy")
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("key", "meta", "checksum")]
    + [(n, pa.list_(pa.int64() if n == "step" else pa.float64())) for n in COLUMNS]
)


class Pack:
    """A pack that was read.

    Attributes
    ----------
    rows : dict
        Row numbers by key.

    Raises
    ------
    Damaged
        If the file is not a pack.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            table = pq.read_table(path)
            if not table.schema.equals(SCHEMA):
                raise Damaged("not a pack of records: other columns")
            keys, self.meta, self.checksum = (_texts(table[name]) for name in ("key", "meta", "checksum"))
            table.select(COLUMNS).validate(full=True)
            self.columns = {name: _flat(table[name]) for name in COLUMNS}
        except Damaged:
            raise
        except Exception as error:  # whatever a parser says of bytes that are not ours
            raise Damaged(f"cannot be read as Parquet: {error}") from error
        self.rows = {key: row for row, key in enumerate(keys)}
        self.misnamed = [row for row, key in enumerate(keys) if _key_in(self.meta[row]) not in (key, None)]

    def get(self, key: str) -> tuple[Meta, Arrays] | None:
        """A record's parts; None where it is not there, or damaged, with a warning."""
        if key not in self.rows:
            return None
        try:
            return self.checked(key)
        except Damaged as error:
            warnings.warn(f"{self.path}: {error}; not used", RecordWarning, stacklevel=3)
            return None

    def lost(self) -> list[str]:
        """What is wrong with rows that no key leads to."""
        return [f"row {row + 1} is not under the key of its run" for row in self.misnamed]

    def checked(self, key: str) -> tuple[Meta, Arrays]:
        """A record's parts; raises `Damaged` where the checksum does not match."""
        row = self.rows[key]
        arrays = {name: flat[ends[row] : ends[row + 1]] for name, (flat, ends) in self.columns.items()}
        text = self.meta[row]
        # Rows of earlier versions have a checksum without the key, which is computed anew in any case.
        if self.checksum[row] not in (checksum(f"{key}{text}", arrays), checksum(text, arrays)):
            raise Damaged(f"the record {key[:12]} does not match its checksum")
        return _meta(f"{key}.record", text, arrays), arrays


def _meta(name: str, text: str, arrays: Arrays) -> Meta:
    """The plain values of a row; raises `Damaged`, with its name, where they are not what that promises."""
    key, _, rest = name.partition(".")
    try:
        meta = json.loads(text)
        files.check_format(meta)
        contents.check(name, meta, arrays)
    except ValueError as error:  # of JSON, too
        raise Damaged(f"the {rest} {key[:12]}: {error}") from error
    return meta


def _key_in(text: str) -> str | None:
    """The key of the run that a row names; None where it cannot be told."""
    try:
        meta = json.loads(text)
        return key_of(meta["run"], meta["numerics"], meta.get("rule"))
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def _texts(column: pa.ChunkedArray) -> list[str]:
    """Texts, with a mark in the place of bytes that are no letters: the checksum tells these rows."""
    return [bytes(value or b"").decode(errors="replace") for value in column.cast(pa.binary()).to_pylist()]


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values of a column of lists, one after the other, and where each list starts and ends."""
    lists = column.combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) and lists.num_chunks else lists
    values = lists.flatten().to_numpy(zero_copy_only=False)
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    return values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


class KeptPack:
    """What was kept of the records of a pack, under names such as `<key>.answers-4000`.

    Each is a file of its own, compressed: so a damaged byte costs that one.

    Attributes
    ----------
    rows : list of str
        The names that were written.

    Raises
    ------
    Damaged
        If the file is not one of these.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with safe_open(path, framework="numpy") as file:
                self.rows: list[str] = list(json.loads(file.metadata()["names"]))
            self.files = safetensors.numpy.load_file(path)
        except Exception as error:  # whatever a parser says of bytes that are not ours
            raise Damaged(f"cannot be read as a file of what was kept: {error}") from error

    def get(self, name: str) -> tuple[Meta, Arrays] | None:
        """What was kept under a name; None where it is not there, or damaged, with a warning."""
        if name not in self.rows:
            return None
        try:
            return self.checked(name)
        except Damaged as error:
            warnings.warn(f"{self.path}: {error}; not used", RecordWarning, stacklevel=3)
            return None

    def lost(self) -> list[str]:
        """What is wrong with files that were not written under their name."""
        return [f"{_short(name)} has no row" for name in sorted(self.files.keys() - set(self.rows))]

    def checked(self, name: str) -> tuple[Meta, Arrays]:
        """What was kept under a name; raises `Damaged` where it is not what was written."""
        try:
            meta, arrays = files.from_bytes(lzma.decompress(self.files[name].tobytes()))
            contents.check(name, meta, arrays)
        except (KeyError, lzma.LZMAError) as error:
            raise Damaged(f"{_short(name)} does not match its checksum") from error
        except Damaged as error:
            raise Damaged(f"{_short(name)}: {error}") from error
        return meta, arrays


def _short(name: str) -> str:
    """A name with the first letters of its key."""
    key, dot, rest = name.partition(".")
    return f"{key[:12]}{dot}{rest}"


AnyPack = TypeVar("AnyPack", Pack, KeptPack)


def paths(folder: Path) -> list[Path]:
    """The packs in a folder, which may be absent."""
    return files.listed(folder, ".parquet")


def kept_paths(folder: Path) -> list[Path]:
    """The files of what was kept in a folder, which may be absent."""
    return files.listed(folder, ".kept.safetensors")


def in_folder(folder: Path) -> list[Pack]:
    """The readable packs in a folder; a warning for each other one."""
    return _readable(Pack, paths(folder))


def kept_in_folder(folder: Path) -> list[KeptPack]:
    """The readable files of what was kept in a folder; a warning for each other one."""
    return _readable(KeptPack, kept_paths(folder))


def _readable(kind: type[AnyPack], found: list[Path]) -> list[AnyPack]:
    packs = []
    for path in found:
        try:
            packs.append(_read(kind, path, path.stat().st_mtime_ns, path.stat().st_size))
        except OSError as error:
            warnings.warn(f"{path} cannot be read: {error.strerror or error}", RecordWarning, stacklevel=4)
    return [pack for pack in packs if pack]


@lru_cache(maxsize=64)
def _read(kind: type[AnyPack], path: Path, modified: int, size: int) -> AnyPack | None:
    """A pack, read once a process as long as it does not change."""
    try:
        pack = kind(path)
        for trouble in pack.lost():
            warnings.warn(f"{path}: {trouble}; not used", RecordWarning, stacklevel=6)
        return pack
    except Damaged as error:
        warnings.warn(f"{path}: {error}; not used", RecordWarning, stacklevel=6)
        return None


def troubles(path: Path) -> list[str]:
    """What is wrong with a pack of either kind and what is in it; empty if nothing is."""
    try:
        pack = Pack(path) if path.suffix == ".parquet" else KeptPack(path)
    except Damaged as error:
        return [str(error)]
    found = pack.lost()
    for name in pack.rows:
        try:
            pack.checked(name)
        except Damaged as error:
            found.append(str(error))
    return found


def write_kept(path: Path, kept: Iterable[tuple[str, Meta, Arrays]]) -> int:
    """Write (name, meta, arrays) into one file, whole or not at all; returns its size in bytes.

    Raises
    ------
    StoreError
        With the path and the reason.
    """
    packed = {
        name: np.frombuffer(lzma.compress(files.to_bytes(meta, arrays), preset=9), np.uint8)
        for name, meta, arrays in kept
    }
    content = safetensors.numpy.save(packed, {"names": canonical(sorted(packed))})
    files.write(path, content)
    return len(content)


def write(path: Path, records: Iterable[tuple[str, Meta, Arrays]]) -> int:
    """Write a pack of (key, meta, arrays) whole or not at all; returns its size in bytes.

    Raises
    ------
    StoreError
        With the path and the reason.
    """
    rows = []
    for key, meta, arrays in sorted(records, key=lambda record: record[0]):
        text = canonical({"format": FORMAT} | meta)
        row = {"key": key, "meta": text, "checksum": checksum(f"{key}{text}", arrays)}
        rows.append(row | {name: arrays[name] for name in COLUMNS})
    smooth = [f"{name}.list.element" for name in COLUMNS if name not in REPEATING]
    repeating = [f"{name}.list.element" for name in REPEATING]
    buffer = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(rows, schema=SCHEMA),
        buffer,
        compression="zstd",
        compression_level=19,
        use_dictionary=repeating,  # pyright: ignore[reportArgumentType]
        column_encoding=dict.fromkeys(smooth, "BYTE_STREAM_SPLIT"),
    )
    files.write(path, buffer.getvalue())
    return buffer.tell()
