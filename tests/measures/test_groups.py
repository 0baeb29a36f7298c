import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from grokking_core import Run, measures
from grokking_core.measures.groups import Estimate, LossTurn, Needed
from grokking_core.runs import record
from grokking_core.runs.record import Record

STEPS = [0, 1, 2, 5, 10, 20]
RUN = Run(operation="x+y", p=11)
NAN, INF = math.nan, math.inf


def made_up(validation, train=None, unmirrored=None, loss=None, run=RUN, diverged_at=None):
    """A record at the first steps of the grid, with these accuracies and validation losses."""
    columns = (train or validation, loss or [2.0] * len(validation), validation, unmirrored or validation)
    rows = [
        (step, 1.0, train, loss, accuracy, unmirrored, 3.0)
        for step, train, loss, accuracy, unmirrored in zip(STEPS, *columns, strict=False)
    ]
    return Record(run=run, curve=record.curve_frame(rows), diverged_at=diverged_at)


class Answers(list[Record]):
    """As `sweep` gives them."""

    missing: list[Run]


def table_of(fractions, steps, followed: Any = 100_000, diverged: Any = False, **columns):
    """What measures read of a summary; None in `steps`: censored, in `followed`: missing."""
    table = pd.DataFrame({"validation_steps": pd.array(steps, dtype="Int64")})
    table = table.assign(train_fraction=fractions, followed=followed, diverged=diverged, **columns)
    return table.astype({"followed": "Int64"})


def with_accuracies(best_by_fraction):
    rows = [(f, best) for f, several in best_by_fraction.items() for best in several]
    return pd.DataFrame(rows, columns=["train_fraction", "best_validation"])


# Many runs as a table.


def test_summary_has_a_row_a_run_and_missing_ones_last():
    rising, flat = [0, 0.2, 0.99, 0.5, 1, 1], [0, 0.1, 0.3, 0.2, 0.1, 0.1]
    others = [Run(operation="s5:xy", seed=s, batch_size="full", split_seed=s) for s in (1, 2)]
    records = Answers([made_up(rising, train=[0, 1, 1, 1, 1, 1]), made_up(flat, run=others[0])])
    records.missing = [others[1]]
    table = measures.summary(records)
    assert table["operation"].tolist() == ["x+y", "s5:xy", "s5:xy"]
    assert table["batch_size"].tolist() == ["None", "full", "full"]
    assert table["split_seed"].tolist() == [pd.NA, 1, 2]
    assert table["beta2"].tolist() == [0.98] * 3
    assert table["n_train"].tolist() == [60, 7200, 7200]
    assert table["train_steps"].tolist() == [1, pd.NA, pd.NA]
    assert table["validation_steps"].tolist() == [2, pd.NA, pd.NA]
    assert table["validation_kept"].tolist() == [10, pd.NA, pd.NA]
    assert table["followed"].tolist() == [20, 20, pd.NA]
    assert table["missing"].tolist() == [False, False, True]
    np.testing.assert_equal(table["best_validation"].to_numpy(), [1.0, 0.3, NAN])


def test_summary_has_every_field_of_a_run_and_the_same_columns_without_runs():
    table, empty = measures.summary([made_up([0, 1])]), measures.summary([])
    fields = set(Run.__dataclass_fields__) - {"betas"} | {"beta1", "beta2"}
    assert fields < set(table)
    assert list(empty) == list(table)
    assert empty.empty
    assert {str(empty[name].dtype) for name in (*measures.STEPS, "followed")} == {"Int64"}
    assert {str(table[name].dtype) for name in ("diverged", "missing")} == {"bool"}


def test_summary_reads_its_threshold_and_divergence():
    lowest = measures.summary([made_up([0, 0.5, 0.9, NAN], diverged_at=5)], threshold=0.5)
    assert lowest.loc[0, "validation_steps"] == 1
    assert lowest.loc[0, "validation_kept"] is pd.NA
    assert lowest.loc[0, "diverged"]
    assert lowest.loc[0, "best_validation"] == 0.9


@pytest.mark.parametrize("threshold", [0, 99, NAN])
def test_summary_refuses_a_threshold_that_is_no_share(threshold):
    with pytest.raises(ValueError, match=rf"threshold={threshold} must lie in \(0, 1\]; write 99 % as 0.99"):
        measures.summary([], threshold)


# Kaplan-Meier medians.


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
    match = "column='best_train' must be one of train_steps, validation_steps, unmirrored_steps, train_kept"
    with pytest.raises(ValueError, match=match):
        measures.medians(table_of([0.3], [1]), column="best_train")


# Ratios and slopes.


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


# The data that it takes.


