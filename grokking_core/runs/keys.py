"""The key of a run: a hash of everything that decides its trajectory, by which its record is found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any

from grokking_core import data
from grokking_core.runs.run import Run

NUMERICS = 1  #: raised by hand when results may move: older records are then no longer asked for


def canonical(value: Any) -> str:
    """One JSON text for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(run: Run | dict[str, Any], numerics: int = NUMERICS, rule: str | None = None) -> str:
    """The key of a run's record, 64 hex digits.

    Fields at their default are left out, so that a field that `Run` gets later keeps the records.

    Parameters
    ----------
    run : Run or dict
        Or what `Run.identity` has, with the `rule` that `rule_of` gives.
    """
    if isinstance(run, Run):
        return _key_of_run(run, numerics, rule_of(run))
    return _key(run, numerics, rule)


def rule_of(run: Run) -> str | None:
    """A hash of the table of an operation that a user has registered or changed; None for ours."""
    return data.rule(run.operation, run.p, run.n)


@lru_cache(maxsize=10_000)
def _key_of_run(run: Run, numerics: int, rule: str | None) -> str:
    return _key(run.identity(), numerics, rule)


def _key(identity: dict[str, Any], numerics: int, rule: str | None) -> str:
    defaults = _defaults()
    decides = {name: _plain(v) for name, v in identity.items() if v != defaults.get(name, MISSING)}
    text = canonical({"run": decides, "numerics": numerics} | ({"rule": rule} if rule else {}))
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache
def _defaults() -> dict[str, Any]:
    defaults = {f.name: f.default for f in fields(Run)}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in defaults.items()}


def _plain(value: Any) -> Any:
    """The same JSON for 1 and 1.0, and for numpy's numbers."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | str | int):
        return value
    return int(value) if float(value).is_integer() else float(value)
