"""What the claims share: the decorator that enters a function among them, and how verdicts are put."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import pandas as pd

from grokking_core.measures import Needed
from grokking_core.paper import evidence
from grokking_core.paper.evidence import BUDGET, UNKNOWN
from grokking_core.runs import words
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run

Kind = Literal["agrees", "partly", "differs", "not reached"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ABOUT = 10**0.5  #: factor that "about" allows either way: half an order of magnitude
LATE = 10  #: gap that is late generalization: an order of magnitude
TOGETHER = 2  #: gap up to which two curves move together
CENTRE = 500_000  #: of its figure 1 (centre), from memory
PAIRS = 3  #: of operations that are told apart, for an order of them
ALPHA = 0.05  #: largest corrected p of a structure
LITTLE = 0.05  #: change of accuracy that is little
NETWORKS = 10  #: for a correlation: half of the paper's
MILLION = 1_000_000  #: updates, of the paper's figure 1 (left)
S5 = "s5:xy"


class Verdict(NamedTuple):
    """What records say of a claim."""

    kind: Kind
    measured: str  #: sentences of numbers, with n and 95 % intervals
    n: int  #: runs that decided
    needed: Mapping[str, Needed] = MappingProxyType({})  #: fractions needed that `measured` lists, by label


Decide = Callable[..., Verdict]


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims."""

    id: str
    where: str  #: in the paper
    says: str  #: the paper, in our words
    decide: Decide

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments whose records `decide` takes, in order."""
        return tuple(signature(self.decide).parameters)

    @property
    def page(self) -> str:
        """The notebook that shows these records, from the book's folder, without suffix."""
        return f"figures/{self.experiments[0]}"


ENTERED: dict[str, Claim] = {}  #: by name, in no order


def claim(where: str, says: str) -> Callable[[Decide], Decide]:
    """Enter the function that decides a claim into `ENTERED`."""

    def enter(decide: Decide) -> Decide:
        name = decide.__name__.upper()
        ENTERED[name] = Claim(name, where, says, decide)
        return decide

    return enter


def verdict(
    kind: Kind,
    n: int,
    text: str,
    records: Records,
    operation: str | None = None,
    steps: int | None = None,
    needed: Mapping[str, Needed] | None = None,
) -> Verdict:
    """A verdict with what is missing, and where the setting is not the paper's; see `evidence.notes`."""
    if not records.runs:
        return Verdict("not reached", "Not asked for.", 0)
    if not records:
        return Verdict("not reached", f"None of {len(records.missing)} runs is on record.", 0)
    said = " ".join(filter(None, [text, *evidence.notes(records, operation, steps)]))
    return Verdict(kind, said, n, needed or {})


def in_order(
    records: Records,
    label: Callable[[Run], str],
    pairs: Iterable[tuple[str, str]],
    enough: int,
    operation: str | None = None,
) -> Verdict:
    """Whether the first label of each pair needs less data, in `enough` of them for agreement."""
    needed = evidence.fractions_needed(records, label)
    less = {(a, b): evidence.needs_less(needed.get(a, UNKNOWN), needed.get(b, UNKNOWN)) for a, b in pairs}
    n_less, n_more = (list(less.values()).count(known) for known in (True, False))
    kind = "partly" if n_less else "differs" if n_more else "not reached"
    if n_less >= enough and not n_more:
        kind = "agrees"
    relation = {True: "less than", False: "more than", None: "not told apart from"}
    order = "; ".join(f"{words.name(a)} {relation[known]} {words.name(b)}" for (a, b), known in less.items())
    text = f"{evidence.brackets(needed)} So {order}."
    return verdict(kind, len(records), text, records, operation, BUDGET, needed)


def kind_of(parts: Sequence[bool | None]) -> Kind:
    """agrees if all parts hold, partly if some do, differs if none does; None is open."""
    if all(parts):
        return "agrees"
    return "partly" if any(parts) else "differs"


def names(labels: Iterable[str]) -> str:
    """Operations or variants, listed."""
    return ", ".join(map(words.name, labels))


def is_about(value: float, target: float) -> bool:
    """Whether a number is the target up to a factor ABOUT."""
    return target / ABOUT <= value <= target * ABOUT


def fitting(table: pd.DataFrame) -> str:
    """When runs fitted their training sets, in words."""
    steps = table["train_steps"].dropna()
    return f"99 % in training after {words.span(steps)} updates (n = {len(steps)})." if len(steps) else ""
