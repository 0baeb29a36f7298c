"""Alarms, keys and bands on records made by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from grokking_core import measures
from grokking_core.measures import watched
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run

STEPS = [0, 100, 200, 300, 400, 500, 1000, 2000, 3000]
COLUMN = {
    "ildr": 1.0, "entropy": 0.8, "entropy_uncentred": 0.8, "weight_norm": 9.0, "gradient_norm": 1.0,
    "unmirrored_accuracy": 0.0, "validation_loss": 5.0,
}  # fmt: skip


def record(learned=None, fitted=200, probe="early_warnings", outliers=0, **columns):
    """A run by its steps to 99 % in training and to 95 % in validation, and what a probe saw at each step."""
    steps = np.array(STEPS)
    curve = pd.DataFrame(0.0, index=range(len(steps)), columns=pd.Index(COLUMNS))
    curve["step"] = steps
    curve["train_accuracy"] = (steps >= fitted).astype(float) if fitted is not None else 0.0
    curve["validation_accuracy"] = (steps >= learned).astype(float) if learned is not None else 0.0
    frame = pd.DataFrame({"step": steps} | (COLUMN if probe == "early_warnings" else {}) | columns)
    return Record(run=Run(operation="x+y", p=31, outliers=outliers), curve=curve, watched={probe: frame})


def is_control(run):
    return bool(run.outliers)


def alarms(*records):
    return measures.alarms(records, is_control).set_index("signal")


def rising(at, high, low=1.0):
    return [high if step >= at else low for step in STEPS]


def test_a_signal_warns_from_fitting_on_against_its_value_there():
    ildr = "ILDR over 2.5 x its value at fitting"
    early = alarms(record(2000, ildr=[9.0, 9.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0])).loc[ildr]
    assert (early["alarm"], early["lead"], early["score"]) == (500, 1500, 3.0)
    late = alarms(record(1000, ildr=rising(2000, 3.0))).loc[ildr]
    assert (late["alarm"], late["lead"], late["score"]) == (2000, -1000, 1.0)  # of the time before T95 only
    assert pd.isna(alarms(record(1000, fitted=None, ildr=rising(500, 99.0))).loc[ildr, "alarm"])


@pytest.mark.parametrize(
    ("signal", "column", "values", "alarm"),
    [
        ("entropy at most 0.61", "entropy", rising(500, 0.61, 0.8), 500),
        ("entropy fell by 0.05", "entropy", [0.9, 0.9, 0.8, 0.78, 0.76, 0.76, 0.7, 0.6, 0.6], 1000),
        ("uncentred entropy fell by 0.05", "entropy_uncentred", rising(400, 0.7, 0.8), 400),
        ("weight norm below 3/4 of its value at fitting", "weight_norm", rising(300, 6.0, 9.0), 300),
        ("mean gradient norm below half of its value at fitting", "gradient_norm", rising(400, 0.4), 400),
        ("unmirrored accuracy over 5 %", "unmirrored_accuracy", rising(400, 0.06, 0.0), 400),
        ("validation loss 10 % below its maximum", "validation_loss", rising(1000, 4.4, 5.0), 1000),
    ],
)
def test_each_signal_has_its_alarm(signal, column, values, alarm):
    assert alarms(record(2000, **{column: values})).loc[signal, "alarm"] == alarm
    assert pd.isna(alarms(record(2000)).loc[signal, "alarm"])


def test_a_fall_counts_within_a_thousand_updates_only():
    slowly = [0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.78, 0.74, 0.70]
    assert pd.isna(alarms(record(3000, entropy=slowly)).loc["entropy fell by 0.05", "alarm"])


def test_runs_that_may_yet_learn_are_neither_learners_nor_controls():
    high = {"ildr": rising(500, 3.0)}
    found = measures.judged(
        measures.alarms(
            [
                record(2000, **high),
                record(1000),
                record(outliers=5, **high),
                record(outliers=6),
                record(**high),
            ],
            is_control,
        )
    ).loc["ILDR over 2.5 x its value at fitting"]
    assert (found["learners"], found["warned"], found["lead"]) == (2, 1, 1500)
    assert (found["controls"], found["false_alarms"]) == (2, 1)
    assert found["area"] == 0.5


def test_a_signal_that_tells_all_apart_has_an_area_of_one():
    runs = [record(2000, ildr=rising(500, 2.0)), record(1000, ildr=rising(500, 1.5)), record(outliers=1)]
    table = measures.alarms(runs, is_control)
    of = table[table["signal"] == "ILDR over 2.5 x its value at fitting"]
    points = measures.operating_points(of)
    assert points.iloc[0].tolist() == [0, 0]
    assert points.iloc[-1].tolist() == [1, 1]
    assert measures.judged(of)["area"].tolist() == [1.0]


def test_nothing_on_record_is_no_row():
    assert measures.alarms([], is_control).empty
    assert measures.judged(measures.alarms([], is_control)).empty
    assert np.isnan(measures.null_band([], is_control)).all()


def fourier(**shares):
    losses = {"excluded_loss": 2.0, "excluded_random_loss": 1.0, "restricted_accuracy": 0.2}
    accuracies = {"random_accuracy": 0.1, "all_accuracy": 0.9, "held_out_accuracy": 0.0}
    return record(2000, probe="fourier", **losses, **accuracies, **shares)


def test_keys_are_those_of_the_last_network_and_are_followed_from_the_first():
    run = fourier(share_1=[0.5, *[0.0] * 8], share_2=rising(500, 0.3, 0.01), share_5=rising(1000, 0.2, 0.0))
    assert measures.keys(run) == [2, 5]
    share = measures.key_share(run)
    assert share.loc[0] == pytest.approx(0.01)
    assert share.loc[3000] == pytest.approx(0.5)
    assert measures.first_above(share, 0.25) == 500
    assert measures.first_above(share, 0.9) is None
    row = measures.frequency_table([run]).iloc[0]
    assert (row["keys"], row["T_fit"], row["T95"], row["share 0.5"]) == ("2, 5", 200, 2000, 1000)
    assert row["all, at T_fit"] == 0.9


def test_the_band_is_of_controls_and_of_what_has_not_fitted():
    learner = record(1000, probe="topology", largest=[0.1, 0.12, 0.1, 0.5, 0.2, 0.3, 0.1, 0.3, 0.4])
    control = record(probe="topology", outliers=3, largest=rising(400, 0.2, 0.09))
    open_ = record(probe="topology", largest=rising(300, 0.9, 0.1))
    assert measures.null_band([learner, control, open_], is_control) == (0.09, 0.2)
    table = measures.loop_table([learner, control, open_], is_control)
    assert table["leaves the band"].tolist()[0] == 2000  # at 1,000 it was inside again
    assert table["lead"].tolist()[0] == -1000
    assert pd.isna(table["lead"].iloc[1])


def test_what_generalizes_before_it_fits_is_then_no_part_of_the_band():
    late = record(1000, fitted=3000, probe="topology", largest=rising(1000, 0.5, 0.1))
    assert measures.null_band([late], is_control) == (0.1, 0.5)
    late.curve["unmirrored_accuracy"] = rising(500, 0.06, 0.0)
    assert measures.null_band([late], is_control) == (0.1, 0.1)


def test_tasks_are_named_by_operation_share_and_answers():
    names = list(watched.by_task([record(), record(outliers=2), record(outliers=3)]))
    assert names == ["x+y, 50%", "x+y, 50%, random answers"]
    without = record()
    without = replace(without, run=replace(without.run, norm="none"))
    assert list(watched.by_task([without])) == ["x+y, 50%, no layer norm"]


def published(share, loss, learned=2000, **columns):
    """A run by the share of its only key and its validation loss at each step."""
    frame = {"share_2": share, "weight_norm": 8.0, "gini_embedding": 0.1} | columns
    found = record(learned, probe="fourier", **frame)
    found.curve["validation_loss"] = loss
    return found


LATER = [4.0, 5.0, 9.0, 10.0, 9.0, 8.0, 4.0, 0.09, 0.01]
SHARES = [0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 0.9]


def test_phases_are_told_by_the_keys_and_the_validation_loss():
    assert measures.phases(published(SHARES, LATER)) == (300, 500, 1000, 2000)
    assert measures.phases(published([0.0] * 8 + [0.03], [4.0] * 9)) == (None, None, None, None)


def test_validation_loss_before_its_peak_is_no_clean_up():
    falls = [1.0, 0.01, 9.0, 10.0, 10.0, 9.0, 9.0, 9.0, 4.0]
    assert measures.phases(published(SHARES, falls))[2:] == (3000, None)


def test_rates_of_phases_are_for_a_thousand_updates():
    ginis = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.17, 0.3, 0.3]
    norms = [8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 4.0, 4.0]
    run = published(SHARES, LATER, gini_embedding=ginis, weight_norm=norms)
    row = measures.phase_table([run]).iloc[0]
    assert (row["keys"], row["share"], row["T_fit"], row["T95"]) == ("2", 0.9, 200, 2000)
    assert row["circuit from":"clean-up to"].tolist() == [300, 500, 1000, 2000]
    assert row["gini, forming"] == pytest.approx(0.1)
    assert row["gini, clean-up"] == pytest.approx(0.13)
    assert row["norm, forming"] == 0.0
    assert row["norm, clean-up"] == pytest.approx(0.75)
    early = measures.phase_table([published(SHARES, [4.0] * 9, learned=None)]).iloc[0]
    assert pd.isna(early["clean-up from"])
    assert np.isnan(early["norm, forming"])
    assert measures.phase_table([]).empty
