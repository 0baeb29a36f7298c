"""When networks of many sizes fit, generalize, and learn random answers by heart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from grokking_core.runs.record import LEARNED, Record
from grokking_core.runs.run import Run

LATE = 0.98  #: validation accuracy up to which the delay is counted, theirs


class Between(NamedTuple):
    """Sizes between which something changes; NaN where all sizes are on one side."""

    low: float
    high: float


def by_size(records: Iterable[Record], size_of: Callable[[Run], int]) -> pd.DataFrame:
    """A row a size, in order: medians over the seeds of when its networks learned what.

    Returns
    -------
    DataFrame
        width, size (parameters); fitted and generalized, updates to 99 % in training and in validation;
        memorised, to 99 % of random answers; infinite where half of the runs or more were not followed so
        far, NaN without a run. delay, the smallest over the seeds of the updates from 99 % in training to
        LATE in validation, 0 where that came first; infinite where it never came, NaN where neither came.
    """
    times: dict[int, dict[str, list[float]]] = {}
    for record in records:
        run, fitted = record.run, _step(record, LEARNED, "train")
        of = times.setdefault(size_of(run), {"width": [float(run.d_model)]})
        if run.outliers == run.n_train:
            of.setdefault("memorised", []).append(fitted)
            continue
        late = _step(record, LATE, "validation")
        of.setdefault("fitted", []).append(fitted)
        of.setdefault("generalized", []).append(_step(record, LEARNED, "validation"))
        neither = np.isinf([fitted, late]).all()
        of.setdefault("delay", []).append(np.nan if neither else max(0.0, late - fitted))
    rows = []
    for size, of in sorted(times.items()):
        row = {"width": of["width"][0], "size": float(size)}
        row |= {name: _median(of.get(name, [])) for name in ("fitted", "generalized", "memorised")}
        known = [delay for delay in of.get("delay", []) if not np.isnan(delay)]
        rows.append(row | {"delay": min(known, default=np.nan)})
    columns = ["width", "size", "fitted", "generalized", "memorised", "delay"]
    return pd.DataFrame(rows, columns=columns, dtype=float)


def crossing(table: pd.DataFrame) -> Between:
    """The sizes of `by_size` between which random answers begin to be learned as soon as the rule."""
    known: Any = table.dropna(subset=["generalized", "memorised"])
    known = known[np.isfinite(known[["generalized", "memorised"]]).any(axis=1)]
    return _from_where(known["size"], known["memorised"] <= known["generalized"])


def onset(table: pd.DataFrame) -> Between:
    """The sizes of `by_size` between which validation begins to lag behind training, for good."""
    known: Any = table.dropna(subset="delay")
    return _from_where(known["size"], known["delay"] > 0)


def memorising(table: pd.DataFrame) -> Between:
    """The sizes of `by_size` between which most networks begin to learn random answers, for good."""
    known: Any = table.dropna(subset="memorised")
    return _from_where(known["size"], np.isfinite(known["memorised"]))


def _from_where(sizes: Any, holds: Any) -> Between:
    """The last size at which something does not hold, and the next."""
    sizes, holds = np.asarray(sizes, float), np.asarray(holds, bool)
    stays = np.logical_and.accumulate(holds[::-1])[::-1]
    low, high = sizes[~stays], sizes[stays]
    return Between(low.max() if len(low) else np.nan, high.min() if len(high) else np.nan)


def _step(record: Record, threshold: float, side: Any) -> float:
    """When an accuracy was reached; infinite where it was not."""
    step = record.steps_to(threshold, side)
    return np.inf if step is None else float(step)


def _median(steps: list[float]) -> float:
    return float(np.median(steps)) if steps else np.nan
