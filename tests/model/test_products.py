"""Products with weights in every precision: laws of their rounding, gradients, plain twins."""

import math
from types import SimpleNamespace

import pytest
import torch
from tensors import assert_close, draw, leaf
from torch.nn import functional as F

from grokking_core import Run, kernels
from grokking_core.kernels import plain
from grokking_core.model import plain as networks
from grokking_core.model.products import Products, Rounded, Split
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.ensemble import Ensemble

pytestmark = pytest.mark.usefixtures("one_thread")

R, N, D = 3, 10, 8  # runs, rows, width
SMALL = {"operation": "x/y", "p": 7, "d_model": 16, "n_heads": 2, "batch_size": 20}
SHAPES = [(1, 1, 16, 16), (2, 67, 16, 64), (3, 5, 24, 100), (1, 130, 48, 97)]  # R, N, D, F


@pytest.fixture
def kernel(interpreted):
    return interpreted("_products")


@pytest.fixture
def split(monkeypatch):
    """Products in tf32x3 by the twin of their kernel."""
    monkeypatch.setattr(kernels, "load", lambda name: SimpleNamespace(bmm=plain.product))
    return Split()


def error(made, a, b):
    """Of a product, relative to its size."""
    exact = torch.bmm(a.double(), b.double())
    return ((made - exact).norm() / exact.norm()).item()


def test_linear_and_its_gradients():
    x, w, g = leaf(R, N, D), leaf(R, 5, D, seed=1), draw(R, N, 5, seed=2)
    y = torch.stack([F.linear(a, b) for a, b in zip(x, w, strict=True)])
    dw, dx = torch.empty(R, 5, D, dtype=torch.float64), torch.empty(R, N, D, dtype=torch.float64)
    into = torch.empty(R, N, 5, dtype=torch.float64)
    with torch.no_grad():
        assert_close([Products().linear(x, w), Products().linear(x, w, into), into], [y, y, y])
        dx = Products().linear_backward(g, x, w, dw, dx)
    assert_close([dx, dw], torch.autograd.grad(y, (x, w), g))


@pytest.mark.parametrize(
    ("number", "becomes"),
    [
        (1.0, 1.0),
        (1 + 2**-10, 1 + 2**-10),
        (1 + 2**-11, 1 + 2**-10),  # a tie
        (-1 - 2**-11, -1 - 2**-10),
        (1 + 2**-11 - 2**-20, 1.0),
        (1 + 3 * 2**-11, 1 + 2**-9),
        (2 - 2**-20, 2.0),
        (0.0, 0.0),
        (-math.inf, -math.inf),
    ],
)
def test_tf32_has_eleven_significant_bits(number, becomes):
    assert plain.rounded(torch.tensor([number])).item() == becomes


def test_rounding_twice_is_rounding_once_and_nan_stays():
    a = draw(1000).float() * 10.0 ** draw(1000, seed=1)
    once = plain.rounded(a.float())
    assert torch.equal(plain.rounded(once), once)
    assert ((once - a).abs() <= 2.0**-11 * a.abs()).all()
    assert plain.rounded(torch.tensor([math.nan])).isnan().all()


def test_a_product_in_tf32_is_a_thousand_times_less_exact_and_in_three_parts_it_is_not(split):
    a, b = draw(2, 60, 128).float(), draw(2, 128, 40, seed=1).float()
    plainly, rounded, three = (error(p.bmm(a, b), a, b) for p in (Products(), Rounded(), split))
    assert 2**-13 < rounded < 2**-10
    assert 1000 * plainly < rounded
    assert three < 4 * plainly


@pytest.mark.parametrize("kind", [Products, Rounded, Split])
def test_sums_with_products_are_those_of_the_product(kind, split):
    products = split if kind is Split else kind()
    a, x, w = draw(2, 6, 5).float(), draw(2, 6, 9, seed=1).float(), draw(2, 9, 5, seed=2).float()
    expected = a + products.bmm(x, w)
    torch.testing.assert_close(products.plus(a, x, w), expected, rtol=1e-6, atol=1e-6)
    wide = torch.zeros(2, 6, 8)
    wide[..., :5] = a
    torch.testing.assert_close(products.add_(wide[..., :5], x, w), expected, rtol=1e-6, atol=1e-6)
    assert not wide[..., 5:].any()


def gradients(run, loops=False):
    """Those of the first update."""
    e = Ensemble([run] * 2, 2, torch.device("cpu"), loops=loops)
    for slot in range(2):
        e.load(slot, Trajectory(run))
    e.tables.renew([0, 0])
    e._gradients(*e.tables.batch(e.step))
    return e.optimizer.gradients[0].clone(), e.tables.batch(e.step)


def twins_gradients(run, x, y, label, weight):
    """Those of the plain network, by autograd."""
    network, op = networks.build(run), run.n_elements
    tokens = torch.stack([x, torch.full_like(x, op), y, torch.full_like(x, op + 1)], dim=-1)
    loss = (F.cross_entropy(network(tokens), label, reduction="none") * weight).sum()
    return torch.nn.utils.parameters_to_vector(torch.autograd.grad(loss, [*network.parameters()]))


@pytest.mark.parametrize(
    "more", [{}, {"norm": "pre", "activation": "gelu"}, {"architecture": "mlp"}], ids=str
)
@pytest.mark.parametrize("loops", [False, True], ids=["tensors", "loops"])
def test_network_with_rounded_factors_has_the_gradients_of_its_twin(more, loops):
    run = Run(**SMALL | more, precision="tf32-rounded")
    ours, batch = gradients(run, loops)
    theirs = twins_gradients(run, *(a[0] for a in batch))
    unrounded = twins_gradients(Run(**SMALL | more), *(a[0] for a in batch))
    apart, rounding = ((a - theirs).norm() / theirs.norm() for a in (ours, unrounded))
    assert rounding > 1e-4
    assert apart < rounding / 10


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_computes_what_the_device_does(kernel, shape):
    n_runs, n, d, f = shape
    a, b = draw(n_runs, n, d).float(), draw(n_runs, f, d, seed=1).float().mT
    torch.testing.assert_close(kernel.bmm(a, b), torch.bmm(a, b), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(kernel.bmm(b.mT, a.mT), torch.bmm(b.mT, a.mT), rtol=1e-5, atol=1e-4)
    assert plain.products_apart(kernel, shape, torch.device("cpu")) == 0.0


def test_runs_whose_numbers_are_not_finite_leave_the_others_alone(kernel):
    a, b = draw(3, 20, 16).float(), draw(3, 16, 32, seed=1).float()
    alone = kernel.bmm(a, b)
    a[1] = math.nan
    beside = kernel.bmm(a, b)
    assert torch.equal(alone[[0, 2]], beside[[0, 2]])
    assert not beside[1].isfinite().any()


@pytest.mark.parametrize("more", [{}, {"norm": "pre"}, {"architecture": "mlp"}], ids=str)
def test_network_in_three_products_has_the_gradients_of_float32(more, split):
    ours, _ = gradients(Run(**SMALL | more, precision="tf32x3"))
    theirs, _ = gradients(Run(**SMALL | more))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
