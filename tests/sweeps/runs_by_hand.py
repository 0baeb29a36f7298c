"""Runs that take milliseconds, and what tests of sweeps say of them."""

from concurrent.futures import Executor

import numpy as np

from grokking_core import Records, Run, sweep
from grokking_core.records.store import Store

TINY = {
    "operation": "x+y",
    "p": 7,
    "train_fraction": 0.7,
    "architecture": "mlp",
    "d_model": 16,
    "n_layers": 1,
}


def runs(n: int = 3, **fields) -> list[Run]:
    return [Run(**TINY | {"seed": seed} | fields) for seed in range(n)]


def assert_same(some: Records, others: Records) -> None:
    assert [r.run for r in some] == [r.run for r in others]
    for one, other in zip(some, others, strict=True):
        for column in one.curve:
            np.testing.assert_array_equal(one.curve[column], other.curve[column])


def assert_shared(executor: Executor, alone) -> None:
    some = [*runs(5), *runs(2, d_model=8)]
    sweep(some[:1], 100)
    records = sweep(some, 100, executor=executor)
    assert (records.n_read, records.n_trained) == (1, 6)
    assert_same(records, alone(some, 100))
    assert sweep(some, 100, executor=executor).n_read == 7
    assert set(Store().usage()) == {"record", "finished"}
