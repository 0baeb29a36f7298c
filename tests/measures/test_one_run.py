import math

import pandas as pd
import pytest
from curves_by_hand import INF, NAN, made_up, table_of

from grokking_core import measures
from grokking_core.measures import LossTurn


def test_gap_is_the_ratio_of_steps():
    r = made_up([0, 0, 0, 0, 1, 0.9], train=[0, 0, 1, 0, 1, 1])
    assert measures.gap(r) == 5
    assert measures.gap(r, sustained=True) is None
    assert measures.gap(r, 0.9, sustained=True) == 1


@pytest.mark.parametrize(("validation", "train"), [([0, 0.5], [0, 1]), ([0, 1], [0, 0.5]), ([1, 1], [1, 1])])
def test_gap_of_a_censored_run_is_none(validation, train):
    assert measures.gap(made_up(validation, train)) is None


def test_gaps_are_medians_that_take_censored_validation_for_later():
    table = table_of([0.3] * 3 + [0.4] * 3, [None, None, 90, 20, 30, 40], followed=100, split_seed=1)
    table["train_steps"] = pd.array([20, None, 10, 10, 20, None], dtype="Int64")
    found = measures.gaps(table)
    assert found.index.tolist() == [0.3, 0.4]
    assert found["value"].tolist() == [9, 1.75]  # 5 and more, 9; 2, 1.5
    assert found[["n", "reached"]].to_numpy().tolist() == [[2, 1], [2, 2]]


def test_gap_of_one_run_is_its_own():
    r = made_up([0, 0, 0, 0, 1, 0.9], train=[0, 0, 1, 0, 1, 1])
    assert measures.gaps(measures.summary([r]))["value"].tolist() == [measures.gap(r)]
    assert measures.gaps(measures.summary([])).empty


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ([0, 0, 0, 0, 0, 1], 0),  # at one evaluation
        ([0, 0, 0.1, 0.5, 0.9, 1], 0.8),
        ([0, 0.1, 0.2, 0.5, 0.8, 0.9], 0.95),
        ([0.1, 0.2, 0.5, 0.9, 1, 1], 1),
        ([0, 0, 0.5, 0.5, 0.5, 0.5], None),
        ([1, 1, 1, 1, 1, 1], None),
    ],
)
def test_suddenness_is_the_share_of_updates_spent_rising(validation, expected):
    assert measures.suddenness(made_up(validation)) == expected


def test_suddenness_reads_the_accuracy_it_is_asked_for():
    r = made_up([0, 0.3, 0.5, 0.5, 0.9, 1], unmirrored=[0, 0, 0, 0, 0, 1])
    assert measures.suddenness(r) == 0.9
    assert measures.suddenness(r, which="unmirrored") == 0
    assert measures.suddenness(r, low=0.4, high=0.5) == 0
    with pytest.raises(ValueError, match=r"low=0.9, high=0.1 must be 0 < low < high <= 1; write 10 % as 0.1"):
        measures.suddenness(r, 0.9, 0.1)


def test_accuracy_when_fitted_is_that_of_the_first_evaluation_with_the_training_set_right():
    r = made_up([0, 0.1, 0.2, 0.9, 1, 1], train=[0, 0.5, 0.995, 0.9, 1, 1], unmirrored=[0, 0, 0.1, 1, 1, 1])
    assert measures.when_fitted(r) == 0.2
    assert measures.when_fitted(r, 0.999) == 1
    assert measures.when_fitted(r, which="unmirrored") == 0.1
    assert measures.when_fitted(made_up([0, 1], train=[0, 0.5])) is None


def test_best_accuracy_is_the_highest_seen():
    r = made_up([0, 0.7, NAN, 0.2], train=[0, 1, 1, 1], unmirrored=[NAN] * 4)
    assert measures.best_accuracy(r) == 0.7
    assert measures.best_accuracy(r, "train") == 1
    assert math.isnan(measures.best_accuracy(r, "unmirrored"))


@pytest.mark.parametrize(
    ("loss", "turn", "rose", "fell"),
    [
        ([5, 4, 9, 20, 3, 0.1], LossTurn(4, 20, 5, 0.1), True, True),
        ([5, 4, 9, 20, 21, 22], LossTurn(4, 22, 20, 22), True, False),
        ([5, 4, 3, 2, 1, 0.1], LossTurn(5, 5, 0, 0.1), False, True),
        ([4, 5, 5.1, 0.5, 3, 0.5], LossTurn(4, 5.1, 2, 0.5), True, True),  # a late spike, 2.5 nats high
        ([4, 5, 5.1, 0.5, 0.6, 3], LossTurn(4, 5.1, 2, 3), True, True),  # one at the end
        ([4, 5, 5.1, 0.5, 3, 2.9], LossTurn(0.5, 3, 10, 2.9), True, False),  # that is no spike
        ([5, 4, 4.1, 4.2, 4, 4], LossTurn(4, 4.2, 5, 4), False, False),  # a tenth is asked for
        ([5, 4, INF, 8, 6, NAN], LossTurn(4, 8, 5, 6), True, True),
    ],
)
def test_loss_turn_finds_the_hill(loss, turn, rose, fell):
    found = measures.loss_turn(made_up([0] * 6, loss=loss))
    assert found == turn
    assert (found.rose, found.fell) == (rose, fell)


def test_loss_turn_refuses_a_record_without_losses():
    with pytest.raises(ValueError, match="no validation loss is finite"):
        measures.loss_turn(made_up([0, 0], loss=[NAN, INF]))
