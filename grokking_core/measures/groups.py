"""Numbers from curves: when a run learned, how suddenly, how much data it took; and how sure that is.

A run that never reached a threshold is censored: it counts as "later than it was followed", never as a
time of its own. A missing run counts as nothing. Intervals are for 95 %.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from grokking_core.runs.record import Record
from grokking_core.runs.run import Run

Side = Literal["train", "validation", "unmirrored"]
SIDES: tuple[Side, ...] = ("train", "validation", "unmirrored")
STEPS = tuple(f"{side}_{ending}" for ending in ("steps", "kept") for side in SIDES)
BEST = tuple(f"best_{side}" for side in SIDES)
FIELDS = [f.name for f in fields(Run) if f.name != "betas"] + ["beta1", "beta2"]
SAME = {*FIELDS} - {"train_fraction", "seed", "split_seed"}  # in runs that answer one question

TAIL = 0.025  # of an interval, on either side
FEWEST = 3  # values for an interval
ENOUGH = 20  # runs a group, to say of two that they are alike
RESAMPLES, SEED = 2000, 20220106  # of the bootstrap
MARGIN = 1.1  # factor by which a loss must rise or fall to count
ROUNDING = 0.01  # standard deviation of log(steps) that evaluations 3 to 10 % apart leave open


class Estimate(NamedTuple):
    """A number from n runs with its 95 % interval; NaN: it cannot be estimated; infinite: not reached."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        beyond = math.isnan(self.value) and self.high == math.inf
        text = _written(math.inf if beyond else self.value)
        if not (math.isnan(self.low) or math.isnan(self.high)):
            text += f" [{_written(self.low)}, {_written(self.high)}]"
        return f"{text} (n = {self.n:.0f})"  # a row of a table has floats


def _written(value: float) -> str:
    if math.isnan(value):
        return "no estimate"
    if math.isinf(value):
        return "not reached"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


# -------------------------------------------------------------------------------------------------
# Many runs as a table