@pytest.mark.parametrize(
    ("best", "needed"),
    [
        ({0.2: [0.1], 0.3: [0.5], 0.4: [1.0], 0.5: [1.0]}, (0.3, 0.4)),
        ({0.2: [1.0], 0.3: [1.0]}, (None, 0.2)),
        ({0.2: [0.1], 0.9: [0.98]}, (0.9, None)),
        ({0.2: [0.1, 1.0, 0.2], 0.3: [0.2, 1.0, 0.99]}, (0.2, 0.3)),  # median over seeds
        ({0.2: [0.1], 0.3: [1.0], 0.4: [0.5], 0.5: [1.0]}, (0.2, 0.3)),  # fails again above
        ({0.5: [1.0], 0.2: [0.1], 0.3: [0.99]}, (0.2, 0.3)),  # any order
        ({0.2: [0.1], 0.3: [NAN], 0.4: [NAN, 1.0]}, (0.2, 0.4)),  # missing runs say nothing
        ({}, (None, None)),
    ],
)
def test_fraction_needed_is_bracketed(best, needed):
    assert measures.fraction_needed(with_accuracies(best)) == Needed(*needed)


def test_fraction_needed_reads_its_threshold_and_column():
    table = with_accuracies({0.2: [0.6], 0.3: [0.9]}).assign(best_train=1.0)
    assert measures.fraction_needed(table, 0.5).reached == 0.2
    assert measures.fraction_needed(table, 0.9) == (0.2, 0.3)
    assert measures.fraction_needed(table, column="best_train") == (None, 0.2)


def test_fractions_that_fail_above_the_one_needed_are_named():
    table = with_accuracies({0.1: [0.1], 0.2: [1.0], 0.3: [0.5], 0.4: [1.0], 0.5: [0.9]})
    assert measures.fractions_relapsed(table) == [0.3, 0.5]
    assert measures.fractions_relapsed(table, 0.5) == []
    assert measures.fractions_relapsed(with_accuracies({0.1: [0.1]})) == []


def test_fraction_needed_refuses_wrong_arguments():
    table = with_accuracies({0.2: [0.1], 0.3: [1.0]})
    with pytest.raises(ValueError, match=r"threshold=99 must lie in \(0, 1\]; write 99 % as 0.99"):
        measures.fraction_needed(table, 99)
    match = "column='train_steps' must be one of best_train, best_validation, best_unmirrored"
    with pytest.raises(ValueError, match=match):
        measures.fraction_needed(table, column="train_steps")
    with pytest.raises(ValueError, match=r"table: operation is x\+y, x-y; runs may differ in"):
        measures.fraction_needed(table.assign(operation=["x+y", "x-y"]))


def paired(values, seeds=(0, 1), column="best_validation"):
    rows = [(f, seed, v) for f, several in values.items() for seed, v in zip(seeds, several, strict=False)]
    return pd.DataFrame(rows, columns=["train_fraction", "seed", column])


def test_pairs_are_of_one_fraction_and_seed():
    a, b = paired({0.3: [0.1, 0.2], 0.5: [1.0, 0.9]}), paired({0.5: [0.8, 0.7], 0.6: [1.0]})
    both = measures.pairs(a, b.sample(frac=1, random_state=1))
    assert both.loc[0.5, ["a", "b"]].to_numpy().tolist() == [[1.0, 0.8], [0.9, 0.7]]
    assert len(both) == 2
    assert measures.pairs(b, a)["b"].equals(both["a"])


def test_pairs_leave_out_what_is_missing_or_censored():
    a = paired({0.3: [0.1, NAN], 0.5: [1.0, 0.9]})
    assert list(measures.pairs(a, a).index) == [(0.3, 0), (0.5, 0), (0.5, 1)]
    steps = paired({0.3: [100, None]}, column="validation_steps").astype({"validation_steps": "Int64"})
    assert measures.pairs(steps, steps, "validation_steps").to_numpy().tolist() == [[100.0, 100.0]]
    assert measures.pairs(a, a.iloc[:0]).empty


def test_pairs_refuse_two_runs_of_one_seed():
    a = paired({0.3: [0.1, 0.2]})
    with pytest.raises(ValueError, match=r"table_b has two runs with train_fraction=0.3, seed=1; give one"):
        measures.pairs(a, paired({0.3: [0.1, 0.2]}, seeds=(1, 1)))


# One run.


def test_gap_is_the_ratio_of_steps():
    r = made_up([0, 0, 0, 0, 1, 0.9], train=[0, 0, 1, 0, 1, 1])
    assert measures.gap(r) == 5
    assert measures.gap(r, sustained=True) is None
    assert measures.gap(r, 0.9, sustained=True) == 1


@pytest.mark.parametrize(("validation", "train"), [([0, 0.5], [0, 1]), ([0, 1], [0, 0.5]), ([1, 1], [1, 1])])
def test_gap_of_a_censored_run_is_none(validation, train):
    assert measures.gap(made_up(validation, train)) is None


