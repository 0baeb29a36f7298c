"""Grids of runs, read back."""

import pytest

from grokking_core.paper.experiments import VARIANTS
from grokking_core.plans.followups import METHODS
from grokking_core.plans.grids import grid, setting_of
from grokking_core.plans.softmax import ARMS

PLAIN = {"optimizer": "adam", "weight_decay": 0.0}


@pytest.mark.parametrize(("settings", "common"), [(VARIANTS, {}), (METHODS, {}), (ARMS, PLAIN)])
def test_setting_of_a_run_is_the_one_that_it_was_laid_out_by(settings, common):
    runs = grid(*settings.values(), seeds=[3], operation="s5:xy", train_fraction=0.4, d_model=64, **common)
    assert [setting_of(run, settings, **common) for run in runs] == list(settings)


def test_common_fields_hold_where_a_setting_is_silent_and_others_may_be_any():
    settings = {"small steps": {"lr": 1e-4}, "as it is": {}}
    (run,) = grid({}, seeds=[0], operation="x+y", lr=0.5, weight_decay=0.3)
    assert setting_of(run, settings, lr=0.5) == "as it is"
    assert setting_of(run, settings) is None
