"""What a CPU does faster in loops than by tensor operations: attention to few rows, norms, Adam's update.

A tensor operation goes through whole tensors and takes the interpreter's lock, and between two matrix
products there would be dozens of them; these loops go through each row once and hold no lock. Numba
compiles them at the first call and caches the machine code. On a GPU, and where Numba does not work,
`model.tensor_ops` and `updates.optimizer` do the same by tensor operations.

Axes: R runs, N rows, T rows that each sees (T = 4 tokens), H heads, W = D / H. A table has several vectors
of width D, its columns, in each of its rows; a loop is given the table as (R, rows, columns, H, W), and
which of the columns it is to take.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from torch import Tensor

from grokking_core.kernels.plain import NORM_EPS

Array = np.ndarray


def _can_cache() -> bool:
    """Whether Numba finds a folder for its machine code; raises what it raises where it cannot compile."""
    try:
        numba.njit(cache=True)(_one_more)(0)
    except Exception as error:
        numba.njit(_one_more)(0)
        message = f"Numba compiles anew in each process, since it cannot write its cache ({error})"
        warnings.warn(f"{message}; NUMBA_CACHE_DIR names a folder for it", RuntimeWarning, stacklevel=2)
        return False
    return True


def _one_more(i: int) -> int:
    return i + 1


OPTIONS = {"nogil": True, "cache": _can_cache(), "error_model": "numpy"}
exactly: Callable[..., Any] = numba.njit(**OPTIONS)
#: Sums in any order and fused multiply-adds, but infinities and NaN as ever: a run may diverge.
compiled: Callable[..., Any] = numba.njit(**OPTIONS, fastmath={"reassoc", "contract", "nsz", "arcp"})


class Sight(NamedTuple):
    """Where N rows find their queries, and the keys and values that they see; int64 each."""

    query: Array  #: (R, N): the row of the table of queries
    seen: Array  #: (R, N, T): the rows that are seen, at least one; -1 where there is none
    at: Array  #: (R, rows): where a row that is seen has its keys and values in their table


def attend(sight: Sight, q: Tensor, kv: Tensor, n_heads: int, out: Tensor) -> Tensor:
    """Attention of N rows: out (R, N, D) <- sum_t softmax_t(q . k_t / sqrt(W)) v_t.

    Parameters
    ----------
    sight : Sight
    q, kv : Tensor
        Tables with the queries in the first column, with keys and values in the last two. They may be one.
    n_heads : int
        H.
    out : Tensor
        Written.

    Returns
    -------
    Tensor
        Attention weights, (R, T, N, H), for `attend_backward`.
    """
    n_runs, n_rows, n_seen = sight.seen.shape
    width = out.shape[-1] // n_heads
    score = out.new_empty(n_runs, n_seen, n_rows, n_heads)
    keys_and_values = _by_head(kv, n_heads, width)
    _score(*sight, _by_head(q, n_heads, width), keys_and_values, score.numpy())
    weight = score.softmax(1)
    _mix(weight.numpy(), sight.seen, sight.at, keys_and_values, _by_head(out, n_heads, width))
    return weight


def attend_backward(
    g: Tensor, weight: Tensor, sight: Sight, q: Tensor, kv: Tensor, dq: Tensor, dkv: Tensor
) -> None:
    """Add the gradients of `attend` to dq and dkv; g is (R, N, D), `weight` what it returned."""
    n_heads = weight.shape[-1]
    gradient, *tables = (_by_head(a, n_heads, g.shape[-1] // n_heads) for a in (g, q, kv, dq, dkv))
    _attend_backward(gradient, weight.numpy(), *sight, *tables)


def _by_head(table: Tensor, n_heads: int, width: int) -> Array:
    return table.numpy().reshape(*table.shape[:2], -1, n_heads, width)


@compiled
def _score(query: Array, seen: Array, at: Array, q: Array, kv: Array, score: Array) -> None:
    k, width = kv.shape[2] - 2, kv.shape[4]  # the column of the keys
    scale = 1 / np.sqrt(score.dtype.type(width))
    for r in range(seen.shape[0]):
        for n in range(seen.shape[1]):
            i = query[r, n]
            for t in range(seen.shape[2]):
                if seen[r, n, t] < 0:
                    score[r, t, n] = -np.inf
                    continue
                j = at[r, seen[r, n, t]]
                for h in range(q.shape[3]):
                    total = score.dtype.type(0)
                    for w in range(width):
                        total += q[r, i, 0, h, w] * kv[r, j, k, h, w]
                    score[r, t, n, h] = total * scale


@compiled
def _mix(weight: Array, seen: Array, at: Array, kv: Array, out: Array) -> None:
    v = kv.shape[2] - 1  # the column of the values
    for r in range(seen.shape[0]):
        for n in range(seen.shape[1]):
            out[r, n] = 0
            for t in range(seen.shape[2]):
                if seen[r, n, t] >= 0:
                    j = at[r, seen[r, n, t]]
                    for h in range(kv.shape[3]):
                        share = weight[r, t, n, h]
                        for w in range(kv.shape[4]):
                            out[r, n, 0, h, w] += share * kv[r, j, v, h, w]


@compiled
def _attend_backward(
    g: Array, weight: Array, query: Array, seen: Array, at: Array, q: Array, kv: Array, dq: Array, dkv: Array
) -> None:
    n_runs, n_seen, n_rows, n_heads = weight.shape
    k, v, width = kv.shape[2] - 2, kv.shape[2] - 1, kv.shape[4]
    scale = 1 / np.sqrt(g.dtype.type(width))
    dscore = np.zeros((n_seen, n_heads), g.dtype)
    for r in range(n_runs):
        for n in range(n_rows):
            for t in range(n_seen):
                if seen[r, n, t] >= 0:
                    j = at[r, seen[r, n, t]]
                    for h in range(n_heads):
                        share, dshare = weight[r, t, n, h], g.dtype.type(0)
                        for w in range(width):
                            dshare += g[r, n, 0, h, w] * kv[r, j, v, h, w]
                            dkv[r, j, v, h, w] += share * g[r, n, 0, h, w]
                        dscore[t, h] = dshare
            for h in range(n_heads):  # of the softmax: weight (dweight - sum of weight dweight)
                mean = g.dtype.type(0)
                for t in range(n_seen):
                    if seen[r, n, t] >= 0:
                        mean += weight[r, t, n, h] * dscore[t, h]
                for t in range(n_seen):
                    dscore[t, h] = weight[r, t, n, h] * (dscore[t, h] - mean) * scale
            i = query[r, n]
            for t in range(n_seen):
                if seen[r, n, t] >= 0:
                    j = at[r, seen[r, n, t]]
                    for h in range(n_heads):
                        d = dscore[t, h]
                        for w in range(width):
                            dq[r, i, 0, h, w] += d * kv[r, j, k, h, w]
                            dkv[r, j, k, h, w] += d * q[r, i, 0, h, w]


def take(table: Tensor, row: Tensor, out: Tensor) -> Tensor:
    """Rows of each run's table: (R, M, D), int64 (R, N) -> out (R, N, D)."""
    _take(table.numpy(), row.numpy(), out.numpy())
    return out


