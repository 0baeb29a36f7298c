import math

import numpy as np
import pandas as pd
import pytest

from grokking_core.measures import clock
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run

STEPS = [0, 10, 100, 200, 1000]


def falling(
    kappa, lr=1e-3, decay=1.0, start=1000.0, fitted=100, grokked=1000, operation="x-y", unmirrored=None
):
    """A run whose squared norm falls by the clock's law from `start`."""
    curve = pd.DataFrame(0.0, index=range(len(STEPS)), columns=pd.Index(COLUMNS)).assign(step=STEPS)
    curve["weight_norm"] = [math.sqrt(start * math.exp(-2 * kappa * lr * decay * step)) for step in STEPS]
    curve["train_accuracy"] = [float(step >= fitted) for step in STEPS]
    curve["validation_accuracy"] = [float(grokked is not None and step >= grokked) for step in STEPS]
    curve["unmirrored_accuracy"] = curve["validation_accuracy"] if unmirrored is None else unmirrored
    return Record(run=Run(operation=operation, lr=lr, weight_decay=decay), curve=curve)


def test_kappa_is_that_of_the_law():
    table = clock.waits([falling(0.25), falling(-0.1), falling(0.25, lr=3e-3, decay=0.3)])
    assert table["kappa"].tolist() == pytest.approx([0.25, -0.1, 0.25])
    assert table["delay"].tolist() == [900, 900, 900]
    assert table["rate"].tolist() == pytest.approx([1e-3, 1e-3, 9e-4])


def test_run_that_did_not_grok_after_it_had_fitted_has_no_delay():
    never, at_once, unfitted = falling(0.2, grokked=None), falling(0.2, grokked=10), falling(0.2, fitted=2000)
    table = clock.waits([never, at_once, unfitted])
    assert len(table) == 2
    assert table[["delay", "v_grokked", "kappa"]].isna().all(axis=None)
    assert table["fitted"].tolist() == [100, 100]


def test_symmetric_operation_groks_on_unmirrored_equations():
    record = falling(0.2, grokked=200, operation="x+y", unmirrored=[0, 0, 0, 0.5, 1])
    assert clock.waits([record])["delay"].tolist() == [900]


def test_kappa_is_unknown_without_decay():
    table = clock.waits([falling(0.0, decay=0.0)])
    assert table["delay"].tolist() == [900]
    assert table["kappa"].isna().all()


def test_clock_predicts_what_follows_its_law():
    """Two runs that fall by one kappa from different heights, and grok where they are equally low."""
    slow, fast = falling(0.25, start=1000), falling(0.25, lr=4.5e-3, start=1000 * math.exp(0.5 * 3.5))
    table = clock.waits([slow, fast])
    found = clock.calibrated(table.iloc[:1])
    assert found == pytest.approx((0.25, table["v_grokked"][0], 900, 1e-3))
    predicted = clock.predictions(table, found)
    assert list(predicted) == list(clock.METHODS)
    fall = math.log(table["v_fitted"][1] / table["v_grokked"][0])
    assert predicted["clock"].tolist() == pytest.approx([900, fall / (2 * 0.25 * 4.5e-3)])
    assert predicted["same delay"].tolist() == [900, 900]
    assert predicted["1 / (lr decay)"].tolist() == pytest.approx([900, 200])


def test_nothing_calibrates_nothing():
    found = clock.calibrated(clock.waits([]))
    assert all(math.isnan(value) for value in found)
    assert clock.predictions(clock.waits([falling(0.2)]), found).isna().all(axis=None)


def test_exponents_are_those_of_a_power_law():
    lr, decay = (values.ravel() for values in np.meshgrid([3e-4, 1e-3, 3e-3], [0.3, 1.0, 3.0]))
    table = pd.DataFrame({"lr": lr, "weight_decay": decay, "delay": 5 * lr**-1.02 * decay**-1.26})
    assert clock.exponents(table) == pytest.approx((-1.02, -1.26))
    assert all(math.isnan(value) for value in clock.exponents(table[table["lr"] == 1e-3]))
    assert all(math.isnan(value) for value in clock.exponents(table.iloc[:2]))
