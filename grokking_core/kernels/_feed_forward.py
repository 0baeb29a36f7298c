"""The feed-forward branch in three kernels that keep its hidden layer to themselves.

Four times as wide as all other rows, the hidden layer is what an update would write and read most: here a
block of it is computed where it is needed, from rows and weights, and is never in memory. The twins are in
`plain`.

Axes: R runs, N rows, D = d_model, F hidden width. Every run is a program's second index, so that none sees
another; sums go in one order, without atomic additions, so that every bit is the same at each call.
Needs Triton.
"""

from __future__ import annotations

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

ROWS, HIDDEN = 64, 32  #: of a block; tensor cores take no fewer than 16
LAUNCH = {"num_warps": 8, "num_stages": 2}  #: with which blocks fit into shared memory from Ampere on


@triton.jit
def _rows(data, run, n_rows, first, D: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr):
    """Places of a block of rows of (R, N, D), and which of them there are."""
    row, d = first + tl.arange(0, ROWS)[:, None], tl.arange(0, WIDE)[None, :]
    return data + run * n_rows * D + row * D + d, (row < n_rows) & (d < D)


@triton.jit
def _load_weights(up, down, run, up_stride, down_stride, first, D: tl.constexpr, F: tl.constexpr,
                  WIDE: tl.constexpr, HIDDEN: tl.constexpr):  # fmt: skip
    """Weights to and from a block of the hidden layer: (HIDDEN, WIDE), (WIDE, HIDDEN)."""
    h, d = first + tl.arange(0, HIDDEN), tl.arange(0, WIDE)
    to = up + run * up_stride + h[:, None] * D + d[None, :]
    back = down + run * down_stride + d[:, None] * F + h[None, :]
    to = tl.load(to, mask=(h[:, None] < F) & (d[None, :] < D), other=0.0)
    return to, tl.load(back, mask=(h[None, :] < F) & (d[:, None] < D), other=0.0)


@triton.jit
def _relu(x):
    """As PyTorch's: NaN stays NaN, which a card's maximum would make 0."""
    return tl.where(x <= 0, 0.0, x)


@triton.jit
def _forward(x, up, down, out, n_rows, up_stride, down_stride, D: tl.constexpr, F: tl.constexpr,
             WIDE: tl.constexpr, ROWS: tl.constexpr, HIDDEN: tl.constexpr,
             PRECISION: tl.constexpr):  # fmt: skip
    first, run = tl.program_id(0) * ROWS, tl.program_id(1).to(tl.int64)
    at, there = _rows(x, run, n_rows, first, D, WIDE, ROWS)
    rows = tl.load(at, mask=there, other=0.0)
    total = tl.full((ROWS, WIDE), 0.0, tl.float32)
    for start in range(0, F, HIDDEN):
        to, back = _load_weights(up, down, run, up_stride, down_stride, start, D, F, WIDE, HIDDEN)
        hidden = _relu(tl.dot(rows, tl.trans(to), input_precision=PRECISION))
        total += tl.dot(hidden, tl.trans(back), input_precision=PRECISION)
    at, there = _rows(out, run, n_rows, first, D, WIDE, ROWS)
    tl.store(at, total, mask=there)


@triton.jit
def _backward_of_rows(g, x, up, down, dx, n_rows, up_stride, down_stride, D: tl.constexpr, F: tl.constexpr,
                      WIDE: tl.constexpr, ROWS: tl.constexpr, HIDDEN: tl.constexpr,
                      PRECISION: tl.constexpr):  # fmt: skip
    first, run = tl.program_id(0) * ROWS, tl.program_id(1).to(tl.int64)
    at, there = _rows(x, run, n_rows, first, D, WIDE, ROWS)
    rows = tl.load(at, mask=there, other=0.0)
    at, there = _rows(g, run, n_rows, first, D, WIDE, ROWS)
    gradient = tl.load(at, mask=there, other=0.0)
    total = tl.full((ROWS, WIDE), 0.0, tl.float32)
    for start in range(0, F, HIDDEN):
        to, back = _load_weights(up, down, run, up_stride, down_stride, start, D, F, WIDE, HIDDEN)
        is_off = tl.dot(rows, tl.trans(to), input_precision=PRECISION) <= 0
        dhidden = tl.where(is_off, 0.0, tl.dot(gradient, back, input_precision=PRECISION))
        total += tl.dot(dhidden, to, input_precision=PRECISION)
    at, there = _rows(dx, run, n_rows, first, D, WIDE, ROWS)
    tl.store(at, total, mask=there)


@triton.jit
def _backward_of_weights(g, x, up, down, dup, ddown, n_rows, up_stride, down_stride, D: tl.constexpr,
                         F: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, HIDDEN: tl.constexpr,
                         PRECISION: tl.constexpr):  # fmt: skip
    start, run = tl.program_id(0) * HIDDEN, tl.program_id(1).to(tl.int64)
    to, back = _load_weights(up, down, run, up_stride, down_stride, start, D, F, WIDE, HIDDEN)
    dto = tl.full((HIDDEN, WIDE), 0.0, tl.float32)
    dback = tl.full((WIDE, HIDDEN), 0.0, tl.float32)
    for first in range(0, n_rows, ROWS):
        at, there = _rows(x, run, n_rows, first, D, WIDE, ROWS)
        rows = tl.load(at, mask=there, other=0.0)
        at, there = _rows(g, run, n_rows, first, D, WIDE, ROWS)
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


def forward(x: Tensor, up: Tensor, down: Tensor, precision: str = "tf32") -> Tensor:
    """As `plain.feed_forward`, of float32.

    Parameters
    ----------
    x : Tensor
        (R, N, D).
    up, down : Tensor
        (R, F, D) and (R, D, F), each run's contiguous.
    precision : {"tf32", "tf32x3", "ieee"}
        Of products, as Triton names them.
    """
    x, out = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    grid = (triton.cdiv(x.shape[1], ROWS), len(x))
    _forward[grid](x, up, down, out, *_sizes(x, up, down), PRECISION=precision, **LAUNCH)  # pyright: ignore[reportIndexIssue]
    return out


def backward(
    g: Tensor, x: Tensor, up: Tensor, down: Tensor, precision: str = "tf32"
) -> tuple[Tensor, Tensor, Tensor]:
    """As `plain.feed_forward_backward`; `forward` says of what."""
    g, x = g.contiguous(), x.contiguous()
    dx, sizes = torch.empty_like(x), _sizes(x, up, down)
    dup, ddown = (torch.empty_like(w, memory_format=torch.contiguous_format) for w in (up, down))
    grid = (triton.cdiv(x.shape[1], ROWS), len(x))
    _backward_of_rows[grid](g, x, up, down, dx, *sizes, PRECISION=precision, **LAUNCH)  # pyright: ignore[reportIndexIssue]
    grid = (triton.cdiv(up.shape[1], HIDDEN), len(x))
    _backward_of_weights[grid](g, x, up, down, dup, ddown, *sizes, PRECISION=precision, **LAUNCH)  # pyright: ignore[reportIndexIssue]
    return dx, dup, ddown


def _sizes(x: Tensor, up: Tensor, down: Tensor) -> tuple[int, ...]:
    """N, strides of weights from run to run, D, F, and the sizes of blocks."""
    _, n_rows, d = x.shape
    wide = max(16, triton.next_power_of_2(d))
    return n_rows, up.stride(0), down.stride(0), d, up.shape[1], wide, ROWS, HIDDEN
