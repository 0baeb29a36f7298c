"""What is in a file of records, and whether it is what the file's name promises.

Names are `<key>.<kind>`, with `-<step>` where it is of a run's end, or `-<probe>` for what a probe saw.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from grokking_core.records.files import Damaged, Meta
from grokking_core.runs.keys import NUMERICS, key_of, rule_of
from grokking_core.runs.record import COLUMNS, Arrays, Record, utc_now
from grokking_core.runs.run import Run


def head(run: Run, kind: str) -> Meta:
    """What every file says of its run; the rule too of an operation that a user has registered."""
    rule = rule_of(run)
    return {"kind": kind, "numerics": NUMERICS, "run": run.identity()} | ({"rule": rule} if rule else {})


def record_parts(record: Record) -> tuple[Meta, Arrays]:
    """A record without what was kept of its end, as plain values and arrays."""
    meta = head(record.run, "record")
    meta |= {"diverged_at": record.diverged_at, "provenance": record.provenance}
    return meta, {name: record.curve[name].to_numpy() for name in COLUMNS}


def record_from(meta: Meta, arrays: Arrays, run: Run | None = None) -> Record:
    """The inverse of `record_parts`; `run` spares making it again.

    Raises
    ------
    ValueError
        If the run is of an operation that is not registered here, or with another rule.
    """
    run = run or Run(**meta["run"])
    if rule_of(run) != meta.get("rule"):
        raise ValueError(f"operation={run.operation!r} has another rule here than in the record")
    return Record(
        run=run,
        curve=pd.DataFrame({name: arrays[name] for name in COLUMNS}),
        diverged_at=meta["diverged_at"],
        provenance=meta["provenance"],
    )


def watched_parts(run: Run, probe: str, frame: pd.DataFrame) -> tuple[Meta, Arrays]:
    """What a probe saw of a run, as plain values and arrays."""
    meta = head(run, "watched") | {"probe": probe, "columns": list(frame), "date": utc_now()}
    return meta, {str(name): frame[name].to_numpy() for name in frame}


def watched_from(
    meta: Meta, arrays: Arrays, record: Record | None = None, every: int | None = None
) -> pd.DataFrame | None:
    """The inverse of `watched_parts`; of a record, the rows of its steps, None where some are not there.

    Parameters
    ----------
    record : Record, optional
        That the rows must be of: the norm of the weights at its end tells it from another machine's.
    every : int, optional
        Updates after which rows are asked for between the steps of the record's curve.
    """
    frame = pd.DataFrame({name: arrays[name] for name in meta["columns"]})
    if record is None:
        return frame
    steps = np.union1d(
        record.curve["step"], np.arange(0, record.last_step + 1, every or record.last_step + 1)
    )
    frame = frame.loc[np.isin(frame["step"], steps)].reset_index(drop=True)
    if not np.array_equal(frame["step"], steps):
        return None
    same = np.array_equal(frame["weight_norm"][-1:], record.curve["weight_norm"][-1:], equal_nan=True)
    return frame if same else None


def weight_norm(record: Record) -> float | None:
    """Norm of the weights at a record's end; None where it is not finite."""
    norm = float(record.curve["weight_norm"].iloc[-1])
    return norm if math.isfinite(norm) else None


def check(name: str, meta: Meta, arrays: Arrays) -> None:
    """Raise `Damaged` where readable content is not what its name promises.

    The key is computed anew from the run that the content names, so that one run's record is never taken
    for another's.
    """
    key, _, rest = name.partition(".")
    kind, _, step = rest.partition("-")
    if meta.get("kind") != kind:
        raise Damaged(f"a {meta.get('kind')} under the name of a {kind}")
    try:
        own = key_of(meta["run"], meta["numerics"], meta.get("rule"))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Damaged("it does not say of which run it is") from error
    if own != key:
        raise Damaged("it belongs to another run than its name says")
    if kind == "record":
        _check_curve(meta, arrays)
    elif kind == "watched":
        lengths = {array.shape for array in arrays.values()}
        if meta.get("probe") != step or {*meta.get("columns", ())} != {*arrays} or len(lengths) != 1:
            raise Damaged("it is not what a probe of this name saw")
        if not {"step", "weight_norm"} <= {*arrays} or not isinstance(meta.get("date"), str):
            raise Damaged("it does not say which rows they are")
    elif kind in ("checkpoint", "finished"):
        if not {"step", "seconds", "date"} <= meta.keys() or arrays.get("rows", np.empty(0)).ndim != 2:
            raise Damaged("it lacks what a run needs to go on")
    elif str(meta.get("step", step)) != step:
        raise Damaged(f"it is of step {meta['step']}")


def _check_curve(meta: Meta, arrays: Arrays) -> None:
    columns = [arrays.get(name, np.empty(0)) for name in COLUMNS]
    steps, diverged_at, provenance = columns[0], meta.get("diverged_at"), meta.get("provenance")
    if not len(steps) or any(column.shape != (len(steps),) for column in columns):
        raise Damaged("its curve lacks columns or rows")
    if steps.dtype.kind != "i" or steps[0] < 0 or (np.diff(steps) <= 0).any():
        raise Damaged("the steps of its curve do not increase")
    if diverged_at is not None and diverged_at != steps[-1]:
        raise Damaged("it diverged at a step that is not its last")
    if not isinstance(provenance, dict) or not isinstance(provenance.get("date"), str):
        raise Damaged("it does not say when it was trained")


def parting(one: Arrays, other: Arrays) -> int | None:
    """The first step that two curves of a run have both and at which their accuracies differ; None: nowhere.

    Losses differ by rounding from one machine to the next; accuracies do where the trajectories part.
    """
    _, here, there = np.intersect1d(one["step"], other["step"], return_indices=True)
    names = ("train_accuracy", "validation_accuracy")
    differ = np.any([one[name][here] != other[name][there] for name in names], axis=0)
    return int(one["step"][here][differ.argmax()]) if differ.any() else None
