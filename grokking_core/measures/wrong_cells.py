"""An operation table as a network filled it in: which cells are wrong, and whether these keep together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from grokking_core import data
from grokking_core.runs.run import Run

DRAWS, SEED = 4000, 20220106  #: of tables with as many wrong cells, placed at random


def graded(run: Run, given: ArrayLike) -> pd.DataFrame:
    """One row an equation of the operation's table: what is right, and what the network answered.

    Parameters
    ----------
    run : Run
    given : array_like of int, shape (N,)
        The network's answers in the order of `data.operation_table`, as `kept.answers` keeps them.

    Returns
    -------
    DataFrame
        Columns x, y, answer, given (int), is_train, right (bool); of an outlier, the answer of the table,
        not the one that the network was trained on.

    Raises
    ------
    ValueError
        If `given` has not one answer for each equation.
    """
    found, table = np.asarray(given), data.operation_table(run.operation, run.p, run.n)
    if found.shape != table.answer.shape:
        raise ValueError(f"given has shape {found.shape}; {run.operation} needs {table.answer.shape}")
    columns = table._asdict() | {"given": found, "is_train": run.dataset().is_train}
    return pd.DataFrame(columns | {"right": found == table.answer})


def crowding(cells: pd.DataFrame, by: Sequence[str] = ("x", "y", "answer")) -> pd.DataFrame:
    """Whether wrong cells keep together: the element that has most of them, for each of some columns.

    The statistic is Pearson's chi-squared of wrong cells an element. It is compared with `DRAWS` tables
    that have as many wrong cells, each placed at random (multivariate hypergeometric), because counts are
    too small for its usual distribution.

    Parameters
    ----------
    cells : DataFrame
        Rows of `graded`, such as those that were held out.
    by : sequence of str
        Its columns x, y or answer.

    Returns
    -------
    DataFrame
        A row for each of `by`: element, wrong and cells (those of the element), expected (wrong cells that
        its share of all would have), p (of so much crowding by chance). NA and NaN where no cell is wrong.
    """
    rows = {name: _crowding(cells[name].to_numpy(), ~cells["right"].to_numpy(bool)) for name in by}
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=["element", "wrong", "cells", "expected", "p"]
    )
    return table.astype(dict.fromkeys(("element", "wrong", "cells"), "Int64") | {"p": "float64"})


def _crowding(
    labels: np.ndarray, wrong: np.ndarray
) -> tuple[int | None, int | None, int | None, float, float]:
    elements, place, size = np.unique(labels, return_inverse=True, return_counts=True)
    n_wrong = int(wrong.sum())
    if not n_wrong:
        return None, None, None, np.nan, np.nan
    found, expected = np.bincount(place[wrong], minlength=len(elements)), size * n_wrong / len(wrong)
    drawn = np.random.default_rng(SEED).multivariate_hypergeometric(size, n_wrong, DRAWS)
    chi, by_chance = (((counts - expected) ** 2 / expected).sum(axis=-1) for counts in (found, drawn))
    p = (1 + np.count_nonzero(by_chance >= chi - 1e-9)) / (1 + DRAWS)
    i = int((found - expected).argmax())
    return int(elements[i]), int(found[i]), int(size[i]), float(expected[i]), p
