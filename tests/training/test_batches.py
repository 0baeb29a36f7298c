from dataclasses import replace

import numpy as np
import pytest
import torch

from grokking_core import Run
from grokking_core.devices.limits import UPDATES_AHEAD
from grokking_core.runs import schedule
from grokking_core.training.batches import Tables

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = {"p": 11, "batch_size": 16, "d_model": 8}
RUNS = [  # one number of elements, one batch size; fractions, domains and orders of their own
    Run(operation="x+y", **BASE),
    Run(operation="x/y", train_fraction=0.3, seed=1, **BASE),
    Run(operation="x*y", train_fraction=0.8, seed=2, split_seed=0, outliers=20, **BASE),
    Run(operation="x-y", train_fraction=0.2, seed=3, **BASE),
]


def loaded(runs):
    tables = Tables(runs, len(runs), torch.float64, torch.device("cpu"))
    for slot, run in enumerate(runs):
        tables.load(slot, run)
    return tables


def plain_batch(run, step):
    """What the plain loop takes: x, y, label."""
    d = run.dataset()
    chosen = d.train[schedule.batch(run, step).numpy()]
    return [torch.from_numpy(column[chosen]) for column in (d.x, d.y, d.label)]


def assert_batches(tables, runs, steps):
    """Every run's batch at its own step is the plain loop's, padded with equations of weight 0."""
    tables.renew(steps)
    *columns, weight = tables.batch(torch.tensor(steps))
    for slot, (run, step) in enumerate(zip(runs, steps, strict=True)):
        expected = plain_batch(run, step)
        size = len(expected[0])
        for column, values in zip(columns, expected, strict=True):
            assert torch.equal(column[slot, :size], values)
        assert torch.equal(weight[slot, :size], torch.full((size,), 1 / size, dtype=torch.float64))
        assert not weight[slot, size:].any()


def test_batches_are_the_plain_loops_over_many_epochs():
    tables = loaded(RUNS)
    for step in range(150):
        assert_batches(tables, RUNS, [step] * 4)


def test_batches_of_runs_at_steps_of_their_own():
    tables = loaded(RUNS)
    for step in range(80):
        assert_batches(tables, RUNS, [step, step + 7, 500 + step, 3 * 10**6 + step])


@pytest.mark.parametrize("batch_size", ["full", None, 1, 59])
def test_batches_of_other_sizes(batch_size):
    run = Run(operation="x+y", p=11, batch_size=batch_size)
    tables = loaded([run])
    for step in range(130):
        assert_batches(tables, [run], [step])


def test_slots_at_any_steps_get_new_orders_together(monkeypatch):
    """A card would else launch a hundred operations for each of them alone."""
    run, renew, calls = Run(operation="x+y", **BASE), Tables._renew, []
    runs = [replace(run, seed=seed) for seed in range(24)]
    tables = Tables(runs, 25, torch.float64, torch.device("cpu"))  # the last slot stays empty
    for slot, run in enumerate(runs):
        tables.load(slot, run)
    monkeypatch.setattr(Tables, "_renew", lambda *a: (calls.append(a), renew(*a)))
    steps = np.arange(25) * 5
    for step in range(300):
        tables.renew([*map(int, steps + step)])
        tables.batch(torch.tensor(steps + step))
    assert len(calls) <= 2 + 300 / (UPDATES_AHEAD * 3 / 4)
    x, *_ = tables.batch(torch.tensor(steps + 299))
    for slot, run in enumerate(runs):
        expected, *_ = plain_batch(run, int(steps[slot]) + 299)
        assert torch.equal(x[slot, : len(expected)], expected)


def test_slot_that_is_given_to_another_run_spares_the_others():
    tables = loaded(RUNS)
    for step in range(10):
        assert_batches(tables, RUNS, [step] * 4)
    runs = [*RUNS[:2], RUNS[3], RUNS[3]]
    tables.load(2, RUNS[3])
    for step in range(10, 100):
        assert_batches(tables, runs, [step, step, step - 10, step])


def test_parts_are_the_whole_tables_with_their_groups():
    columns = [torch.cat(column, dim=-1) for column in zip(*loaded(RUNS).parts(slice(None), 50), strict=True)]
    for slot, run in enumerate(RUNS):
        d = run.dataset()
        n = len(d.x)
        for column, values in zip(columns, (d.x, d.y, d.label), strict=False):
            assert np.array_equal(column[slot, :n], values)
        groups = columns[3][slot].numpy()
        for group, mask in zip(groups, (d.is_train, ~d.is_train, d.is_unmirrored), strict=True):
            assert np.array_equal(group[:n], mask)
            assert not group[n:].any()


def test_parts_of_one_slot_are_of_the_size_asked_for():
    parts = list(loaded(RUNS).parts(slice(1, 2), 50))
    assert [tuple(x.shape) for x, _, _, _ in parts] == [(1, 50), (1, 50), (1, 21)]
    assert [tuple(groups.shape) for _, _, _, groups in parts] == [(1, 3, 50), (1, 3, 50), (1, 3, 21)]


def test_groups_count_their_equations():
    counts = loaded(RUNS).counts
    for slot, run in enumerate(RUNS):
        d = run.dataset()
        assert counts[slot].tolist() == [d.is_train.sum(), (~d.is_train).sum(), d.is_unmirrored.sum()]
