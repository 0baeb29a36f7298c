"""The networks of an ensemble against the plain ones: `test_plain_networks.py` holds those against NumPy."""

import pytest
import torch
from tensors import LOOPS, draw
from torch.nn.utils import parameters_to_vector

from grokking_core import Run, data
from grokking_core import model as model_room
from grokking_core.model import networks as ensemble
from grokking_core.model import plain as model

pytestmark = pytest.mark.usefixtures("one_thread")

NORMS = ("post", "pre", "none")
BASE = {"operation": "x+y", "p": 7, "d_model": 8, "n_heads": 2, "precision": "fp64"}
DEPTHS = {f"{n} layers, {norm}": {"n_layers": n, "norm": norm} for n in (1, 2, 3) for norm in NORMS}
VARIANTS = DEPTHS | {
    "one head": {"n_heads": 1},
    "as many heads as columns": {"n_heads": 8},
    "gelu": {"activation": "gelu"},
    "tanh": {"activation": "tanh", "d_ff": 5},
    "group": {"operation": "s5:xyx", "n": 3},
    "learned positions": {"positions": "learned"},
    "learned positions, 1 layer": {"positions": "learned", "n_layers": 1, "norm": "none"},
    "MLP": {"architecture": "mlp"},
    "MLP of one layer": {"architecture": "mlp", "n_layers": 1, "activation": "tanh"},
    "MLP of three layers": {"architecture": "mlp", "n_layers": 3, "d_ff": 5, "activation": "gelu"},
}


def networks(variant, n_runs, loops=False):
    """Plain networks with made-up weights, and an ensemble of the same."""
    runs = [Run(**BASE | VARIANTS[variant] | {"seed": seed}) for seed in range(n_runs)]
    plain = [model.build(run) for run in runs]
    flat = torch.stack([parameters_to_vector(network.parameters()).detach() for network in plain])
    flat += 0.1 * draw(*flat.shape)  # so that norms have weights and biases
    for network, row in zip(plain, flat, strict=True):
        torch.nn.utils.vector_to_parameters(row.clone(), network.parameters())
    gradients = torch.full_like(flat, torch.nan)
    module = model_room.loops_for(flat.device) if loops else None
    return plain, model_room.network(runs[0], flat, gradients, module), gradients


def equations(network, n_runs, n_equations=20):
    """Other equations for each run; no run needs all elements, some equations occur twice."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(network.n_elements, (2, n_runs, n_equations), generator=generator)
    x[:, 1], y[:, 1] = x[:, 0], y[:, 0]
    return x, y


def plain_tokens(network, x, y):
    return torch.from_numpy(data.tokens(x.numpy(), y.numpy(), network.n_elements))


def flat_gradients(logits, dlogits, network):
    parts = torch.autograd.grad(logits, list(network.parameters()), dlogits, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("n_runs", [1, 3])
@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_and_backward_agree_with_the_plain_networks(variant, n_runs, loops):
    plain, together, gradients = networks(variant, n_runs, loops)
    x, y = equations(together, n_runs)
    dlogits = draw(n_runs, 20, together.n_elements + 2, seed=1)
    logits = together.forward(x, y)
    together.backward(dlogits.clone())
    for r, network in enumerate(plain):
        expected = network(plain_tokens(together, x[r], y[r]))
        assert (logits[r] - expected).abs().max() < 1e-12
        assert (gradients[r] - flat_gradients(expected, dlogits[r], network)).abs().max() < 1e-11


@pytest.mark.parametrize("n_runs", [1, 3])
@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("variant", [*DEPTHS, "gelu", "MLP", "MLP of three layers"])
def test_forward_and_backward_with_dropout_agree_with_the_plain_networks(variant, n_runs, loops):
    """Each number of a branch has a counter, which says where it stands in the plain network's branch."""
    plain, together, gradients = networks(variant, n_runs, loops)
    x, y = equations(together, n_runs)
    dlogits = draw(n_runs, 20, together.n_elements + 2, seed=1)
    factor = draw(3, n_runs, 20 * 4 * 32, seed=2).relu()  # by layer, run and counter; half of them 0

    def drop_together(layer, branch):
        counter = together.drop_counter(branch.shape[1], 20, branch.shape[2])
        return factor[layer][:, counter]

    logits = together.forward(x, y, drop_together)
    together.backward(dlogits.clone())
    for r, network in enumerate(plain):

        def drop(layer, branch, r=r):
            return branch * factor[layer, r, : branch.numel()].view(branch.shape)

        expected = network(plain_tokens(together, x[r], y[r]), drop)
        assert (logits[r] - expected).abs().max() < 1e-12
        assert (gradients[r] - flat_gradients(expected, dlogits[r], network)).abs().max() < 1e-11


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("variant", ["2 layers, post", "1 layers, pre", "MLP"])
def test_passes_leave_nothing_behind_for_the_next_ones(variant, loops):
    """Buffers are used again: another batch size, or dropout in between, changes no later bit."""
    _, together, gradients = networks(variant, 2, loops)
    x, y = equations(together, 2)
    dlogits = draw(2, 20, together.n_elements + 2, seed=1)

    def both():
        logits = together.forward(x, y).clone()
        together.backward(dlogits.clone())
        return logits, gradients.clone()

    def drop(layer, branch):
        return torch.full_like(branch, 0.5)

    first = both()
    together.forward(x[:, :7], y[:, :7])
    together.backward(dlogits[:, :7].clone())
    together.forward(y, x, drop)
    together.backward(dlogits.clone())
    assert all(torch.equal(a, b) for a, b in zip(both(), first, strict=True))
    # As many equations as elements: with dropout and without, the residual has the same number of rows.
    logits = [together.forward(x[:, :7], y[:, :7], of).clone() for of in (drop, None, drop, None)]
    assert torch.equal(logits[0], logits[2])
    assert torch.equal(logits[1], logits[3])
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("variant", ["3 layers, post", "2 layers, none", "MLP"])
def test_nan_of_one_run_stays_with_it(variant, loops):
    _, together, gradients = networks(variant, 3, loops)
    x, y = equations(together, 3)
    dlogits = draw(3, 20, together.n_elements + 2, seed=1)
    sound = together.forward(x, y).clone()
    together.backward(dlogits.clone())
    sound_gradients = gradients.clone()
    for weights in together.w.values():
        weights[1] = torch.nan
    sick = together.forward(x, y)
    assert sick[1].isnan().all()
    assert torch.equal(sick[[0, 2]], sound[[0, 2]])
    together.backward(dlogits.clone())
    assert torch.equal(gradients[[0, 2]], sound_gradients[[0, 2]])


@pytest.mark.parametrize("variant", ["2 layers, pre", "MLP"])
def test_layout_has_the_plain_networks_names_shapes_and_order(variant):
    run = Run(**BASE | VARIANTS[variant])
    layout, network = ensemble.Layout(run), model.build(run)
    assert layout.shapes == {name: p.shape for name, p in network.named_parameters()}
    assert layout.n == sum(p.numel() for p in network.parameters())
    flat = ensemble.first_parameters(run)[None].repeat(2, 1)
    views = layout.views(flat)
    for name, p in network.named_parameters():
        assert torch.equal(views[name][1], p)
    views["output.weight"].zero_()
    assert not flat[:, -views["output.weight"][0].numel() :].any()  # a view, not a copy


def test_first_parameters_are_the_plain_networks():
    run = Run(**BASE, seed=3)
    first = ensemble.first_parameters(run)
    assert torch.equal(first, parameters_to_vector(model.build(run).parameters()))
    assert not first.requires_grad
