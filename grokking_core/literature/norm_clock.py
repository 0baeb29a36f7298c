"""The weight norm as a clock; see `measures.clock`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from grokking_core import measures
from grokking_core.claims.deciding import LATE, TOGETHER, Verdict, kind_of
from grokking_core.literature.rows import judged, row
from grokking_core.measures import clock
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run

SOURCE = "arXiv:2605.18845"
SETTING = (
    "1-layer transformer and MLP, x+y mod 97; AdamW, calibrated at rate 1e-3 and decay 1, 26 runs predicted"
)
ERROR = 0.177  #: mean relative error of theirs
EXPONENTS = (-1.02, -1.26)  #: of learning rate and decay, theirs: a delay goes with these powers of them
NEAR = 0.5  #: distance from an exponent that is near it
CELLS = 3  #: of learning rate and decay in which runs grokked, to compare cells


@row(
    SOURCE,
    "Calibrated on one cell of learning rate and decay, the fall of the weight norm predicts the delays of "
    "the others with a mean error of 17.7 %.",
    SETTING,
)
def norm_predicts_the_delay(norm_clock: Records) -> Verdict:
    """Decided by the runs outside the cell of the paper's rate and decay that grokked after they had fitted.

    A run's error is |predicted / observed - 1|; the clock's must be smaller than those of two predictions
    that know nothing of norms, by the interval of the median difference: that cell's delay, and that delay
    scaled by 1 / (lr decay). agrees: it beats both, and its mean is at most TOGETHER times theirs. partly: it
    beats both, with a larger mean. differs: a prediction without norms does as well. not reached: fewer than
    CELLS cells with such runs, or the calibration has none.
    """
    table, errors = judged_runs(norm_clock)
    cells = {(rate, decay) for rate, decay in table[["lr", "weight_decay"]].to_numpy()}
    if len(cells) < CELLS:
        return judged("not reached", len(table), f"Runs grokked in {len(cells)} other cells.", norm_clock)
    mean = {name: measures.interval(errors[name], np.mean) for name in clock.METHODS}
    ahead = [measures.interval(errors["clock"] - errors[name]).high < 0 for name in clock.METHODS[1:]]
    kind = "differs"
    if all(ahead):
        kind = "agrees" if mean["clock"].value <= TOGETHER * ERROR else "partly"
    text = "Mean error, 1 being 100 %: " + "; ".join(f"{name} {found}" for name, found in mean.items())
    return judged(kind, len(table), f"{text} (theirs: {ERROR}).", norm_clock)


@row(SOURCE, "From fitting to grokking the weight norm falls.", SETTING)
def norm_falls_on_the_plateau(norm_clock: Records) -> Verdict:
    """Decided by the runs that grokked after they had fitted: whether the norm is lower then.

    agrees: in nine of ten runs or more. partly: in more than half. differs: in half or fewer. not reached:
    fewer than CELLS cells with such runs.
    """
    table = waited(norm_clock)
    ratios = table["v_grokked"].to_numpy(float) / table["v_fitted"].to_numpy(float)
    share = np.mean(ratios < 1) if len(ratios) else 0.0
    kind = "agrees" if share >= 0.9 else "partly" if share > 0.5 else "differs"
    ratio = measures.interval(table["v_grokked"] / table["v_fitted"])
    text = (
        f"It is lower in {(table['v_grokked'] < table['v_fitted']).sum()} of {len(table)} runs; median ratio "
    )
    text += f"of squared norms {ratio}."
    return judged(kind if n_cells(table) >= CELLS else "not reached", len(table), text, norm_clock)


@row(SOURCE, "The rate kappa at which the norm falls is one number for a network, some 0.2 to 0.4.", SETTING)
def one_kappa_for_all_cells(norm_clock: Records) -> Verdict:
    """Decided by the median kappa of each cell of learning rate and decay.

    agrees: the largest is at most TOGETHER times the smallest, both positive. partly: at most LATE times.
    differs: more, or one is 0 or less. not reached: fewer than CELLS cells.
    """
    table = waited(norm_clock)
    kappas = table.groupby(["lr", "weight_decay"])[["kappa"]].median().to_numpy(float)
    low, high = (kappas.min(), kappas.max()) if len(kappas) else (0.0, 0.0)
    kind = "differs"
    if low > 0:
        kind = "agrees" if high <= TOGETHER * low else "partly" if high <= LATE * low else "differs"
    text = f"Medians of {len(kappas)} cells: {low:.2g} to {high:.2g}; over all runs "
    text += f"{measures.interval(table['kappa'])}."
    return judged(kind if len(kappas) >= CELLS else "not reached", len(table), text, norm_clock)


@row(SOURCE, "Networks grok at one norm, whatever the learning rate and the decay.", SETTING)
def grokking_at_one_norm(norm_clock: Records) -> Verdict:
    """Decided by medians over the seeds of a cell of the squared norms at fitting and at grokking.

    agrees: the largest norm at grokking is at most TOGETHER times the smallest, and they spread less, as a
    ratio, than those at fitting do. partly: one of the two. differs: neither. not reached: fewer than CELLS
    cells.
    """
    table = waited(norm_clock)
    cells = table.groupby(["lr", "weight_decay"])[["v_fitted", "v_grokked"]].median().to_numpy(float)
    fitted, grokked = np.ptp(np.log(cells), axis=0) if len(cells) else (0.0, 0.0)
    fitted, grokked = np.exp([fitted, grokked])
    kind = kind_of([grokked <= TOGETHER, grokked < fitted])
    text = f"Largest over smallest of {len(cells)} cells: {grokked:.3g} at grokking, {fitted:.3g} at fitting."
    return judged(kind if len(cells) >= CELLS else "not reached", len(table), text, norm_clock)


@row(SOURCE, "The delay goes with the learning rate to the power -1.02 and with the decay to -1.26.", SETTING)
def powers_of_rate_and_decay(norm_clock: Records) -> Verdict:
    """Decided by `measures.clock.exponents` over the runs that grokked after they had fitted.

    agrees: both exponents are within NEAR of theirs. partly: one is. differs: neither. not reached: fewer
    than CELLS cells, or one of the two never changes.
    """
    table = waited(norm_clock)
    found = clock.exponents(table)
    kind = kind_of([abs(ours - theirs) <= NEAR for ours, theirs in zip(found, EXPONENTS, strict=True)])
    if n_cells(table) < CELLS or np.isnan(found).any():
        kind = "not reached"
    censored = len(clock.waits(free(norm_clock))) - len(table)
    text = (
        f"Exponents: {found[0]:.2f} of the rate, {found[1]:.2f} of the decay. Left out: {censored} runs that "
    )
    return judged(kind, len(table), f"{text}fitted and did not grok, or had by then.", norm_clock)


def waited(records: Records) -> pd.DataFrame:
    """Rows of `measures.clock.waits` of the `free` runs that grokked after they had fitted."""
    return clock.waits(free(records)).dropna(subset="delay")


def free(records: Records) -> Records:
    """The runs whose norm is not held."""
    return records.where(lambda run: not run.norm_hold)


def n_cells(table: pd.DataFrame) -> int:
    """Pairs of learning rate and decay among the rows."""
    return len(table[["lr", "weight_decay"]].drop_duplicates())


def is_calibration(table: pd.DataFrame) -> np.ndarray:
    """Whether a row is of the cell with the paper's learning rate and decay, bool of shape (rows,)."""
    cells = table[["lr", "weight_decay"]].to_numpy(float)
    return (cells == (Run.lr, Run.weight_decay)).all(axis=1)


def judged_runs(records: Records) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs by which a clock set on the calibration cell is judged, and each prediction's error."""
    table = waited(records)
    inside = is_calibration(table)
    found = clock.predictions(table, clock.calibrated(table.loc[inside]))
    errors = found.div(table["delay"], axis=0).sub(1).abs()
    keep = ~inside & errors["clock"].notna().to_numpy()
    return table.loc[keep], errors.loc[keep]