def take_backward_(g: Tensor, row: Tensor, dtable: Tensor) -> Tensor:
    """Add the gradient of `take` to that with respect to the table, dtable (R, M, D); g is (R, N, D)."""
    _take_backward(g.numpy(), np.ascontiguousarray(row.numpy()), dtable.numpy())
    return dtable


@exactly
def _take(table: Array, row: Array, out: Array) -> None:
    for r in range(row.shape[0]):
        for n in range(row.shape[1]):
            for d in range(table.shape[2]):
                out[r, n, d] = table[r, row[r, n], d]


@exactly
def _take_backward(g: Array, row: Array, dtable: Array) -> None:
    for r in range(row.shape[0]):
        for n in range(row.shape[1]):
            for d in range(g.shape[2]):
                dtable[r, row[r, n], d] += g[r, n, d]


def layer_norm_(x: Tensor, more: Tensor | None, w: Array, b: Array, out: Tensor) -> tuple[Array, Array]:
    """Layer norm of x + more, which x becomes, into `out`; all but w and b (R, D) are (R, N, D).

    Returns the means of the rows and 1 / their deviations, (R, N) each, for `layer_norm_backward_`.
    """
    mean, rstd = np.empty((2, *x.shape[:2]), w.dtype)
    _layer_norm(x.numpy(), None if more is None else more.numpy(), w, b, out.numpy(), mean, rstd, NORM_EPS)
    return mean, rstd


