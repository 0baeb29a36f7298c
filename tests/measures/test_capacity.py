"""Brackets of sizes on runs made by hand."""

import numpy as np
import pandas as pd
import pytest

from grokking_core import measures
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run

INF, NAN = np.inf, np.nan


def record(width, fitted=None, late=None, seed=0, random=False):
    """A run by its steps to 99 % in training and, of the rule, to all in validation; None: never."""
    run = Run(operation="x-y", p=7, architecture="mlp", d_model=width, seed=seed)
    run = Run(**{**vars(run), "outliers": run.n_train}) if random else run
    steps = np.array(sorted({0, 1000, fitted or 0, late or 0}))
    curve = pd.DataFrame(0.0, index=range(len(steps)), columns=pd.Index(COLUMNS)).assign(step=steps)
    curve["train_accuracy"] = steps >= (INF if fitted is None else fitted)
    curve["validation_accuracy"] = steps >= (INF if late is None else late)
    return Record(run=run, curve=curve)


def sizes(*rows):
    """Rows of `by_size`: size, generalized, memorised, delay."""
    return pd.DataFrame(rows, columns=["size", "generalized", "memorised", "delay"])


def by_size(*records):
    return measures.by_size(records, lambda run: 10 * run.d_model).set_index("size")


def test_medians_by_size_and_the_smallest_delay():
    table = by_size(
        *(
            record(8, fitted, late, seed)
            for seed, (fitted, late) in enumerate([(100, 300), (200, 250), (300, None)])
        ),
        *(record(8, fitted, seed=seed, random=True) for seed, fitted in enumerate([400, 500, None])),
        record(4, None, 200),
    )
    assert list(table.index) == [40, 80]
    assert table.loc[80, ["width", "fitted", "generalized", "memorised", "delay"]].tolist() == [
        8,
        200,
        300,
        500,
        50,
    ]
    assert table.loc[40, ["fitted", "generalized", "delay"]].tolist() == [INF, 200, 0]
    assert np.isnan(table.loc[40, "memorised"])


@pytest.mark.parametrize(
    ("fitted", "late", "delay"),
    [(100, 100, 0), (200, 100, 0), (100, 300, 200), (100, None, INF), (None, None, NAN)],
)
def test_delay_is_never_negative_and_open_where_nothing_was_learned(fitted, late, delay):
    assert by_size(record(4, fitted, late))["delay"].tolist() == pytest.approx([delay], nan_ok=True)


def test_crossing_is_where_random_answers_begin_to_be_as_soon_for_good():
    table = sizes((1, 9, INF, 0), (2, 9, 5, 0), (3, 5, 9, 0), (4, INF, INF, 0), (5, 9, 8, 0), (6, INF, 8, 0))
    assert measures.crossing(table) == (3, 5)
    assert measures.crossing(table.head(3)) == pytest.approx((3, NAN), nan_ok=True)
    assert measures.crossing(table.tail(2)) == pytest.approx((NAN, 5), nan_ok=True)


def test_onset_is_where_delays_begin_for_good():
    table = sizes((1, 9, 9, NAN), (2, 9, 9, 5), (3, 9, 9, 0), (4, 9, 9, 7), (5, 9, 9, INF))
    assert measures.onset(table) == (3, 4)


def test_memorising_begins_where_the_median_is_reached_for_good():
    table = sizes((1, 9, INF, 0), (2, 9, 9, 0), (3, 9, INF, 0), (4, 9, NAN, 0), (5, 9, 9, 0))
    assert measures.memorising(table) == (3, 5)


def test_nothing_on_record_has_no_size():
    table = measures.by_size([], lambda run: 1)
    assert table.empty
    for of in (measures.crossing, measures.onset, measures.memorising):
        assert np.isnan(of(table)).all()
