"""Many networks in one set of tensors: those of `plain`, without repeated work.

Every parameter carries a leading axis of runs, and every product is a batched product. The inputs are
`x op y =` under a causal mask, so positions 0 and 1 depend on x alone: they are computed once for each of
the P elements, not once for each of the B equations. Queries, keys and values of the first layer are
tables over single tokens, and the last layer computes its `=` position only.

Axes: R runs, B equations, P elements, D = d_model, F = hidden width, V = vocabulary.
The residual stream has N = 2 X + 2 B rows: position 0 for each x, position 1 for each x, position 2 for
each equation, position 3 for each equation. X is P; where dropout makes equations with the same x differ,
it is B. The table of first-layer rows has x at position 0 for each element, y at position 2 for each
element, `op` at position 1 and `=` at position 3: 2 P + 2 rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from grokking_core.kernels.plain import BranchWeights
from grokking_core.model import plain
from grokking_core.model import tensor_ops as ops
from grokking_core.model.products import products_in
from grokking_core.runs.run import Run

Views = dict[str, Tensor]  #: parameter name -> (R, *shape)
Saved = dict[str, Any]  #: what a backward pass needs from its forward pass
Drop = Callable[[int, Tensor], Tensor]  #: (layer, branch (R, N, D)) -> factors 0 or 1 / (1 - dropout)


#: What the shapes of a network depend on.
SIZES = ("operation", "p", "n", "architecture", "n_layers", "d_model", "n_heads", "d_ff", "norm", "positions")


#: A layer's parameters that the kernels of its two branches take.
OF_BRANCHES = {
    "out": "attention.out.weight",
    "norm1": "attention_norm.weight",
    "bias1": "attention_norm.bias",
    "up": "feed_forward.up.weight",
    "down": "feed_forward.down.weight",
    "norm2": "feed_forward_norm.weight",
    "bias2": "feed_forward_norm.bias",
}


@lru_cache(maxsize=256)
def _shapes(**sizes: Any) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in plain.build(Run(**sizes)).named_parameters()}


class Layout:
    """Where each parameter of a network lies in a flat vector of `n` numbers."""

    def __init__(self, run: Run):
        self.shapes = _shapes(**{name: getattr(run, name) for name in SIZES})
        self.n = sum(shape.numel() for shape in self.shapes.values())

    def views(self, flat: Tensor) -> Views:
        """Views of `flat` (R, n) by parameter name, each (R, *shape)."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {
            name: part.unflatten(1, shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def first_parameters(run: Run) -> Tensor:
    """First weights of a run, (n,): those of its plain network."""
    return torch.nn.utils.parameters_to_vector(plain.build(run).parameters()).detach()


class Network:
    """Forward and backward passes of R networks of one shape.

    Parameters
    ----------
    run : Run
        Any of the runs: sizes and precision are read from it.
    parameters, gradients : Tensor
        (R, n) each. `backward` overwrites the gradients.
    """

    final: Tensor  #: (R, B, D), the input of the output layer at the last position, of the last `forward`
    fused: Any = None  #: `kernels._branches`, where it takes the place of tensor operations
    SAVED: tuple[str, ...] = ()  #: attributes that `forward` makes anew

    def __init__(self, run: Run, parameters: Tensor, gradients: Tensor):
        layout = Layout(run)
        self.w, self.dw = layout.views(parameters), layout.views(gradients)
        self.n_runs, self.n_elements, self.d_model = len(parameters), run.n_elements, run.d_model
        self.n_layers, self.hidden_width, self.activation = run.n_layers, run.hidden_width, run.activation
        self.products = products_in(run.precision)
        self._buffers: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def buffer(self, name: str, *shape: int) -> Tensor:
        """Memory of shape (R, *shape), the same at every call with this name and shape.

        Memory that outlives a call must be written, which a compiled pass is spared: it plans its own.
        """
        if torch.compiler.is_compiling():
            return self.w["embedding.weight"].new_empty(self.n_runs, *shape)
        if (name, shape) not in self._buffers:
            self._buffers[name, shape] = self.w["embedding.weight"].new_empty(self.n_runs, *shape)
        return self._buffers[name, shape]

    def forward(self, x: Tensor, y: Tensor, drop: Drop | None = None) -> Tensor:
        """Logits (R, B, V) of the equations x op y, int64 (R, B) each."""
        raise NotImplementedError

    def backward(self, dlogits: Tensor) -> None:
        """Gradients of sum(dlogits * logits) for the last `forward`."""
        raise NotImplementedError

    def forget(self) -> None:
        """Let go of what the last `forward` has saved: a compiled pass need not write it to memory."""
        for name in self.SAVED:
            setattr(self, name, None)

    def drop_counter(self, n_rows: int, n_equations: int, width: int) -> Tensor:
        """Counters (N, width) of a branch's dropout: places in the plain network's branch."""
        raise NotImplementedError


class TransformerNetwork(Network):
    """R times `plain.Transformer`."""

    SAVED = ("saved", "table", "final", "table_row", "x")

    def __init__(self, run: Run, parameters: Tensor, gradients: Tensor):
        super().__init__(run, parameters, gradients)
        self.n_heads, self.norm = run.n_heads, run.norm
        fixed = plain.sinusoidal_positions(plain.N_TOKENS, self.d_model).to(parameters)
        self.positions = self.w.get("positions", fixed)  # (T, D), or (R, T, D) where they are learned
        at = [0] * self.n_elements + [2] * self.n_elements + [1, 3]  # of the table's rows
        self.position = torch.tensor(at).to(parameters.device)  # (2P + 2,)

    def forward(self, x: Tensor, y: Tensor, drop: Drop | None = None) -> Tensor:
        """Logits (R, B, V) of the equations x op y, int64 (R, B) each."""
        p, n_equations = self.n_elements, x.shape[1]
        self.drop, self.n_equations = drop, n_equations  # B
        self.n_x = p if drop is None else n_equations  # X
        self.table_row = self._table_row(x, y)  # (R, N), of each row of the residual
        # (R, B), which of the rows of positions 0 and 1 each equation sees; None: its own
        self.x = None if drop else x
        self.saved: dict[str, Saved] = {}
        embedding, positions = self.w["embedding.weight"], self.positions[..., self.position, :]
        self.table = torch.cat([embedding[:, :p], embedding], dim=1).add_(positions)
        residual = self._take(self.table, self.table_row)
        for layer in range(self.n_layers):
            attended = self._attention(layer, residual) if layer > 0 else self._first_attention(x, y)
            residual = self._branches(layer, residual[:, self._first_row(layer) :], attended)
        self.final = self._norm("final_norm", residual) if self.norm == "pre" else residual
        return self.products.linear(self.final, self.w["output.weight"])

    def backward(self, dlogits: Tensor) -> None:
        """Gradients of sum(dlogits * logits) for the last `forward`."""
        w, p = self.w, self.n_elements
        out = self.buffer("dfinal", self.n_equations, self.d_model)
        g = self.products.linear_backward(
            dlogits, self.final, w["output.weight"], self.dw["output.weight"], out
        )
        if self.norm == "pre":
            g = self._norm_backward("final_norm", g)
        for layer in reversed(range(self.n_layers)):
            g, dattended = self._branches_backward(layer, g)
            backward = self._attention_backward if layer > 0 else self._first_attention_backward
            g = backward(layer, g, dattended)
        dembedding = self.dw["embedding.weight"].copy_(g[:, p:])
        dembedding[:, :p] += g[:, :p]
        if "positions" in self.dw:
            x, y, op, equals = (of.sum(1) for of in g.split([p, p, 1, 1], dim=1))
            self.dw["positions"].copy_(torch.stack([x, op, y, equals], dim=1))

    def drop_counter(self, n_rows: int, n_equations: int, width: int) -> Tensor:
        """Counters (N, width) in a branch (B, T, width), for all positions or the last alone."""
        row = torch.arange(n_rows, device=self.position.device)
        position = row // n_equations + plain.N_TOKENS - n_rows // n_equations
        first = (row % n_equations * plain.N_TOKENS + position)[:, None] * width
        return first + torch.arange(width, device=row.device)

    def _table_row(self, x: Tensor, y: Tensor) -> Tensor:
        p = self.n_elements
        each_x = x if self.drop else torch.arange(p, device=x.device).expand(self.n_runs, -1)
        op, equals = torch.full_like(each_x, 2 * p), torch.full_like(y, 2 * p + 1)
        return torch.cat([each_x, op, p + y, equals], dim=1)

    # The rows that go on: all of them, in the last layer those of position 3 only.

    def _first_row(self, layer: int) -> int:
        return 2 * self.n_x + self.n_equations if layer == self.n_layers - 1 else 0

    # Attention of the first layer, from tables over tokens.

    def _first_attention(self, x: Tensor, y: Tensor) -> Tensor:
        name = "blocks.0.attention"
        rows = self._norm(f"{name}_norm", self.table) if self.norm == "pre" else self.table
        self.saved[name] = saved = {"rows": rows}
        qkv = self.products.linear(rows, self.w[f"{name}.qkv.weight"])  # (R, 2P + 2, 3D)
        saved["attended"] = self._attend_by_token(qkv, x, y, saved)
        return saved["attended"]

    def _attend_by_token(self, qkv: Tensor, x: Tensor, y: Tensor, saved: Saved) -> Tensor:
        """What the rows that go on get from the first layer's attention, (R, N, D)."""
        at = ops.table_attention(qkv, x, y, self.n_heads, saved)
        if self.x is None:  # each equation has rows of its own from here on
            at[:2] = [ops.take(rows, x) for rows in at[:2]]
        return torch.cat(at, dim=1)[:, self._first_row(0) :]

    def _first_attention_backward(self, layer: int, dresidual: Tensor, dattended: Tensor) -> Tensor:
        """Gradient with respect to the table."""
        name, first = f"blocks.{layer}.attention", self._first_row(layer)
        saved = self.saved[name]
        w, dw = self.w[f"{name}.qkv.weight"], self.dw[f"{name}.qkv.weight"]
        dqkv = self._attend_by_token_backward(dattended, saved)
        dtable = self.products.linear_backward(
            dqkv, saved["rows"], w, dw, self.buffer("dtable", *self.table.shape[1:])
        )
        if self.norm == "pre":
            dtable = self._norm_backward(f"{name}_norm", dtable)
        return self._take_backward_(dresidual, first, dtable)

    def _attend_by_token_backward(self, g: Tensor, saved: Saved) -> Tensor:
        """Gradient with respect to qkv, from that with respect to what `_attend_by_token` returns."""
        at = self._by_position(g, self._first_row(0))
        if self.x is None:
            at[:2] = [ops.take_backward(rows, saved["x"], self.n_elements) for rows in at[:2]]
        return ops.table_attention_backward(at, self.n_heads, saved)

    def _by_position(self, rows: Tensor, first: int = 0) -> list[Tensor]:
        """Rows of positions 0 to 3, (R, X, D), (R, X, D), (R, B, D), (R, B, D); zeros before the first."""
        rows = torch.nn.functional.pad(rows, (0, 0, first, 0)) if first else rows
        return [*rows.split([self.n_x, self.n_x, self.n_equations, self.n_equations], dim=1)]

    # Attention of the other layers: queries, keys and values of every row, each row with those it sees.

    def _attention(self, layer: int, residual: Tensor) -> Tensor:
        name, first, d = f"blocks.{layer}.attention", self._first_row(layer), self.d_model
        w, n_rows = self.w[f"{name}.qkv.weight"], residual.shape[1]
        rows = self._norm(f"{name}_norm", residual) if self.norm == "pre" else residual
        q = self.products.linear(rows[:, first:], w[:, :d], self.buffer(f"{name}.q", n_rows - first, d))
        kv = self.products.linear(rows, w[:, d:], self.buffer(f"{name}.kv", n_rows, 2 * d))
        self.saved[name] = saved = {"rows": rows, "q": q, "kv": kv}
        saved["attended"] = self._attend(layer, q, kv, saved)
        return saved["attended"]

    def _attend(self, layer: int, q: Tensor, kv: Tensor, saved: Saved) -> Tensor:
        """Attention of the rows that go on, from their queries (R, N, D) and all keys and values."""
        pieces = self._by_position(kv)
        if self.x is not None:
            pieces += [ops.take(piece, self.x) for piece in pieces[:2]]
        saved["pieces"] = pieces = [piece.chunk(2, dim=-1) for piece in pieces]  # keys and values
        attended = []
        for section, seen in self._sights(layer):
            keys, values = zip(*(pieces[i] for i in seen), strict=True)
            saved[f"weight {section}"], rows = ops.attend(q[:, section], keys, values, self.n_heads)
            attended.append(rows)
        return ops.joined(attended)

    def _attention_backward(self, layer: int, dresidual: Tensor, dattended: Tensor) -> Tensor:
        """Gradient with respect to the residual that the layer was given."""
        name, first, d = f"blocks.{layer}.attention", self._first_row(layer), self.d_model
        w, dw, saved = self.w[f"{name}.qkv.weight"], self.dw[f"{name}.qkv.weight"], self.saved[name]
        rows = saved["rows"]
        dq, dkv = self._attend_backward(layer, dattended, saved)
        drows = self.products.linear_backward(
            dkv, rows, w[:, d:], dw[:, d:], self.buffer("drows", *rows.shape[1:])
        )
        self.products.bmm(dq.mT, rows[:, first:], dw[:, :d])
        self.products.add_(drows[:, first:], dq, w[:, :d])
        if self.norm == "pre":
            drows = self._norm_backward(f"{name}_norm", drows)
        drows[:, first:] += dresidual
        return drows

    def _attend_backward(self, layer: int, g: Tensor, saved: Saved) -> tuple[Tensor, Tensor]:
        """Gradients of `_attend` with respect to q and kv."""
        q, pieces, sums = saved["q"], saved["pieces"], ops.Sums()
        for section, seen in self._sights(layer):
            keys, values = zip(*(pieces[i] for i in seen), strict=True)
            names = (section.start, [("k", i) for i in seen], [("v", i) for i in seen])
            weight = saved[f"weight {section}"]
            ops.attend_backward(g[:, section], weight, q[:, section], keys, values, sums, names)
        dq = ops.joined([sums[section.start] for section, _ in self._sights(layer)])
        if self.x is not None:
            at_x = torch.cat([sums[part, i] for i in (4, 5) for part in "kv"], dim=-1)
            of_x = ops.take_backward(at_x, self.x, self.n_elements).chunk(4, dim=-1)
            for name, rows in zip((("k", 0), ("v", 0), ("k", 1), ("v", 1)), of_x, strict=True):
                sums.add(name, rows)
        return dq, torch.cat([torch.cat([sums["k", i], sums["v", i]], dim=-1) for i in range(4)], dim=1)

    def _sights(self, layer: int) -> list[tuple[slice, list[int]]]:
        """For each position, rows of the residual and which pieces of keys and values each of them sees.

        Pieces 0 to 3 belong to the rows of these positions, 4 and 5 to those of positions 0 and 1 for each
        equation.
        """
        x, b = self.n_x, self.n_equations
        at_x = [0, 1] if self.x is None else [4, 5]
        seen = [[0], [0, 1], [*at_x, 2], [*at_x, 2, 3]]
        if layer == self.n_layers - 1:
            return [(slice(0, b), seen[3])]
        ends = ((0, x), (x, 2 * x), (2 * x, 2 * x + b), (2 * x + b, 2 * x + 2 * b))
        return [(slice(*end), pieces) for end, pieces in zip(ends, seen, strict=True)]

    # The two branches added to the residual stream, and their norms.

    def _branches(self, layer: int, residual: Tensor, attended: Tensor) -> Tensor:
        name, n_rows = f"blocks.{layer}", residual.shape[1]
        saved = self.saved[name] = {}
        if self.fused:
            row = self.table_row[:, self._first_row(0) :] if layer == 0 else None
            source = residual if row is None else self.table
            z, saved["u"], saved["v"] = self.fused.forward(
                source, row, attended, self._of_branches(self.w, name)
            )
            return z
        y = self._onto(residual, attended, f"{name}.attention.out.weight", f"{name}.attention_norm")
        f = self._norm(f"{name}.feed_forward_norm", y) if self.norm == "pre" else y
        up, down = (self.w[f"{name}.feed_forward.{part}.weight"] for part in ("up", "down"))
        saved["f"], norm = f, f"{name}.feed_forward_norm"
        hidden = self.buffer(f"{name}.hidden", n_rows, self.hidden_width)
        self.products.linear(f, up, hidden)
        saved["h"] = ops.activate_(self.activation, hidden, saved)
        if self.drop is None:
            return self._onto(y, saved["h"], f"{name}.feed_forward.down.weight", norm)
        saved["drop"] = self.drop(layer, y)
        z = torch.addcmul(y, self.products.linear(saved["h"], down), saved["drop"])
        return self._norm(norm, z) if self.norm == "post" else z

    def _of_branches(self, of: Views, name: str) -> BranchWeights:
        """A layer's parameters, or their gradients, as the fused kernels take them."""
        return BranchWeights(**{part: of[f"{name}.{parameter}"] for part, parameter in OF_BRANCHES.items()})

    def _onto(self, residual: Tensor, x: Tensor, w: str, norm: str) -> Tensor:
        """residual + x W^T, normed if norms come after."""
        y = self.products.plus(residual, x, self.w[w].mT)
        return self._norm(norm, y) if self.norm == "post" else y

    def _branches_backward(self, layer: int, g: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients with respect to the residual and to what attention gives."""
        name, saved = f"blocks.{layer}", self.saved[f"blocks.{layer}"]
        out = f"{name}.attention.out.weight"
        attended = self.saved[f"{name}.attention"]["attended"]
        if self.fused:
            w, of = self._of_branches(self.w, name), self._of_branches(self.dw, name)
            dresidual, dattended, dw = self.fused.backward(g, attended, saved["u"], saved["v"], w)
            for a, gradient in zip(of, dw, strict=True):
                a.copy_(gradient)
            return dresidual, dattended
        if self.norm == "post":
            g = self._norm_backward(f"{name}.feed_forward_norm", g)
        df = self._feed_forward_backward(name, g if self.drop is None else g * saved["drop"], saved)
        if self.norm == "pre":
            df = self._norm_backward(f"{name}.feed_forward_norm", df)
        if self.norm == "post":
            dy = self._norm_backward(f"{name}.attention_norm", df, g)
        else:
            dy = df.add_(g)
        dattended = self.buffer("dattended", *dy.shape[1:])
        return dy, self.products.linear_backward(dy, attended, self.w[out], self.dw[out], dattended)

    def _feed_forward_backward(self, name: str, g: Tensor, saved: Saved) -> Tensor:
        """Gradient with respect to the input of the feed-forward branch."""
        up, down = (f"{name}.feed_forward.{part}.weight" for part in ("up", "down"))
        dh = self.buffer("dhidden", *saved["h"].shape[1:])
        self.products.linear_backward(g, saved["h"], self.w[down], self.dw[down], dh)
        ops.activate_backward_(self.activation, dh, saved)
        return self.products.linear_backward(
            dh, saved["f"], self.w[up], self.dw[up], self.buffer("df", *g.shape[1:])
        )

    def _take(self, table: Tensor, row: Tensor) -> Tensor:
        return ops.take(table, row)

    def _take_backward_(self, g: Tensor, first: int, dtable: Tensor) -> Tensor:
        """Add the gradient of the residual's rows, those from `first` on, to the gradient of the table."""
        p, saved = self.n_elements, self.saved["blocks.0.attention"]
        of_x, op, of_y, equals = self._by_position(g, first)
        if self.x is None:
            of_x = ops.take_backward(of_x, saved["x"], p)
        of_y = ops.take_backward(of_y, saved["y"], p)
        ones = [ops.take_backward(a, torch.zeros_like(a[..., 0], dtype=torch.int64), 1) for a in (op, equals)]
        return dtable.add_(torch.cat([of_x, of_y, *ones], dim=1))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        self.saved[name] = {}
        return ops.layer_norm(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], self.saved[name])

    def _norm_backward(self, name: str, g: Tensor, more: Tensor | None = None) -> Tensor:
        """Gradient with respect to what was normed, for a gradient of g, or of g + more; uses up g."""
        g = g if more is None else g.add_(more)
        w, b, dw, db = (of[f"{name}.{part}"] for of in (self.w, self.dw) for part in ("weight", "bias"))
        return ops.layer_norm_backward(g, w, b, dw, db, self.saved[name])


class MLPNetwork(Network):
    """R times `plain.MLP`."""

    SAVED = ("saved", "final", "token")

    def forward(self, x: Tensor, y: Tensor, drop: Drop | None = None) -> Tensor:
        """Logits (R, B, V) of the equations x op y, int64 (R, B) each."""
        self.token = torch.cat([x, y], dim=1)  # (R, 2B)
        h = torch.cat(ops.take(self.w["embedding.weight"], self.token).split(x.shape[1], dim=1), dim=-1)
        self.saved: list[Saved] = []
        for layer in range(self.n_layers):
            saved: Saved = {"input": h}
            h = ops.activate_(
                self.activation, self.products.linear(h, self.w[f"hidden.{layer}.weight"]), saved
            )
            if drop:
                saved["drop"] = drop(layer, h)
                h = h * saved["drop"]
            self.saved.append(saved)
        self.final = h
        return self.products.linear(h, self.w["output.weight"])

    def backward(self, dlogits: Tensor) -> None:
        """Gradients of sum(dlogits * logits) for the last `forward`."""
        names = ["output.weight", *(f"hidden.{layer}.weight" for layer in reversed(range(self.n_layers)))]
        inputs = [self.final, *(saved["input"] for saved in reversed(self.saved))]
        g = dlogits
        for layer, name, h in zip(range(self.n_layers, -1, -1), names, inputs, strict=True):
            if layer < self.n_layers:
                g = g * self.saved[layer]["drop"] if "drop" in self.saved[layer] else g
                g = ops.activate_backward_(self.activation, g, self.saved[layer])
            g = self.products.linear_backward(
                g, h, self.w[name], self.dw[name], self.buffer(f"dinput {layer}", *h.shape[1:])
            )
        dtoken = torch.cat(g.split(self.d_model, dim=-1), dim=1)
        self.dw["embedding.weight"].copy_(ops.take_backward(dtoken, self.token, self.n_elements + 2))

    def drop_counter(self, n_rows: int, n_equations: int, width: int) -> Tensor:
        """Counters (N, width) in a branch (B, 1, width)."""
        return torch.arange(n_rows * width, device=self.w["output.weight"].device).view(n_rows, width)
