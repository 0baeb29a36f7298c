"""The feed-forward branch's kernels in Triton's interpreter, which needs no card, against their twins."""

from types import SimpleNamespace

import pytest
import torch

from grokking_core import Run
from grokking_core.kernels import plain
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.ensemble import Ensemble

SMALL = {"operation": "x/y", "p": 7, "d_model": 16, "n_heads": 2, "batch_size": 20}

SHAPES = [(1, 1, 16, 16), (2, 67, 16, 64), (3, 5, 24, 100), (2, 130, 48, 96), (1, 70, 128, 512)]  # R, N, D, F


@pytest.fixture
def kernels(interpreted):
    return interpreted("_feed_forward")


def drawn(shape, seed=0):
    """x, up, down and g; the weights of runs lie apart, as in an ensemble's parameters."""
    n_runs, n_rows, d, f = shape
    of = torch.Generator().manual_seed(seed)
    flat = torch.randn(n_runs, 2 * d * f + 7, generator=of)
    up, down, _ = flat.split([d * f, d * f, 7], dim=1)
    x, g = torch.randn(2, n_runs, n_rows, d, generator=of)
    return x, up.unflatten(1, (f, d)), down.unflatten(1, (d, f)), g


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_feed_forward_is_that_of_its_twin(kernels, shape):
    x, up, down, _ = drawn(shape)
    expected = plain.feed_forward(*(a.double() for a in (x, up, down)))
    torch.testing.assert_close(kernels.forward(x, up, down).double(), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_its_gradients_are_those_of_its_twin(kernels, shape):
    x, up, down, g = drawn(shape)
    expected = plain.feed_forward_backward(*(a.double() for a in (g, x, up, down)))
    for ours, theirs in zip(kernels.backward(g, x, up, down), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-3)


def test_twins_gradients_are_those_of_autograd():
    x, up, down, g = (a.double().requires_grad_() for a in drawn((2, 9, 16, 32)))
    expected = torch.autograd.grad(plain.feed_forward(x, up, down), (x, up, down), g)
    torch.testing.assert_close(plain.feed_forward_backward(g, x, up, down), expected)


def test_gradient_of_a_row_at_zero_is_that_of_relu(kernels):
    x, up, down, g = drawn((1, 3, 16, 16))
    dx, dup, _ = kernels.backward(g, torch.zeros_like(x), up, down)
    assert not dx.any()
    assert not dup.any()


def test_run_whose_numbers_are_not_finite_leaves_the_others_alone(kernels):
    x, up, down, g = drawn((3, 20, 16, 32))
    alone = [kernels.forward(x, up, down), *kernels.backward(g, x, up, down)]
    up[1] = torch.nan
    beside = [kernels.forward(x, up, down), *kernels.backward(g, x, up, down)]
    for a, b in zip(alone, beside, strict=True):
        assert torch.equal(a[[0, 2]], b[[0, 2]])
    assert not beside[0][1].isfinite().any()


def update(run, fused):
    """An ensemble with its gradients after the first update's backward pass."""
    e = Ensemble([run] * 2, 2, torch.device("cpu"), loops=False)
    for slot in range(2):
        e.load(slot, Trajectory(run))
    e.tables.renew([0, 0])
    e.network.fused = fused
    e._gradients(*e.tables.batch(e.step))
    return e.optimizer.gradients


@pytest.mark.parametrize("more", [{}, {"norm": "pre"}, {"dropout": 0.1}, {"n_layers": 3}], ids=str)
def test_network_has_the_gradients_of_one_without(more):
    run = Run(**SMALL | more, precision="fp64")
    twins = SimpleNamespace(forward=plain.feed_forward, backward=plain.feed_forward_backward)
    torch.testing.assert_close(update(run, twins), update(run, None), rtol=1e-10, atol=1e-12)


def test_network_with_the_kernels_has_them_too(kernels):
    run = Run(**SMALL, precision="tf32")
    torch.testing.assert_close(update(run, kernels), update(run, None), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_whole_numbers_leave_no_difference(kernels, shape):
    assert plain.feed_forward_apart(kernels, shape, torch.device("cpu")) == 0.0
