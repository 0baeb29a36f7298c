"""Where a sweep's numbers come from, as data and as a table that a notebook shows."""

from __future__ import annotations

import html
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grokking_core.runs.record import Record, utc_now, versions
from grokking_core.runs.run import Run

MIME = "application/vnd.grokking.provenance+json"
SHARED = ("device", "precision", "evaluation", "package", "source", "torch")  #: listed where records differ


@dataclass(frozen=True)
class Provenance:
    """What was read and trained, with what, when.

    Attributes
    ----------
    data : dict
        Plain values: read, trained, missing, runs (read or trained); asked, a list of {steps, stop_at};
        profile and notebook (None outside the book);
        device, precision, evaluation (see `record.EVALUATION`), package, source and torch (each a list
        if the records differ);
        drawn_with, {package, source, torch, python} of this call;
        training_seconds and training_steps of all runs,
        seconds of this call, trained_between (first and last date), date of this call.
    """

    data: dict[str, Any]

    @classmethod
    def of(
        cls,
        found: Sequence[Record],
        counts: dict[str, int],
        asked: Iterable[tuple[int, float | None]],
        seconds: float,
    ) -> Provenance:
        """The provenance of some records; `counts`: how many runs were read, trained and are missing."""
        sources = [record.provenance for record in found]
        data: dict[str, Any] = counts | {"runs": counts["read"] + counts["trained"]}
        data["asked"] = [{"steps": steps, "stop_at": stop_at} for steps, stop_at in asked]
        for name in ("profile", "notebook"):
            data[name] = os.environ.get(f"GROKKING_{name.upper()}")  # as `make book` says
        sources = [{"evaluation": 1} | source for source in sources]
        data |= {name: _shared(source.get(name) for source in sources) for name in SHARED}
        data["drawn_with"] = versions() | {"python": platform.python_version()}
        longest: dict[Run, float] = {}
        followed: dict[Run, int] = {}
        for record in found:  # maybe several parts of a run
            spent = record.provenance.get("seconds", 0)
            longest[record.run] = max(spent, longest.get(record.run, 0))
            followed[record.run] = max(record.last_step, followed.get(record.run, 0))
        data["training_seconds"] = round(sum(longest.values()), 1)
        data["training_steps"] = sum(followed.values())
        dates = sorted(source["date"] for source in sources if "date" in source)
        data["trained_between"] = [dates[0], dates[-1]] if dates else []
        return cls(data | {"seconds": round(seconds, 1), "date": utc_now()})

    def lines(self) -> list[tuple[str, str]]:
        """What the table shows: names and values as text."""
        data = self.data
        counts = f"{data['runs']}: {data['read']} read from records, {data['trained']} trained"
        counts += f", {data['missing']} missing" if data["missing"] else ""
        lines = [("profile", data["profile"])] if data["profile"] else []
        lines.append(("runs", counts))
        if data["missing"]:
            lines.append(("to get the rest", self._remedy()))
        lines.append(("followed for", "; ".join(_in_words(**asked) for asked in data["asked"])))
        for name in SHARED:
            value = data[name]
            lines.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
        days = [date[:10] for date in data["trained_between"]]
        lines.append(("trained on", " to ".join(dict.fromkeys(days))))
        lines.append(("training time", f"{data['training_seconds']:,.0f} s, run by run"))
        drawn = "package {package} ({source}), torch {torch}, Python {python}".format(**data["drawn_with"])
        return [*lines, ("drawn with", drawn)]

    def _remedy(self) -> str:
        """How to have the runs that are missing trained."""
        if profile := self.data["profile"]:
            return f"make book PROFILE={profile}, or first: grokking sweep --profile {profile}"
        return "call sweep again without a time limit"

    def __str__(self) -> str:
        return "\n".join(f"{name:<17}{value}" for name, value in self.lines())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        cell = '<{0} style="text-align: left">{1}</{0}>'.format
        rows = "".join(
            f"<tr>{cell('th', name)}{cell('td', html.escape(value))}</tr>" for name, value in self.lines()
        )
        table = f'<div class="provenance"><table>{rows}</table></div>'
        return {"text/plain": str(self), "text/html": table, MIME: self.data}


def _shared(values: Iterable[Any]) -> Any:
    """The one value of all, or the list of different ones; None of none."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else different or None


def _in_words(steps: int, stop_at: float | None) -> str:
    """How far runs were followed."""
    until = "" if stop_at is None else f", or until {100 * stop_at:g} % of the validation set is right"
    return f"{steps:,} steps{until}"
