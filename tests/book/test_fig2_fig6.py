import pandas as pd
import pytest

from grokking_core import plots
from grokking_core.paper import experiments
from grokking_core.paper.experiments import variant_of
from grokking_core.runs.record import COLUMNS, Record

PICTURES = ("accuracy_by_fraction", "accuracy_panels", "validation_curves")
NAMES = ("fig2_optimizers", "fig2_operations", "fig6_outliers")
STEPS = [0, 100, 1000, 2000, 4000]


@pytest.fixture
def read(monkeypatch, run_notebook):
    """What a notebook's names stand for, once its cells have run on made-up records.

    `curves` takes a run to its training, validation and unmirrored accuracies at STEPS; None: missing.
    """

    def read(name, curves, draw=False, **parameters):
        for picture in PICTURES if not draw else ():
            monkeypatch.setattr(plots, picture, lambda *arguments, **options: None)

        def record(run):
            return made_up(run, *curve) if (curve := curves(run)) else None

        return run_notebook(name, record, **parameters)

    return read


def made_up(run, train, validation, unmirrored):
    curve = pd.DataFrame(1.0, index=range(len(STEPS)), columns=pd.Index(COLUMNS)).assign(step=STEPS)
    shares = {"train_accuracy": train, "validation_accuracy": validation, "unmirrored_accuracy": unmirrored}
    return Record(run=run, curve=curve.assign(**shares))


def rising(*shares, order_only=False):
    """Accuracies at STEPS: all of the training set from step 100 on, and these of the rest."""
    return [0, 1, 1, 1, 1], shares, [0.01] * 5 if order_only else shares


@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_with_nothing_on_record(read, name):
    names = read(name, lambda run: None, draw=True)
    assert names["records"] == []
    assert len(names["records"].missing) == len(experiments.plan(name).runs)
    assert "runs are missing" in names["text"]
    told = names["told"].values() if "told" in names else [names["found"]]
    assert {verdict.kind for verdict in told} == {"not reached"}


def test_notebook_counts_what_is_missing_and_draws_no_number_from_it(read):
    names = read(
        "fig6_outliers", lambda run: rising(0, 0, 0.5, 1, 1) if run.outliers == 0 else None, draw=True
    )
    assert "3 of 9 runs are on record. 3 of them reached 99 %" in names["text"]
    assert "6 runs are missing" in names["text"]
    assert names["changes"]["validation, points"] == ["no estimate (n = 0)"] * 3


def test_full_batches_are_compared_within_their_own_budget(read):
    late = {"minibatch, Adam": rising(0, 0, 0.3, 1, 1), "full batch, Adam": rising(0, 0, 0.2, 0.2, 0.2)}
    names = read("fig2_optimizers", lambda run: late.get(variant_of(run)))
    row = next(row for row in names["rows"] if row[1:3] == ("minibatch, Adam", "full batch, Adam"))
    assert row[3:] == (30.0, 20.0, "10 (n = 1)")  # at step 1,000, not 4,000


def test_variants_are_compared_on_unmirrored_pairs(read):
    def curves(run):
        label = variant_of(run)
        if label == "minibatch, Adam":
            return rising(0, 0, 0.8, 0.8, 0.8, order_only=True)
        return rising(0, 0, 0.5, 0.9, 1) if label == "AdamW, decay to init" else None

    names = read("fig2_optimizers", curves)
    assert names["rows"][0][3:] == (100.0, 1.0, "99 (n = 2)")  # at 40 and 80 %, which both have
    assert names["needed"]["minibatch, Adam"] == (0.8, None)
    assert names["needed"]["AdamW, decay to init"] == (None, 0.4)


def test_one_task_under_two_names_stays_out_of_the_figure(read):
    def curves(run):
        if run.operation == "x*y!=0":
            return rising(0, 0, 0, 1, 1)
        return rising(0, 0, 1, 1, 1) if run.p == 96 else rising(0, 0, 0, 0, 1)

    names = read("fig2_operations", curves)
    assert set(names["table"]["p"]) == {97}
    assert "x*y!=0" not in set(names["table"]["operation"])
    shown = names["shown"].astype(object).T.assign(ratio=["", "", *names["ratios"]])
    assert shown.loc["in validation"].tolist()[-1] == "0.5 [0.5, 0.5] (n = 6)"
    assert shown.loc["learned"].tolist()[:2] == [3, 3]


def test_operations_are_sorted_by_the_fraction_they_need(read):
    needs = {"x+y": 0.4, "x-y": 0.6, "x^2+y^2": 0.2, "x/y": 0.95}

    def curves(run):
        if run.operation not in needs:
            return None
        return rising(0, 0, 0, 0, float(run.train_fraction >= needs[run.operation]))

    assert read("fig2_operations", curves)["order"][:4] == ["x^2+y^2", "x+y", "x-y", "x/y"]


def test_outliers_fitted_are_a_share_of_the_outliers(read):
    def curves(run):
        train = 1 - 4 / run.n_train  # 99.9 % of the training set, and 6 of 10 outliers
        return [0, train, train, train, train], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]

    names = read("fig6_outliers", curves, fractions={0: [0.6], 10: [0.4, 0.6], 100: [0.6]})
    outliers = names["outliers"].set_index(["outliers", "train_fraction"])["fitted"]
    assert outliers.to_dict() == pytest.approx({(10, 0.4): 60, (10, 0.6): 60, (100, 0.6): 96})


def test_harm_of_outliers_is_measured_on_the_same_split(read):
    by_outliers = {0: rising(0, 0, 1, 1, 1), 10: rising(0, 0, 0.9, 1, 1), 1000: rising(0, 0, 0.2, 0.2, 0.2)}
    names = read("fig6_outliers", lambda run: by_outliers.get(run.outliers))
    assert list(names["dirty"]) == [10, 100, 1000]
    assert names["changes"]["validation, points"] == ["0 (n = 2)", "no estimate (n = 0)", "-80 (n = 2)"]
    factors = names["changes"]["updates to 99 % validation, factor"]
    assert factors == ["2 (n = 2)", "no estimate (n = 0)", "no estimate (n = 0)"]
