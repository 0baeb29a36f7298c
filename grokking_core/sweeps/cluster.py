"""A Dask cluster as it seems from here: whether its scheduler is there, and whether workers are."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from typing import Any

from grokking_core._streams import say

LOOK_SECONDS = 5.0  #: between two questions to the scheduler
ANSWER_SECONDS = 5.0  #: that it has to answer
CONNECT_SECONDS = 10.0  #: and at first, or after it was lost


class Cluster:
    """Looks after the cluster of an executor; any other executor has what it needs."""

    def __init__(self, executor: Executor):
        of_dask = type(executor).__module__.startswith("distributed")
        self.client: Any = getattr(executor, "_client", None) if of_dask else None
        self.address = self.client.scheduler.address if self.client else ""
        self.looked, self.lacks = -math.inf, ""

    def look(self, now: bool = False) -> None:
        """Say once what it waits for, where no worker is there or the scheduler does not answer.

        Raises
        ------
        ConnectionError
            If the scheduler is gone.
        """
        if self.client is None or not (now or time.monotonic() > self.looked + LOOK_SECONDS):
            return
        self.looked = time.monotonic()
        if self.client.status not in ("running", "connecting"):
            raise ConnectionError(
                f"the scheduler at {self.address} is gone; what was trained is on record or in checkpoints,"
                " and the same command goes on from there once a scheduler runs"
            )
        lacks = self._lacks()
        if lacks and lacks != self.lacks:
            say(f"{lacks}: waiting; Ctrl-C ends it, and so does a time limit, with everything kept")
        self.lacks = lacks

    def _lacks(self) -> str:
        try:
            found = self.client.sync(self.client.scheduler.identity, callback_timeout=ANSWER_SECONDS)
        except (OSError, TimeoutError, AttributeError):  # it has no scheduler while it connects again
            return f"the scheduler at {self.address} does not answer"
        start = f"no worker is there; one is started with: dask worker {self.address} --nthreads 1"
        return "" if found["workers"] else start


def closing() -> Callable[[], bool]:
    """Tells from now on whether the Dask worker that this thread works for is closing; never elsewhere."""
    try:
        worker = sys.modules["distributed"].get_worker()
    except (KeyError, ValueError):
        return lambda: False
    return lambda: worker.status.name not in ("running", "paused")


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """An executor of the workers of a running Dask scheduler.

    Raises
    ------
    ConnectionError
        If it does not answer within 10 seconds.
    ModuleNotFoundError
        If `distributed` is not installed.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a scheduler needs the package distributed: pip install 'grokking-companion[distributed]'"
        ) from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(f"no scheduler answers at {address!r}: {error}") from error
    for name in ("distributed", "distributed.client"):  # `Cluster` says what is wrong
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield client.get_executor()
    finally:
        with suppress(OSError, TimeoutError):  # of one that does not answer
            client.close()
