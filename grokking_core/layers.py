"""The parts of a network for R runs at once: forward and backward written out, side by side.

`forward` functions return what comes next; `_backward` functions take the gradient `g` with respect to
that and return (or write into `out`) the gradient with respect to the input. Gradients with respect to
parameters are written into the views `dw`, `db` that the caller passes.

Axes: R runs, N rows, D, F widths, H heads, T attended positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

aten = torch.ops.aten
NORM_EPS = 1e-5  # of torch.nn.LayerNorm


def linear(x: Tensor, w: Tensor, out: Tensor | None = None) -> Tensor:
    """x W^T for each run: (R, N, D), (R, F, D) -> (R, N, F)."""
    return torch.bmm(x, w.mT) if out is None else torch.bmm(x, w.mT, out=out)


def linear_backward(g: Tensor, x: Tensor, w: Tensor, dw: Tensor, out: Tensor) -> Tensor:
    """Gradients of `linear`: dw <- g^T x, out <- g W."""
    torch.bmm(g.mT, x, out=dw)
    return torch.bmm(g, w, out=out)


def layer_norm(x: Tensor, w: Tensor, b: Tensor, saved: dict[str, Tensor]) -> Tensor:
    """Layer norm of the rows of x (R, N, D) with weights and biases (R, D) of each run's own."""
    saved["x"] = x
    saved["normed"], saved["mean"], saved["rstd"] = aten.native_layer_norm(x, x.shape[-1:], None, None, NORM_EPS)
    return torch.addcmul(b[:, None], saved["normed"], w[:, None])


def layer_norm_backward(g: Tensor, w: Tensor, dw: Tensor, db: Tensor, saved: dict[str, Tensor]) -> Tensor:
    """Gradients of `layer_norm`."""
    torch.sum(g, dim=1, out=db)
    torch.sum(saved["normed"].mul_(g), dim=1, out=dw)
    dnormed = torch.mul(g, w[:, None], out=saved["normed"])
    mean, rstd, shape = saved["mean"], saved["rstd"], g.shape[-1:]
    return aten.native_layer_norm_backward(dnormed, saved["x"], shape, mean, rstd, None, None, [True, False, False])[0]


def activate_(name: str, x: Tensor, saved: dict[str, Tensor]) -> Tensor:
    """Apply the activation to x in place (gelu: into a new tensor, since its gradient needs x)."""
    if name == "gelu":
        saved["x"] = x
        return torch.nn.functional.gelu(x)
    saved["y"] = x.relu_() if name == "relu" else x.tanh_()
    return saved["y"]


def activate_backward_(name: str, g: Tensor, saved: dict[str, Tensor]) -> Tensor:
    """Gradient of `activate_`, in place of g."""
    if name == "gelu":
        return aten.gelu_backward.grad_input(g, saved["x"], grad_input=g)
    if name == "tanh":
        return aten.tanh_backward.grad_input(g, saved["y"], grad_input=g)
    return aten.threshold_backward.grad_input(g, saved["y"], 0, grad_input=g)


def attend(q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], n_heads: int, out: Tensor) -> Tensor:
    """Attention of each row to T rows of its own: out <- sum_t softmax_t(q . k_t / sqrt(D / H)) v_t.

    Parameters
    ----------
    q, out : Tensor
        (R, N, D).
    keys, values : sequence of T tensors
        (R, N, D) each.

    Returns
    -------
    Tensor
        Attention weights, (T, R, N, H), for `attend_backward`.
    """
    score = torch.stack([_dot(q, k, n_heads) for k in keys])
    weight = score.mul_(1 / math.sqrt(q.shape[-1] // n_heads)).softmax(0)
    heads = out.unflatten(-1, (n_heads, -1))
    torch.mul(weight[0, ..., None], values[0].unflatten(-1, (n_heads, -1)), out=heads)
    for w, v in zip(weight[1:], values[1:], strict=True):
        heads.addcmul_(w[..., None], v.unflatten(-1, (n_heads, -1)))
    return weight


def attend_backward(
    g: Tensor,
    weight: Tensor,
    q: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    dq: Tensor,
    dkeys: Sequence[Tensor],
    dvalues: Sequence[Tensor],
) -> None:
    """Add the gradients of `attend` to dq, dkeys and dvalues."""
    n_heads = weight.shape[-1]
    dweight = torch.stack([_dot(g, v, n_heads) for v in values])
    dscore = aten._softmax_backward_data(dweight, weight, 0, weight.dtype)
    dscore *= 1 / math.sqrt(q.shape[-1] // n_heads)
    g, q, dq = (a.unflatten(-1, (n_heads, -1)) for a in (g, q, dq))
    for t, (k, dk, dv) in enumerate(zip(keys, dkeys, dvalues, strict=True)):
        dv.unflatten(-1, (n_heads, -1)).addcmul_(weight[t, ..., None], g)
        dk.unflatten(-1, (n_heads, -1)).addcmul_(dscore[t, ..., None], q)
        dq.addcmul_(dscore[t, ..., None], k.unflatten(-1, (n_heads, -1)))


def _dot(a: Tensor, b: Tensor, n_heads: int) -> Tensor:
    """Inner products by head: (R, N, D), (R, N, D) -> (R, N, H)."""
    return (a * b).unflatten(-1, (n_heads, -1)).sum(-1)


def take(table: Tensor, index: Tensor) -> Tensor:
    """Rows of each run's table: (R, P, D), int64 (R, N) -> (R, N, D)."""
    n_runs, n_rows, _ = table.shape
    offset = torch.arange(0, n_runs * n_rows, n_rows, device=index.device)[:, None]
    return table.reshape(n_runs * n_rows, -1).index_select(0, (index + offset).flatten()).unflatten(0, (n_runs, -1))


def take_backward(g: Tensor, index: Tensor, n_rows: int) -> Tensor:
    """Gradient of `take` with respect to the table: sums of the rows of g (R, N, D) by index, (R, P, D).

    No atomic additions: the order of summation, and so every bit, is the same at each call.
    """
    if g.is_cuda:
        one_hot = torch.arange(n_rows, device=g.device)[:, None] == index[:, None]  # (R, P, N)
        return torch.bmm(one_hot.to(g.dtype), g)
    n_runs = len(g)
    offset = torch.arange(0, n_runs * n_rows, n_rows)[:, None]
    rows = aten.embedding_dense_backward(g.flatten(0, 1), (index + offset).flatten(), n_runs * n_rows, -1, False)
    return rows.unflatten(0, (n_runs, n_rows))
