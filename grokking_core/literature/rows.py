"""What the rows share: the decorator that enters a function among them, and how what it finds is put."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from grokking_core.claims.deciding import Claim, Decide, Kind, Verdict, verdict
from grokking_core.runs import words
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run


@dataclass(frozen=True)
class Row(Claim):
    """A later paper's claim; `where` names the paper, and the id is its place in the ledger."""

    setting: str = ""  #: theirs: network, task, training


ENTERED: list[Row] = []  #: in no order


def row(where: str, says: str, setting: str) -> Callable[[Decide], Decide]:
    """Enter the function that decides a row into `ENTERED`."""

    def enter(decide: Decide) -> Decide:
        ENTERED.append(Row("", where, says, decide, setting))
        return decide

    return enter


def judged(kind: Kind, n: int, text: str, records: Records) -> Verdict:
    """A verdict with our setting and what is missing; not reached where nothing is asked for or on record."""
    if not records:
        return verdict("not reached", 0, "", records)
    missing = f" Missing: {len(records.missing)} of {len(records.runs)} runs." if records.missing else ""
    return Verdict(kind, f"{text} Ours: {setting(records.runs)}.{missing}", n)


def setting(runs: Sequence[Run]) -> str:
    """What some runs have in common, in words: tasks, shares of the table, networks; and their seeds."""
    shares, widths = ([getattr(run, name) for run in runs] for name in ("train_fraction", "d_model"))
    networks = words.listed(f"{run.n_layers}-layer {run.architecture}" for run in runs)
    text = f"{words.listed(map(words.task, runs))}, {_ends(100 * share for share in shares)} % of the table; "
    return f"{text}{networks}, width {_ends(widths)}; seeds {words.span(run.seed for run in runs)}"


def _ends(values: Iterable[float]) -> str:
    """From the smallest to the largest."""
    known = sorted(values)
    return f"{known[0]:.3g}" if known[0] == known[-1] else f"{known[0]:.3g} to {known[-1]:.3g}"