def layer_norm_backward_(
    g: Tensor, more: Tensor | None, x: Tensor, w: Array, mean: Array, rstd: Array, dw: Array, db: Array
) -> Tensor:
    """Gradients of the layer norm of x, for a gradient of g + more: dw, db are written, g becomes dx."""
    added = None if more is None else more.numpy()
    _layer_norm_backward(g.numpy(), added, x.numpy(), w, mean, rstd, dw, db)
    return g


@compiled
def _layer_norm(
    x: Array, more: Array | None, weight: Array, bias: Array, out: Array, mean: Array, rstd: Array, eps: float
) -> None:
    n_runs, n_rows, width = x.shape
    share = x.dtype.type(1 / width)
    for r in range(n_runs):
        for n in range(n_rows):
            if more is not None:
                for d in range(width):
                    x[r, n, d] += more[r, n, d]
            total, square = x.dtype.type(0), x.dtype.type(0)
            for d in range(width):
                total += x[r, n, d]
            mu = total * share
            for d in range(width):
                square += (x[r, n, d] - mu) * (x[r, n, d] - mu)
            scale = x.dtype.type(1 / math.sqrt(square * share + eps))
            for d in range(width):
                out[r, n, d] = (x[r, n, d] - mu) * scale * weight[r, d] + bias[r, d]
            mean[r, n], rstd[r, n] = mu, scale


@compiled
def _layer_norm_backward(
    g: Array, more: Array | None, x: Array, weight: Array, mean: Array, rstd: Array, dw: Array, db: Array
) -> None:
    n_runs, n_rows, width = x.shape
    share = x.dtype.type(1 / width)
    dw[:], db[:] = 0, 0
    for r in range(n_runs):
        for n in range(n_rows):
            if more is not None:
                for d in range(width):
                    g[r, n, d] += more[r, n, d]
            mu, scale = mean[r, n], rstd[r, n]
            along_one, along_x = x.dtype.type(0), x.dtype.type(0)  # means of the gradient, and of it times x
            for d in range(width):
                gw = g[r, n, d] * weight[r, d]
                along_one += gw
                along_x += gw * (x[r, n, d] - mu)
            along_one, along_x = along_one * share, along_x * share * scale * scale
            for d in range(width):
                centred = x[r, n, d] - mu
                dw[r, d] += g[r, n, d] * centred * scale
                db[r, d] += g[r, n, d]
                g[r, n, d] = (g[r, n, d] * weight[r, d] - along_one - centred * along_x) * scale


def adamw(p: Tensor, g: Tensor, m: Tensor, v: Tensor, *values: Array) -> None:
    """One update of parameters and moments, (R, n) each, with decoupled decay.

    `values` are rate, scale, eps, beta1, beta2 and decay of `updates.optimizer`, float64 (R, 1) each.
    """
    _adamw(p.numpy(), g.numpy(), m.numpy(), v.numpy(), *values)


@exactly
def _adamw(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    rate: Array,
    scale: Array,
    eps: Array,
    beta1: Array,
    beta2: Array,
    decay: Array,
) -> None:
    number = p.dtype.type
    for r in range(p.shape[0]):
        old1, new1 = number(beta1[r, 0]), number(1 - beta1[r, 0])
        old2, new2 = number(beta2[r, 0]), number(1 - beta2[r, 0])
        floor = number(eps[r, 0])
        step = number(rate[r, 0] * scale[r, 0])
        shrink = number(1 - rate[r, 0] * decay[r, 0])
        for i in range(p.shape[1]):
            m[r, i] = old1 * m[r, i] + new1 * g[r, i]
            v[r, i] = old2 * v[r, i] + new2 * g[r, i] * g[r, i]
            p[r, i] = p[r, i] * shrink - step * m[r, i] / (np.sqrt(v[r, i]) + floor)


def cross_entropy_backward_(probability: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the weighted cross-entropy by the logits, in place of their softmax (R, B, V)."""
    _cross_entropy_backward(probability.numpy(), label.numpy(), weight.numpy())
    return probability


@exactly
def _cross_entropy_backward(probability: Array, label: Array, weight: Array) -> None:
    for r in range(label.shape[0]):
        for b in range(label.shape[1]):
            probability[r, b, label[r, b]] -= 1
            for v in range(probability.shape[2]):
                probability[r, b, v] *= weight[r, b]
