import numpy as np
import pandas as pd
import pytest
from curves_by_hand import NAN, Answers, made_up, with_accuracies

from grokking_core import Run, measures
from grokking_core.measures import Needed


def test_summary_has_a_row_a_run_and_missing_ones_last():
    rising, flat = [0, 0.2, 0.99, 0.5, 1, 1], [0, 0.1, 0.3, 0.2, 0.1, 0.1]
    others = [Run(operation="s5:xy", seed=s, batch_size="full", split_seed=s) for s in (1, 2)]
    records = Answers([made_up(rising, train=[0, 1, 1, 1, 1, 1]), made_up(flat, run=others[0])])
    records.missing = [others[1]]
    table = measures.summary(records)
    assert table["operation"].tolist() == ["x+y", "s5:xy", "s5:xy"]
    assert table["batch_size"].tolist() == ["None", "full", "full"]
    assert table["split_seed"].tolist() == [pd.NA, 1, 2]
    assert table["beta2"].tolist() == [0.98] * 3
    assert table["n_train"].tolist() == [60, 7200, 7200]
    assert table["train_steps"].tolist() == [1, pd.NA, pd.NA]
    assert table["validation_steps"].tolist() == [2, pd.NA, pd.NA]
    assert table["validation_sustained"].tolist() == [10, pd.NA, pd.NA]
    assert table["followed"].tolist() == [20, 20, pd.NA]
    assert table["missing"].tolist() == [False, False, True]
    np.testing.assert_equal(table["best_validation"].to_numpy(), [1.0, 0.3, NAN])


def test_summary_has_every_field_of_a_run_and_the_same_columns_without_runs():
    table, empty = measures.summary([made_up([0, 1])]), measures.summary([])
    fields = set(Run.__dataclass_fields__) - {"betas"} | {"beta1", "beta2"}
    assert fields < set(table)
    assert list(empty) == list(table)
    assert empty.empty
    assert {str(empty[name].dtype) for name in (*measures.STEPS, "followed")} == {"Int64"}
    assert {str(table[name].dtype) for name in ("diverged", "missing")} == {"bool"}


def test_summary_reads_its_threshold_and_divergence():
    lowest = measures.summary([made_up([0, 0.5, 0.9, NAN], diverged_at=5)], threshold=0.5)
    assert lowest.loc[0, "validation_steps"] == 1
    assert lowest.loc[0, "validation_sustained"] is pd.NA
    assert lowest.loc[0, "diverged"]
    assert lowest.loc[0, "best_validation"] == 0.9


@pytest.mark.parametrize("threshold", [0, 99, NAN])
def test_summary_refuses_a_threshold_that_is_no_share(threshold):
    with pytest.raises(ValueError, match=rf"threshold={threshold} must lie in \(0, 1\]; write 99 % as 0.99"):
        measures.summary([], threshold)


@pytest.mark.parametrize(
    ("best", "needed"),
    [
        ({0.2: [0.1], 0.3: [0.5], 0.4: [1.0], 0.5: [1.0]}, (0.3, 0.4)),
        ({0.2: [1.0], 0.3: [1.0]}, (None, 0.2)),
        ({0.2: [0.1], 0.9: [0.98]}, (0.9, None)),
        ({0.2: [0.1, 1.0, 0.2], 0.3: [0.2, 1.0, 0.99]}, (0.2, 0.3)),  # median over seeds
        ({0.2: [0.1], 0.3: [1.0], 0.4: [0.5], 0.5: [1.0]}, (0.2, 0.3)),  # fails again above
        ({0.5: [1.0], 0.2: [0.1], 0.3: [0.99]}, (0.2, 0.3)),  # any order
        ({0.2: [0.1], 0.3: [NAN], 0.4: [NAN, 1.0]}, (0.2, 0.4)),  # missing runs say nothing
        ({}, (None, None)),
    ],
)
def test_fraction_needed_is_bracketed(best, needed):
    assert measures.fraction_needed(with_accuracies(best)) == Needed(*needed)


def test_fraction_needed_reads_its_threshold_and_column():
    table = with_accuracies({0.2: [0.6], 0.3: [0.9]}).assign(best_train=1.0)
    assert measures.fraction_needed(table, 0.5).reached == 0.2
    assert measures.fraction_needed(table, 0.9) == (0.2, 0.3)
    assert measures.fraction_needed(table, column="best_train") == (None, 0.2)


def test_fractions_that_fail_above_the_one_needed_are_named():
    table = with_accuracies({0.1: [0.1], 0.2: [1.0], 0.3: [0.5], 0.4: [1.0], 0.5: [0.9]})
    assert measures.fractions_relapsed(table) == [0.3, 0.5]
    assert measures.fractions_relapsed(table, 0.5) == []
    assert measures.fractions_relapsed(with_accuracies({0.1: [0.1]})) == []


def test_fraction_needed_refuses_wrong_arguments():
    table = with_accuracies({0.2: [0.1], 0.3: [1.0]})
    with pytest.raises(ValueError, match=r"threshold=99 must lie in \(0, 1\]; write 99 % as 0.99"):
        measures.fraction_needed(table, 99)
    match = "column='train_steps' must be one of best_train, best_validation, best_unmirrored"
    with pytest.raises(ValueError, match=match):
        measures.fraction_needed(table, column="train_steps")
    with pytest.raises(ValueError, match=r"table: operation is x\+y, x-y; runs may differ in"):
        measures.fraction_needed(table.assign(operation=["x+y", "x-y"]))


def paired(values, seeds=(0, 1), column="best_validation"):
    rows = [(f, seed, v) for f, several in values.items() for seed, v in zip(seeds, several, strict=False)]
    return pd.DataFrame(rows, columns=["train_fraction", "seed", column])


def test_pairs_are_of_one_fraction_and_seed():
    a, b = paired({0.3: [0.1, 0.2], 0.5: [1.0, 0.9]}), paired({0.5: [0.8, 0.7], 0.6: [1.0]})
    both = measures.pairs(a, b.sample(frac=1, random_state=1))
    assert both.loc[0.5, ["a", "b"]].to_numpy().tolist() == [[1.0, 0.8], [0.9, 0.7]]
    assert len(both) == 2
    assert measures.pairs(b, a)["b"].equals(both["a"])


def test_pairs_leave_out_what_is_missing_or_censored():
    a = paired({0.3: [0.1, NAN], 0.5: [1.0, 0.9]})
    assert list(measures.pairs(a, a).index) == [(0.3, 0), (0.5, 0), (0.5, 1)]
    steps = paired({0.3: [100, None]}, column="validation_steps").astype({"validation_steps": "Int64"})
    assert measures.pairs(steps, steps, "validation_steps").to_numpy().tolist() == [[100.0, 100.0]]
    assert measures.pairs(a, a.iloc[:0]).empty


def test_pairs_refuse_two_runs_of_one_seed():
    a = paired({0.3: [0.1, 0.2]})
    with pytest.raises(ValueError, match=r"table_b has two runs with train_fraction=0.3, seed=1; give one"):
        measures.pairs(a, paired({0.3: [0.1, 0.2]}, seeds=(1, 1)))
