import math

import numpy as np
import pandas as pd
import pytest
from curves_by_hand import INF, NAN, table_of
from scipy import optimize, stats

from grokking_core import measures
from grokking_core.measures import Estimate


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 21])
def test_median_without_censoring_is_the_usual_one(n):
    steps = np.random.default_rng(n).integers(1, 50, n)
    assert measures.median_steps(steps, 100).value == np.median(steps)


@pytest.mark.parametrize("n_censored", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n", [3, 4, 5])
def test_median_of_equally_followed_runs_takes_the_censored_for_later(n, n_censored):
    steps = [7.0 * (i + 1) if i < n - n_censored else INF for i in range(n)]
    usual = np.median(steps)
    found = measures.median_steps([s if s < INF else None for s in steps], 100).value
    assert found == usual if usual < INF else math.isnan(found)


def test_median_by_hand_where_runs_were_followed_unequally():
    """Survival 4/5 at 10, 4/5 x 2/3 at 30, 4/5 x 2/3 x 1/2 at 40: below one half from 40 on."""
    estimate = measures.median_steps([10, None, 30, 40, None], [10, 20, 30, 40, 50])
    assert estimate.value == 40
    assert np.median([10, 20, 30, 40, 50]) == 30  # what taking the budget for a time would say


def test_median_and_interval_of_gehan_are_the_published_ones():
    """Remission of leukemia under 6-MP, Freireich et al. 1963: 23 weeks, log-log interval from 13 on."""
    weeks = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    estimate = measures.median_steps(weeks + [None] * 12, weeks + censored)
    assert estimate == Estimate(23, 13, INF, 21)
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    assert measures.median_steps(placebo, placebo) == Estimate(8, 4, 11, 21)


@pytest.mark.parametrize(("n", "high"), [(3, INF), (4, INF), (5, INF), (6, 700)])
def test_interval_of_few_runs_starts_at_the_first_and_has_no_end(n, high):
    steps = 100 * np.arange(2, n + 2)
    assert measures.median_steps(steps, 1000)[1:] == (200, high, n)
    assert measures.median_steps([200] * n, 1000)[:3] == (200, 200, 200 if high < INF else INF)


def test_interval_of_the_median_covers_it():
    rng, hits = np.random.default_rng(3), 0
    for n in [5, 8, 12] * 60:
        times = np.exp(rng.normal(size=n))
        steps = [t if t < 2 else None for t in times]
        estimate = measures.median_steps(steps, np.minimum(times, 2))
        hits += estimate.low <= 1 <= estimate.high
    assert hits / 180 > 0.93


def test_median_of_runs_none_of_which_reached_it_lies_beyond_them():
    assert str(measures.median_steps([None] * 3, 5000)) == "not reached [5,000, not reached] (n = 3)"
    assert measures.median_steps([None] * 10, 5000).low == 5000


def test_median_leaves_missing_runs_out():
    steps = pd.array([100, None, 300, None, 500], dtype="Int64")
    followed = pd.array([100, None, 300, None, 500], dtype="Int64")
    assert measures.median_steps(steps, followed) == measures.median_steps([100, 300, 500], 500)
    assert measures.median_steps([None], [None]).n == 0
    assert math.isnan(measures.median_steps([], []).value)


def test_median_of_two_runs_has_no_interval():
    value, low, high, n = measures.median_steps([100, 200], 1000)
    assert (value, n) == (150, 2)
    assert math.isnan(low)
    assert math.isnan(high)


def test_median_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="steps has 3 values and followed 2; they must be as many"):
        measures.median_steps([1, 2, 3], [1, 2])
    match = "steps=30 with followed=20: a run must be followed to where it reached the threshold"
    with pytest.raises(ValueError, match=match):
        measures.median_steps([10, 30], [20, 20])
    with pytest.raises(ValueError, match="steps=10 with followed=nan"):
        measures.median_steps([10, 30], [None, 30])


def test_medians_are_those_of_the_groups():
    table = table_of([0.3] * 3 + [0.2] * 4, [10, 20, 30, 50, None, None, None], [30] * 3 + [90] * 3 + [None])
    medians = measures.medians(table)
    assert medians.index.tolist() == [0.2, 0.3]
    assert medians.index.name == "train_fraction"
    assert medians["n"].tolist() == [3, 3]
    assert medians["reached"].tolist() == [1, 3]
    np.testing.assert_equal(medians["value"].to_numpy(), [NAN, 20])
    np.testing.assert_equal(medians["low"].to_numpy(), [50, 10])
    pairs = measures.medians(table.assign(p=11), ["p", "train_fraction"])
    assert pairs.index.tolist() == [(11, 0.2), (11, 0.3)]


def test_medians_take_a_diverged_run_for_one_that_never_would():
    steps, followed, diverged = (
        [20, None, None, 40, 50],
        [20, 1, 1, 40, 50],
        [False, True, True, False, False],
    )
    cut_short, diverged = (table_of(0.3, steps, followed, d) for d in (False, diverged))
    assert measures.medians(cut_short).loc[0.3, "value"] == 40
    assert measures.medians(diverged).loc[0.3, "value"] == 50