def summary(records: Sequence[Record], threshold: float = 0.99) -> pd.DataFrame:
    """One row a run: those on record, in order, then those of `records.missing`, if it is there.

    Parameters
    ----------
    records : sequence of Record
        As `sweep` gives them.
    threshold : float
        Accuracy in (0, 1].

    Returns
    -------
    DataFrame
        - the fields of `Run`, with `beta1` and `beta2` for `betas` and `batch_size` as text; `n_train`;
        - `train_steps`, `validation_steps`, `unmirrored_steps` (Int64): first evaluation at or above the
          threshold; `train_kept`, ...: the one from which it holds. NA: censored, or missing;
        - `followed` (Int64): the last step; NA where missing;
        - `best_train`, `best_validation`, `best_unmirrored`: highest accuracy seen; NaN where missing;
        - `diverged`, `missing` (bool).

    Raises
    ------
    ValueError
        If `threshold` does not lie in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} must lie in (0, 1]; write 99 % as 0.99")
    rows = [_columns_of(record.run) | _outcome(record, threshold) for record in records]
    rows += [_columns_of(run) | {"missing": True} for run in getattr(records, "missing", ())]
    table = pd.DataFrame(rows, columns=[*FIELDS, "n_train", *STEPS, "followed", *BEST, "diverged", "missing"])
    whole = dict.fromkeys(("split_seed", "d_ff", *STEPS, "followed"), "Int64")
    table = table.astype(whole | dict.fromkeys(BEST, "float64"))
    for name in ("diverged", "missing"):
        table[name] = table[name].eq(True)
    return table


def _columns_of(run: Run) -> dict[str, Any]:
    values = asdict(run)
    values["beta1"], values["beta2"] = values.pop("betas")
    return values | {"batch_size": str(run.batch_size), "n_train": run.n_train}


def _outcome(record: Record, threshold: float) -> dict[str, Any]:
    row: dict[str, Any] = {"followed": record.last_step, "diverged": record.diverged_at is not None}
    for side in SIDES:
        row[f"{side}_steps"] = record.steps_to(threshold, side)
        row[f"{side}_kept"] = record.steps_to(threshold, side, sustained=True)
        row[f"best_{side}"] = best_accuracy(record, side)
    return row


class _Times(NamedTuple):
    rows: pd.DataFrame  # of the runs on record
    time: np.ndarray  # steps to the threshold; how far the run was followed where it is censored
    reached: np.ndarray


def _times(table: pd.DataFrame, column: str) -> _Times:
    """Times of the runs on record; one that diverged would never get there: it counts as followed longest."""
    if column not in STEPS:
        raise ValueError(f"column={column!r} must be one of {', '.join(STEPS)}")
    rows = table.dropna(subset="followed")
    steps, followed = _floats(rows[column]), _floats(rows["followed"])
    followed[rows["diverged"].to_numpy(bool)] = followed.max(initial=0)
    return _Times(rows, np.fmin(steps, followed), ~np.isnan(steps))


def _one_group(table: pd.DataFrame) -> None:
    for name in [name for name in table if name in SAME]:
        values = table[name].drop_duplicates()
        if len(values) > 1:
            told = ", ".join(map(str, values))
            raise ValueError(f"table: {name} is {told}; runs may differ in train_fraction and seed only")


# -------------------------------------------------------------------------------------------------
# Steps to a threshold


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
    at = _floats(steps)
    end = _floats(followed) if isinstance(followed, Iterable) else np.full(at.shape, float(followed))
    if at.shape != end.shape:
        raise ValueError(f"steps has {len(at)} values and followed {len(end)}; they must be as many")
    beyond = (at > end) | (~np.isnan(at) & np.isnan(end))
    if beyond.any():
        told = f"steps={at[beyond][0]:g} with followed={end[beyond][0]:g}"
        raise ValueError(f"{told}: a run must be followed to where it reached the threshold")
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
        `train_steps`, `validation_steps`, `unmirrored_steps` or the same with `_kept`.

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
    fitted = pd.DataFrame(table[_floats(table["train_steps"]) > 0])
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
    mean = logs[0].mean() - logs[1].mean()
    parts = np.array([x.var(ddof=1) / len(x) for x in logs])
    error = math.sqrt(parts.sum())
    if error > 0:
        freedom = parts.sum() ** 2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, logs, strict=True))
        error *= float(stats.t.ppf(1 - TAIL, freedom))
    return Estimate(math.exp(mean), math.exp(mean - error), math.exp(mean + error), n)


class Alike(NamedTuple):
    """Whether two groups of runs take as long as each other; see `alike`."""

    ratio: Estimate  # `steps_ratio`: geometric mean steps of the first over that of the second
    p_value: float  # of the Kolmogorov-Smirnov test; NaN where a group has no run
    verdict: bool | None  # None: they cannot be told apart, but there are too few of them to say


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
    _one_group(table)
    rows, time, reached = _times(table, column)
    n, percent = len(rows), 100 * rows["train_fraction"].to_numpy(float)
    (value,) = _percent_more(_censored_slopes(percent, _log(time), reached, np.ones((1, n))))
    if math.isnan(value):
        return NOTHING._replace(n=n)
    counts = np.array([np.bincount(draw, minlength=n) for draw in _draws(n)], float)
    drawn = _percent_more(_censored_slopes(percent, _log(time), reached, counts))
    return Estimate(float(value), *_middle(drawn), n)


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


# -------------------------------------------------------------------------------------------------
# The data that it takes


class Needed(NamedTuple):
    """The training fraction needed lies above `failed` and at or below `reached`; None: none was tried."""

    failed: float | None
    reached: float | None


def fraction_needed(table: pd.DataFrame, threshold: float = 0.99, column: str = "best_validation") -> Needed:
    """Smallest training fraction that sufficed, and the largest tried below it (figure 2).

    A fraction suffices where the median over its runs of the best accuracy is at or above the threshold.
    Larger fractions that fail again do not move it: see `fractions_relapsed`.

    Parameters
    ----------
    table : DataFrame
        Rows of `summary`, of one configuration; missing runs are left out.
    threshold : float
        Accuracy in (0, 1].
    column : {"best_validation", "best_unmirrored", "best_train"}

    Raises
    ------
    ValueError
        If runs differ in more than fraction and seed, or an argument is none of the above.
    """
    enough = _sufficient(table, threshold, column)
    reached = min((f for f in enough if enough[f]), default=None)
    failed = max((f for f in enough if reached is None or f < reached), default=None)
    return Needed(failed, reached)


def fractions_relapsed(
    table: pd.DataFrame, threshold: float = 0.99, column: str = "best_validation"
) -> list[float]:
    """Fractions above the smallest sufficient one that failed, increasing; see `fraction_needed`."""
    enough = _sufficient(table, threshold, column)
    reached = min((f for f in enough if enough[f]), default=math.inf)
    return sorted(f for f in enough if f > reached and not enough[f])


def _sufficient(table: pd.DataFrame, threshold: float, column: str) -> dict[float, bool]:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} must lie in (0, 1]; write 99 % as 0.99")
    if column not in BEST:
        raise ValueError(f"column={column!r} must be one of {', '.join(BEST)}")
    _one_group(table)
    known = table.dropna(subset=column)
    fraction, best = known["train_fraction"].to_numpy(float), known[column].to_numpy(float)
    return {float(f): bool(np.median(best[fraction == f]) >= threshold) for f in np.unique(fraction)}


def pairs(table_a: pd.DataFrame, table_b: pd.DataFrame, column: str = "best_validation") -> pd.DataFrame:
    """Runs of two groups side by side, where both have one of the same training fraction and seed.

    Such runs have the same split of the table, so that their difference is that of the groups.

    Parameters
    ----------
    table_a, table_b : DataFrame
        Rows of `summary`.
    column : str
        A column of numbers. Pairs of which one run is missing or, for steps, censored are left out.

    Returns
    -------
    DataFrame
        Index train_fraction, seed; columns a, b.

    Raises
    ------
    ValueError
        If a group has two runs of one fraction and seed.
    """
    on, sides = ["train_fraction", "seed"], {}
    for name, table in (("a", table_a), ("b", table_b)):
        twice = table.loc[table.duplicated(on), on].to_numpy()
        if len(twice):
            told = f"train_fraction={twice[0, 0]}, seed={twice[0, 1]:.0f}"
            raise ValueError(f"table_{name} has two runs with {told}; give one")
        sides[name] = table.set_index(on)[column].astype("Float64").astype("float64")
    return pd.concat(sides, axis="columns", join="inner").dropna()


# -------------------------------------------------------------------------------------------------
# One run


def best_accuracy(record: Record, which: Side = "validation") -> float:
    """Highest accuracy at any evaluation, in [0, 1]; NaN if there is none."""
    return float(np.fmax.reduce(record.curve[f"{which}_accuracy"].to_numpy()))


def gap(record: Record, threshold: float = 0.99, sustained: bool = False) -> float | None:
    """Steps to a validation accuracy over steps to that training accuracy (claim C1); None if censored.

    Parameters
    ----------
    threshold : float
        Accuracy in (0, 1].
    sustained : bool
        Take the steps from which it holds, not the first.
    """
    train, validation = (record.steps_to(threshold, side, sustained) for side in ("train", "validation"))
    return validation / train if train and validation is not None else None


def when_fitted(record: Record, threshold: float = 0.99, which: Side = "validation") -> float | None:
    """Accuracy at the first evaluation with training accuracy `threshold`; None if there is none.

    Where it is near chance the network has overfitted; where it is near 1 the two were learned together.
    """
    step = record.steps_to(threshold, "train")
    curve = record.curve.set_index("step")[f"{which}_accuracy"]
    return None if step is None else float(curve.loc[step])


def suddenness(
    record: Record, low: float = 0.1, high: float = 0.9, which: Side = "validation"
) -> float | None:
    """Updates from accuracy `low` to `high` over updates to `high`: near 0 sudden, near 1 gradual.

    None if `high` was not reached, or at step 0 already. Both are first evaluations at or above: a
    network that waits half-way, as for unmirrored pairs, is gradual.

    Raises
    ------
    ValueError
        Unless 0 < low < high <= 1.
    """
    if not 0 < low < high <= 1:
        raise ValueError(f"low={low}, high={high} must be 0 < low < high <= 1; write 10 % as 0.1")
    start, end = record.steps_to(low, which), record.steps_to(high, which)
    return (end - start) / end if end and start is not None else None


class LossTurn(NamedTuple):
    """The hill of a validation loss, in nats; see `loss_turn`."""

    lowest_before: float
    peak: float
    peak_step: int
    end: float

    @property
    def rose(self) -> bool:
        """Whether the peak is more than a tenth above the lowest loss before it."""
        return self.peak > MARGIN * self.lowest_before

    @property
    def fell(self) -> bool:
        """Whether the last loss is more than a tenth below the peak."""
        return self.end * MARGIN < self.peak


def loss_turn(record: Record) -> LossTurn:
    """Largest rise of the validation loss, and where it ended (figure 4, claim C2).

    `peak` is the evaluation that lies furthest, in nats, above the lowest one before it. A rise counts as far
    as two evaluations in a row show it: late spikes, of one evaluation, can be higher than the hill. Losses
    that are not finite are left out.

    Raises
    ------
    ValueError
        If no validation loss of the record is finite.
    """
    step, loss = record.curve["step"].to_numpy(), record.curve["validation_loss"].to_numpy()
    step, loss = step[np.isfinite(loss)], loss[np.isfinite(loss)]
    if not len(loss):
        raise ValueError(f"record of {record.run}: no validation loss is finite")
    lowest = np.minimum.accumulate(loss)
    beside = np.maximum(np.append(math.inf, loss[:-1]), np.append(loss[1:], -math.inf))
    i = int(np.lexsort((loss, np.minimum(loss, beside) - lowest))[-1])
    return LossTurn(float(lowest[i]), float(loss[i]), int(step[i]), float(loss[-1]))


# -------------------------------------------------------------------------------------------------
# Intervals


def interval(values: Iterable[Any], statistic: Callable[[np.ndarray], Any] = np.median) -> Estimate:
    """A statistic of values with its bootstrap percentile interval.

    The draws are the same each time. It never leaves what resampling can give, so that of a few values it
    is too narrow: the median of 3, 4 or 5 is covered in 75, 88 or 94 % of cases.

    Parameters
    ----------
    values : iterable of n numbers
        None, NA or NaN: unknown, which makes the estimate NaN; leave out beforehand what is missing.
    statistic : callable
        From an array of shape (n,) to a number.

    Returns
    -------
    Estimate
        No interval below three values.
    """
    known = _floats(values)
    if np.isnan(known).any() or not len(known):
        return NOTHING._replace(n=int((~np.isnan(known)).sum()))
    value, n = float(statistic(known)), len(known)
    if n < FEWEST:
        return Estimate(value, math.nan, math.nan, n)
    return Estimate(value, *_middle(np.array([float(statistic(known[rows])) for rows in _draws(n)])), n)


def spearman(x: Iterable[Any], y: Iterable[Any]) -> Estimate:
    """Spearman's rank correlation with a bootstrap interval over pairs (claim C21).

    Parameters
    ----------
    x, y : iterable of n numbers
        Pairs with an unknown side (None, NA, NaN) are left out.

    Returns
    -------
    Estimate
        In [-1, 1]. NaN below three pairs, and where x or y is constant.

    Raises
    ------
    ValueError
        If x and y differ in length.
    """
    first, second = _floats(x), _floats(y)
    if first.shape != second.shape:
        raise ValueError(f"x has {len(first)} values and y {len(second)}; they must be as many")
    known = ~(np.isnan(first) | np.isnan(second))
    pairs = np.stack([first[known], second[known]])

    n = pairs.shape[1]
    value = _rank_correlations(pairs, np.arange(n)[None])[0] if n >= FEWEST else math.nan
    if math.isnan(value):
        return NOTHING._replace(n=n)
    return Estimate(float(value), *_middle(_rank_correlations(pairs, _draws(n))), n)


def _rank_correlations(pairs: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Spearman's rho, (B,), of pairs (2, n) in draws (B, n) of them; NaN where one side is constant."""
    ranks = stats.rankdata(pairs[:, draws], axis=-1)
    a, b = ranks - ranks.mean(axis=-1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return (a * b).sum(axis=1) / np.where(scale > 0, scale, math.nan)


def _draws(n: int) -> np.ndarray:
    """Row numbers with replacement, (RESAMPLES, n), the same ones each time."""
    return np.random.default_rng(SEED).integers(n, size=(RESAMPLES, n))


def _middle(drawn: np.ndarray) -> tuple[float, float]:
    """Where 95 % of resampled values lie; those of too few different rows are NaN and left out."""
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) < RESAMPLES / 2:
        return math.nan, math.nan
    low, high = np.quantile(drawn, (TAIL, 1 - TAIL))
    return float(low), float(high)


def _floats(values: Iterable[Any]) -> np.ndarray:
    """Floats of shape (n,) of numbers with None, NA or NaN among them, each of which becomes NaN."""
    series = pd.Series(list(values), dtype="object")
    return series.astype("Float64").to_numpy("float64", na_value=math.nan)


def _log(steps: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(steps, 1))  # a run may start at the threshold
