"""The processes of a build: one build at a time in a clone, and none of what it started outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from grokking_book.make.settings import now
from grokking_book.sources.jobs import Places

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
GRACE = 60  #: seconds in which what was asked to end may write down what it has

# Linux ends a process once the one that started it is gone, even killed. Kernels look for that themselves.
WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""

_running: set[subprocess.Popen] = set()


class Busy(RuntimeError):
    """Another build is at work in this clone; the message says which."""


class Ended(BaseException):
    """The process was asked to end, by the signal that is its argument."""


@contextmanager
def only_build(places: Places) -> Iterator[None]:
    """Be the only build of a clone until the block ends, however it ends.

    Raises
    ------
    Busy
        Naming the process that builds, and since when.
    """
    places.build.mkdir(parents=True, exist_ok=True)
    holder, lock = places.build / "building", FileLock(places.build / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "a process"
        raise Busy(f"another build is at work in this clone: {who}") from None
    try:
        holder.write_text(f"process {os.getpid()}, since {now()[:19]} UTC\n", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def run(command: list[str], log: Path, env: dict[str, str], waiting: Callable[[], None] | None = None) -> int:
    """Run a command to its end, its output in a log, and return its status; call `waiting` now and then."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "linux":
        command = [sys.executable, "-ISc", WITH_PARENT, str(os.getpid()), *command]
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, start_new_session=True
        )
        _running.add(process)
        try:
            while True:
                try:
                    return process.wait(15)
                except subprocess.TimeoutExpired:
                    if waiting:
                        waiting()
        finally:
            if process.poll() is None:
                end([process])
            _running.discard(process)


def end(processes: list[subprocess.Popen]) -> None:
    """Ask processes to end, wait until they have, and kill what is left of them."""
    for sign, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 10)):
        for process in processes:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, sign)  # what it has started, too
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)


def end_all() -> None:
    """End all that runs."""
    end(list(_running))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Ended` in the block where the process is asked to end; end first what it has started."""

    def stop(number: int, _: object) -> None:
        for sign in ENDING:
            signal.signal(sign, signal.SIG_IGN)
        raise Ended(number)

    before = {sign: signal.signal(sign, stop) for sign in ENDING}
    try:
        yield
    except BaseException:
        end_all()
        raise
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