def test_medians_refuse_a_column_that_holds_no_steps():
    match = "column='best_train' must be one of train_steps, .*, validation_sustained, "
    with pytest.raises(ValueError, match=match):
        measures.medians(table_of([0.3], [1]), column="best_train")


def test_steps_ratio_is_that_of_geometric_means():
    a, b = table_of(0.5, [200, 800]), table_of(0.5, [100, 100, 100])
    ratio = measures.steps_ratio(a, b)
    assert ratio.value == pytest.approx(4)
    assert ratio.n == 5
    back = measures.steps_ratio(b, a)
    assert (back.low * ratio.high, back.high * ratio.low) == pytest.approx((1, 1))


def test_steps_ratio_has_the_interval_of_welch():
    rng = np.random.default_rng(5)
    a, b = (np.exp(rng.normal(8, s, n)).astype(int) for s, n in ((0.2, 4), (0.5, 7)))
    welch = stats.ttest_ind(np.log(a), np.log(b), equal_var=False).confidence_interval()
    ratio = measures.steps_ratio(table_of(0.5, a), table_of(0.5, b))
    assert (ratio.low, ratio.high) == pytest.approx((math.exp(welch.low), math.exp(welch.high)))


def test_steps_ratio_of_equal_steps_is_one():
    assert measures.steps_ratio(table_of(0.5, [300] * 3), table_of(0.5, [300] * 3)) == (1, 1, 1, 6)


@pytest.mark.parametrize("steps", [[100, None, 200], [None, None], [100]])
def test_steps_ratio_does_not_guess_what_a_censored_run_would_have_taken(steps):
    ratio = measures.steps_ratio(table_of(0.5, steps), table_of(0.5, [100, 200]))
    assert all(map(math.isnan, ratio[:3]))
    assert ratio.n == len(steps) + 2


def test_steps_ratio_leaves_missing_runs_out():
    a, b = table_of(0.5, [100, 400, None], [100, 400, None]), table_of(0.5, [100, 100])
    assert measures.steps_ratio(a, b).value == pytest.approx(2)


# 20 runs a group, from 1,000 to 1,950 steps
TWENTY = [1000 + 50 * i for i in range(20)]


def test_groups_of_one_distribution_are_alike():
    found = measures.alike(table_of(0.5, TWENTY), table_of(0.5, [s + 20 for s in TWENTY]))
    assert found.verdict is True
    assert found.ratio.low < 1 < found.ratio.high
    assert found.p_value > 0.9


def test_probability_that_rounding_takes_past_one_is_one_without_a_warning(recwarn):
    found = measures.alike(
        table_of(0.5, [1900, 2300, 2500, 2200, 2100]), table_of(0.5, [2000, 2500, 2700, 2100, 2100])
    )
    assert found.p_value == pytest.approx(1, abs=1e-3)
    assert not list(recwarn)


def test_groups_that_differ_in_the_mean_are_told_apart():
    later = [round(1.3 * steps) for steps in TWENTY]
    found = measures.alike(table_of(0.5, later), table_of(0.5, TWENTY))
    assert found.verdict is False
    assert found.ratio.low > 1


def test_groups_of_the_same_mean_that_differ_in_spread_are_told_apart():
    wide = [round(1400 * 4 ** (i / 9.5 - 1)) for i in range(20)]
    narrow = [1390 + i for i in range(20)]
    found = measures.alike(table_of(0.5, wide), table_of(0.5, narrow))
    assert found.ratio.low < 1 < found.ratio.high
    assert found.p_value < 0.05
    assert found.verdict is False


def test_groups_of_few_runs_are_not_said_to_be_alike():
    assert measures.alike(table_of(0.5, TWENTY[:19]), table_of(0.5, TWENTY)).verdict is None
    nothing = measures.alike(table_of(0.5, []), table_of(0.5, TWENTY))
    assert (nothing.verdict, math.isnan(nothing.p_value)) == (None, True)


def test_censored_runs_are_later_than_all_others_for_the_test_of_distributions():
    half = TWENTY[:10] + [None] * 10
    assert measures.alike(table_of(0.5, half), table_of(0.5, half)).verdict is True
    assert measures.alike(table_of(0.5, half), table_of(0.5, TWENTY[:10] * 2)).verdict is False


def steps_on_a_line(fractions, percent_more):
    return [round(1e7 * (1 + percent_more / 100) ** (30 - 100 * f)) for f in fractions]


FRACTIONS = np.repeat([0.25, 0.26, 0.27, 0.28, 0.29, 0.30], 3)


@pytest.mark.parametrize("percent_more", [-20, 0, 45, 200])
def test_slope_is_recovered_from_runs_on_a_line(percent_more):
    table = table_of(FRACTIONS, steps_on_a_line(FRACTIONS, percent_more), followed=10**10)
    slope = measures.slope_per_point(table)
    assert slope[:3] == pytest.approx((percent_more,) * 3, abs=1e-3)
    assert slope.n == 18


