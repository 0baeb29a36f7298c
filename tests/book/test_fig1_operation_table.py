"""The page of figure 1 right and figure 5, its cells run on made-up records."""

import numpy as np
import pandas as pd

from grokking_book.play import puzzle
from grokking_core import plots
from grokking_core.runs.record import COLUMNS, Record

STEPS = [0, 2000, 4000]
BEST = 0.995  # validation accuracy at step 2000


def nearly_right(run):
    """All answers right but those of the held-out cells of row 5."""
    dataset = run.dataset()
    wrong = ~dataset.is_train & (dataset.x == 5)
    given = np.where(wrong, (dataset.label + 1) % run.p, dataset.label)
    curve = pd.DataFrame(1.0, index=range(len(STEPS)), columns=pd.Index(COLUMNS)).assign(step=STEPS)
    curve["validation_accuracy"] = [0, BEST, 1 - wrong.sum() / (~dataset.is_train).sum()]
    return Record(run=run, curve=curve, kept={"answers": {"answer": given}})


def test_page_runs_with_nothing_on_record(run_notebook):
    names = run_notebook("fig1_operation_table", lambda run: None)
    assert names["given"] is None
    assert len(names["counts"]) == 0
    assert names["text"] == "There is nothing on record to count."


def test_page_finds_the_row_that_is_wrong(run_notebook):
    names = run_notebook("fig1_operation_table", nearly_right)
    held_out = names["counts"].loc["held out"]
    n = int((~names["table"].is_train & (names["table"].x == 5)).sum())
    assert n == held_out["wrong"] > 30
    assert held_out["cells"] - held_out["right"] == n
    assert names["counts"].loc["training", "wrong"] == 0
    assert (
        names["text"] == f"The wrong cells crowd. Among those held out, {n} of the {n} with x = 5 are wrong."
    )


def test_picture_widget_and_solution_are_of_one_puzzle(run_notebook, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "table_with_holes", lambda *columns, **_: drawn.append(columns))
    names = run_notebook("fig1_operation_table", nearly_right)
    first = puzzle.widget().data["puzzles"][0]
    x, y, answer, hidden = drawn[0]
    cells = list(zip(x.tolist(), y.tolist(), strict=True))
    assert sorted(cell for cell, hole in zip(cells, hidden, strict=True) if hole) == [
        tuple(cell) for cell in first["holes"]
    ]
    for (row, column), letter in zip(cells, answer, strict=True):
        assert first["letters"][letter] == first["table"][row][column]
    solution = names["mine"].solution()
    assert all(words in solution for words in [*first["laws"], first["told"]])
