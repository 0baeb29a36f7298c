"""Files of numbers with a checksum: written whole or not at all, never trusted unread, no pickle.

A file is safetensors: named arrays, and in its header one JSON text with a checksum over all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from filelock import FileLock, Timeout

from grokking_core.runs.keys import canonical
from grokking_core.runs.record import Arrays

FORMAT = 1  #: of the files, raised when older code could not read them
POLL_SECONDS = 0.2  #: between two looks at a lock that another process holds

Meta = dict[str, Any]


class RecordWarning(UserWarning):
    """Something about records that a reader should know, and that stops nothing."""


class StoreError(OSError):
    """The records folder cannot be read or written; the message says which path, and why."""


class Damaged(ValueError):
    """A file, or a row of one, is not what was written; the message says how it can be told."""


def checksum(text: str, arrays: Arrays) -> str:
    """SHA-256 over a text and named arrays: their names, types, shapes and bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def to_bytes(meta: Meta, arrays: Arrays) -> bytes:
    """What a file holds: `meta` (plain JSON values), the arrays, and their checksum."""
    text = canonical({"format": FORMAT} | meta)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return safetensors.numpy.save(arrays, {"meta": text, "checksum": checksum(text, arrays)})


def from_bytes(content: bytes) -> tuple[Meta, Arrays]:
    """The inverse of `to_bytes`.

    Raises
    ------
    Damaged
        Where the content is anything else.
    """
    if not content.strip(b"\0"):
        raise Damaged("nothing but zeros" if content else "empty")
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        text, expected = header["__metadata__"]["meta"], header["__metadata__"]["checksum"]
        arrays = safetensors.numpy.load(content)
        matches = checksum(text, arrays) == expected
        meta = json.loads(text) if matches else {}
    except Exception as error:  # whatever a parser says of bytes that are not ours
        raise Damaged("cut short, or not one of our files") from error
    if not matches:
        raise Damaged("its checksum does not match its content")
    check_format(meta)
    return meta, arrays


def listed(folder: Path, suffix: str = "") -> list[Path]:
    """What a folder has, by name; nothing where it is absent, or, with a warning, cannot be read."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(suffix))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        warnings.warn(f"{folder} cannot be read: {error.strerror or error}", RecordWarning, stacklevel=2)
        return []


def header(path: Path) -> Meta:
    """What a file says of itself, nothing of it checked; empty where there is none or it cannot be read."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            meta = json.loads(json.loads(file.read(min(length, 10**8)))["__metadata__"]["meta"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return meta if isinstance(meta, dict) else {}


def check_format(meta: Meta) -> None:
    """Raise `Damaged` for a format that this version does not read."""
    found = meta.get("format") if isinstance(meta, dict) else None
    if found != FORMAT:
        raise Damaged(f"written in format {found}; this version reads {FORMAT}")


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, with several processes at it and on network file systems.

    Raises
    ------
    StoreError
        With the path and the reason.
    """
    temporary = path.with_name(f".{path.name[:16]}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
    except BaseException:
        _remove(temporary)
        raise
    _sync_folder(path.parent)


def read(
    path: Path, check: Callable[[Meta, Arrays], None] = lambda meta, arrays: None
) -> tuple[Meta, Arrays] | None:
    """What `write(path, to_bytes(...))` wrote; None without a file, or a damaged one, set aside.

    Parameters
    ----------
    check : callable
        Raises `Damaged` where the content is not what it should be.

    Raises
    ------
    StoreError
        Where there is a file that cannot be opened, or a damaged one that cannot be set aside.
    """
    try:
        with open(path, "rb") as file:
            seen, content = os.fstat(file.fileno()), file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        meta, arrays = from_bytes(content)
        check(meta, arrays)
    except Damaged as error:
        set_aside(path, str(error), seen)
        return None
    return meta, arrays


@contextlib.contextmanager
def locked(
    path: Path,
    stop: Callable[[], bool],
    waits: Callable[[], None] = lambda: None,
    poll_seconds: float = POLL_SECONDS,
) -> Iterator[bool]:
    """Hold the lock of a file, which one process holds at a time; gives whether it had to be waited for.

    It is done without where there are no such locks, or no such file can be made, and once `stop` says so.
    The kernel takes it from a process that dies.

    Parameters
    ----------
    stop : callable
        Asked while waiting; once it says true, waiting ends.
    waits : callable
        Called once, if another process holds the lock.
    """
    lock, waited = FileLock(path), False
    while not stop():
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not waited:
                waits()
            waited = True
            time.sleep(poll_seconds)
        except OSError:  # a file system without locks
            break
        else:
            break
    try:
        yield waited
    finally:
        lock.release()


def set_aside(path: Path, why: str, seen: os.stat_result) -> None:
    """Rename a damaged file to `*.damaged` and say so; not where another process has replaced it.

    Parameters
    ----------
    seen : os.stat_result
        Of the file that is damaged. One that has come in its place meanwhile is put back.

    Raises
    ------
    StoreError
        If the file cannot be renamed.
    """
    names = (f"{path.name}.damaged{number}" for number in ("", *range(2, 1000)))
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    try:
        if not _same(path.stat(), seen):
            return
        os.rename(path, aside)
        if not _same(aside.stat(), seen):  # it was replaced between these two lines
            with contextlib.suppress(FileExistsError):  # and once more
                os.link(aside, path)
            aside.unlink()
            return
    except FileNotFoundError:
        return  # another process was faster
    except OSError as error:
        raise StoreError(f"{path}: {why}; left there: {error.strerror or error}") from error
    warnings.warn(f"{path}: {why}; set aside as {aside.name}", RecordWarning, stacklevel=2)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_ino, one.st_mtime_ns, one.st_size) == (other.st_ino, other.st_mtime_ns, other.st_size)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the first error is the one to tell
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.fsync(handle)
    os.close(handle)