def test_slope_is_recovered_where_half_of_the_runs_are_censored():
    steps = [s if s < 3e7 else None for s in steps_on_a_line(FRACTIONS, 45)]
    table = table_of(FRACTIONS, steps, followed=30_000_000)
    assert steps.count(None) == 9
    assert measures.slope_per_point(table).value == pytest.approx(45, abs=1.5)


def noisy(seed, budget):
    rng = np.random.default_rng(seed)
    times = np.exp(9 + np.log(1.45) * (30 - 100 * FRACTIONS) + rng.normal(0, 0.4, len(FRACTIONS)))
    steps = [int(t) if t < budget else None for t in times]
    return table_of(FRACTIONS, steps, np.minimum(times, budget).astype(int))


@pytest.mark.parametrize("budget", [10**9, 30_000, 12_000])
def test_slope_is_at_the_maximum_of_the_likelihood(budget):
    """The twin: the likelihood as it is written in a textbook, maximised by scipy."""
    table = noisy(1, budget)
    x, y = 100 * FRACTIONS - 27.5, np.log(table["validation_steps"].fillna(table["followed"]).to_numpy(float))
    reached = table["validation_steps"].notna().to_numpy()

    def loss(theta):
        z, sigma = (y - theta[0] - theta[1] * x) / math.exp(theta[2]), math.exp(theta[2])
        return -np.where(reached, stats.norm.logpdf(z) - math.log(sigma), stats.norm.logsf(z)).sum()

    best = optimize.minimize(
        loss, [10, -0.3, -1], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}
    )
    assert measures.slope_per_point(table).value == pytest.approx(100 * np.expm1(-best.x[1]), abs=0.1)


def test_slope_of_censored_runs_is_not_drawn_to_the_budget():
    """Taking the budget for a time flattens the line."""
    slopes = []
    for seed in range(8):
        table = noisy(seed, 15_000)
        as_times = table.assign(validation_steps=table["validation_steps"].fillna(table["followed"]))
        slopes.append([measures.slope_per_point(t).value for t in (table, as_times)])
    respected, drawn = np.median(slopes, axis=0)
    assert 30 < respected < 65
    assert drawn < 30


def test_interval_of_the_slope_covers_it():
    found = [
        measures.slope_per_point(noisy(seed, budget)) for seed in range(20) for budget in (10**9, 30_000)
    ]
    assert sum(slope.low <= 45 <= slope.high for slope in found) / 40 > 0.8
    assert all(slope.low < slope.value < slope.high for slope in found)


@pytest.mark.parametrize("steps", [[100, 200, None, None], [None] * 4])
def test_slope_needs_two_fractions_that_reached_it(steps):
    slope = measures.slope_per_point(table_of([0.3, 0.3, 0.2, 0.2], steps))
    assert all(map(math.isnan, slope[:3]))
    assert slope.n == 4


def test_slope_refuses_runs_that_differ_in_more():
    table = table_of(FRACTIONS, steps_on_a_line(FRACTIONS, 45), 10**10, lr=[1e-3, 1e-4] * 9, seed=range(18))
    match = "table: lr is 0.001, 0.0001; runs may differ in train_fraction and seed only"
    with pytest.raises(ValueError, match=match):
        measures.slope_per_point(table)
    assert measures.slope_per_point(table.assign(lr=1e-3)).value == pytest.approx(45, abs=1e-3)


def by_cell(steps, group="a", followed=1000, **cell):
    return pd.DataFrame({
        "group": group, "validation_sustained": pd.array(steps, "Int64"), "followed": followed,
        "diverged": False, "missing": False, **cell,
    })  # fmt: skip


def test_best_cell_has_the_smallest_median_and_says_where_it_lies():
    table = pd.concat([
        by_cell([300, 320, None], lr=1, weight_decay=1), by_cell([200, 500, 510], lr=2, weight_decay=1),
        by_cell([None, None, 100], lr=3, weight_decay=1),
        by_cell([None] * 3, "b", lr=1, weight_decay=1), by_cell([10, None, None], "b", lr=2, weight_decay=1),
    ])  # fmt: skip
    best = measures.best_cells(table, "group")
    a, b = best.loc["a"], best.loc["b"]
    assert (a["lr"], a["weight_decay"], a["value"], a["n"], a["reached"]) == (1, 1, 320, 3, 2)
    assert (a["cells"], a["learned"], a["edges"]) == (3, 2, "lr, lowest")
    assert math.isnan(b["value"])
    assert math.isnan(b["lr"])
    assert (b["cells"], b["learned"], b["reached"], b["edges"]) == (2, 0, 1, "")
    inner = measures.best_cells(table.assign(lr=table["lr"] % 3), "group").loc["a"]
    assert (inner["lr"], inner["edges"]) == (1, "")


def test_no_run_has_no_best_cell():
    assert measures.best_cells(by_cell([], lr=[], weight_decay=[]), "group").empty
