"""What the page on which readers train is given, and what its questions tell of records."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from grokking_book.play import trainer
from grokking_core.paper import experiments
from grokking_core.paper.experiments import TRAINER_CHANGES
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run

PLAN = experiments.trainer()
DEFAULT = PLAN.runs[0]


def record(run, learned=None, followed=1000):
    """A record with the training set learned at step 100, the rest at `learned`, if ever."""
    steps = sorted({0, 100, followed} | ({learned} if learned else set()))
    curve = pd.DataFrame(0.1234567, index=range(len(steps)), columns=pd.Index(COLUMNS)).assign(step=steps)
    curve["train_accuracy"] = (curve["step"] >= 100).astype(float)
    curve["validation_accuracy"] = [1.0 if learned and step >= learned else 0.25 for step in steps]
    return Record(run=run, curve=curve)


def folded(text, number):
    """What is folded under a question."""
    return text.split("<details")[number].partition("</details>")[0]


def test_default_and_every_changed_run_can_be_trained_in_a_page():
    for run in PLAN.runs:
        trainer.widget([], run)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"operation": "x^2+y^2"}, r"operation='x\^2\+y\^2' must be one of x\+y, x-y, x\*y, x/y"),
        ({"p": 97}, "p=97 must lie in 11..59"),
        ({"d_model": 20}, "d_model=20 must be a multiple of 8"),
        ({"outliers": 101}, "outliers=101 must lie in 0..100"),
        ({"lr": 0.5}, "lr=0.5 must lie in"),
        ({"n_layers": 2}, "differs from"),
    ],
)
def test_what_a_page_cannot_train_is_refused_by_name(change, told):
    with pytest.raises(ValueError, match=told):
        trainer.widget([], replace(DEFAULT, **change))


def test_records_come_with_their_settings_and_rounded_curves():
    data = trainer.widget([record(DEFAULT, 500)], DEFAULT).data
    (found,) = data["records"]
    assert found["run"] == {name: data["fields"][name]["default"] for name in data["fields"]}
    assert found["curve"]["step"] == [0, 100, 500, 1000]
    assert found["curve"]["train_loss"] == [0.123457] * 4
    assert found["curve"]["validation_accuracy"] == [0.25, 0.25, 1.0, 1.0]
    json.dumps(data, allow_nan=False)


def test_a_run_that_diverged_is_told_without_its_last_numbers():
    wild = record(DEFAULT)
    wild.curve.loc[2, ["train_loss", "validation_loss"]] = float("nan"), float("inf")
    found = trainer.widget([wild], DEFAULT).data["records"][0]["curve"]
    assert found["train_loss"] == found["validation_loss"] == [0.123457, 0.123457, None]


def test_accuracies_that_just_miss_a_milestone_still_do():
    short = record(DEFAULT, 500)
    short.curve["validation_accuracy"] = np.nextafter(0.99, 0) - 1 / 59**2 / 100
    assert max(trainer.curve(short)["validation_accuracy"]) < 0.99


def test_address_writes_operations_as_they_are():
    assert trainer.address(replace(DEFAULT, operation="x*y", seed=3)) == (
        "#operation=x*y&p=41&train_fraction=0.5&outliers=0&weight_decay=1.0&lr=0.003&d_model=32&seed=3"
    )


def test_there_are_six_questions_about_the_runs_that_the_plan_has():
    assert list(trainer.QUESTIONS) == list(TRAINER_CHANGES)
    assert len(trainer.QUESTIONS) == 6
    for key, question in trainer.QUESTIONS.items():
        assert list(question.names) == list(TRAINER_CHANGES[key])
        for change in TRAINER_CHANGES[key].values():
            assert replace(DEFAULT, **change) in PLAN.runs


def test_answers_are_read_from_the_records():
    without = replace(DEFAULT, weight_decay=0.0)
    records = [record(replace(DEFAULT, seed=seed), 400 + 100 * seed) for seed in range(3)]
    records += [record(replace(without, seed=seed)) for seed in range(2)]
    text = trainer.questions(records, DEFAULT)
    first = folded(text, 1)
    assert "<td>3</td><td>100</td><td>500 (400 to 600)</td><td>100 %</td>" in first
    assert "<td>2</td><td>100</td><td>not within 1,000</td><td>25 %</td>" in first
    assert (
        "*weight decay 1* needs 500 updates, the median over its seeds; of *none*, 0 of 2 runs learned."
        in first
    )


def test_answers_compare_medians_with_the_first_rows():
    wide = replace(DEFAULT, d_model=64)
    narrow = replace(DEFAULT, d_model=16)
    text = folded(
        trainer.questions([record(narrow, 800), record(DEFAULT, 400), record(wide, 200)], DEFAULT), 5
    )
    assert "*width 16* needs 800 updates" in text
    assert "*width 32* 0.5 times as many; *width 64* 0.25 times as many." in text


def test_answers_say_what_is_not_on_record():
    text = trainer.questions([], DEFAULT)
    assert text.count("<td>not on record</td>") == 15
    assert "none is on record" in text


def test_questions_have_a_button_for_each_of_their_runs():
    text = trainer.questions([], DEFAULT)
    assert text.count("<button") == sum(map(len, TRAINER_CHANGES.values()))
    assert f'data-trainer="{trainer.address(replace(DEFAULT, outliers=10)).replace("&", "&amp;")}"' in text


def test_runs_of_other_settings_do_not_count():
    other = record(Run(operation="x+y", p=41, train_fraction=0.5), 300)
    assert "<td>0</td><td>not on record</td>" in trainer.questions([other], DEFAULT)
