import itertools

import pytest
import torch

from grokking_core import Run
from grokking_core.runs import schedule

SHORT = Run(operation="x+y", p=11, batch_size=16)  # 60 training equations: 3 batches of 16, one of 12


# When to evaluate.


def test_grid_increases_from_0_and_ends_at_the_last_step():
    grid = schedule.evaluation_steps(100_000)
    assert grid[0] == 0
    assert grid[-1] == 100_000
    assert all(a < b for a, b in itertools.pairwise(grid))


def test_grid_is_even_on_a_log_axis_from_100_on():
    """40 a decade; a time read off it is at most a tenth too long."""
    grid = [step for step in schedule.evaluation_steps(1_000_000) if step >= 100]
    assert len(grid) == 4 * 40 + 1
    assert all(1.03 < b / a <= 1.1 for a, b in itertools.pairwise(grid))


def test_grid_has_every_number_of_one_digit_and_those_of_two_below_30():
    grid = set(schedule.evaluation_steps(1_000_000))
    assert {digit * 10**k for digit in range(1, 10) for k in range(1, 6)} <= grid
    assert {number * 10**k for number in range(10, 30) for k in range(1, 5)} <= grid


def test_grid_is_dense_at_the_beginning():
    assert schedule.evaluation_steps(100) == [0, 1, 2, 5, *range(10, 101, 10)]


@pytest.mark.parametrize(
    ("steps", "last"),
    [(1, 1), (3, 5), (99, 100), (100, 100), (101, 110), (999, 1000), (12_345, 13_000), (10**6, 10**6)],
)
def test_last_step_is_the_first_of_the_grid_from_there(steps, last):
    assert schedule.last_step(steps) == last
    assert schedule.evaluation_steps(steps)[-1] == last


@pytest.mark.parametrize("fewer", [1, 4, 100, 777])
def test_grid_of_fewer_steps_is_the_beginning_of_one_of_more(fewer):
    grid = schedule.evaluation_steps(fewer)
    assert schedule.evaluation_steps(5000)[: len(grid)] == grid


def test_grid_is_made_once(monkeypatch):
    """A wide ensemble asks where each of its slots is evaluated next whenever one of them is."""
    before = [schedule.next_evaluation(step) for step in (0, 99, 100, 54_321, 999_999)]
    monkeypatch.setattr(schedule, "_grid", None)
    assert [schedule.next_evaluation(step) for step in (0, 99, 100, 54_321, 999_999)] == before
    assert before == [1, 100, 110, 55_000, 10**6]


def test_next_evaluation_follows_the_grid():
    grid = schedule.evaluation_steps(1000)
    assert [schedule.next_evaluation(step) for step in grid[:-1]] == grid[1:]
    assert schedule.next_evaluation(51) == 60


@pytest.mark.parametrize("function", [schedule.last_step, schedule.evaluation_steps])
@pytest.mark.parametrize("steps", [0, -5, 1.0, 2.5, "10", None, True])
def test_steps_that_are_no_positive_whole_number_are_refused(function, steps):
    with pytest.raises(ValueError, match=rf"steps={steps!r} must be a whole number of at least 1"):
        function(steps)


# Which equations are in the batch.


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({"batch_size": 16}, [16, 16, 16, 12]),
        ({"batch_size": 20}, [20, 20, 20]),
        ({"batch_size": "full"}, [60]),
        ({}, [30, 30]),
        ({"batch_size": 59}, [59, 1]),
        ({"batch_size": 1000}, [60]),
    ],
)
def test_epochs_use_each_training_equation_once(fields, sizes):
    run = Run(operation="x+y", p=11, **fields)
    assert run.n_train == 60
    assert schedule.steps_per_epoch(run) == len(sizes)
    for epoch in range(3):
        updates = range(epoch * len(sizes), (epoch + 1) * len(sizes))
        batches = [schedule.batch(run, update) for update in updates]
        assert [len(batch) for batch in batches] == sizes
        assert torch.equal(torch.cat(batches).sort().values, torch.arange(60))


def test_epochs_have_fresh_orders():
    first = [schedule.batch(SHORT, 4 * epoch).tolist() for epoch in range(20)]
    assert len({tuple(batch) for batch in first}) == 20


def test_batches_depend_on_seed_and_sizes_alone():
    same = Run(operation="x*y", p=11, batch_size=16, split_seed=9, lr=0.1, d_model=8)
    other = Run(operation="x+y", p=11, batch_size=16, seed=1)
    assert torch.equal(schedule.batch(SHORT, 7), schedule.batch(same, 7))
    assert not torch.equal(schedule.batch(SHORT, 7), schedule.batch(other, 7))


# What the learning rate is.


def test_warmup_rises_from_zero_at_the_first_update():
    shares = [schedule.warmup(update, 10) for update in range(13)]
    assert shares == pytest.approx([*(k / 10 for k in range(10)), 1, 1, 1])
    assert shares[0] == 0


def test_warmup_of_no_steps_is_none():
    assert schedule.warmup(0, 0) == 1
