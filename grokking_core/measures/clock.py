"""The weight norm as a clock: when it would have fallen to the value at which networks grok.

From fitting to grokking the squared norm V of the weights is taken to fall as exp(-2 kappa lr decay t), so
that the delay is log(V_fitted / V_grokked) / (2 kappa lr decay), with kappa and V_grokked the same for all
learning rates and decays of one network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from grokking_core import data
from grokking_core.runs.record import LEARNED, Record

GROKKED = 0.95  #: validation accuracy, of a symmetric operation on unmirrored pairs, at which the clock stops
METHODS = ("clock", "same delay", "1 / (lr decay)")  #: how a delay is predicted from the runs of one cell


class Clock(NamedTuple):
    """What the runs of one cell say of a network; NaN where none of them grokked after it had fitted."""

    kappa: float  #: share of the plain decay at which V falls; median over runs
    grokked: float  #: squared norm at grokking; median over runs
    delay: float  #: updates from fitting to grokking; median over runs
    rate: float  #: learning rate times decay of the cell


def waits(records: Sequence[Record]) -> pd.DataFrame:
    """One row a run that fitted its training set, in order: from there to grokking.

    Returns
    -------
    DataFrame
        lr, weight_decay, seed; fitted, delay (updates); v_fitted, v_grokked (squared norms there), rate
        (lr times decay), kappa. NaN where the run did not grok after an evaluation at which it had fitted.
    """
    rows = [wait(record) for record in records if record.steps_to(LEARNED, "train") is not None]
    names = ["lr", "weight_decay", "seed", "fitted", "delay", "v_fitted", "v_grokked", "rate", "kappa"]
    return pd.DataFrame(rows, columns=names).astype({"delay": float, "v_grokked": float, "kappa": float})


def wait(record: Record) -> dict[str, float]:
    """The row of `waits` of a run that fitted."""
    run, squared = record.run, record.curve.set_index("step")["weight_norm"] ** 2
    side = "unmirrored" if data.OPERATIONS[run.operation].symmetric else "validation"
    fitted, grokked = record.steps_to(LEARNED, "train"), record.steps_to(GROKKED, side)
    assert fitted is not None
    rate = run.lr * run.weight_decay
    row = {"lr": run.lr, "weight_decay": run.weight_decay, "seed": run.seed, "fitted": fitted, "rate": rate}
    row |= {"v_fitted": squared[fitted], "delay": math.nan, "v_grokked": math.nan, "kappa": math.nan}
    if grokked is not None and grokked > fitted:
        row |= {"delay": grokked - fitted, "v_grokked": squared[grokked]}
        if rate > 0:
            row["kappa"] = math.log(row["v_fitted"] / row["v_grokked"]) / (2 * rate * row["delay"])
    return row


def calibrated(table: pd.DataFrame) -> Clock:
    """The clock that the runs of one cell set.

    Parameters
    ----------
    table : DataFrame
        Rows of `waits`, of one learning rate and decay.
    """
    known = table.dropna(subset="kappa")
    medians = known[["kappa", "v_grokked", "delay", "rate"]].median()
    return Clock(*(float(value) for value in medians))


def predictions(table: pd.DataFrame, clock: Clock) -> pd.DataFrame:
    """The delay of each run by each of `METHODS`, in updates, in the order of the rows.

    The clock's may be negative: the norm at fitting is below that at grokking, or kappa is.

    Parameters
    ----------
    table : DataFrame
        Rows of `waits`.
    """
    falls = np.log(table["v_fitted"] / clock.grokked) / (2 * clock.kappa * table["rate"])
    same = pd.Series(clock.delay, index=table.index)
    return pd.DataFrame(dict(zip(METHODS, (falls, same, same * clock.rate / table["rate"]), strict=True)))


def exponents(table: pd.DataFrame) -> tuple[float, float]:
    """Powers of learning rate and of decay that delays go with, by least squares of their logarithms.

    NaN below three cells, or where one of the two never changes.
    """
    known = table.dropna(subset="delay")
    logs = np.log(known[["lr", "weight_decay", "delay"]].to_numpy(float))
    factors = np.column_stack([np.ones(len(logs)), logs[:, :2]])
    if len(logs) < 3 or np.linalg.matrix_rank(factors) < 3:
        return math.nan, math.nan
    _, of_lr, of_decay = np.linalg.lstsq(factors, logs[:, 2], rcond=None)[0]
    return float(of_lr), float(of_decay)
