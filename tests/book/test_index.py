import pandas as pd
import pytest

from grokking_core import claims
from grokking_core.paper import experiments
from grokking_core.plans import Plan
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run

pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")


@pytest.fixture
def page(monkeypatch, run_notebook):
    """Runs the first page, in the profile smoke, on the records that `made_up` gives; returns its names."""

    def read(made_up):
        def answer(plan: Plan) -> Records:
            found = {run: made_up(run) for run in plan.runs}
            records = Records((record for record in found.values() if record), asked=[(100, None)])
            records.missing = [run for run, record in found.items() if record is None]
            return records

        monkeypatch.setenv("GROKKING_PROFILE", "smoke")
        monkeypatch.setattr(Plan, "read", answer)
        return run_notebook("../index", lambda run: None)

    return read


def grokked(run: Run) -> Record:
    """A made-up record: training is learned at step 10, validation at step 100."""
    curve = pd.DataFrame(0.0, index=range(3), columns=pd.Index(COLUMNS))
    curve = curve.assign(step=[0, 10, 100], train_accuracy=[0.0, 1, 1], validation_accuracy=[0.0, 0, 1])
    return Record(run=run, curve=curve)


def test_first_page_with_nothing_on_record_has_verdicts_alone(page):
    names = page(lambda run: None)
    assert names["counts"].to_dict() == dict.fromkeys(claims.KINDS, 0) | {"not reached": len(claims.CLAIMS)}
    assert names["text"].endswith(
        f"profile `smoke`: the verdicts on the paper's {len(claims.CLAIMS)} claims are: "
    )


def test_first_page_tells_when_the_networks_of_its_picture_learned(page):
    pictured = experiments.plan("fig1_grokking_curves", "smoke").runs
    names = page(lambda run: grokked(run) if run in pictured else None)
    n = len(pictured)
    assert f"{n} of {n} networks had 99 % of the training answers right after 10 steps" in names["text"]
    assert "of the validation answers after 100, and the verdicts" in names["text"]
    assert names["counts"].sum() == len(claims.CLAIMS)


def test_first_page_counts_networks_that_did_not_learn(page):
    first, *others = experiments.plan("fig1_grokking_curves", "smoke").runs
    assert others

    def made_up(run: Run) -> Record | None:
        if run not in (first, *others):
            return None
        record = grokked(run)
        return record if run == first else Record(run=run, curve=record.curve.iloc[:2])

    assert f"1 of {1 + len(others)} networks had" in page(made_up)["text"]
