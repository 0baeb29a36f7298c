"""Records and tables by hand."""

import math
from typing import Any

import pandas as pd

from grokking_core import Run
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
