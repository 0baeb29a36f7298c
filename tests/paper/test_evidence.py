import math

import numpy as np
import pandas as pd
import pytest

from grokking_core import data
from grokking_core.measures import Needed
from grokking_core.paper import evidence
from grokking_core.runs import words
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.weights import structure


def record(steps, train, validation, unmirrored=None, diverged=False, kept=None, **fields):
    """A run from its evaluations."""
    curve = pd.DataFrame(1.0, index=range(len(steps)), columns=pd.Index(COLUMNS))
    shares = {"train_accuracy": train, "validation_accuracy": validation}
    shares["unmirrored_accuracy"] = unmirrored or validation
    curve = curve.assign(step=steps, **shares)
    diverged_at = steps[-1] if diverged else None
    return Record(run=Run(**fields), curve=curve, diverged_at=diverged_at, kept=kept or {})


def learned(step=1000, **fields):
    return record([0, 100, step], [0, 1, 1], [0, 0, 1], **{"operation": "x-y", **fields})


def unlearned(end=4000, **fields):
    return record([0, 100, end], [0, 1, 1], [0, 0, 0.5], **{"operation": "x-y", **fields})


def records(*found, missing=()):
    result = Records(found, asked=[])
    result.missing = list(missing)
    return result


@pytest.mark.parametrize("operation", data.OPERATIONS)
def test_symmetric_operations_have_symmetric_tables(operation):
    x, y, answer = (column.tolist() for column in data.operation_table(operation, p=11, n=4))
    known = dict(zip(zip(x, y, strict=True), answer, strict=True))
    same = all((b, a) in known and known[b, a] == z for (a, b), z in known.items())
    assert data.OPERATIONS[operation].symmetric == same


def test_symmetric_operations_are_these():
    symmetric = [operation for operation in data.OPERATIONS if data.OPERATIONS[operation].symmetric]
    assert symmetric == ["x+y", "x*y", "x*y!=0", "x^2+y^2", "x^2+xy+y^2"]


def test_part_of_records_keeps_what_is_missing_of_it():
    runs = [Run(operation="x-y", seed=seed) for seed in (2, 3)]
    whole = records(learned(seed=0), learned(seed=1), missing=runs)
    part = whole.where(lambda run: run.seed in (1, 3))
    assert [r.run.seed for r in part] == [1]
    assert part.missing == runs[1:]
    assert [run.seed for run in part.runs] == [1, 3]


def test_record_that_has_not_kept_what_is_asked_counts_as_missing():
    whole = records(learned(seed=0, kept={"sharpness": {}}), learned(seed=1))
    part = whole.with_kept("sharpness")
    assert [r.run.seed for r in part] == [0]
    assert part.missing == [whole[1].run]
    assert whole.missing == []


def test_run_has_failed_at_its_budget_or_where_it_diverged():
    assert not evidence.has_failed(learned(), 1000)
    assert not evidence.has_failed(unlearned(4000), 5000)
    assert evidence.has_failed(unlearned(4000), 4000)
    assert evidence.has_failed(unlearned(4000, diverged=True), 5000)


def test_gap_is_a_median_in_which_censored_runs_come_last():
    assert str(evidence.gap([learned(1000), learned(2000), learned(3000)])) == "20 [10, not reached] (n = 3)"
    assert evidence.gap([learned(1000), learned(3000), unlearned()]).value == 30
    half_unlearned = evidence.gap([learned(1000), unlearned(), unlearned()])
    assert math.isnan(half_unlearned.value)
    assert half_unlearned.n == 3
    never_fitted = record([0, 100], [0, 0.5], [0, 0.1], operation="x-y")
    assert evidence.gap([never_fitted]).n == 0


def test_symmetric_operation_is_learned_on_unmirrored_pairs_alone():
    steps, fits = [0, 100, 1000], [0, 1, 1]
    mirrors = record(steps, fits, [0, 0.5, 0.995], [0, 0, 0.2], operation="x+y", train_fraction=0.9)
    learns = record(steps, fits, [0, 0.5, 0.995], [0, 0, 0.95], operation="x+y", train_fraction=0.9)
    other = record(steps, fits, [0, 0.5, 0.995], [0, 0, 0.2], operation="x-y", train_fraction=0.9)
    table = evidence.outcomes([mirrors, learns, other])
    assert list(table["enough"]) == [False, True, True]
    assert list(table["accuracy"]) == [0.2, 0.95, 0.995]
    needed = evidence.fractions_needed([mirrors, other], lambda run: run.operation)
    assert needed == {"x+y": Needed(0.9, None), "x-y": Needed(None, 0.9)}


def test_training_is_fitted_soon_late_or_not_known():
    soon = record([0, 10_000], [0, 1], [0, 0], operation="x-y")
    late = record([0, 12_000], [0, 1], [0, 0], operation="x-y")
    never = record([0, 10_000], [0, 0.9], [0, 0], operation="x-y")
    given_up = record([0, 9000], [0, 0.9], [0, 0], operation="x-y")
    diverged = record([0, 9000], [0, 0.9], [0, 0], operation="x-y", diverged=True)
    known = evidence.outcomes([soon, late, never, given_up, diverged])["fitted_soon"]
    assert known.isna().tolist() == [False, False, False, True, False]
    assert known.dropna().tolist() == [True, False, False, False]


