"""The parts of a network for R runs at once: forward and backward written out, side by side.

`forward` functions return what comes next; `_backward` functions take the gradient `g` with respect to
that and return (or write into `out`) the gradient with respect to the input. Gradients with respect to
parameters are written into the views `dw`, `db` that the caller passes.

Axes: R runs, N rows, D, F widths, H heads, T attended positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

aten = torch.ops.aten
NORM_EPS = 1e-5  #: of torch.nn.LayerNorm


def write(out: Tensor, operation: Callable[..., Tensor], *operands: object) -> Tensor:
    """Write the result of an operation into `out` (R, ...), which may be a view; returns it."""
    if torch.compiler.is_compiling():  # the compiler refuses views here, and makes no copy
        return out.copy_(operation(*operands))
    return operation(*operands, out=out)


def linear(x: Tensor, w: Tensor, out: Tensor | None = None) -> Tensor:
    """x W^T for each run: (R, N, D), (R, F, D) -> (R, N, F)."""
    return torch.bmm(x, w.mT) if out is None else write(out, torch.bmm, x, w.mT)


def linear_backward(g: Tensor, x: Tensor, w: Tensor, dw: Tensor, out: Tensor) -> Tensor:
    """Gradients of `linear`: dw <- g^T x, out <- g W."""
    write(dw, torch.bmm, g.mT, x)
    return write(out, torch.bmm, g, w)


def layer_norm(x: Tensor, w: Tensor, b: Tensor, saved: dict[str, Tensor]) -> Tensor:
    """Layer norm of the rows of x (R, N, D) with weights and biases (R, D) of each run's own."""
    saved["x"] = x
    if len(x) == 1:  # one pass over x
        y, saved["mean"], saved["rstd"] = aten.native_layer_norm(x, x.shape[-1:], w[0], b[0], NORM_EPS)
        return y
    saved["normed"], saved["mean"], saved["rstd"] = aten.native_layer_norm(
        x, x.shape[-1:], None, None, NORM_EPS
    )
    return torch.addcmul(b[:, None], saved["normed"], w[:, None])


def layer_norm_backward(
    g: Tensor, w: Tensor, b: Tensor, dw: Tensor, db: Tensor, saved: dict[str, Tensor]
) -> Tensor:
    """Gradients of `layer_norm`."""
    known = (saved["x"], g.shape[-1:], saved["mean"], saved["rstd"])
    if len(g) == 1:
        dx, dw[0], db[0] = aten.native_layer_norm_backward(g, *known, w[0], b[0], [True, True, True])
        return dx
    write(db, torch.sum, g, 1)
    write(dw, torch.sum, saved["normed"].mul_(g), 1)
    dnormed = write(saved["normed"], torch.mul, g, w[:, None])
    return aten.native_layer_norm_backward(dnormed, *known, None, None, [True, False, False])[0]


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


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of each row in nats, float64: (R, N, V), int64 (R, N) -> (R, N); NaN beside infinities.

    log(1 + sum of exp(z_v - z_label) over v != label), right to 1e-9 of itself down to the smallest: the
    textbook's logsumexp(z) - z_label is a difference of nearly equal numbers where the label is all but
    certain, and in float32 nothing is left of it below 1e-6.
    """
    z = logits.double()
    z = z - z.amax(-1, keepdim=True)
    own = z.gather(-1, label[..., None])
    others = z.scatter(-1, label[..., None], -math.inf).logsumexp(-1)
    return torch.nn.functional.softplus(others - own.squeeze(-1))


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
    score = torch.stack([dot(q, k, n_heads) for k in keys])
    return mix(score.mul_(1 / math.sqrt(q.shape[-1] // n_heads)), values, out)


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
    dscore = mix_backward(g, weight, values, dvalues).mul_(1 / math.sqrt(q.shape[-1] // n_heads))
    for d, k, dk in zip(dscore, keys, dkeys, strict=True):
        dot_backward(d, q, k, dq, dk)


def mix(score: Tensor, values: Sequence[Tensor], out: Tensor) -> Tensor:
    """Weights (T, R, N, H), the softmax over T of the scores; out <- sum_t weight_t v_t, (R, N, D)."""
    weight, n_heads = score.softmax(0), score.shape[-1]
    heads = _heads(out, n_heads)
    write(heads, torch.mul, weight[0, ..., None], _heads(values[0], n_heads))
    for w, v in zip(weight[1:], values[1:], strict=True):
        heads.addcmul_(w[..., None], _heads(v, n_heads))
    return weight


def mix_backward(g: Tensor, weight: Tensor, values: Sequence[Tensor], dvalues: Sequence[Tensor]) -> Tensor:
    """Gradient of `mix` with respect to its scores; those of the values are added to dvalues."""
    n_heads = weight.shape[-1]
    dweight = torch.stack([dot(g, v, n_heads) for v in values])
    for w, dv in zip(weight, dvalues, strict=True):
        _add_product(dv, w, g)
    return aten._softmax_backward_data(dweight, weight, 0, weight.dtype)


def dot(a: Tensor, b: Tensor, n_heads: int) -> Tensor:
    """Inner products by head: (R, N, D), (R, N, D) -> (R, N, H); one row (R, 1, D) serves for all."""
    return _heads(a * b, n_heads).sum(-1)


def dot_backward(g: Tensor, a: Tensor, b: Tensor, da: Tensor, db: Tensor) -> None:
    """Add the gradients of `dot` to da and db; g is (R, N, H)."""
    _add_product(da, g, b)
    _add_product(db, g, a)


def _add_product(total: Tensor, by_head: Tensor, rows: Tensor) -> None:
    """total += by_head * rows, (R, N, H) and (R, N, D); summed over rows if total has one (R, 1, D)."""
    n_heads = by_head.shape[-1]
    if total.shape[1] == 1:
        total += (by_head[..., None] * _heads(rows, n_heads)).sum(1, keepdim=True).flatten(2)
    else:
        _heads(total, n_heads).addcmul_(by_head[..., None], _heads(rows, n_heads))


def _heads(a: Tensor, n_heads: int) -> Tensor:
    return a.unflatten(-1, (n_heads, -1))


def take(table: Tensor, index: Tensor) -> Tensor:
    """Rows of each run's table: (R, P, D), int64 (R, N) -> (R, N, D)."""
    n_runs, n_rows, _ = table.shape
    offset = torch.arange(0, n_runs * n_rows, n_rows, device=index.device)[:, None]
    return (
        table.reshape(n_runs * n_rows, -1)
        .index_select(0, (index + offset).flatten())
        .unflatten(0, (n_runs, -1))
    )


