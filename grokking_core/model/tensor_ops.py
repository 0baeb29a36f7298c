"""The parts of a network for R runs at once: forward and backward written out, side by side.

`forward` functions return what comes next; `_backward` functions take the gradient `g` with respect to
that and return (or write into `out`) the gradient with respect to the input. Gradients with respect to
parameters are written into the views `dw`, `db` that the caller passes.

Axes: R runs, N rows, D, F widths, H heads, T attended positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from grokking_core.kernels.plain import NORM_EPS

aten = torch.ops.aten


def write(out: Tensor, operation: Callable[..., Tensor], *operands: object) -> Tensor:
    """Write the result of an operation into `out` (R, ...), which may be a view; returns it."""
    if torch.compiler.is_compiling():  # the compiler refuses views here, and makes no copy
        return out.copy_(operation(*operands))
    return operation(*operands, out=out)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows of some tensors (R, N, D) after one another; of one alone its own, without a copy."""
    return torch.cat([*parts], dim=1) if len(parts) > 1 else parts[0]


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


def attend(
    q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], n_heads: int
) -> tuple[Tensor, Tensor]:
    """Attention of each row to T rows of its own: sum_t softmax_t(q . k_t / sqrt(D / H)) v_t.

    Parameters
    ----------
    q : Tensor
        (R, N, D).
    keys, values : sequence of T tensors
        (R, N, D) each.

    Returns
    -------
    Tensor, Tensor
        Attention weights, (T, R, N, H), for `attend_backward`; and what comes of it, (R, N, D).
    """
    score = torch.stack([dot(q, k, n_heads) for k in keys])
    return mix(score.mul_(1 / math.sqrt(q.shape[-1] // n_heads)), values)


class Sums(dict[Hashable, Tensor]):
    """Sums of gradients by name, each made anew with what is added: a compiler writes only the last one."""

    def add(self, name: Hashable, more: Tensor) -> None:
        """Add to a sum."""
        self[name] = self[name] + more if name in self else more

    def add_product(self, name: Hashable, by_head: Tensor, rows: Tensor, like: Tensor) -> None:
        """Add by_head * rows, (R, N, H) and (R, N, D); summed over rows where `like` has one, (R, 1, D)."""
        heads = _heads(rows, by_head.shape[-1])
        if like.shape[1] == 1:
            self.add(name, (by_head[..., None] * heads).sum(1, keepdim=True).flatten(2))
        elif name in self:
            total = _heads(self[name], by_head.shape[-1])
            self[name] = torch.addcmul(total, by_head[..., None], heads).flatten(2)
        else:
            self[name] = (by_head[..., None] * heads).flatten(2)


def attend_backward(
    g: Tensor,
    weight: Tensor,
    q: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    sums: Sums,
    names: tuple[Hashable, Sequence[Hashable], Sequence[Hashable]],
) -> None:
    """Add the gradients of `attend` with respect to q, keys and values to the sums of these names."""
    of_q, of_keys, of_values = names
    n_heads = weight.shape[-1]
    dscore = mix_backward(g, weight, values, sums, of_values).mul_(1 / math.sqrt(q.shape[-1] // n_heads))
    for d, k, of_k in zip(dscore, keys, of_keys, strict=True):
        dot_backward(d, q, k, sums, of_q, of_k)


def mix(score: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Weights (T, R, N, H), the softmax over T of the scores; and sum_t weight_t v_t, (R, N, D)."""
    weight, n_heads = score.softmax(0), score.shape[-1]
    total = weight[0, ..., None] * _heads(values[0], n_heads)
    for w, v in zip(weight[1:], values[1:], strict=True):
        total = torch.addcmul(total, w[..., None], _heads(v, n_heads))
    return weight, total.flatten(2)


def mix_backward(
    g: Tensor, weight: Tensor, values: Sequence[Tensor], sums: Sums, names: Sequence[Hashable]
) -> Tensor:
    """Gradient of `mix` with respect to its scores; those of the values are added to the sums."""
    n_heads = weight.shape[-1]
    dweight = torch.stack([dot(g, v, n_heads) for v in values])
    for w, v, name in zip(weight, values, names, strict=True):
        sums.add_product(name, w, g, v)
    return aten._softmax_backward_data(dweight, weight, 0, weight.dtype)


def dot(a: Tensor, b: Tensor, n_heads: int) -> Tensor:
    """Inner products by head: (R, N, D), (R, N, D) -> (R, N, H); one row (R, 1, D) serves for all."""
    return _heads(a * b, n_heads).sum(-1)


def dot_backward(g: Tensor, a: Tensor, b: Tensor, sums: Sums, of_a: Hashable, of_b: Hashable) -> None:
    """Add the gradients of `dot` with respect to a and b to the sums of these names; g is (R, N, H)."""
    sums.add_product(of_a, g, b, a)
    sums.add_product(of_b, g, a, b)


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
        if n_rows == 1:
            return g.sum(1, keepdim=True)
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
) -> list[Tensor]:
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
    list of Tensor
        Positions 0 and 1 for each x, (R, P, D) each; positions 2 and 3 for each equation, (R, B, D) each.
    """
    h, p = n_heads, qkv.shape[1] // 2 - 1
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
    saved["weight1"], at_1 = mix(torch.stack([op_x, op_op]) * scale, [v_x, v_op])
    saved["weight2"], at_2 = mix(torch.stack([y_x, y_op, y_y]) * scale, [v_at_x, v_op, v_at_y])
    saved["weight3"], at_3 = mix(
        torch.stack([eq_x, eq_op, eq_y, eq_eq]) * scale, [v_at_x, v_op, v_at_y, v_eq]
    )
    saved |= {"qkv": qkv, "x": x, "y": y, "pair": pair, "v_at_x": v_at_x, "v_at_y": v_at_y}
    return [v_x, at_1, at_2, at_3]  # position 0 sees itself alone


def table_attention_backward(g: Sequence[Tensor], n_heads: int, saved: dict[str, Tensor]) -> Tensor:
    """Gradient of `table_attention` with respect to qkv, from those with respect to what it returns."""
    qkv, x, y, h = saved["qkv"], saved["x"], saved["y"], n_heads
    p = qkv.shape[1] // 2 - 1
    (q_x, q_y, q_op, q_eq), (k_x, k_y, k_op, k_eq), (v_x, _, v_op, v_eq) = _by_token(qkv)
    scale = 1 / math.sqrt(q_y.shape[-1] // h)
    v_at_x, v_at_y, sums = saved["v_at_x"], saved["v_at_y"], Sums()
    eq_x, eq_op, eq_y, eq_eq = scale * mix_backward(
        g[3], saved["weight3"], [v_at_x, v_op, v_at_y, v_eq], sums, ["v at x", "v op", "v at y", "v eq"]
    )
    y_x, y_op, y_y = scale * mix_backward(
        g[2], saved["weight2"], [v_at_x, v_op, v_at_y], sums, ["v at x", "v op", "v at y"]
    )
    op_x, op_op = scale * mix_backward(g[1], saved["weight1"], [v_x, v_op], sums, ["v x", "v op"])
    sums.add("v x", g[0])
    # Back from the equations to the tables.
    eq_x, dv_of_x = _split(take_backward(torch.cat([eq_x, sums["v at x"]], -1), x, p), h)
    of_y = torch.cat([y_op, y_y, eq_y, sums["v at y"]], -1)
    y_op, y_y, eq_y, dv_of_y = _split(take_backward(of_y, y, p), h, h, h)
    sums.add("v x", dv_of_x)
    sums.add("v y", dv_of_y)
    # Equations of a batch differ, so that no two numbers are added up here: scatter_add_ is deterministic.
    dpair = torch.zeros(len(x), h, p * p, dtype=qkv.dtype, device=qkv.device).scatter_add_(
        2, saved["pair"], y_x.mT
    )
    dpair = dpair.unflatten(2, (p, p))
    sums.add("q y", torch.matmul(dpair, _heads_first(k_x, h)).transpose(1, 2).flatten(2))
    sums.add("k x", torch.matmul(dpair.mT, _heads_first(q_y, h)).transpose(1, 2).flatten(2))
    for d, q, k, of_q, of_k in (
        (op_x, q_op, k_x, "q op", "k x"),
        (op_op.sum(1, keepdim=True), q_op, k_op, "q op", "k op"),
        (y_op, q_y, k_op, "q y", "k op"),
        (y_y, q_y, k_y, "q y", "k y"),
        (eq_x, q_eq, k_x, "q eq", "k x"),
        (eq_op.sum(1, keepdim=True), q_eq, k_op, "q eq", "k op"),
        (eq_y, q_eq, k_y, "q eq", "k y"),
        (eq_eq.sum(1, keepdim=True), q_eq, k_eq, "q eq", "k eq"),
    ):
        dot_backward(d, q, k, sums, of_q, of_k)
    sums["q x"] = torch.zeros_like(q_x)  # position 0 sees itself alone
    parts = [[sums[f"{part} {token}"] for token in ("x", "y", "op", "eq")] for part in "qkv"]
    return torch.cat([torch.cat(part, dim=1) for part in parts], dim=-1)


def _by_token(qkv: Tensor) -> list[tuple[Tensor, ...]]:
    """Queries, keys and values (as views), each of every x, of every y, of `op` and of `=`."""
    p = qkv.shape[1] // 2 - 1
    return [a.split([p, p, 1, 1], dim=1) for a in qkv.chunk(3, dim=-1)]


def _split(a: Tensor, *widths: int) -> tuple[Tensor, ...]:
    """Columns of the given widths, and the rest."""
    return a.split([*widths, a.shape[-1] - sum(widths)], dim=-1)


def _heads_first(a: Tensor, n_heads: int) -> Tensor:
    return _heads(a, n_heads).transpose(1, 2)  # (R, H, N, D / H)
