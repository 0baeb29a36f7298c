"""What the pages of watched runs ask for: one grid for three of them, and what each adds."""

import pytest

from grokking_core.paper import experiments
from grokking_core.plans import watched

PROFILES = ("smoke", "laptop", "overnight", "paper")


@pytest.mark.parametrize("profile", PROFILES)
def test_pages_share_their_tasks_and_each_has_its_own_probe(profile):
    plans = {name: experiments.plan(name, profile) for name in ("early_warnings", "fourier", "topology")}
    for name, plan in plans.items():
        assert {part.watch for part in plan.parts} == {(name,)}
    first, frequencies, loops = (plan.parts[0] for plan in plans.values())
    assert loops.runs == first.runs
    assert set(frequencies.runs) < set(first.runs)
    assert (first.steps, first.watch_every) == (frequencies.steps, frequencies.watch_every)
    kept = {watched.is_control(run): run.operation for run in first.runs}
    assert set(kept) == {True, False}


@pytest.mark.parametrize("profile", PROFILES)
def test_products_of_permutations_are_watched_for_early_warnings_alone(profile):
    on_letters = {
        name: [run for run in experiments.plan(name, profile).runs if run.operation.startswith("s5")]
        for name in ("early_warnings", "fourier", "topology")
    }
    assert not on_letters["fourier"] + on_letters["topology"]
    assert on_letters["early_warnings"]
    assert not any(map(watched.is_control, on_letters["early_warnings"]))
    with pytest.raises(ValueError, match="fourier has no frequencies for operation='s5:xy'"):
        experiments.fourier(learning={"s5:xy": 0.9}).sweep()
