"""Standard streams that may be full, closed or without a reader."""

from __future__ import annotations

import sys
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


def say(message: str) -> None:
    """Print a line to standard error, where that is possible."""
    print(message, file=Forgiving(sys.stderr), flush=True)  # pyright: ignore[reportArgumentType]
