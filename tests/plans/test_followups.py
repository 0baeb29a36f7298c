"""The chapters after the paper as grids of runs."""

import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from grokking_core.model import plain
from grokking_core.plans.followups import accelerators, norm_clock, temperature
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


def test_some_methods_are_held_against_each_other_on_other_operations():
    first, second = accelerators(operation="x*y", elsewhere={"x*y": ["Muon"], "x-y": ["AdamW"]}).parts
    assert ({run.operation for run in first.runs}, len(first.runs)) == ({"x*y"}, 162)
    assert ({run.operation for run in second.runs}, len(second.runs)) == ({"x-y"}, 27)
    with pytest.raises(ValueError, match="methods has 'Lion'"):
        accelerators(elsewhere={"x-y": ["Lion"]})
