import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from grokking_core import Run
from grokking_core.runs import record
from grokking_core.runs.record import Record
from grokking_core.weights import ends

RUN = Run(operation="x+y", p=11)
STEPS = [0, 1, 2, 5, 10, 20]
PACKAGE = Path(record.__file__).parents[1]
KEPT = {"weights": {"parameters": np.arange(3.0)}}


def made_up(validation, train=None, unmirrored=None, diverged_at=None):
    """A record at the first steps of the grid, with these accuracies."""
    rows = [
        (step, 1.0, (train or validation)[i], 2.0, accuracy, (unmirrored or validation)[i], 3.0)
        for i, (step, accuracy) in enumerate(zip(STEPS, validation, strict=False))
    ]
    return Record(
        run=RUN,
        curve=record.curve_frame(rows),
        diverged_at=diverged_at,
        provenance={"torch": "2"},
        kept=KEPT,
    )


# Milestones.


@pytest.mark.parametrize(
    ("validation", "first", "sustained"),
    [
        ([0.0, 0.2, 0.5, 0.99, 1.0, 1.0], 5, 5),
        ([0.0, 0.99, 0.5, 0.98, 0.99, 1.0], 1, 10),  # falls back, then stays
        ([0.0, 0.99, 1.0, 1.0, 1.0, 0.98], 1, None),  # falls back at the end
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.99], 20, 20),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 0, 0),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.98], None, None),  # censored
        ([0.0, 0.99, math.nan, 1.0, 1.0, 1.0], 1, 5),  # NaN is not at or above anything
        ([math.nan, math.nan], None, None),
    ],
)
def test_steps_to_first_and_sustained(validation, first, sustained):
    for which in ("train", "validation", "unmirrored"):
        r = made_up(validation)
        assert r.steps_to(0.99, which) == first
        assert r.steps_to(0.99, which, sustained=True) == sustained


def test_steps_to_reads_the_curve_it_is_asked_for():
    r = made_up([0, 0, 0, 0, 1, 1], train=[0, 1, 1, 1, 1, 1], unmirrored=[0, 0, 0, 0, 0, 1])
    steps = [r.steps_to(0.99, which) for which in ("train", "validation", "unmirrored")]
    assert steps == [1, 10, 20]
    assert all(type(step) is int for step in steps)


def test_steps_to_a_lower_threshold_is_no_later():
    r = made_up([0.0, 0.3, 0.2, 0.6, 0.9, 1.0])
    assert [r.steps_to(t, "validation") for t in (0.1, 0.3, 0.5, 0.9, 1.0)] == [1, 1, 5, 10, 20]


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, 99, math.nan])
def test_steps_to_refuses_a_threshold_that_is_no_share(threshold):
    match = rf"threshold={threshold} must lie in \(0, 1\]; write 99 % as 0.99"
    with pytest.raises(ValueError, match=match):
        made_up([0.0, 1.0]).steps_to(threshold, "validation")


def test_steps_to_refuses_an_unknown_curve():
    match = "which='test' must be one of train, validation, unmirrored"
    with pytest.raises(ValueError, match=match):
        made_up([0.0, 1.0]).steps_to(0.99, "test")  # pyright: ignore[reportArgumentType]


def test_last_step_is_that_of_the_last_row():
    assert made_up([0.0, 0.1, 0.2]).last_step == 2


# A longer record answers a shorter question.


def answer(r, *question):
    part = r.until(*question)
    return None if part is None else part.curve["step"].tolist()


RISING = [0.0, 0.2, 0.5, 0.4, 0.99, 1.0]


@pytest.mark.parametrize(
    ("question", "steps"),
    [
        ((20,), STEPS),
        ((5,), [0, 1, 2, 5]),
        ((1,), [0, 1]),
        ((20, 0.99), [0, 1, 2, 5, 10]),  # the row that reaches it is the last
        ((20, 0.5), [0, 1, 2]),
        ((20, 0.45), [0, 1, 2]),
        ((2, 0.99), [0, 1, 2]),  # the limit comes first
        ((10, 0.99), [0, 1, 2, 5, 10]),
        ((30,), None),  # it was not followed so far
        ((30, 0.99), [0, 1, 2, 5, 10]),  # and need not be
    ],
)
def test_until_is_the_part_that_answers(question, steps):
    assert answer(made_up(RISING), *question) == steps


def test_until_of_a_record_that_stopped_early():
    stopped = made_up(RISING[:3])  # stop_at=0.5
    assert answer(stopped, 1000, 0.5) == [0, 1, 2]
    assert answer(stopped, 1000, 0.2) == [0, 1]
    assert answer(stopped, 1000, 0.6) is None
    assert answer(stopped, 1000) is None
    assert answer(stopped, 2) == [0, 1, 2]


def test_until_takes_divergence_for_an_end():
    diverged = made_up([0.0, 0.1, 0.2, math.nan], diverged_at=5)
    assert answer(diverged, 1000) == [0, 1, 2, 5]
    assert answer(diverged, 1000, 0.9) == [0, 1, 2, 5]
    assert answer(diverged, 1000, 0.2) == [0, 1, 2]
    assert answer(diverged, 2) == [0, 1, 2]
    assert diverged.until(2).diverged_at is None
    assert diverged.until(1000).diverged_at == 5


def test_until_has_what_was_kept_only_where_it_is_of_its_end():
    r = made_up(RISING)
    assert r.until(20).kept is KEPT
    assert r.until(10).kept == {}


def test_until_gives_the_very_numbers():
    r = made_up(RISING)
    part = r.until(5)
    pd.testing.assert_frame_equal(part.curve, r.curve.iloc[:4])
    assert part.run == r.run
    assert part.provenance == r.provenance
    assert part.until(2).curve.equals(r.until(2).curve)


# Parts of a record.


def test_curve_has_its_columns_and_whole_steps():
    curve = record.curve_frame([(0, 1.0, 0.0, 2.0, 0.0, math.nan, 3.0)])
    assert list(curve.columns) == list(record.COLUMNS)
    assert curve["step"].dtype == "int64"
    assert all(curve[name].dtype == "float64" for name in record.COLUMNS[1:])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("column", record.COLUMNS[1:])
def test_divergence_is_read_off_training_loss_and_weight_norm(column, value):
    """Validation may overflow by itself, and a split may have no unmirrored equation."""
    row = [1.0] * len(record.COLUMNS)
    assert record.is_finite(tuple(row))
    row[record.COLUMNS.index(column)] = value
    assert record.is_finite(tuple(row)) == (column not in ("train_loss", "weight_norm"))


def test_provenance_says_what_made_the_numbers():
    p = record.origin("cpu", "fp64", 1.23456)
    assert set(p) == {
        "package", "source", "torch", "device", "precision", "evaluation", "seconds", "date"
    }  # fmt: skip
    assert p["torch"] == torch.__version__
    assert p["device"].startswith("cpu: ")
    assert p["precision"] == "fp64"
    assert p["seconds"] == 1.235
    assert pd.Timestamp(p["date"]).tzinfo is not None
    assert len(p["source"]) == 12


ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("room", [".", *ROOMS])
def test_source_hash_changes_with_a_line_in_any_room(room, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert record.source_hash(copy) == record.source_hash()
    changed = sorted((copy / room).glob("*.py"))[-1]
    changed.write_text(changed.read_text() + "\n# a line\n")
    record.source_hash.cache_clear()
    assert record.source_hash(copy) != record.source_hash()


def test_what_can_be_kept_is_computed_under_its_own_name():
    assert tuple(ends.FUNCTIONS) == record.KEPT
    assert all(function.__name__ == name for name, function in ends.FUNCTIONS.items())
