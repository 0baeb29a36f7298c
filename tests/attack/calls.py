"""Has a process die, or fail, at its k-th call that changes or opens a file.

The calls are wrapped in Python: those of `os` that change a folder or a file, `open`, and each half of what
is written to a file opened so. Calls of compiled code are not seen; files of records are written by none.
"""

import builtins
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path

WRAPPED = ("open", "fsync", "replace", "rename", "link", "unlink", "mkdir", "utime")


class Calls:
    """Counts calls that concern a folder, and acts at one of them.

    Parameters
    ----------
    act : callable
        Called once, with the folder's k-th call about to be made.
    """

    def __init__(self, folder: Path, k: int = 0, act: Callable[[], None] = lambda: None):
        self.folder, self.k, self.act = str(folder), k, act
        self.count, self.opened = 0, set[int]()

    def called(self) -> None:
        self.count += 1
        if self.count == self.k:
            self.act()

    def install(self) -> None:
        """Wrap the calls of this process from now on."""
        for name in WRAPPED:
            setattr(os, name, self.wrapped(name, getattr(os, name)))
        opened = builtins.open

        def wrapped_open(path, mode="r", *args, **kwargs):
            if not self.concerns(path):
                return opened(path, mode, *args, **kwargs)
            self.called()
            if mode != "xb":
                return opened(path, mode, *args, **kwargs)
            file = Halves(io.FileIO(path, mode))
            file.calls = self
            self.opened.add(file.fileno())
            return file

        builtins.open = io.open = wrapped_open

    def wrapped(self, name: str, call):
        def counted(first, *args, **kwargs):
            if self.concerns(first):
                self.called()
            return call(first, *args, **kwargs)

        return counted

    def concerns(self, path) -> bool:
        if isinstance(path, int):
            return path in self.opened
        return os.fspath(path).startswith(self.folder)


class Halves(io.BufferedWriter):
    """A file of which half is written when the call comes that may not return."""

    calls: Calls

    def write(self, content) -> int:
        half = len(content) // 2
        super().write(content[:half])
        self.flush()
        self.calls.called()
        return half + super().write(content[half:])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number: int) -> Callable[[], None]:
    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act
