"""A layer's two branches, from what attention gives to the next layer's input, in three kernels.

A row goes through out-projection, residual and norm, feed-forward, residual and norm, and no other row has a
part in it: a program takes a block of rows through all of it. Only the two sums before the norms are written.
The hidden layer, four times as wide as all other rows, is computed where it is needed and never in memory.
The twins are in `plain`, and name what is computed.

Axes: R runs, N rows, D = d_model, F hidden width. Every run is a program's second index, so that none sees
another; sums go in one order, without atomic additions, so that every bit is the same at each call.
Needs Triton.
"""

from __future__ import annotations

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from grokking_core.kernels.plain import NORM_EPS, BranchWeights

ROWS, HIDDEN = 64, 32  #: of a block; tensor cores take no fewer than 16
FEWER_ROWS = 32  #: of a block where sums for weights take registers too
LAUNCH = {"num_warps": 8, "num_stages": 2}  #: with which blocks fit into shared memory from Ampere on


@triton.jit
def _places(data, run, n_rows, first, D: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr):
    """Places of a block of rows of (R, N, D), and which of them there are."""
    row, d = first + tl.arange(0, ROWS)[:, None], tl.arange(0, WIDE)[None, :]
    return data + run * n_rows * D + row * D + d, (row < n_rows) & (d < D)


@triton.jit
def _vector(data, run, stride, D: tl.constexpr, WIDE: tl.constexpr):
    """A norm's weights or biases, (1, WIDE), of which those from D on are 0."""
    d = tl.arange(0, WIDE)[None, :]
    return tl.load(data + run * stride + d, mask=d < D, other=0.0)


@triton.jit
def _columns_of_out(out, run, stride, first, D: tl.constexpr, WIDE: tl.constexpr, HIDDEN: tl.constexpr):
    """A block of columns of the out-projection's weights, (WIDE, HIDDEN)."""
    d, column = tl.arange(0, WIDE)[:, None], first + tl.arange(0, HIDDEN)[None, :]
    return tl.load(out + run * stride + d * D + column, mask=(d < D) & (column < D), other=0.0)


@triton.jit
def _weights_of_hidden(up, down, run, stride, first, D: tl.constexpr, F: tl.constexpr, WIDE: tl.constexpr,
                       HIDDEN: tl.constexpr):  # fmt: skip
    """Weights to and from a block of the hidden layer: (HIDDEN, WIDE), (WIDE, HIDDEN)."""
    h, d = first + tl.arange(0, HIDDEN), tl.arange(0, WIDE)
    to = up + run * stride + h[:, None] * D + d[None, :]
    back = down + run * stride + d[:, None] * F + h[None, :]
    to = tl.load(to, mask=(h[:, None] < F) & (d[None, :] < D), other=0.0)
    return to, tl.load(back, mask=(h[None, :] < F) & (d[:, None] < D), other=0.0)


@triton.jit
def _relu(x):
    """As PyTorch's: NaN stays NaN, which a card's maximum would make 0."""
    return tl.where(x <= 0, 0.0, x)


@triton.jit
def _standardized(x, EPS: tl.constexpr, D: tl.constexpr, WIDE: tl.constexpr):
    """Rows with mean 0 and variance 1, and by what they were multiplied; columns from D on are and stay 0."""
    centred = tl.where(tl.arange(0, WIDE)[None, :] < D, x - tl.sum(x, 1)[:, None] / D, 0.0)
    factor = 1 / tl.sqrt(tl.sum(centred * centred, 1)[:, None] / D + EPS)
    return centred * factor, factor


@triton.jit
def _standardized_backward(g, x, factor, D: tl.constexpr, WIDE: tl.constexpr):
    """Gradient with respect to what `_standardized` made x of."""
    along = x * (tl.sum(g * x, 1)[:, None] / D)
    return tl.where(tl.arange(0, WIDE)[None, :] < D, factor * (g - tl.sum(g, 1)[:, None] / D - along), 0.0)


@triton.jit
def _store_sums(sums, g, x, D: tl.constexpr, WIDE: tl.constexpr):
    """Sums over a block's rows for the gradients of a norm's weights and biases, (2, D)."""
    d = tl.arange(0, WIDE)
    tl.store(sums + d, tl.sum(g * x, 0), mask=d < D)
    tl.store(sums + D + d, tl.sum(g, 0), mask=d < D)


