"""Batched products in three products of tensor cores each, nearly as exact as float32's (tf32x3).

A factor is the sum of its rounding to tf32 and of the rest, rounded too. A product is the sum of three: the
rests' own is too small to show. The twin is `plain.product`. Needs Triton.
"""

from __future__ import annotations

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

ROWS, COLUMNS, INNER = 64, 64, 32  #: of a block; tensor cores take no fewer than 16
LAUNCH = {"num_warps": 4, "num_stages": 3}  #: with which blocks fit into shared memory from Ampere on


@triton.jit
def _bmm(a, b, out, n, d, f, a_run, a_row, a_column, b_run, b_row, b_column, ROWS: tl.constexpr,
         COLUMNS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    run = tl.program_id(2).to(tl.int64)
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for first in range(0, d, INNER):
        at = first + tl.arange(0, INNER)
        left = a + run * a_run + row * a_row + at[None, :] * a_column
        left = tl.load(left, mask=(row < n) & (at[None, :] < d), other=0.0)
        right = b + run * b_run + at[:, None] * b_row + column * b_column
        right = tl.load(right, mask=(at[:, None] < d) & (column < f), other=0.0)
        total += tl.dot(left, right, input_precision=PRECISION)
    tl.store(out + run * n * f + row * f + column, total, mask=(row < n) & (column < f))


def bmm(a: Tensor, b: Tensor, precision: str = "tf32x3") -> Tensor:
    """As torch.bmm, of float32: (R, N, D), (R, D, F) -> (R, N, F), with any strides.

    `precision` is "tf32", "tf32x3" or "ieee", as Triton names them.
    """
    (n_runs, n, d), f = a.shape, b.shape[2]
    out = a.new_empty(n_runs, n, f)
    grid = (triton.cdiv(n, ROWS), triton.cdiv(f, COLUMNS), n_runs)
    sizes = (n, d, f, *a.stride(), *b.stride(), ROWS, COLUMNS, INNER)
    _bmm[grid](a, b, out, *sizes, PRECISION=precision, **LAUNCH)  # pyright: ignore[reportIndexIssue]
    return out
