"""Many runs as a table, the fraction of the table that groups of them need, and pairs of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from grokking_core.measures.one_run import SIDES, best_accuracy
from grokking_core.runs.record import Record
from grokking_core.runs.run import Run

STEPS = tuple(f"{side}_{ending}" for ending in ("steps", "sustained") for side in SIDES)
BEST = tuple(f"best_{side}" for side in SIDES)
FIELDS = [f.name for f in fields(Run) if f.name != "betas"] + ["beta1", "beta2"]
SAME = {*FIELDS} - {"train_fraction", "seed", "split_seed"}  #: in runs that answer one question


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
          threshold; `train_sustained`, ...: the one from which it holds. NA: censored, or missing;
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
        row[f"{side}_sustained"] = record.steps_to(threshold, side, sustained=True)
        row[f"best_{side}"] = best_accuracy(record, side)
    return row


def one_configuration(table: pd.DataFrame) -> None:
    """Raise `ValueError` if runs of the table differ in more than fraction and seed."""
    for name in [name for name in table if name in SAME]:
        values = table[name].drop_duplicates()
        if len(values) > 1:
            listed = ", ".join(map(str, values))
            raise ValueError(f"table: {name} is {listed}; runs may differ in train_fraction and seed only")


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
    one_configuration(table)
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
            run = f"train_fraction={twice[0, 0]}, seed={twice[0, 1]:.0f}"
            raise ValueError(f"table_{name} has two runs with {run}; give one")
        sides[name] = table.set_index(on)[column].astype("Float64").astype("float64")
    return pd.concat(sides, axis="columns", join="inner").dropna()
