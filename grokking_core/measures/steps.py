"""Steps to a threshold, in groups of runs.

A run that never reached a threshold is censored: it counts as "later than it was followed", never as a
time of its own. A missing run counts as nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from grokking_core.measures.groups import STEPS, one_configuration
from grokking_core.measures.intervals import FEWEST, NOTHING, TAIL, Estimate, draws, floats, middle

ENOUGH = 20  #: runs a group, to say of two that they are alike
ROUNDING = 0.01  #: standard deviation of log(steps) that evaluations 3 to 10 % apart leave open


class _Times(NamedTuple):
    rows: pd.DataFrame  # of the runs on record
    time: np.ndarray  # steps to the threshold; how far the run was followed where it is censored
    reached: np.ndarray


def _times(table: pd.DataFrame, column: str) -> _Times:
    """Times of the runs on record; one that diverged would never get there: it counts as followed longest."""
    if column not in STEPS:
        raise ValueError(f"column={column!r} must be one of {', '.join(STEPS)}")
    rows = table.dropna(subset="followed")
    steps, followed = floats(rows[column]), floats(rows["followed"])
    followed[rows["diverged"].to_numpy(bool)] = followed.max(initial=0)
    return _Times(rows, np.fmin(steps, followed), ~np.isnan(steps))


def median_steps(steps: Iterable[Any], followed: Iterable[Any] | float) -> Estimate:
    """Kaplan-Meier median of steps to a threshold; NaN where half of the runs never reached it.

    Where the survival curve is flat at one half the median is the middle of the flat piece, so that
    without censoring this is the usual median, and with runs followed equally far it is the median with
    censored runs at infinity.

    The interval is that of Brookmeyer and Crowley (1982): the steps at which the 95 % interval of the
    survival curve (Greenwood's variance on the log-log scale, Kalbfleisch and Prentice) holds one half;
    where the curve is at 1 or 0 the exact binomial limit stands in. It takes no view of the shape of the
    distribution and uses what censored runs tell. Three to five runs cannot bound a median from above,
    and it says so: [first run, not reached), which covers the median in 1 - 2^-n of all cases: 88, 94
    and 97 %. A bootstrap never leaves the range of the runs and would cover it in 75, 88 and 94 %.

    Parameters
    ----------
    steps : iterable of n numbers
        None, NA or NaN: censored.
    followed : iterable of n numbers, or a number
        Last step of each run, or of all; None, NA or NaN: the run is missing, and left out.

    Returns
    -------
    Estimate
        In steps. `high` is infinite where it was not reached; no interval below three runs.

    Raises
    ------
    ValueError
        If `steps` and `followed` differ in length, or a run was not followed to where it reached it.
    """
    at = floats(steps)
    end = floats(followed) if isinstance(followed, Iterable) else np.full(at.shape, float(followed))
    if at.shape != end.shape:
        raise ValueError(f"steps has {len(at)} values and followed {len(end)}; they must be as many")
    beyond = (at > end) | (~np.isnan(at) & np.isnan(end))
    if beyond.any():
        wrong = f"steps={at[beyond][0]:g} with followed={end[beyond][0]:g}"
        raise ValueError(f"{wrong}: a run must be followed to where it reached the threshold")
    at, end = at[~np.isnan(end)], end[~np.isnan(end)]
    if not len(at):
        return NOTHING
    reached = ~np.isnan(at)
    curve = stats.ecdf(stats.CensoredData(uncensored=at[reached], right=end[~reached])).sf
    low, high = _brookmeyer_crowley(curve, len(at)) if len(at) >= FEWEST else (math.nan, math.nan)
    return Estimate(_median_of(curve), low, high, len(at))


def medians(
    table: pd.DataFrame, by: str | list[str] = "train_fraction", column: str = "validation_steps"
) -> pd.DataFrame:
    """Kaplan-Meier medians (see `median_steps`) of groups of runs, a row each (figure 1 centre).

    Parameters
    ----------
    table : DataFrame
        Rows of `summary`. A run that diverged counts as never reaching the threshold.
    by : str or list of str
        Columns that make the groups, then the index.
    column : str
        `train_steps`, `validation_steps`, `unmirrored_steps` or the same with `_sustained`.

    Returns
    -------
    DataFrame
        Columns value, low, high, n, reached: the last two are counts of runs, missing ones apart.
    """
    runs, time, reached = _times(table, column)
    rows, index = [], []
    for key, places in runs.groupby(by, dropna=False).indices.items():
        estimate = median_steps(np.where(reached, time, math.nan)[places], time[places])
        rows.append({**estimate._asdict(), "reached": np.count_nonzero(reached[places])})
        index.append(key)
    columns = [*Estimate._fields, "reached"]
    if isinstance(by, list):
        return pd.DataFrame(rows, pd.MultiIndex.from_tuples(index, names=by), columns)
    return pd.DataFrame(rows, pd.Index(index, name=by), columns)


def best_cells(
    table: pd.DataFrame,
    by: str,
    cell: Sequence[str] = ("lr", "weight_decay"),
    column: str = "validation_sustained",
) -> pd.DataFrame:
    """The cell of a grid in which each group has the smallest median of steps (see `median_steps`).

    A group is judged in its best cell: that is fair where all groups have the same cells and as many runs.

    Parameters
    ----------
    table : DataFrame
        Rows of `summary`, with the column `by`.
    by : str
        What makes the groups, then the index.
    cell : sequence of str
        The columns that make the grid.
    column : str
        As for `medians`.

    Returns
    -------
    DataFrame
        A row a group with runs on record: the columns of `medians` and of the cell; `cells`, those tried;
        `learned`, those whose median was reached; `edges`, words for where the best cell is the last one that
        was tried ("lr, highest"). In a group that reached no median the cell is NA and the median NaN.
    """
    found = medians(table, [by, *cell], column).reset_index()
    rows, index = [], []
    for name, group in found.groupby(by, sort=False):
        learned = group.dropna(subset="value").sort_values("value", kind="stable").to_dict("records")
        none = {**NOTHING._asdict(), **{key: np.sum(floats(group[key])) for key in ("n", "reached")}}
        best: dict[Any, Any] = learned[0] if learned else none | dict.fromkeys(cell, math.nan)
        edges = [
            f"{axis}, {end}"
            for axis in cell
            for end, edge in (("lowest", group[axis].min()), ("highest", group[axis].max()))
            if len(set(group[axis])) > 1 and best[axis] == edge
        ]
        rows.append(best | {"cells": len(group), "learned": len(learned), "edges": "; ".join(edges)})
        index.append(name)
    columns = [*cell, *Estimate._fields, "reached", "cells", "learned", "edges"]
    return pd.DataFrame(rows, pd.Index(index, name=by), columns)


def gaps(table: pd.DataFrame, by: str | list[str] = "train_fraction") -> pd.DataFrame:
    """Kaplan-Meier medians of the gaps (see `gap`) of groups of runs, a row each (section 3.1, claim C5).

    A run that is censored in validation has a gap above `followed / train_steps`; one that is censored in
    training has none, and is left out.

    Parameters
    ----------
    table : DataFrame
        Rows of `summary`.
    by : str or list of str
        Columns that make the groups, then the index.

    Returns
    -------
    DataFrame
        Columns value, low, high (factors), n, reached: the last two are counts of runs.
    """
    fitted = pd.DataFrame(table[floats(table["train_steps"]) > 0])
    train = fitted["train_steps"].astype("Float64")
    factors = {name: fitted[name] / train for name in ("validation_steps", "followed")}
    return medians(fitted.assign(**factors), by)


def _median_of(curve: Any) -> float:
    time, alive = curve.quantiles, curve.probabilities
    half = np.isclose(alive, 0.5)
    below = time[(alive < 0.5) & ~half]
    if not len(below):
        return math.nan
    return float((time[half][0] + below[0]) / 2) if half.any() else float(below[0])


def _brookmeyer_crowley(curve: Any, n: int) -> tuple[float, float]:
    time, alive = curve.quantiles, curve.probabilities
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no Greenwood limits at 0 and 1
        limits = curve.confidence_interval(method="log-log")
    exact = TAIL ** (1 / n)  # binomial lower limit where all are alive
    lower = np.select([alive == 1, alive == 0], [exact, 0.0], limits.low.probabilities)
    upper = np.select([alive == 1, alive == 0], [1.0, 1 - exact], limits.high.probabilities)
    low, high = time[lower <= 0.5], time[upper < 0.5]
    return float(low[0] if len(low) else time[-1]), float(high[0] if len(high) else math.inf)


def steps_ratio(table_a: pd.DataFrame, table_b: pd.DataFrame, column: str = "validation_steps") -> Estimate:
    """Geometric mean steps of group a over that of group b; the two train alike where 1 is in the interval.

    The interval is Welch's on log(steps), two t-intervals of unequal variance: with three runs a group it
    covers the ratio in about 95 % of cases, where a bootstrap covers it in about 83 % and would tell two
    groups apart that are the same.

    Parameters
    ----------
    table_a, table_b : DataFrame
        Rows of `summary`, at least two recorded runs each; missing runs are left out.
    column : str
        A column of steps, as in `medians`.

    Returns
    -------
    Estimate
        n counts the runs of both. NaN if a run is censored: its steps are not known.
    """
    a, b = _times(table_a, column), _times(table_b, column)
    n = len(a.time) + len(b.time)
    if min(len(a.time), len(b.time)) < 2 or not (a.reached.all() and b.reached.all()):
        return NOTHING._replace(n=n)
    logs = [_log(group.time) for group in (a, b)]
    mean = float(logs[0].mean() - logs[1].mean())
    low, high = mean, mean
    if any(np.ptp(values) > 0 for values in logs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all runs of a group took equally long
            low, high = stats.ttest_ind(*logs, equal_var=False).confidence_interval(1 - 2 * TAIL)
    return Estimate(math.exp(mean), math.exp(low), math.exp(high), n)


class Alike(NamedTuple):
    """Whether two groups of runs take as long as each other; see `alike`."""

    ratio: Estimate  #: `steps_ratio`: geometric mean steps of the first over that of the second
    p_value: float  #: of the Kolmogorov-Smirnov test; NaN where a group has no run
    verdict: bool | None  #: None: they cannot be told apart, but there are too few of them to say


def alike(table_a: pd.DataFrame, table_b: pd.DataFrame, column: str = "validation_steps") -> Alike:
    """Whether the steps of two groups could be of one distribution: neither test, at 5 %, tells them apart.

    The tests are that 1 lies in the interval of `steps_ratio`, where no run is censored, and the exact
    two-sample Kolmogorov-Smirnov test, for which a censored run is later than all others. That they say
    nothing means something only where a difference would show: with `ENOUGH` runs a group or more.

    Parameters
    ----------
    table_a, table_b : DataFrame
        Rows of `summary`; missing runs are left out.
    column : str
        A column of steps, as in `medians`.
    """
    ratio = steps_ratio(table_a, table_b, column)
    groups = [_times(table, column) for table in (table_a, table_b)]
    steps = [np.where(group.reached, group.time, np.inf) for group in groups]
    fewest = min(map(len, steps))
    with warnings.catch_warnings():
        # Rounding may take an exact 1 past 1, which SciPy takes for a failure: its other form gives 1 too.
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        test: Any = stats.ks_2samp(steps[0], steps[1], method="exact") if fewest else None
    p_value = float(test.pvalue) if test else math.nan
    if p_value < 2 * TAIL or ratio.low > 1 or ratio.high < 1:
        return Alike(ratio, p_value, False)
    return Alike(ratio, p_value, True if fewest >= ENOUGH else None)


def slope_per_point(table: pd.DataFrame, column: str = "validation_steps") -> Estimate:
    """Percent more updates for one percentage point less data (figure 1 centre, claim C3).

    Fits log(steps) = a + b f + sigma z by maximum likelihood, f the training fraction in percent and z
    standard normal, so that exp(a + b f) is the median; a censored run adds the probability of a time
    beyond its last step (Tobit). The answer is 100 (exp(-b) - 1). The interval is the bootstrap's, over
    runs; with three runs at each of six fractions it covers the slope in about 90 % of cases.

    Parameters
    ----------
    table : DataFrame
        Rows of `summary`, of one configuration: the fractions between which the slope is asked for.
    column : str
        A column of steps, as in `medians`.

    Returns
    -------
    Estimate
        In percent. NaN unless runs of two fractions or more reached the threshold.

    Raises
    ------
    ValueError
        If runs differ in more than fraction and seed, or `column` is no column of steps.
    """
    one_configuration(table)
    rows, time, reached = _times(table, column)
    n, percent = len(rows), 100 * rows["train_fraction"].to_numpy(float)
    (value,) = _percent_more(_censored_slopes(percent, _log(time), reached, np.ones((1, n))))
    if math.isnan(value):
        return NOTHING._replace(n=n)
    counts = np.array([np.bincount(draw, minlength=n) for draw in draws(n)], float)
    drawn = _percent_more(_censored_slopes(percent, _log(time), reached, counts))
    return Estimate(float(value), *middle(drawn), n)


def _percent_more(slopes: np.ndarray) -> np.ndarray:
    return 100 * np.expm1(-slopes)


def _censored_slopes(x: np.ndarray, y: np.ndarray, reached: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Slopes of y on x by maximum likelihood, (B,), for B weights of the n runs, (B, n).

    Where not reached, y is a lower bound. In Olsen's (1978) parameters theta = (line, 1) / sigma the
    likelihood is concave, and damped Newton steps find its maximum for all B at once. ROUNDING adds to
    sigma what the evaluation grid hides, so that runs on one line do not make sigma 0.
    """
    slopes, events = np.full(len(weights), math.nan), weights * reached
    enough = ((events @ (x[:, None] == np.unique(x))) > 0).sum(axis=1) >= 2
    if not enough.any():
        return slopes
    x, y, w = x - x.mean(), y - y.mean(), weights[enough]
    m = events[enough].sum(axis=1)
    V = np.stack([-np.ones_like(x), -x, y], axis=1)  # (n, 3): z = V theta, in sigmas
    theta = np.tile([0.0, 0.0, 1 / max(y.std(), ROUNDING)], (len(w), 1))
    for _ in range(100):
        z = theta @ V.T
        hazard = np.exp(-(z**2) / 2 - special.log_ndtr(-z)) / math.sqrt(2 * math.pi)
        gradient = (w * np.where(reached, z, hazard)) @ V
        gradient[:, 2] += m * (ROUNDING**2 * theta[:, 2] - 1 / theta[:, 2])
        hessian = np.einsum("bn,ni,nj->bij", w * np.where(reached, 1, hazard * (hazard - z)), V, V)
        hessian[:, 2, 2] += m * (ROUNDING**2 + 1 / theta[:, 2] ** 2)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        decrement = np.sqrt(np.einsum("bi,bi->b", step, gradient).clip(0))
        theta -= step / np.where(decrement > 0.25, 1 + decrement, 1)[:, None]
        if decrement.max() < 1e-9:
            break
    slopes[enough] = theta[:, 1] / theta[:, 2]
    return slopes


def _log(steps: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(steps, 1))  # a run may start at the threshold
