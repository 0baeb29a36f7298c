import numpy as np
import pandas as pd
import pytest

from grokking_core import data
from grokking_core.measures import wrong_cells as answers
from grokking_core.measures.wrong_cells import DRAWS
from grokking_core.runs.run import Run

RUN = Run(operation="x-y", p=11, train_fraction=0.4, outliers=5)


def answers_of(run):
    return data.operation_table(run.operation, run.p, run.n).answer.astype(np.int16)


def with_wrong(chosen):
    """The graded table of a network that is wrong in the chosen cells only."""
    given = answers_of(RUN)
    x, y, _ = data.operation_table("x-y", 11)
    return answers.graded(RUN, np.where(chosen(x, y, given), (given + 1) % 11, given))


def test_graded_table_has_every_equation_and_tells_right_from_wrong():
    given = answers_of(RUN)
    given[7] += 1
    cells = answers.graded(RUN, given)
    assert len(cells) == 121
    assert cells["answer"].tolist() == ((cells["x"] - cells["y"]) % 11).tolist()
    assert np.flatnonzero(~cells["right"]).tolist() == [7]
    assert cells["given"].tolist() == given.tolist()
    assert sum(cells["is_train"]) == RUN.n_train


def test_answer_of_an_outlier_is_that_of_the_table():
    labels = RUN.dataset().label
    cells = answers.graded(RUN, labels)
    assert (labels != answers_of(RUN)).any()
    assert cells["right"].tolist() == (labels == answers_of(RUN)).tolist()


def test_undefined_answer_is_wrong():
    assert not any(answers.graded(RUN, np.full(121, -1))["right"])


def test_wrong_cells_of_one_row_crowd_there_and_nowhere_else():
    table = answers.crowding(with_wrong(lambda x, y, answer: x == 4))
    assert table.to_dict("index")["x"] == {
        "element": 4, "wrong": 11, "cells": 11, "expected": 1, "p": 1 / (1 + DRAWS)
    }  # fmt: skip
    assert table["p"].tolist()[1:] == [1, 1]  # one wrong cell for each y and each answer: never less


def test_wrong_cells_of_one_answer_crowd_there():
    table = answers.crowding(with_wrong(lambda x, y, answer: answer == 3), by=["answer", "x"])
    assert table.index.tolist() == ["answer", "x"]
    assert table["element"].tolist()[0] == 3
    by_answer, by_row = table["p"]
    assert by_answer < 0.001 < by_row


def test_crowding_counts_the_cells_it_is_given():
    cells = with_wrong(lambda x, y, answer: x < 3)
    held_out = pd.DataFrame(cells[~cells["is_train"]])
    row = answers.crowding(held_out).to_dict("index")["x"]
    assert row["cells"] == (held_out["x"] == row["element"]).sum()
    assert row["wrong"] == row["cells"]
    assert row["expected"] == pytest.approx(row["cells"] * (held_out["x"] < 3).mean())


def test_chance_is_the_share_of_shuffled_tables_with_as_much_crowding():
    right = np.random.default_rng(0).permutation(121) >= 30
    cells = answers.graded(RUN, answers_of(RUN)).assign(right=right)
    x, rng = cells["x"].to_numpy(), np.random.default_rng(1)

    def spread(right):
        return ((np.bincount(x[~right], minlength=11) - 30 / 11) ** 2).sum()  # Pearson's, times a constant

    shuffled = np.array([spread(rng.permutation(right)) for _ in range(4000)])
    chance = np.mean(shuffled >= spread(right) - 1e-9)
    assert 0.1 < chance < 0.9
    assert answers.crowding(cells).to_dict()["p"]["x"] == pytest.approx(chance, abs=0.045)  # 4 sigma


def test_table_without_wrong_cells_has_no_crowding():
    table = answers.crowding(answers.graded(RUN, answers_of(RUN)))
    assert table.isna().to_numpy().all()
    assert str(table["element"].dtype) == "Int64"


def test_answers_must_be_as_many_as_equations():
    with pytest.raises(ValueError, match=r"given has shape \(3,\); x-y needs \(121,\)"):
        answers.graded(RUN, [1, 2, 3])
