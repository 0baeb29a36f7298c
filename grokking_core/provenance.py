"""Where a sweep's numbers come from, as data and as a table that a notebook shows."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grokking_core import record as records
from grokking_core.record import Record

MIME = "application/vnd.grokking.provenance+json"
SHARED = ("device", "precision", "package", "source", "torch")  # listed where records differ


@dataclass(frozen=True)
class Provenance:
    """What was read and trained, with what, when.

    Attributes
    ----------
    data : dict
        Plain values: read, trained, missing, runs, steps, stop_at; profile (None outside the book);
        device, precision, package, source and torch (each a list if the records differ);
        training_seconds of all records,
        seconds of this call, trained_between (first and last date), date of this call.
    """

    data: dict[str, Any]

    @classmethod
    def of(cls, found: Sequence[Record], asked: dict[str, Any], seconds: float) -> Provenance:
        """The provenance of some records; `asked` comes first in it."""
        sources = [record.provenance for record in found]
        data = asked | {"runs": asked["read"] + asked["trained"]}
        data["profile"] = os.environ.get("GROKKING_PROFILE")  # as `make book` says
        data |= {name: _shared(source.get(name) for source in sources) for name in SHARED}
        data["training_seconds"] = round(sum(source.get("seconds", 0) for source in sources), 1)
        dates = sorted(source["date"] for source in sources if "date" in source)
        data["trained_between"] = [dates[0], dates[-1]] if dates else []
        return cls(data | {"seconds": round(seconds, 1), "date": records.utc_now()})

    def lines(self) -> list[tuple[str, str]]:
        """What the table shows: names and values as text."""
        data = self.data
        asked = f"{data['steps']:,} steps"
        if data["stop_at"] is not None:
            asked += f", or until {100 * data['stop_at']:g} % of the validation set is right"
        counts = f"{data['runs']}: {data['read']} read from records, {data['trained']} trained"
        counts += f", {data['missing']} missing" if data["missing"] else ""
        lines = [("profile", data["profile"])] if data["profile"] else []
        lines += [("runs", counts), ("followed for", asked)]
        for name in SHARED:
            value = data[name]
            lines.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
        days = [date[:10] for date in data["trained_between"]]
        lines.append(("trained on", " to ".join(dict.fromkeys(days))))
        return [*lines, ("training time", f"{data['training_seconds']:,.0f} s, run by run")]

    def __str__(self) -> str:
        return "\n".join(f"{name:<14}{value}" for name, value in self.lines())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        cell = '<{0} style="text-align: left">{1}</{0}>'.format
        rows = "".join(
            f"<tr>{cell('th', name)}{cell('td', html.escape(value))}</tr>" for name, value in self.lines()
        )
        table = f"<table>{rows}</table>"
        return {"text/plain": str(self), "text/html": table, MIME: self.data}


def _shared(values: Iterable[Any]) -> Any:
    """The one value of all, or the list of different ones; None of none."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else different or None
