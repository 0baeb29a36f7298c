"""What the kernels for cards compute, in tensor operations; those of loops are in `model` and `updates`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

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


class BranchWeights(NamedTuple):
    """What a layer's two branches have learned, after attention itself; or its gradients. Post-norm, relu."""

    out: Tensor  #: (R, D, D)
    norm1: Tensor  #: (R, D), weights of the attention's norm
    bias1: Tensor  #: (R, D)
    up: Tensor  #: (R, F, D)
    down: Tensor  #: (R, D, F)
    norm2: Tensor  #: (R, D), weights of the feed-forward's norm
    bias2: Tensor  #: (R, D)


def branches(
    source: Tensor, row: Tensor | None, attended: Tensor, w: BranchWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """What a layer makes of its residual and of what attention gives.

    u = residual + attended out^T, y = norm1 * standardized(u) + bias1,
    v = y + relu(y up^T) down^T, z = norm2 * standardized(v) + bias2.

    Parameters
    ----------
    source : Tensor
        (R, S, D), of which the residual are some rows.
    row : Tensor, optional
        Which ones, int64 (R, N); by default all of them.
    attended : Tensor
        (R, N, D).
    w : BranchWeights
        Of each run.

    Returns
    -------
    Tensor, Tensor, Tensor
        z; and u and v, which `branches_backward` needs.
    """
    residual = source if row is None else source.take_along_dim(row[..., None], dim=1)
    u = residual + torch.bmm(attended, w.out.mT)
    y = _standardized(u)[0] * w.norm1[:, None] + w.bias1[:, None]
    v = y + torch.bmm(torch.bmm(y, w.up.mT).relu(), w.down.mT)
    return _standardized(v)[0] * w.norm2[:, None] + w.bias2[:, None], u, v


def branches_backward(
    g: Tensor, attended: Tensor, u: Tensor, v: Tensor, w: BranchWeights
) -> tuple[Tensor, Tensor, BranchWeights]:
    """Gradients of sum(g * z) with respect to the residual, to what attention gave, and to the weights."""
    x, factor = _standardized(v)
    dnorm2, dbias2 = (g * x).sum(1), g.sum(1)
    dv = _standardized_backward(g * w.norm2[:, None], x, factor)
    x, factor = _standardized(u)
    y = x * w.norm1[:, None] + w.bias1[:, None]
    hidden = torch.bmm(y, w.up.mT).relu()
    dhidden = torch.where(hidden <= 0, 0, torch.bmm(dv, w.down))
    dy = dv + torch.bmm(dhidden, w.up)
    du = _standardized_backward(dy * w.norm1[:, None], x, factor)
    of_feed_forward = torch.bmm(dhidden.mT, y), torch.bmm(dv.mT, hidden)
    of_norm1 = (dy * x).sum(1), dy.sum(1)
    dw = BranchWeights(torch.bmm(du.mT, attended), *of_norm1, *of_feed_forward, dnorm2, dbias2)
    return du, torch.bmm(du, w.out), dw


def _standardized(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with mean 0 and variance 1, and by what they were multiplied."""
    centred = x - x.mean(-1, keepdim=True)
    factor = (centred.square().mean(-1, keepdim=True) + NORM_EPS).rsqrt()
    return centred * factor, factor


def _standardized_backward(g: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """Gradient with respect to what `_standardized` made x of."""
    return factor * (g - g.mean(-1, keepdim=True) - x * (g * x).mean(-1, keepdim=True))


def branches_apart(kernels: ModuleType, shape: Sequence[int], device: torch.device) -> float:
    """How far the kernels in `_branches` are from these twins, for R, N, D, F; of NaN, infinity.

    Every result counts relative to its largest number.
    """
    source, row, attended, g, w = _odd(shape)
    z, u, v = branches(source, row, attended, w)
    du, dattended, dw = branches_backward(g, attended, u, v, w)
    expected = (z, u, v, du, dattended, *dw)
    source, attended, g = (a.float().to(device) for a in (source, attended, g))
    w = _side_by_side(w, source)
    z, u, v = kernels.forward(source, row.to(device), attended, w)
    du, dattended, dw = kernels.backward(g, attended, u, v, w)
    scales = [a.abs().max() for a in expected]
    ours = [a.cpu() / scale for a, scale in zip((z, u, v, du, dattended, *dw), scales, strict=True)]
    return _apart(ours, [a / scale for a, scale in zip(expected, scales, strict=True)])


def _odd(shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor, BranchWeights]:
    """Arguments of `branches` and a gradient, such that rounding does not decide what relu lets through.

    But for the norm's epsilon the feed-forward sees odd numbers, and adds or subtracts an odd number of them:
    no hidden number is near 0. D is even.
    """
    n_runs, n_rows, d, f = shape
    attended, out, up, down, g = _whole(n_runs, (n_rows, d), (d, d), (f, d), (d, f), (n_rows, d))
    up[up == 0] = 1
    up[..., 0] = 0
    norm1, bias1, norm2, bias2 = _whole(n_runs, (d,), (d,), (d,), (d,))
    w = BranchWeights(out, 1 + 2 * norm1, 2 * bias1, up, down, norm2, bias2)
    row = torch.arange(n_rows).roll(1).expand(n_runs, -1)
    signs = 1 - 2.0 * ((torch.arange(n_rows)[:, None] + torch.arange(d)) % 2)
    residual = signs - torch.bmm(attended, out.mT)
    return residual.roll(-1, dims=1), row, attended, g, w


def _side_by_side(w: BranchWeights, like: Tensor) -> BranchWeights:
    """The same as views of one tensor (R, n), as the weights of an ensemble are."""
    flat = torch.cat([a.flatten(1) for a in w], dim=1).to(like)
    parts = flat.split([a[0].numel() for a in w], dim=1)
    return BranchWeights(*(part.unflatten(1, a.shape[1:]) for part, a in zip(parts, w, strict=True)))


def products_apart(kernels: ModuleType, shape: Sequence[int], device: torch.device) -> float:
    """How far the kernel in `_products` is from torch.bmm, for R, N, D, F; see `_apart`.

    The second factor's columns lie apart, as those of weights that are transposed.
    """
    n_runs, n_rows, d, f = shape
    x, w = _whole(n_runs, (n_rows, d), (f, d))
    ours = kernels.bmm(x.float().to(device), w.float().to(device).mT)
    return _apart((ours,), (torch.bmm(x, w.mT),))


def _whole(n_runs: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Whole numbers in float64, so small that tf32 holds them and float32 the sums of their products."""
    of = torch.Generator().manual_seed(0)
    return [torch.randint(-1, 2, (n_runs, *shape), generator=of).double() for shape in shapes]


def _apart(ours: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference, none of which is one of rounding; of NaN, infinity."""
    pairs = zip(ours, expected, strict=True)
    return max((a.cpu() - b).abs().nan_to_num(math.inf).max().item() for a, b in pairs)
