"""What the output rows of networks show: number lines of residues, cosets of permutations (figure 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from grokking_core import data
from grokking_core.runs import words
from grokking_core.runs.record import Record
from grokking_core.runs.run import Run
from grokking_core.weights import cosets, neighbours, number_line

PAPER_STEP = 8  #: of the line in figure 3 (right)
KNOWS = 0.9  #: accuracy of a network whose output rows are worth a look
HALF = 0.5  #: share of the variance that a few frequencies hold
_OF_TEST = ("agreement", "chance", "z", "p_corrected")
_OF_RUN = ["operation", "weight_decay", "seed"]


def has_rows(record: Record) -> bool:
    """Whether output rows are kept, finite, and of enough elements to test."""
    rows = record.kept.get("output_rows", {}).get("rows")
    return rows is not None and bool(np.isfinite(rows).all()) and record.run.n_elements >= 4


def knows(record: Record) -> bool:
    """Whether the network answers KNOWS of what it was not shown, or of its unmirrored pairs, at its end."""
    side = "unmirrored" if data.OPERATIONS[record.run.operation].symmetric else "validation"
    return bool(record.curve[f"{side}_accuracy"].iloc[-1] >= KNOWS)


def row_test(record: Record) -> pd.DataFrame:
    """The test of a network's output rows, for cosets or number lines, what stands out most first."""
    run, rows = record.run, record.kept["output_rows"]["rows"]
    on_group = data.OPERATIONS[run.operation].on_group
    return cosets.coset_test(rows, run.n) if on_group else number_line.line_test(rows, run.p)


class Structure(NamedTuple):
    """The output rows of a network's elements, tested."""

    record: Record
    rows: np.ndarray  #: (P, D); (0, 2) of a network that diverged
    test: pd.DataFrame  #: of `number_line.line_test` or `cosets.coset_test`, the best first

    @property
    def on_group(self) -> bool:
        """Whether the elements are permutations: cosets are tested, not lines."""
        return data.OPERATIONS[self.record.run.operation].on_group

    @property
    def paper(self) -> pd.DataFrame:
        """The rows of the test for what the paper found: a line of step 8; cosets of D5, all conjugates."""
        if self.on_group:
            return pd.DataFrame(self.test[self.test["name"] == cosets.paper_subgroup().name])
        return pd.DataFrame(self.test[self.test["step"] == PAPER_STEP])

    def points(self, seed: int = 0) -> np.ndarray:
        """The rows as points in the plane, (P, 2), by t-SNE."""
        return neighbours.picture(self.rows, seed) if len(self.rows) else self.rows

    def labels(self) -> np.ndarray:
        """What the picture tells apart, (P,): cosets of the best subgroup, or stretches of the best line."""
        if self.test.empty:
            return np.zeros(0, int)
        if self.on_group:
            return cosets.best_labels(self.test, self.record.run.n)
        return number_line.stretches(len(self.rows), int(self.test["step"].iloc[0]))


def structure_of(record: Record) -> Structure:
    """The output rows that a record has kept, tested.

    Raises
    ------
    ValueError
        If it has kept none, or there are too few elements to test: fewer than 4 residues, or S_2.
    """
    run = record.run
    if "output_rows" not in record.kept:
        raise ValueError(f'record of {run} has no output rows; ask for keep=("output_rows",)')
    rows = record.kept["output_rows"]["rows"]
    on_group = data.OPERATIONS[run.operation].on_group
    if np.isfinite(rows).all():
        return Structure(record, neighbours.elements(rows, run.n_elements), row_test(record))
    named = ("name", "order", "side") if on_group else ("step",)
    return Structure(record, np.zeros((0, 2)), pd.DataFrame(columns=[*named, *_OF_TEST]))


def name_of(row: pd.Series) -> str:
    """What a row of a test is about: "+8", or "D5 (order 10), right"."""
    return f"+{row['step']:.0f}" if "step" in row else f"{row['name']} (order {row['order']}), {row['side']}"


