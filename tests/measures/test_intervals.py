import math

import numpy as np
import pandas as pd
import pytest
from curves_by_hand import INF, NAN
from scipy import stats

from grokking_core import measures
from grokking_core.measures import Estimate


def test_interval_of_a_median_is_the_same_each_time_and_within_the_values():
    values = [3.0, 1.0, 2.0]
    assert measures.interval(values) == Estimate(2, 1, 3, 3) == measures.interval(values)


def test_interval_of_a_mean_has_the_known_width():
    values = np.random.default_rng(0).normal(5, 2, 400)
    estimate = measures.interval(values, np.mean)
    half = 1.96 * values.std() / 20
    assert estimate.value == values.mean()
    assert (estimate.value - estimate.low, estimate.high - estimate.value) == pytest.approx(
        (half,) * 2, rel=0.1
    )


@pytest.mark.parametrize("values", [[1.0, None, 3.0, 4.0], pd.array([1, pd.NA, 2, 3], dtype="Int64"), []])
def test_interval_is_nothing_where_a_value_is_unknown(values):
    estimate = measures.interval(values)
    assert all(map(math.isnan, estimate[:3]))
    assert estimate.n == max(0, len(values) - 1)


def test_interval_of_two_values_is_no_interval():
    estimate = measures.interval([1, 2])
    assert estimate.value == 1.5
    assert math.isnan(estimate.low)


def test_spearman_is_that_of_scipy_and_ignores_scales():
    rng = np.random.default_rng(4)
    x = rng.normal(size=20)
    y = (-x + rng.normal(size=20)).round(1)  # with ties
    estimate = measures.spearman(x, y)
    assert estimate.value == pytest.approx(stats.spearmanr(x, y)[0])
    assert estimate.low < estimate.value < estimate.high < 0
    assert measures.spearman(np.exp(x), 3 * y) == estimate
    assert measures.spearman([*x, None], [*y, 7.0]) == estimate


def test_interval_of_spearman_covers_it():
    rng, hits, rho = np.random.default_rng(6), 0, 0.7
    for _ in range(40):
        x, noise = rng.normal(size=(2, 20))
        estimate = measures.spearman(x, rho * x + math.sqrt(1 - rho**2) * noise)
        hits += estimate.low <= 6 / math.pi * math.asin(rho / 2) <= estimate.high
    assert hits / 40 > 0.85


@pytest.mark.parametrize(("x", "y"), [([1, 2], [3, 4]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([], [])])
def test_spearman_is_nothing_where_it_is_not_defined(x, y):
    assert all(map(math.isnan, measures.spearman(x, y)[:3]))


def test_spearman_refuses_what_are_no_pairs():
    with pytest.raises(ValueError, match="x has 2 values and y 3; they must be as many"):
        measures.spearman([1, 2], [1, 2, 3])


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(1234.5, 980, 2100, 8), "1,234 [980, 2,100] (n = 8)"),
        (Estimate(1234.5, 980, INF, 3), "1,234 [980, not reached] (n = 3)"),
        (Estimate(-0.7951, -0.9, -0.51, 20), "-0.795 [-0.9, -0.51] (n = 20)"),
        (Estimate(150, NAN, NAN, 2), "150 (n = 2)"),
        (Estimate(*pd.Series([150, NAN, NAN, 2])), "150 (n = 2)"),
        (Estimate(NAN, NAN, NAN, 4), "no estimate (n = 4)"),
        (Estimate(NAN, 5000, INF, 4), "not reached [5,000, not reached] (n = 4)"),
    ],
)
def test_estimates_read_as_text(estimate, text):
    assert str(estimate) == text
