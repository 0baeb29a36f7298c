import math

import by_hand
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from grokking_core import Run, data
from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.model import plain as model

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"operation": "x+y", "p": 7, "d_model": 8, "n_heads": 2, "precision": "fp64"}
VARIANTS = [
    {"n_layers": 1},
    {"n_layers": 2},
    {"n_layers": 3, "n_heads": 4},
    {"norm": "pre"},
    {"norm": "none", "n_heads": 1},
    {"activation": "gelu"},
    {"activation": "tanh", "d_ff": 5},
    {"architecture": "mlp", "n_layers": 1},
    {"architecture": "mlp", "n_layers": 3, "d_ff": 5, "activation": "tanh"},
    {"architecture": "mlp", "activation": "gelu"},
]


def small(**fields):
    """A small network with weights that leave layer norms no chance to hide."""
    run = Run(**SMALL | fields)
    network = model.build(run)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return run, network


def tokens(run):
    x, y, _ = data.operation_table(run.operation, run.p, run.n)
    return torch.from_numpy(data.tokens(x, y, run.n_elements))


# Sizes.


@pytest.mark.parametrize(("operation", "p"), [("x+y", 97), ("s5:xy", 97)])
def test_paper_network_has_393216_weights_besides_embeddings_and_norms(operation, p):
    network = model.build(Run(operation=operation, p=p))
    count = {name: parameter.numel() for name, parameter in network.named_parameters()}
    vocabulary = 122 if operation == "s5:xy" else 99
    assert count.pop("embedding.weight") == vocabulary * 128
    assert count.pop("output.weight") == vocabulary * 128
    assert sum(n for name, n in count.items() if "norm" not in name) == 2 * 12 * 128**2 == 393_216
    assert sum(n for name, n in count.items() if "norm" in name) == 2 * 2 * 2 * 128
    assert not any(name.endswith("bias") and "norm" not in name for name in count)


@pytest.mark.parametrize(("norm", "norms"), [("post", 4), ("pre", 5), ("none", 0)])
def test_network_has_the_norms_it_is_asked_for(norm, norms):
    _, network = small(norm=norm)
    assert sum(isinstance(module, nn.LayerNorm) for module in network.modules()) == norms


def test_build_leaves_torchs_own_generator_alone():
    before = torch.random.get_rng_state()
    small()
    assert torch.equal(torch.random.get_rng_state(), before)


# The forward pass.


@pytest.mark.parametrize("fields", VARIANTS)
def test_logits_agree_with_a_network_by_hand(fields):
    run, network = small(**fields)
    weights = {name: p.detach().numpy() for name, p in network.named_parameters()}
    x, y, _ = data.operation_table(run.operation, run.p)
    expected = np.stack([by_hand.logits(run, weights, *pair) for pair in zip(x, y, strict=True)])
    logits = network(tokens(run)).detach().numpy()
    assert logits.shape == (49, 9)
    assert np.abs(logits - expected).max() < 1e-12


def test_positions_are_sinusoids():
    positions = model.sinusoidal_positions(4, 10)
    assert positions.dtype == torch.float64
    expected = np.stack([by_hand.position(i, 10) for i in range(4)])
    assert np.abs(positions.numpy() - expected).max() < 1e-15
    assert positions[0].tolist() == [0, 1] * 5
    assert positions[3, 2].item() == pytest.approx(math.sin(3 / 10_000 ** (1 / 5)))


@pytest.mark.parametrize("fields", [{}, {"norm": "pre"}, {"norm": "none"}, {"n_layers": 3}])
def test_causal_mask_hides_what_comes_later(fields):
    _, network = small(**fields)
    original = torch.tensor([[3, 7, 5, 8]])
    residual = network.residual(original)
    for place in range(4):
        changed = original.clone()
        changed[0, place] = 1
        same = (network.residual(changed) == residual).all(dim=-1)[0].tolist()
        assert same == [True] * place + [False] * (4 - place)


def test_answer_is_read_at_the_last_position():
    run, network = small()
    residual = network.residual(tokens(run))
    assert torch.equal(network(tokens(run)), network.output(residual[:, 3]))


def test_positions_make_order_matter():
    _, network = small()
    a, b = network(torch.tensor([[2, 7, 5, 8], [5, 7, 2, 8]]))
    assert not torch.allclose(a, b)


