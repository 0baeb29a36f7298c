"""What happens at which step: which equations are in the batch, what the learning rate is, when to evaluate.

A step is one optimizer update; step s is the state after s updates. Update s (counted from 0) leads from
step s to step s + 1.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from itertools import count, takewhile

from torch import Tensor

from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.runs.run import Run


def _grid() -> Iterator[int]:
    """Steps at which every run is evaluated: 40 a decade from 100 on, 3 to 10 % apart."""
    yield from (0, 1, 2, 5, *range(10, 100, 10))
    for decade in count(1):
        for lowest, highest, spacing in ((10, 30, 1), (30, 50, 2), (50, 100, 5)):
            yield from (m * 10**decade for m in range(lowest, highest, spacing))


@lru_cache
def _grid_to(n_digits: int) -> list[int]:
    """The grid to 10^n_digits: a wide ensemble asks it for every slot whenever one is evaluated."""
    return list(takewhile(lambda step: step <= 10**n_digits, _grid()))


def last_step(steps: int) -> int:
    """The first evaluation step at or after `steps`: how far a run asked for `steps` is followed.

    The grid is one for all runs, so that a longer record holds every shorter one. From 10 on it has every
    number of one significant digit, from 100 on also those of two that are below 30 or even below 50.

    Raises
    ------
    ValueError
        If `steps` is not a whole number of at least 1.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r} must be a whole number of at least 1")
    grid = _grid_to(len(str(steps)))
    return grid[bisect_left(grid, steps)]


def evaluation_steps(steps: int) -> list[int]:
    """Steps at which a run asked for `steps` is evaluated, increasing, from 0 to `last_step(steps)`."""
    last = last_step(steps)
    grid = _grid_to(len(str(steps)))
    return grid[: bisect_left(grid, last) + 1]


def next_evaluation(step: int) -> int:
    """The first evaluation step after `step`."""
    return last_step(step + 1)


def steps_per_epoch(run: Run) -> int:
    """Updates in which every training equation is used once; the last of them may be a short batch."""
    return math.ceil(run.n_train / run.effective_batch_size)


def batch(run: Run, update: int) -> Tensor:
    """Places (in the training set) of the equations of an update, int64 of shape (at most batch size,).

    Each epoch is a fresh permutation of the training set, cut into batches; the last may be short.
    """
    epoch, number = divmod(update, steps_per_epoch(run))
    order = streams.permutation(streams.stream(run.seed, Purpose.ORDER, epoch), run.n_train)
    return order.split(run.effective_batch_size)[number]


def warmup(update: int, warmup_steps: int) -> float:
    """Share of the learning rate at an update: rises linearly from 0 at update 0 to 1."""
    return min(update / warmup_steps, 1.0) if warmup_steps else 1.0
