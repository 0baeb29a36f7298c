"""Standard streams that may be full, closed or without a reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO


class Forgiving:
    """A stream of text that may be full, closed or without a reader: what cannot be written is lost.

    Attributes
    ----------
    error : Exception or None
        The first thing that could not be written.
    """

    def __init__(self, stream: TextIO | None):
        self.stream, self.error = stream, None

    def write(self, text: str) -> int:
        """Write if possible; the number of characters."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush if possible."""
        self._try("flush")

    def _try(self, what: str, *arguments: str) -> None:
        try:
            if self.stream is not None:
                getattr(self.stream, what)(*arguments)
        except (OSError, ValueError) as error:  # ValueError: closed, or no such letter in the encoding
            self.error = self.error or error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def forgiven(command: Callable[[], int], name: str) -> int:
    """The exit status of a command whose output may go nowhere; 1 where a disk has no room."""
    _open_standard_streams()
    out, err = Forgiving(sys.stdout), Forgiving(sys.stderr)
    try:
        with redirect_stdout(out), redirect_stderr(err):  # pyright: ignore[reportArgumentType]
            status = command()
            out.flush()
            if out.error and not isinstance(out.error, BrokenPipeError):
                say(f"{name}: standard output cannot be written: {out.error}")
                status = max(status, 1)
    finally:
        for stream in (out, err):
            if stream.error:
                _silence(stream)
    return status


def _open_standard_streams() -> None:
    """Let no file that is opened later get the number of a standard stream that is closed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _silence(stream: Forgiving) -> None:
    """Have what is left in a stream that cannot be written go nowhere, when the interpreter ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(message: str) -> None:
    """Print a line to standard error, where that is possible."""
    print(message, file=Forgiving(sys.stderr), flush=True)  # pyright: ignore[reportArgumentType]
