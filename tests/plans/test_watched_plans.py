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


@pytest.mark.parametrize("profile", PROFILES)
def test_published_setting_is_told_from_the_first_papers(profile):
    _, published = experiments.plan("fourier", profile).parts
    assert all(map(watched.is_published, published.runs))
    assert not any(map(watched.is_control, published.runs))
    others = [run for name in experiments.EXPERIMENTS for run in experiments.plan(name, profile).runs]
    assert [run for run in others if watched.is_published(run)] == list(published.runs)


def test_published_setting_is_the_later_papers():
    _, part = experiments.plan("fourier", "paper").parts
    run = part.runs[0]
    assert (run.operation, run.p, run.train_fraction, run.n_train) == ("x+y", 113, 0.3, 3831)
    assert (run.n_layers, run.d_model, run.n_heads, run.hidden_width, run.norm) == (1, 128, 4, 512, "none")
    assert (run.optimizer, run.lr, run.weight_decay, run.betas) == ("adamw", 1e-3, 1.0, (0.9, 0.98))
    assert (run.effective_batch_size, run.warmup_steps, part.steps) == (3831, 10, 40_000)