def take_backward(g: Tensor, index: Tensor, n_rows: int) -> Tensor:
    """Gradient of `take` with respect to the table: sums of the rows of g (R, N, D) by index, (R, P, D).

    No atomic additions: the order of summation, and so every bit, is the same at each call.
    """
    if g.device.type != "cpu":
        one_hot = torch.arange(n_rows, device=g.device)[:, None] == index[:, None]  # (R, P, N)
        return torch.bmm(one_hot.to(g.dtype), g)
    n_runs = len(g)
    offset = torch.arange(0, n_runs * n_rows, n_rows)[:, None]
    rows = aten.embedding_dense_backward(
        g.flatten(0, 1), (index + offset).flatten(), n_runs * n_rows, -1, False
    )
    return rows.unflatten(0, (n_runs, n_rows))


def table_attention(
    qkv: Tensor, x: Tensor, y: Tensor, n_heads: int, saved: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Attention of the first layer, where queries, keys and values depend on one token each.

    A score then depends on two tokens, and is looked up: only values are fetched for every equation.

    Parameters
    ----------
    qkv : Tensor
        (R, 2P + 2, 3D): queries, keys and values of each x at position 0, of each y at position 2, of `op`
        at position 1, of `=` at position 3.
    x, y : Tensor
        The equations, int64 (R, B).

    Returns
    -------
    Tensor, Tensor
        Positions 0 and 1 for each x, (R, 2P, D); positions 2 and 3 for each equation, (R, 2B, D).
    """
    h, p, b = n_heads, qkv.shape[1] // 2 - 1, x.shape[1]
    (q_x, q_y, q_op, q_eq), (k_x, k_y, k_op, k_eq), (v_x, v_y, v_op, v_eq) = _by_token(qkv)
    scale = 1 / math.sqrt(q_x.shape[-1] // h)
    of_x = torch.cat([dot(q_eq, k_x, h), v_x], -1)
    of_y = torch.cat([dot(q_y, k_op, h), dot(q_y, k_y, h), dot(q_eq, k_y, h), v_y], -1)
    eq_x, v_at_x = _split(take(of_x, x), h)
    y_op, y_y, eq_y, v_at_y = _split(take(of_y, y), h, h, h)
    pair = (y * p + x)[:, None].expand(-1, h, -1)  # (R, H, B)
    y_x = torch.matmul(_heads_first(q_y, h), _heads_first(k_x, h).mT).flatten(2).gather(2, pair).mT
    eq_op, eq_eq = (dot(q_eq, k, h).expand_as(eq_x) for k in (k_op, k_eq))
    op_x = dot(q_op, k_x, h)
    op_op = dot(q_op, k_op, h).expand_as(op_x)
    at_x, at_equation = (
        torch.empty_like(qkv[:, : 2 * p, : v_x.shape[-1]]),
        v_at_x.new_empty(len(x), 2 * b, v_x.shape[-1]),
    )
    at_x[:, :p] = v_x  # position 0 sees itself alone
    saved["weight1"] = mix(torch.stack([op_x, op_op]) * scale, [v_x, v_op], at_x[:, p:])
    saved["weight2"] = mix(torch.stack([y_x, y_op, y_y]) * scale, [v_at_x, v_op, v_at_y], at_equation[:, :b])
    saved["weight3"] = mix(
        torch.stack([eq_x, eq_op, eq_y, eq_eq]) * scale, [v_at_x, v_op, v_at_y, v_eq], at_equation[:, b:]
    )
    saved |= {"qkv": qkv, "x": x, "y": y, "pair": pair, "v_at_x": v_at_x, "v_at_y": v_at_y}
    return at_x, at_equation


def table_attention_backward(g_x: Tensor, g: Tensor, n_heads: int, saved: dict[str, Tensor]) -> Tensor:
    """Gradient of `table_attention` with respect to qkv, from those with respect to what it returns."""
    qkv, x, y, h = saved["qkv"], saved["x"], saved["y"], n_heads
    p, b = qkv.shape[1] // 2 - 1, x.shape[1]
    (_, q_y, q_op, q_eq), (k_x, k_y, k_op, k_eq), (v_x, _, v_op, v_eq) = _by_token(qkv)
    # In pieces: a compiler copies the whole of a tensor for each of its parts that is added to.
    dqkv = [[torch.zeros_like(a) for a in part] for part in _by_token(qkv)]
    (_, dq_y, dq_op, dq_eq), (dk_x, dk_y, dk_op, dk_eq), (dv_x, dv_y, dv_op, dv_eq) = dqkv
    scale = 1 / math.sqrt(q_y.shape[-1] // h)
    v_at_x, v_at_y = saved["v_at_x"], saved["v_at_y"]
    d_at_x, d_at_y = torch.zeros_like(v_at_x), torch.zeros_like(v_at_y)
    eq_x, eq_op, eq_y, eq_eq = scale * mix_backward(
        g[:, b:], saved["weight3"], [v_at_x, v_op, v_at_y, v_eq], [d_at_x, dv_op, d_at_y, dv_eq]
    )
    y_x, y_op, y_y = scale * mix_backward(
        g[:, :b], saved["weight2"], [v_at_x, v_op, v_at_y], [d_at_x, dv_op, d_at_y]
    )
    op_x, op_op = scale * mix_backward(g_x[:, p:], saved["weight1"], [v_x, v_op], [dv_x, dv_op])
    dv_x += g_x[:, :p]
    # Back from the equations to the tables.
    eq_x, dv_of_x = _split(take_backward(torch.cat([eq_x, d_at_x], -1), x, p), h)
    y_op, y_y, eq_y, dv_of_y = _split(take_backward(torch.cat([y_op, y_y, eq_y, d_at_y], -1), y, p), h, h, h)
    dv_x += dv_of_x
    dv_y += dv_of_y
    # Equations of a batch differ, so that no two numbers are added up here: scatter_add_ is deterministic.
    dpair = torch.zeros(len(x), h, p * p, dtype=g.dtype, device=g.device).scatter_add_(
        2, saved["pair"], y_x.mT
    )
    dpair = dpair.unflatten(2, (p, p))
    dq_y += torch.matmul(dpair, _heads_first(k_x, h)).transpose(1, 2).flatten(2)
    dk_x += torch.matmul(dpair.mT, _heads_first(q_y, h)).transpose(1, 2).flatten(2)
    for d, q, k, dq, dk in (
        (op_x, q_op, k_x, dq_op, dk_x),
        (op_op.sum(1, keepdim=True), q_op, k_op, dq_op, dk_op),
        (y_op, q_y, k_op, dq_y, dk_op),
        (y_y, q_y, k_y, dq_y, dk_y),
        (eq_x, q_eq, k_x, dq_eq, dk_x),
        (eq_op.sum(1, keepdim=True), q_eq, k_op, dq_eq, dk_op),
        (eq_y, q_eq, k_y, dq_eq, dk_y),
        (eq_eq.sum(1, keepdim=True), q_eq, k_eq, dq_eq, dk_eq),
    ):
        dot_backward(d, q, k, dq, dk)
    return torch.cat([torch.cat(part, dim=1) for part in dqkv], dim=-1)


def _by_token(qkv: Tensor) -> list[tuple[Tensor, ...]]:
    """Queries, keys and values (as views), each of every x, of every y, of `op` and of `=`."""
    p = qkv.shape[1] // 2 - 1
    return [a.split([p, p, 1, 1], dim=1) for a in qkv.chunk(3, dim=-1)]


def _split(a: Tensor, *widths: int) -> tuple[Tensor, ...]:
    """Columns of the given widths, and the rest."""
    return a.split([*widths, a.shape[-1] - sum(widths)], dim=-1)


def _heads_first(a: Tensor, n_heads: int) -> Tensor:
    return _heads(a, n_heads).transpose(1, 2)  # (R, H, N, D / H)