@triton.jit
def _forward(source, row, attended, out, w1, b1, up, down, w2, b2, u, v, z, n_rows, source_stride, stride,
             EPS: tl.constexpr, D: tl.constexpr, F: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr,
             HIDDEN: tl.constexpr, TAKES: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    first, run = tl.program_id(0) * ROWS, tl.program_id(1).to(tl.int64)
    here, d = first + tl.arange(0, ROWS), tl.arange(0, WIDE)[None, :]
    taken = tl.load(row + run * n_rows + here, mask=here < n_rows, other=0) if TAKES else here
    at = source + run * source_stride + taken[:, None] * D + d
    total = tl.load(at, mask=(here[:, None] < n_rows) & (d < D), other=0.0)
    for start in range(0, D, HIDDEN):
        column = start + tl.arange(0, HIDDEN)[None, :]
        part = attended + run * n_rows * D + here[:, None] * D + column
        part = tl.load(part, mask=(here[:, None] < n_rows) & (column < D), other=0.0)
        weights = _columns_of_out(out, run, stride, start, D, WIDE, HIDDEN)
        total += tl.dot(part, tl.trans(weights), input_precision=PRECISION)
    at, there = _places(u, run, n_rows, first, D, WIDE, ROWS)
    tl.store(at, total, mask=there)
    rows, _ = _standardized(total, EPS, D, WIDE)
    rows = rows * _vector(w1, run, stride, D, WIDE) + _vector(b1, run, stride, D, WIDE)
    total = rows
    for start in range(0, F, HIDDEN):
        to, back = _weights_of_hidden(up, down, run, stride, start, D, F, WIDE, HIDDEN)
        hidden = _relu(tl.dot(rows, tl.trans(to), input_precision=PRECISION))
        total += tl.dot(hidden, tl.trans(back), input_precision=PRECISION)
    at, there = _places(v, run, n_rows, first, D, WIDE, ROWS)
    tl.store(at, total, mask=there)
    rows, _ = _standardized(total, EPS, D, WIDE)
    rows = rows * _vector(w2, run, stride, D, WIDE) + _vector(b2, run, stride, D, WIDE)
    at, there = _places(z, run, n_rows, first, D, WIDE, ROWS)
    tl.store(at, rows, mask=there)


@triton.jit
def _backward_of_rows(g, u, v, out, w1, b1, up, down, w2, du, dattended, dv, sums, n_rows, stride,
                      EPS: tl.constexpr, D: tl.constexpr, F: tl.constexpr, WIDE: tl.constexpr,
                      ROWS: tl.constexpr, HIDDEN: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    first, run = tl.program_id(0) * ROWS, tl.program_id(1).to(tl.int64)
    sums += (run * tl.num_programs(0) + tl.program_id(0)) * 4 * D
    at, there = _places(v, run, n_rows, first, D, WIDE, ROWS)
    x, factor = _standardized(tl.load(at, mask=there, other=0.0), EPS, D, WIDE)
    at, there = _places(g, run, n_rows, first, D, WIDE, ROWS)
    total = tl.load(at, mask=there, other=0.0)
    _store_sums(sums + 2 * D, total, x, D, WIDE)
    gradient = _standardized_backward(total * _vector(w2, run, stride, D, WIDE), x, factor, D, WIDE)
    at, there = _places(dv, run, n_rows, first, D, WIDE, ROWS)
    tl.store(at, gradient, mask=there)
    at, there = _places(u, run, n_rows, first, D, WIDE, ROWS)
    x, factor = _standardized(tl.load(at, mask=there, other=0.0), EPS, D, WIDE)
    rows = x * _vector(w1, run, stride, D, WIDE) + _vector(b1, run, stride, D, WIDE)
    total = gradient
    for start in range(0, F, HIDDEN):
        to, back = _weights_of_hidden(up, down, run, stride, start, D, F, WIDE, HIDDEN)
        is_off = tl.dot(rows, tl.trans(to), input_precision=PRECISION) <= 0
        dhidden = tl.where(is_off, 0.0, tl.dot(gradient, back, input_precision=PRECISION))
        total += tl.dot(dhidden, to, input_precision=PRECISION)
    _store_sums(sums, total, x, D, WIDE)
    total = _standardized_backward(total * _vector(w1, run, stride, D, WIDE), x, factor, D, WIDE)
    at, there = _places(du, run, n_rows, first, D, WIDE, ROWS)
    tl.store(at, total, mask=there)
    here = first + tl.arange(0, ROWS)[:, None]
    for start in range(0, D, HIDDEN):
        weights = _columns_of_out(out, run, stride, start, D, WIDE, HIDDEN)
        column = start + tl.arange(0, HIDDEN)[None, :]
        part = tl.dot(total, weights, input_precision=PRECISION)
        to_part = dattended + run * n_rows * D + here * D + column
        tl.store(to_part, part, mask=(here < n_rows) & (column < D))


@triton.jit
def _backward_of_hidden(dv, u, w1, b1, up, down, dup, ddown, n_rows, stride, EPS: tl.constexpr,
                        D: tl.constexpr, F: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr,
                        HIDDEN: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    start, run = tl.program_id(0) * HIDDEN, tl.program_id(1).to(tl.int64)
    to, back = _weights_of_hidden(up, down, run, stride, start, D, F, WIDE, HIDDEN)
    w1, b1 = _vector(w1, run, stride, D, WIDE), _vector(b1, run, stride, D, WIDE)
    dto = tl.full((HIDDEN, WIDE), 0.0, tl.float32)
    dback = tl.full((WIDE, HIDDEN), 0.0, tl.float32)
    for first in range(0, n_rows, ROWS):
        at, there = _places(u, run, n_rows, first, D, WIDE, ROWS)
        x, _ = _standardized(tl.load(at, mask=there, other=0.0), EPS, D, WIDE)
        rows = x * w1 + b1
        at, there = _places(dv, run, n_rows, first, D, WIDE, ROWS)
        gradient = tl.load(at, mask=there, other=0.0)
        hidden = _relu(tl.dot(rows, tl.trans(to), input_precision=PRECISION))
        dhidden = tl.where(hidden <= 0, 0.0, tl.dot(gradient, back, input_precision=PRECISION))
        dto += tl.dot(tl.trans(dhidden), rows, input_precision=PRECISION)
        dback += tl.dot(tl.trans(gradient), hidden, input_precision=PRECISION)
    h, d = start + tl.arange(0, HIDDEN), tl.arange(0, WIDE)
    at = dup + run * F * D + h[:, None] * D + d[None, :]
    tl.store(at, dto, mask=(h[:, None] < F) & (d[None, :] < D))
    at = ddown + run * D * F + d[:, None] * F + h[None, :]
    tl.store(at, dback, mask=(h[None, :] < F) & (d[:, None] < D))


def forward(
    source: Tensor, row: Tensor | None, attended: Tensor, w: BranchWeights, precision: str = "tf32"
) -> tuple[Tensor, Tensor, Tensor]:
    """As `plain.branches`, of float32.

    Parameters
    ----------
    source : Tensor
        (R, S, D), the rows of a run contiguous.
    row : Tensor, optional
        int64 (R, N).
    attended : Tensor
        (R, N, D).
    w : BranchWeights
        Views of one tensor (R, n), each run's contiguous.
    precision : {"tf32", "tf32x3", "ieee"}
        Of products, as Triton names them.
    """
    attended = attended.contiguous()
    u, v, z = (torch.empty_like(attended) for _ in range(3))
    taken = attended if row is None else row.contiguous()  # a kernel has no arguments that are not there
    strides = (attended.shape[1], source.stride(0), w.up.stride(0))
    sizes, settings = _sizes(w), {"TAKES": row is not None, "PRECISION": precision, **LAUNCH}
    grid = _blocks_of_rows(attended)
    _forward[grid](source, taken, attended, *w, u, v, z, *strides, *sizes, **settings)  # pyright: ignore[reportIndexIssue]
    return z, u, v


def backward(
    g: Tensor, attended: Tensor, u: Tensor, v: Tensor, w: BranchWeights, precision: str = "tf32"
) -> tuple[Tensor, Tensor, BranchWeights]:
    """As `plain.branches_backward`; `forward` says of what."""
    g, grid = g.contiguous(), _blocks_of_rows(u)
    du, dattended, dv = (torch.empty_like(u) for _ in range(3))
    dup, ddown = (torch.empty_like(a, memory_format=torch.contiguous_format) for a in (w.up, w.down))
    sums = u.new_empty(len(u), grid[0], 4, u.shape[2])
    strides, settings = (u.shape[1], w.up.stride(0)), {"PRECISION": precision, **LAUNCH}
    known = (w.out, w.norm1, w.bias1, w.up, w.down, w.norm2)
    _backward_of_rows[grid](g, u, v, *known, du, dattended, dv, sums, *strides, *_sizes(w), **settings)  # pyright: ignore[reportIndexIssue]
    grid, sizes = (triton.cdiv(w.up.shape[1], HIDDEN), len(u)), _sizes(w, FEWER_ROWS)
    _backward_of_hidden[grid](dv, u, *known[1:5], dup, ddown, *strides, *sizes, **settings)  # pyright: ignore[reportIndexIssue]
    dnorm1, dbias1, dnorm2, dbias2 = sums.sum(1).unbind(1)
    dout = torch.bmm(du.mT, attended)
    return du, dattended, BranchWeights(dout, dnorm1, dbias1, dup, ddown, dnorm2, dbias2)


def _blocks_of_rows(rows: Tensor) -> tuple[int, int]:
    return triton.cdiv(rows.shape[1], ROWS), len(rows)


def _sizes(w: BranchWeights, rows: int = ROWS) -> tuple[float, ...]:
    """What is added to variances, D, F, and the sizes of blocks."""
    _, f, d = w.up.shape
    return NORM_EPS, d, f, max(16, triton.next_power_of_2(d)), rows, HIDDEN