def table(structures: Sequence[Structure], missing: Iterable[Run] = ()) -> pd.DataFrame:
    """One row a network: how well it knew its task at the end, what stands out most, and the paper's.

    Parameters
    ----------
    structures : sequence of Structure
    missing : iterable of Run
        Runs without a record; all but the first columns of their rows are empty.

    Returns
    -------
    DataFrame
        - operation, weight_decay, seed;
        - followed (Int64): last step; train, validation, unmirrored: accuracy there, best_validation: the
          highest seen; knows (boolean): see `knows`;
        - best: the line or coset with the largest z; agreement, chance, z, p_corrected: of it;
        - paper: the line of step 8, or whichever conjugate of the paper's subgroup, left or right, has the
          largest z; paper_agreement, ..., paper_p_corrected: of it; paper_place (Int64): its place in the
          order of z, 1 is the best; empty where there is none, as in S_4;
        - frequencies (Int64): how many hold half of the variance (residues only);
        - missing (bool).
    """
    rows = [_row(structure) for structure in structures]
    rows += [_of_run(run) | {"missing": True} for run in missing]
    paper = [f"paper_{name}" for name in _OF_TEST]
    accuracies = ["train", "validation", "unmirrored", "best_validation"]
    columns = [*_OF_RUN, "followed", *accuracies, "knows", "best", *_OF_TEST, "paper", *paper, "paper_place"]
    found = pd.DataFrame(rows, columns=[*columns, "frequencies", "missing"])
    whole = dict.fromkeys(("followed", "paper_place", "frequencies"), "Int64")
    found = found.astype(
        whole | {"knows": "boolean"} | dict.fromkeys([*accuracies, *_OF_TEST, *paper], "float64")
    )
    return found.assign(missing=found["missing"].eq(True))


def by_setting(structures: Sequence[Structure]) -> pd.DataFrame:
    """One row a share of the table and a weight decay.

    Columns share, decay, networks, updates (the fewest and the most), know (how many networks know their
    task at the end) and, of each of those, most (what stands out most) and places (of the paper's, in the
    order of z).
    """
    found = table(structures).assign(share=[f.record.run.train_fraction for f in structures])
    rows = []
    for share, decay in sorted({*zip(found["share"].tolist(), found["weight_decay"].tolist(), strict=True)}):
        group = pd.DataFrame(found[found["share"].eq(share) & found["weight_decay"].eq(decay)])
        know, followed = pd.DataFrame(group[group["knows"].eq(True)]), group["followed"].tolist()
        updates = " to ".join(f"{n:,}" for n in sorted({min(followed), max(followed)}))
        shown = [*know["best"]], [*know["paper_place"].dropna()]
        rows.append((share, decay, len(group), updates, len(know), *shown))
    return pd.DataFrame(rows, columns=["share", "decay", "networks", "updates", "know", "most", "places"])


def _of_run(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in _OF_RUN}


def _row(structure: Structure) -> dict[str, Any]:
    record, test = structure.record, structure.test
    last = record.curve.iloc[-1]
    row = _of_run(record.run) | {"followed": record.last_step}
    row |= {side: last[f"{side}_accuracy"] for side in ("train", "validation", "unmirrored")}
    row |= {"best_validation": record.curve["validation_accuracy"].max(), "knows": knows(record)}
    if len(test):
        row |= {"best": name_of(test.iloc[0])} | {name: test[name].iloc[0] for name in _OF_TEST}
        if not structure.on_group:
            shares = number_line.frequencies(structure.rows, len(structure.rows))
            row["frequencies"] = 1 + int((np.sort(shares)[::-1].cumsum() < HALF).sum())
    if len(structure.paper):
        theirs = structure.paper.iloc[0]
        row |= {"paper": name_of(theirs), "paper_place": 1 + structure.paper.index[0]}
        row |= {f"paper_{name}": theirs[name] for name in _OF_TEST}
    return row


def decay_pairs(records: Iterable[Record]) -> pd.DataFrame:
    """Pairs of a network with weight decay that knows its task and one without, else the same.

    Columns task, train_fraction, seed, more (by how much z of what stands out most is larger with decay),
    knows_without (whether the network without decay knows it as well).
    """
    columns = ["task", "train_fraction", "seed", "decays", "z", "knows"]
    rows = []
    for record in filter(has_rows, records):
        run, z = record.run, row_test(record)["z"].max()
        rows.append((words.task(run), run.train_fraction, run.seed, run.weight_decay > 0, z, knows(record)))
    table = pd.DataFrame(rows, columns=columns).astype({"decays": bool, "knows": bool, "z": float})
    with_decay = table.loc[table["decays"] & table["knows"]]
    pairs = with_decay.merge(table.loc[~table["decays"]], on=columns[:3], suffixes=("", "_without"))
    return pairs.assign(more=pairs["z"] - pairs["z_without"])