def test_run_given_up_before_others_has_not_failed():
    early, late = unlearned(1000, train_fraction=0.6), unlearned(4000, train_fraction=0.4)
    found = [early, late, learned(3000, train_fraction=0.8)]
    assert evidence.fractions_needed(found, lambda run: "all") == {"all": Needed(0.4, 0.8)}
    diverged = unlearned(1000, train_fraction=0.6, diverged=True)
    assert evidence.fractions_needed([diverged, late], lambda run: "all") == {"all": Needed(0.6, None)}


def test_needs_less_where_what_sufficed_for_one_failed_for_the_other():
    assert evidence.needs_less(Needed(0.2, 0.4), Needed(0.4, 0.6)) is True
    assert evidence.needs_less(Needed(0.4, 0.6), Needed(0.2, 0.4)) is False
    assert evidence.needs_less(Needed(None, 0.4), Needed(0.8, None)) is True
    for a, b in [((0.2, 0.4), (0.2, 0.4)), ((0.2, 0.4), (0.3, 0.6)), ((0.2, None), (0.4, None))]:
        assert evidence.needs_less(Needed(*a), Needed(*b)) is None
    assert evidence.needs_less(evidence.UNKNOWN, Needed(0.4, 0.6)) is None


def test_ratio_lies_between_its_bounds():
    assert evidence.ratio(Needed(0.6, 0.8), Needed(0.2, 0.4)) == pytest.approx((1.5, 4))
    assert evidence.ratio(Needed(0.8, None), Needed(0.3, 0.4)) == (2, math.inf)
    assert evidence.ratio(Needed(None, 0.8), Needed(0.4, None)) == (0, 2)
    assert evidence.ratio(evidence.UNKNOWN, Needed(0.2, 0.4)) == (0, math.inf)


def test_places_are_those_a_bracket_allows():
    tried = [0.2, 0.4, 0.6]
    assert evidence.places(Needed(0.2, 0.4), tried) == (1, 1)
    assert evidence.places(Needed(0.2, 0.6), tried) == (1, 2)
    assert evidence.places(Needed(None, 0.4), tried) == (0, 1)
    assert evidence.places(Needed(0.6, None), tried) == (3, 3)


def test_network_knows_its_task_at_its_end():
    early = record([0, 100, 200], [0, 1, 1], [0, 0.95, 0.8], operation="x-y")
    assert not structure.knows(early)
    assert structure.knows(learned())
    mirrors = record([0, 100], [0, 1], [0, 0.95], [0, 0.1], operation="x+y")
    assert not structure.knows(mirrors)


def test_rows_must_be_kept_finite_and_enough():
    def kept(rows, **fields):
        return structure.has_rows(learned(kept={"output_rows": {"rows": rows}}, **fields))

    assert kept(np.zeros((99, 4)))
    assert not kept(np.full((99, 4), np.nan))
    assert not kept(np.zeros((5, 4)), p=3)
    assert not structure.has_rows(learned())


@pytest.mark.parametrize(
    ("needed", "told"),
    [
        (Needed(0.3, 0.4), "30 to 40 %"),
        (Needed(None, 0.25), "at most 25 %"),
        (Needed(0.29, None), "above 29 %"),
        (Needed(None, None), "unknown"),
    ],
)
def test_bracket_in_words(needed, told):
    assert evidence.bracket(needed) == told
    assert evidence.brackets({"s5:xy": needed}) == f"Fraction needed: S5 product {told}."


def test_lists_and_spans_in_words():
    assert words.listed([1.0, 0.5, 1.0, "x"]) == "1, 0.5, x"
    assert words.span([4000, 1000]) == "1,000 to 4,000"
    assert words.span([4000, 4000]) == "4,000"
    assert words.name("AdamW, decay 1") == "'AdamW, decay 1'"
    assert words.name("s5:xy") == "S5 product"
    assert words.task(Run(operation="s5:xyx", n=4)) == "xyx on S4"
    assert words.task(Run(operation="x+y", p=23)) == "x+y mod 23"


def test_notes_say_where_the_setting_is_the_papers():
    found = records(learned(), unlearned(100_000))
    assert evidence.notes(found, "x-y", 100_000) == ["The paper's own operation and budget."]
    assert evidence.notes(found) == []
    own = evidence.notes(records(learned(1000)), "x-y", 100_000)  # it learned: no budget cut it short
    assert own == ["The paper's own operation and budget."]


def test_notes_say_what_is_missing_and_not_the_papers():
    missing = [Run(operation="s5:xy", n=4, d_model=32)]
    assert evidence.notes(records(unlearned(p=23), missing=missing), "s5:xy", 100_000) == [
        "This is x-y mod 23; the paper's is S5 product.",
        "Not the paper's size: modulus 23, width 32, S4.",
        "Runs that did not learn were followed for 4,000 updates; the paper's, for 100,000.",
        "Missing: 1 of 2 runs.",
    ]