def test_post_norm_leaves_normalised_rows():
    run = Run(**SMALL | {"d_model": 32})
    rows = model.build(run).residual(tokens(run))
    assert rows.mean(-1).abs().max() < 1e-12
    assert (rows.var(-1, unbiased=False) - 1).abs().max() < 1e-3


def test_mlp_reads_the_operands_only():
    _, network = small(architecture="mlp")
    a, b, c = network(torch.tensor([[2, 7, 5, 8], [2, 0, 5, 0], [2, 7, 4, 8]]))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


# Dropout: of the feed-forward branch, and of the MLP's hidden layers.


@pytest.mark.parametrize("fields", [{}, {"norm": "pre"}, {"norm": "none"}, {"architecture": "mlp"}])
def test_dropout_is_asked_for_each_layer_in_turn(fields):
    run, network = small(n_layers=3, **fields)
    asked = []

    def drop(layer, branch):
        asked.append((layer, tuple(branch.shape)))
        return branch

    assert torch.equal(network(tokens(run), drop), network(tokens(run)))
    shape = (49, 1, 32) if run.architecture == "mlp" else (49, 4, 8)
    assert asked == [(0, shape), (1, shape), (2, shape)]


@pytest.mark.parametrize("norm", ["post", "pre", "none"])
def test_dropout_of_everything_is_no_feed_forward_branch(norm):
    run, network = small(norm=norm)
    dropped = network(tokens(run), lambda layer, branch: branch * 0)
    with torch.no_grad():
        for block in network.blocks:
            block.feed_forward.down.weight.zero_()
    assert torch.allclose(dropped, network(tokens(run)), atol=1e-12)


# First weights: PyTorch's defaults, from the run's own stream.


def test_embeddings_start_normal():
    weight = model.build(Run(operation="s5:xy")).embedding.weight.detach()
    assert weight.dtype == torch.float32
    assert stats.kstest(weight.numpy().ravel(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("fields", [{}, {"architecture": "mlp", "d_ff": 200}])
def test_linear_layers_start_uniform_within_one_over_root_fan_in(fields):
    network = model.build(Run(operation="x+y", **fields))
    linear = [module.weight.detach() for module in network.modules() if isinstance(module, nn.Linear)]
    assert len(linear) == (3 if fields else 9)
    for weight in linear:
        bound = 1 / math.sqrt(weight.shape[1])
        assert 0.999 * bound < weight.abs().max() <= bound
        distribution = stats.uniform(-bound, 2 * bound)
        assert stats.kstest(weight.numpy().ravel(), distribution.cdf).pvalue > 1e-4


def test_norms_start_as_one_and_zero():
    for norm in ("post", "pre"):
        for module in model.build(Run(operation="x+y", norm=norm)).modules():
            if isinstance(module, nn.LayerNorm):
                assert torch.all(module.weight == 1)
                assert torch.all(module.bias == 0)


def test_first_weights_depend_on_the_seed_and_sizes_alone():
    flat = nn.utils.parameters_to_vector
    first = flat(model.build(Run(operation="x+y", p=11, seed=3)).parameters())
    same = Run(operation="x*y", p=11, seed=3, split_seed=8, lr=1.0, optimizer="sgd", norm="post")
    other = Run(operation="x+y", p=11, seed=4)
    torch.manual_seed(5)  # torch's own generator plays no part
    assert torch.equal(flat(model.build(same).parameters()), first)
    assert not torch.equal(flat(model.build(other).parameters()), first)


def test_first_weights_of_layers_and_seeds_are_uncorrelated():
    networks = [model.build(Run(operation="x+y", p=11, seed=seed)) for seed in (0, 1)]
    weights = [b.attention.out.weight.detach().numpy().ravel() for net in networks for b in net.blocks]
    correlation = np.corrcoef(weights) - np.eye(4)
    assert np.abs(correlation).max() < 4.5 / math.sqrt(128**2)


def test_first_weights_come_from_the_init_stream():
    network = model.build(Run(operation="x+y", p=11, seed=6))
    key = streams.fold(streams.stream(6, Purpose.INIT), 0)
    assert torch.equal(network.embedding.weight.flatten(), streams.normal(key, 13 * 128))


def test_double_precision_starts_from_the_same_weights():
    single = model.build(Run(operation="x+y", p=11))
    double = model.build(Run(operation="x+y", p=11, precision="fp64"))
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert b.dtype == torch.float64
        assert torch.equal(a.double(), b)
    assert torch.equal(double.positions, model.sinusoidal_positions(4, 128))
    assert single.positions.dtype == torch.float32
