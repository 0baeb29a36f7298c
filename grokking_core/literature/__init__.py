"""The ledger of the literature: what papers after the first claim, each with the function that decides it.

A row is decided as a claim of the paper is (see `claims`): by a function of the records of the experiments
that its parameters name, whose docstring is the rule. The rows of a file are of one page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from grokking_core import claims
from grokking_core.literature import (
    accelerators,
    capacity,
    data_share,
    held_norm,
    norm_clock,
    retention,
    softmax,
    watched,
)
from grokking_core.literature.rows import ENTERED, Row
from grokking_core.runs.records import Records

PAGES = (
    data_share,
    norm_clock,
    held_norm,
    accelerators,
    retention,
    watched,
    softmax,
    capacity,
)  #: each has entered its rows, which follow one another as here
LEDGER: dict[str, Row] = {}  #: by id, F1 and on
for page in PAGES:
    for entered in [row for row in ENTERED if row.decide.__module__ == page.__name__]:
        LEDGER[f"F{len(LEDGER) + 1}"] = replace(entered, id=f"F{len(LEDGER) + 1}")

__all__ = ["LEDGER", "Row", "of_page", "read", "verdicts"]


def of_page(name: str) -> dict[str, Row]:
    """The rows that are decided by the experiment of a page first, by id."""
    return {id: row for id, row in LEDGER.items() if row.experiments[0] == name}


def read(profile: str | None = None) -> dict[str, Records]:
    """What is on record of every experiment that decides a row, in a profile; nothing is trained."""
    return claims.read(profile, LEDGER.values())


def verdicts(evidence: Mapping[str, Records]) -> pd.DataFrame:
    """One row each: the columns of `claims.verdicts`, and `setting`, theirs.

    Parameters
    ----------
    evidence : mapping from str to Records
        By experiment, as `read` gives it.
    """
    table = claims.verdicts(evidence, LEDGER.values())
    return table.assign(setting=[row.setting for row in LEDGER.values()])
