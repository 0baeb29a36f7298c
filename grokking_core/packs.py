"""Many records in one Parquet file: how records are shipped.

A row is a record: its key, one JSON text, a checksum over both the text and the curve, and a list
for each column of the curve.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from grokking_core import files
from grokking_core.files import FORMAT, Arrays, Damaged, Meta, RecordWarning, canonical, checksum
from grokking_core.record import COLUMNS

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
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"cannot be read as Parquet: {error}") from error
        if not table.schema.equals(SCHEMA):
            raise Damaged("not a pack of records: other columns")
        texts = {name: table[name].to_pylist() for name in ("key", "meta", "checksum")}
        self.meta, self.checksum = texts["meta"], texts["checksum"]
        self.rows = {key: row for row, key in enumerate(texts["key"])}
        self.columns = {name: _flat(table[name]) for name in COLUMNS}

    def get(self, key: str) -> tuple[Meta, Arrays] | None:
        """A record's parts; None where it is not there, or damaged, with a warning."""
        if key not in self.rows:
            return None
        try:
            return self.checked(key)
        except Damaged as error:
            warnings.warn(f"{self.path}: {error}; not used", RecordWarning, stacklevel=3)
            return None

    def checked(self, key: str) -> tuple[Meta, Arrays]:
        """A record's parts; raises `Damaged` where the checksum does not match."""
        row = self.rows[key]
        arrays = {name: flat[ends[row] : ends[row + 1]] for name, (flat, ends) in self.columns.items()}
        if checksum(self.meta[row], arrays) != self.checksum[row]:
            raise Damaged(f"the record {key[:12]} does not match its checksum")
        meta = json.loads(self.meta[row])
        files.check_format(meta)
        return meta, arrays


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values of a column of lists, one after the other, and where each list starts and ends."""
    lists = column.combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) and lists.num_chunks else lists
    values = lists.flatten().to_numpy(zero_copy_only=False)
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    return values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def paths(folder: Path) -> list[Path]:
    """The packs in a folder, which may be absent."""
    return sorted(folder.glob("*.parquet")) if folder.is_dir() else []


def in_folder(folder: Path) -> list[Pack]:
    """The readable packs in a folder; a warning for each other one."""
    found = (_read(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths(folder))
    return [pack for pack in found if pack]


@lru_cache(maxsize=64)
def _read(path: Path, modified: int, size: int) -> Pack | None:
    """A pack, read once a process as long as it does not change."""
    try:
        return Pack(path)
    except Damaged as error:
        warnings.warn(f"{path}: {error}; not used", RecordWarning, stacklevel=5)
        return None


def troubles(path: Path) -> list[str]:
    """What is wrong with a pack and its records; empty if nothing is."""
    try:
        pack = Pack(path)
    except Damaged as error:
        return [str(error)]
    found = []
    for key in pack.rows:
        try:
            pack.checked(key)
        except Damaged as error:
            found.append(str(error))
    return found


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
        row = {"key": key, "meta": text, "checksum": checksum(text, arrays)}
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
