"""The kernels of a layer's two branches in Triton's interpreter, which needs no card, against their twins."""

from types import SimpleNamespace

import pytest
import torch

from grokking_core import Run
from grokking_core.kernels import plain
from grokking_core.kernels.plain import BranchWeights
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.ensemble import Ensemble

SMALL = {"operation": "x/y", "p": 7, "d_model": 16, "n_heads": 2, "batch_size": 20}

SHAPES = [(1, 1, 16, 16), (2, 67, 16, 64), (3, 5, 24, 100), (2, 130, 48, 96), (1, 70, 128, 512)]  # R, N, D, F
TWINS = SimpleNamespace(forward=plain.branches, backward=plain.branches_backward)


@pytest.fixture
def kernels(interpreted):
    return interpreted("_branches")


def drawn(shape, seed=0, n_more=3):
    """source, of more rows than are taken, row, attended, weights (views of one tensor) and g."""
    n_runs, n_rows, d, f = shape
    of = torch.Generator().manual_seed(seed)
    sizes = ((d, d), (d,), (d,), (f, d), (d, f), (d,), (d,))
    numbers = [torch.Size(size).numel() for size in sizes]
    flat = torch.randn(n_runs, sum(numbers) + 7, generator=of) / 4
    parts = flat.split([*numbers, 7], dim=1)[:-1]
    w = BranchWeights(*(part.unflatten(1, size) for part, size in zip(parts, sizes, strict=True)))
    source = torch.randn(n_runs, n_rows + n_more, d, generator=of)
    row = torch.randint(n_rows + n_more, (n_runs, n_rows), generator=of)
    attended, g = torch.randn(2, n_runs, n_rows, d, generator=of)
    return source, row, attended, w, g


def both_ways(module, source, row, attended, w, g):
    """All that the kernels or their twins give, by name."""
    z, u, v = module.forward(source, row, attended, w)
    du, dattended, dw = module.backward(g, attended, u, v, w)
    return {"z": z, "u": u, "v": v, "du": du, "dattended": dattended} | dw._asdict()


def double(arguments):
    source, row, attended, w, g = arguments
    return source.double(), row, attended.double(), BranchWeights(*(a.double() for a in w)), g.double()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_branches_and_their_gradients_are_those_of_the_twins(kernels, shape):
    arguments = drawn(shape)
    ours, theirs = both_ways(kernels, *arguments), both_ways(TWINS, *double(arguments))
    for name, a in ours.items():
        torch.testing.assert_close(a.double(), theirs[name], rtol=1e-4, atol=1e-3, msg=name)


def test_rows_are_taken_from_a_view_where_none_are_named(kernels):
    source, _, attended, w, g = drawn((2, 21, 16, 32), n_more=4)
    whole = torch.arange(4, 25).expand(2, -1)
    named = both_ways(kernels, source, whole, attended, w, g)
    viewed = both_ways(kernels, source[:, 4:], None, attended, w, g)
    for name, a in named.items():
        assert torch.equal(a, viewed[name]), name


def test_twins_gradients_are_those_of_autograd():
    source, _, attended, w, g = double(drawn((2, 9, 16, 32), n_more=0))
    leaves = [source, attended, *w]
    leaves = [a.clone().requires_grad_() for a in leaves]
    z, u, v = plain.branches(leaves[0], None, leaves[1], BranchWeights(*leaves[2:]))
    expected = torch.autograd.grad(z, leaves, g)
    du, dattended, dw = plain.branches_backward(g, attended, u.detach(), v.detach(), w)
    torch.testing.assert_close((du, dattended, *dw), expected)


def test_gradient_of_a_hidden_number_at_zero_is_that_of_relu(kernels):
    source, row, attended, w, g = drawn((1, 3, 16, 16))
    w.up.zero_()
    assert not both_ways(kernels, source, row, attended, w, g)["up"].any()


def test_run_whose_numbers_are_not_finite_leaves_the_others_alone(kernels):
    source, row, attended, w, g = drawn((3, 20, 16, 32))
    alone = both_ways(kernels, source, row, attended, w, g)
    w.up[1] = torch.nan
    beside = both_ways(kernels, source, row, attended, w, g)
    for name, a in alone.items():
        assert torch.equal(a[[0, 2]], beside[name][[0, 2]]), name
    assert not beside["z"][1].isfinite().any()


def update(run, fused):
    """An ensemble's gradients after the first update's backward pass, all of whose parameters are drawn."""
    e = Ensemble([run] * 2, 2, torch.device("cpu"), loops=False)
    for slot in range(2):
        e.load(slot, Trajectory(run))
    e.parameters += 0.1 * torch.randn(e.parameters.shape, generator=torch.Generator().manual_seed(0))
    e.tables.renew([0, 0])
    e.network.fused = fused
    e._gradients(*e.tables.batch(e.step))
    return e.optimizer.gradients


@pytest.mark.parametrize("more", [{}, {"n_layers": 1}, {"n_layers": 3}, {"positions": "learned"}], ids=str)
def test_network_has_the_gradients_of_one_without(more):
    run = Run(**SMALL | more, precision="fp64")
    torch.testing.assert_close(update(run, TWINS), update(run, None), rtol=1e-9, atol=1e-12)


def test_network_with_the_kernels_has_them_too(kernels):
    run = Run(**SMALL, precision="tf32")
    torch.testing.assert_close(update(run, kernels), update(run, None), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_rounding_leaves_little_of_a_difference(kernels, shape):
    assert plain.branches_apart(kernels, shape, torch.device("cpu")) < 1e-6
