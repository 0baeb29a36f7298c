"""The paper's claims, each with the function that decides it from records alone.

A function, `c7` say, takes the records of the experiments that its parameters name, in one profile; its
docstring is the rule. A file has the
claims of one figure. There are four verdicts: agrees, partly, differs, and not reached, where the runs
that could decide were not asked for, are missing, or were not followed far enough. `evidence` says what
counts as learned and as a fraction needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from grokking_core.claims import (
    figure_1_centre,
    figure_1_left,
    figure_2_left,
    figure_2_right,
    figure_3,
    figure_6,
    figure_7,
)
from grokking_core.claims.deciding import ENTERED, KINDS, Claim, Kind, Verdict
from grokking_core.paper import experiments
from grokking_core.runs.records import Records

FIGURES = (
    figure_1_left,
    figure_1_centre,
    figure_2_right,
    figure_2_left,
    figure_3,
    figure_6,
    figure_7,
)  #: each has entered its claims
CLAIMS: dict[str, Claim] = {f"C{i}": ENTERED[f"C{i}"] for i in range(1, len(ENTERED) + 1)}

__all__ = ["CLAIMS", "KINDS", "Claim", "Kind", "Verdict", "read", "verdicts"]


def read(profile: str | None = None, among: Collection[Claim] = CLAIMS.values()) -> dict[str, Records]:
    """What is on record of every experiment that decides a claim, in a profile; nothing is trained."""
    names = dict.fromkeys(name for claim in among for name in claim.experiments)
    return {name: experiments.plan(name, profile).read() for name in names}


def verdicts(evidence: Mapping[str, Records], among: Collection[Claim] = CLAIMS.values()) -> pd.DataFrame:
    """One row a claim: id, where, claim, verdict, measured, needed, n, page, decided by.

    Parameters
    ----------
    evidence : mapping from str to Records
        By experiment, as `read` gives it.
    among : collection of Claim
        By default the paper's.
    """
    rows = []
    for claim in among:
        found = claim.decide(*(evidence[name] for name in claim.experiments))
        row = {"id": claim.id, "where": claim.where, "claim": claim.says, "verdict": found.kind}
        row |= {"measured": found.measured, "needed": found.needed, "n": found.n, "page": claim.page}
        rows.append(row | {"decided by": claim.decide.__name__})
    return pd.DataFrame(rows)