def test_gaps_are_medians_that_take_censored_validation_for_later():
    table = table_of([0.3] * 3 + [0.4] * 3, [None, None, 90, 20, 30, 40], followed=100, split_seed=1)
    table["train_steps"] = pd.array([20, None, 10, 10, 20, None], dtype="Int64")
    found = measures.gaps(table)
    assert found.index.tolist() == [0.3, 0.4]
    assert found["value"].tolist() == [9, 1.75]  # 5 and more, 9; 2, 1.5
    assert found[["n", "reached"]].to_numpy().tolist() == [[2, 1], [2, 2]]


def test_gap_of_one_run_is_its_own():
    r = made_up([0, 0, 0, 0, 1, 0.9], train=[0, 0, 1, 0, 1, 1])
    assert measures.gaps(measures.summary([r]))["value"].tolist() == [measures.gap(r)]
    assert measures.gaps(measures.summary([])).empty


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ([0, 0, 0, 0, 0, 1], 0),  # at one evaluation
        ([0, 0, 0.1, 0.5, 0.9, 1], 0.8),
        ([0, 0.1, 0.2, 0.5, 0.8, 0.9], 0.95),
        ([0.1, 0.2, 0.5, 0.9, 1, 1], 1),
        ([0, 0, 0.5, 0.5, 0.5, 0.5], None),
        ([1, 1, 1, 1, 1, 1], None),
    ],
)
def test_suddenness_is_the_share_of_updates_spent_rising(validation, expected):
    assert measures.suddenness(made_up(validation)) == expected


def test_suddenness_reads_the_accuracy_it_is_asked_for():
    r = made_up([0, 0.3, 0.5, 0.5, 0.9, 1], unmirrored=[0, 0, 0, 0, 0, 1])
    assert measures.suddenness(r) == 0.9
    assert measures.suddenness(r, which="unmirrored") == 0
    assert measures.suddenness(r, low=0.4, high=0.5) == 0
    with pytest.raises(ValueError, match=r"low=0.9, high=0.1 must be 0 < low < high <= 1; write 10 % as 0.1"):
        measures.suddenness(r, 0.9, 0.1)


def test_accuracy_when_fitted_is_that_of_the_first_evaluation_with_the_training_set_right():
    r = made_up([0, 0.1, 0.2, 0.9, 1, 1], train=[0, 0.5, 0.995, 0.9, 1, 1], unmirrored=[0, 0, 0.1, 1, 1, 1])
    assert measures.when_fitted(r) == 0.2
    assert measures.when_fitted(r, 0.999) == 1
    assert measures.when_fitted(r, which="unmirrored") == 0.1
    assert measures.when_fitted(made_up([0, 1], train=[0, 0.5])) is None


def test_best_accuracy_is_the_highest_seen():
    r = made_up([0, 0.7, NAN, 0.2], train=[0, 1, 1, 1], unmirrored=[NAN] * 4)
    assert measures.best_accuracy(r) == 0.7
    assert measures.best_accuracy(r, "train") == 1
    assert math.isnan(measures.best_accuracy(r, "unmirrored"))


@pytest.mark.parametrize(
    ("loss", "turn", "rose", "fell"),
    [
        ([5, 4, 9, 20, 3, 0.1], LossTurn(4, 20, 5, 0.1), True, True),
        ([5, 4, 9, 20, 21, 22], LossTurn(4, 22, 20, 22), True, False),
        ([5, 4, 3, 2, 1, 0.1], LossTurn(5, 5, 0, 0.1), False, True),
        ([4, 5, 5.1, 0.5, 3, 0.5], LossTurn(4, 5.1, 2, 0.5), True, True),  # a late spike, 2.5 nats high
        ([4, 5, 5.1, 0.5, 0.6, 3], LossTurn(4, 5.1, 2, 3), True, True),  # one at the end
        ([4, 5, 5.1, 0.5, 3, 2.9], LossTurn(0.5, 3, 10, 2.9), True, False),  # that is no spike
        ([5, 4, 4.1, 4.2, 4, 4], LossTurn(4, 4.2, 5, 4), False, False),  # a tenth is asked for
        ([5, 4, INF, 8, 6, NAN], LossTurn(4, 8, 5, 6), True, True),
    ],
)
def test_loss_turn_finds_the_hill(loss, turn, rose, fell):
    found = measures.loss_turn(made_up([0] * 6, loss=loss))
    assert found == turn
    assert (found.rose, found.fell) == (rose, fell)


def test_loss_turn_refuses_a_record_without_losses():
    with pytest.raises(ValueError, match="no validation loss is finite"):
        measures.loss_turn(made_up([0, 0], loss=[NAN, INF]))


# Intervals.


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
