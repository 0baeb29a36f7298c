"""Signals that end a process politely, and time limits: what they stop keeps all it has."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

#: What ends a process politely. The first two always stop a sweep: a shell may have had them ignored.
ALWAYS = ("SIGINT", "SIGTERM")
POLITE = (*ALWAYS, "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU", "SIGPWR", "SIGBREAK")


class Stop:
    """Whether to stop: the time is over, or a signal that ends processes came. A second one stops at once.

    Of these signals, Ctrl-C and SIGTERM always stop a sweep, the others where nobody handles or ignores them.
    """

    def __init__(self, minutes: float | None):
        self.deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        self.signal: int | None = None
        self.before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None or time.monotonic() > self.deadline

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in polite_signals():
                self.before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


def polite_signals() -> list[int]:
    """The signals that are to stop a sweep in this process."""
    numbers = {name: getattr(signal, name) for name in POLITE if hasattr(signal, name)}
    return [
        number
        for name, number in numbers.items()
        if name in ALWAYS or signal.getsignal(number) is signal.SIG_DFL
    ]
