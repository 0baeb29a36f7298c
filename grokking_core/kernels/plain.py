"""What the kernels for cards compute, in tensor operations; those of loops are in `model` and `updates`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

NORM_EPS = 1e-5  #: of torch.nn.LayerNorm


def rounded(a: Tensor) -> Tensor:
    """A tensor of float32 rounded to tf32, 11 significant bits, to the nearest and ties away from zero."""
    return ((a.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def product(a: Tensor, b: Tensor) -> Tensor:
    """torch.bmm of float32 in tf32x3: of what rounding leaves of each factor, and of what it takes away."""
    a_most, b_most = rounded(a), rounded(b)
    a_rest, b_rest = rounded(a - a_most), rounded(b - b_most)
    return torch.bmm(a_rest, b_most) + torch.bmm(a_most, b_rest) + torch.bmm(a_most, b_most)


def feed_forward(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """relu(x up^T) down^T for each run: (R, N, D), (R, F, D), (R, D, F) -> (R, N, D)."""
    return torch.bmm(torch.bmm(x, up.mT).relu(), down.mT)


def feed_forward_backward(g: Tensor, x: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of sum(g * feed_forward(x, up, down)) with respect to x, up and down."""
    hidden = torch.bmm(x, up.mT).relu()
    dhidden = torch.where(hidden <= 0, 0, torch.bmm(g, down))
    return torch.bmm(dhidden, up), torch.bmm(dhidden.mT, x), torch.bmm(g.mT, hidden)


def feed_forward_apart(kernels: ModuleType, shape: Sequence[int], device: torch.device) -> float:
    """How far the kernels in `_feed_forward` are from these twins, for R, N, D, F; see `_apart`."""
    n_runs, n_rows, d, f = shape
    g, x, up, down = _whole(n_runs, (n_rows, d), (n_rows, d), (f, d), (d, f))
    expected = (feed_forward(x, up, down), *feed_forward_backward(g, x, up, down))
    g, x, up, down = (a.float().to(device) for a in (g, x, up, down))
    return _apart((kernels.forward(x, up, down), *kernels.backward(g, x, up, down)), expected)


def products_apart(kernels: ModuleType, shape: Sequence[int], device: torch.device) -> float:
    """How far the kernel in `_products` is from torch.bmm, for R, N, D, F; see `_apart`.

    The second factor's columns lie apart, as those of weights that are transposed.
    """
    n_runs, n_rows, d, f = shape
    x, w = _whole(n_runs, (n_rows, d), (f, d))
    ours = kernels.bmm(x.float().to(device), w.float().to(device).mT)
    return _apart((ours,), (torch.bmm(x, w.mT),))


def _whole(n_runs: int, *shapes: tuple[int, int]) -> list[Tensor]:
    """Whole numbers in float64, so small that tf32 holds them and float32 the sums of their products."""
    of = torch.Generator().manual_seed(0)
    return [torch.randint(-1, 2, (n_runs, *shape), generator=of).double() for shape in shapes]


def _apart(ours: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference, none of which is one of rounding; of NaN, infinity."""
    pairs = zip(ours, expected, strict=True)
    return max((a.cpu() - b).abs().nan_to_num(math.inf).max().item() for a, b in pairs)
