"""Figure 6 (appendix A.4): outliers."""

from __future__ import annotations

from grokking_core import measures
from grokking_core.claims.deciding import (
    LITTLE,
    S5,
    Verdict,
    claim,
    kind_of,
    verdict,
)
from grokking_core.paper import evidence
from grokking_core.paper.evidence import BUDGET
from grokking_core.runs.record import LEARNED
from grokking_core.runs.records import Records


@claim(
    "figure 6, appendix A.4",
    "With outliers the training set is still fitted; few outliers do little, many hinder generalization.",
)
def c20(fig6_outliers: Records) -> Verdict:
    """Decided by changes of best validation accuracy from the run without outliers, where that one learned.

    Of a symmetric operation it is that on unmirrored pairs. Few are 10, or 1 % of the training set; many
    are 10 % or more. Three parts: training accuracy, outliers included, reaches 99 %; with few the median
    change is a loss of LITTLE at most; with many it is a larger one. agrees: all three. partly: one or two;
    the first is open where a run was given up before BUDGET updates. differs: none. not reached: no run
    with few, or none with many, has its counterpart on record.
    """
    records = evidence.own(fig6_outliers, S5)
    table, keys = evidence.outcomes(records), ["operation", "train_fraction", "seed"]
    clean = table.loc[table["outliers"].eq(0) & table["enough"], [*keys, "accuracy"]]
    pairs = table.loc[table["outliers"].gt(0)].merge(clean, on=keys, suffixes=("", "_clean"))
    change = pairs["accuracy"] - pairs["accuracy_clean"]
    few = change.loc[pairs["outliers"] <= (0.01 * pairs["n_train"]).clip(lower=10)].to_numpy()
    many = change.loc[pairs["outliers"] >= 0.1 * pairs["n_train"]].to_numpy()
    fitted = pairs["best_train"] >= LEARNED
    given_up = ~fitted & (pairs["followed"].ge(BUDGET) | pairs["diverged"])
    with_few, with_many = measures.interval(few), measures.interval(many)
    all_fitted = False if given_up.any() else True if fitted.all() else None
    kind = kind_of([all_fitted, with_few.value >= -LITTLE, with_many.value < -LITTLE])
    text = f"Of {len(pairs)} runs with outliers {fitted.sum()} fitted their training set"
    text += f"; open, being given up early: {(~fitted & ~given_up).sum()}. Median change of best accuracy: "
    text += f"{with_few} with few outliers, {with_many} with many."
    known = len(few) and len(many)
    return verdict(kind if known else "not reached", len(pairs), text, records, S5, BUDGET)
