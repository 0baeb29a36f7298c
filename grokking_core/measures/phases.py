"""Memorising, a circuit that forms, clean-up: the phases of arXiv 2301.05217, from what `fourier` watched.

The paper sees the circuit form where the training loss without the keys of the last network turns up. Ours is
without the keys of its own update, of which there are none at first, so that the share of the last keys in
the logits tells instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from grokking_core.measures.one_run import loss_turn
from grokking_core.measures.watched import first_above, key_share, keys, named, with_steps
from grokking_core.runs.record import Record

SHOWS, FORMED = 0.1, 0.25  #: of the logits, that the last keys have where a circuit shows and has formed
BEGUN, DONE = 0.5, 0.01  #: of its peak, that the validation loss has where the clean-up begins and is done
PER = 1000  #: updates that rates are for


class Phases(NamedTuple):
    """Where phases begin and end, in updates; None where they do not."""

    shows: int | None  #: the last keys have SHOWS of the logits: until here the network memorises
    formed: int | None  #: they have FORMED
    begins: int | None  #: the validation loss falls below BEGUN of its peak: the clean-up
    ends: int | None  #: it falls below DONE


def phases(record: Record) -> Phases:
    """The phases of a run."""
    share, peak = key_share(record), loss_turn(record)
    loss = record.curve.set_index("step")["validation_loss"].loc[peak.peak_step :]
    circuit = [first_above(share, of) for of in (SHOWS, FORMED)]
    return Phases(*circuit, *(first_above(-loss, -of * peak.peak) for of in (BEGUN, DONE)))


def phase_table(records: Sequence[Record]) -> pd.DataFrame:
    """A row a run: its keys, where its phases begin and end, and how fast it changed in the last two.

    T_fit and T95; keys, and share, theirs of the logits at the end; circuit from, and formed; clean-up from
    and to. For a circuit that forms and for the clean-up: by which share of itself the sum of squared weights
    falls in a thousand updates, and by how much the Gini coefficient of the embedding rises.
    """
    rows = []
    for record in records:
        found = phases(record)
        row = named(record) | {"keys": ", ".join(map(str, keys(record))), "share": key_share(record).iloc[-1]}
        row |= {"circuit from": found.shows, "formed": found.formed}
        row |= {"clean-up from": found.begins, "clean-up to": found.ends}
        forms = (found.shows, found.begins)
        for name, (start, end) in (("forming", forms), ("clean-up", (found.begins, found.ends))):
            row |= {f"{of}, {name}": rate for of, rate in _rates(record, start, end).items()}
        rows.append(row)
    return with_steps(rows, "T_fit", "T95", "circuit from", "formed", "clean-up from", "clean-up to")


def _rates(record: Record, start: int | None, end: int | None) -> dict[str, float]:
    """Of a phase; NaN where it is not all there."""
    if start is None or end is None or start >= end:
        return {"norm": np.nan, "gini": np.nan}
    frame: Any = record.watched["fourier"].set_index("step").loc[[start, end]]
    norms, ginis = frame["weight_norm"].to_numpy(), frame["gini_embedding"].to_numpy()
    thousands = (end - start) / PER
    return {"norm": 1 - (norms[1] / norms[0]) ** (2 / thousands), "gini": (ginis[1] - ginis[0]) / thousands}
