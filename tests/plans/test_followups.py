"""The chapters after the paper as grids of runs."""

import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from grokking_core.model import plain
from grokking_core.plans.followups import accelerators, norm_clock, retention, temperature, window_of
from grokking_core.runs.run import Run


def test_every_held_norm_has_its_own_logits_and_those_of_each_smaller_one():
    free, held = norm_clock(held_norms=[0.5, 1.0], init_scales=[0.5, 1.0], held_lr=0.01, seeds=[7]).parts
    found = [(run.norm_hold, run.temperature, run.init_scale) for run in held.runs]
    assert found == [(0.5, 1.0, 1.0), (1.0, 4.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 0.5)]
    assert {(run.weight_decay, run.lr, run.seed) for run in held.runs} == {(0.0, 0.01, 7)}
    assert {run.norm_hold for run in free.runs} == {0.0}


def test_scale_of_logits_goes_with_the_square_of_the_norm():
    run = Run(operation="x+y", p=7, d_model=32, n_layers=1)
    network, table = (
        plain.build(run),
        torch.cartesian_prod(torch.arange(7), torch.tensor([7]), torch.arange(7)),
    )
    equations = torch.cat([table, torch.full((49, 1), 8)], dim=1)
    with torch.no_grad():
        first = network(equations).std().item()
        vector_to_parameters(0.5 * parameters_to_vector(network.parameters()), network.parameters())
        assert network(equations).std().item() == pytest.approx(first / temperature(1.0, 0.5), rel=0.2)


def test_decay_acts_in_each_quarter_throughout_and_never():
    *_, part = retention(p=7, window_steps=400, other_seeds=[0], weight_decays=[2.0]).parts
    assert [window_of(run, 400) for run in part.runs] == [
        "from 0 %", "from 25 %", "from 50 %", "from 75 %", "throughout", "never"
    ]  # fmt: skip
    assert {run.decay_to - run.decay_from for run in part.runs[:4]} == {100}
    assert window_of(Run(operation="x+y"), 400) is None


def test_other_decays_have_budgets_of_their_own():
    parts = retention(p=7, other_decays={0.01: 500, 10.0: 30}, other_seeds=[0, 1], seeds=[5]).parts
    found = {part.runs[0].weight_decay: (part.steps, len(part.runs)) for part in parts[2:-1]}
    assert found == {0.01: (500, 2), 10.0: (30, 2)}


def test_some_methods_are_held_against_each_other_on_other_operations():
    first, second = accelerators(operation="x*y", elsewhere={"x*y": ["Muon"], "x-y": ["AdamW"]}).parts
    assert ({run.operation for run in first.runs}, len(first.runs)) == ({"x*y"}, 162)
    assert ({run.operation for run in second.runs}, len(second.runs)) == ({"x-y"}, 27)
    with pytest.raises(ValueError, match="methods has 'Lion'"):
        accelerators(elsewhere={"x-y": ["Lion"]})
