"""The transformers of an ensemble on a CPU: all that is not a matrix product by the loops of `loop_ops`.

The mathematics is that of `networks.TransformerNetwork`. Here attention takes rows by index instead of
positions one by one: a row of the residual finds the rows that it sees in `seen`, and what these have as
keys and values in a table, which in the first layer is that of the tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from grokking_core.kernels import loop_ops
from grokking_core.kernels.loop_ops import adamw, cross_entropy_backward_
from grokking_core.model import plain
from grokking_core.model.networks import Saved, TransformerNetwork
from grokking_core.runs.run import Run

__all__ = ["LoopedTransformerNetwork", "adamw", "cross_entropy_backward_"]


class LoopedTransformerNetwork(TransformerNetwork):
    """R times `plain.Transformer`, on a CPU."""

    def __init__(self, run: Run, parameters: Tensor, gradients: Tensor):
        super().__init__(run, parameters, gradients)
        self.arrays = {
            name: (self.w[name].numpy(), self.dw[name].numpy()) for name in self.w if "norm" in name
        }
        # By whether there is dropout, and the number of equations:
        self._table_rows: dict[tuple[bool, int], Tensor] = {}
        self._indices: dict[tuple[bool, int], tuple[np.ndarray, np.ndarray]] = {}

    # What each row sees.

    def _table_row(self, x: Tensor, y: Tensor) -> Tensor:
        key, n_x, b = (self.drop is None, self.n_equations), self.n_x, self.n_equations
        if key not in self._table_rows:
            self._table_rows[key] = super()._table_row(x, y)
        row = self._table_rows[key]  # those of other equations, but for what follows
        torch.add(y, self.n_elements, out=row[:, 2 * n_x : 2 * n_x + b])
        if self.drop:
            row[:, :n_x] = x
        return row

    def _look(self) -> None:
        """Find the rows of the residual that each of them sees: (R, N, 4), -1 for none."""
        key, n_x, b = (self.drop is None, self.n_equations), self.n_x, self.n_equations
        if key not in self._indices:
            seen = np.repeat(_seen_rows(n_x, b)[None], self.n_runs, axis=0)
            self._indices[key] = seen, np.repeat(np.arange(seen.shape[1])[None], self.n_runs, axis=0)
        self.seen, self.own = self._indices[key]
        if self.x is not None:  # for positions 2 and 3 alike
            at_equation = self.seen[:, 2 * n_x :].reshape(self.n_runs, 2, b, plain.N_TOKENS)
            at_equation[..., 0] = self.x.numpy()[:, None]
            at_equation[..., 1] = at_equation[..., 0] + self.n_elements

    def _sight(self, layer: int) -> loop_ops.Sight:
        """What the rows that go on see: in the first layer rows of the table, then of the residual."""
        first, own = self._first_row(layer), self.own
        at = own if layer else self.table_row.numpy()
        query = own[:, : own.shape[1] - first] if layer else at[:, first:]
        return loop_ops.Sight(*map(np.ascontiguousarray, (query, self.seen[:, first:], at)))

    # Attention, in place of that of `tensor_ops`.

    def _attend_by_token(self, qkv: Tensor, x: Tensor, y: Tensor, saved: Saved) -> Tensor:
        self._look()
        saved["qkv"], saved["sight"] = qkv, self._sight(0)
        out = self.buffer("blocks.0.attention.attended", *saved["sight"].query.shape[1:], self.d_model)
        saved["weight"] = loop_ops.attend(saved["sight"], qkv, qkv, self.n_heads, out)
        return out

    def _attend_by_token_backward(self, g: Tensor, saved: Saved) -> Tensor:
        qkv, dqkv = saved["qkv"], torch.zeros_like(saved["qkv"])
        loop_ops.attend_backward(g, saved["weight"], saved["sight"], qkv, qkv, dqkv, dqkv)
        return dqkv

    def _attend(self, layer: int, q: Tensor, kv: Tensor, saved: Saved) -> Tensor:
        saved["sight"], out = self._sight(layer), self.buffer(f"attended {layer}", *q.shape[1:])
        saved["weight"] = loop_ops.attend(saved["sight"], q, kv, self.n_heads, out)
        return out

    def _attend_backward(self, layer: int, g: Tensor, saved: Saved) -> tuple[Tensor, Tensor]:
        of = (saved["q"], saved["kv"])
        dq, dkv = (self.buffer(n, *a.shape[1:]).zero_() for n, a in zip(("dq", "dkv"), of, strict=True))
        loop_ops.attend_backward(g, saved["weight"], saved["sight"], *of, dq, dkv)
        return dq, dkv

    # Embeddings, and norms with the sum before them.

    def _take(self, table: Tensor, row: Tensor) -> Tensor:
        return loop_ops.take(table, row, self.buffer("residual", row.shape[1], self.d_model))

    def _take_backward_(self, g: Tensor, first: int, dtable: Tensor) -> Tensor:
        return loop_ops.take_backward_(g, self.table_row[:, first:], dtable)

    def _onto(self, residual: Tensor, x: Tensor, w: str, norm: str) -> Tensor:
        if self.norm != "post":
            return super()._onto(residual, x, w, norm)
        branch = self.products.linear(x, self.w[w], self.buffer(w, x.shape[1], self.d_model))
        return self._norm(norm, branch, residual)

    def _norm(self, name: str, x: Tensor, more: Tensor | None = None) -> Tensor:
        """Layer norm of x, or of x + more, which x then becomes."""
        (w, _), (b, _) = self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"]
        out = self.buffer(name, *x.shape[1:])
        self.saved[name] = {"x": x, "moments": loop_ops.layer_norm_(x, more, w, b, out)}
        return out

    def _norm_backward(self, name: str, g: Tensor, more: Tensor | None = None) -> Tensor:
        (w, dw), (_, db) = self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"]
        x, (mean, rstd) = self.saved[name]["x"], self.saved[name]["moments"]
        return loop_ops.layer_norm_backward_(g, more, x, w, mean, rstd, dw, db)


def _seen_rows(n_x: int, b: int) -> np.ndarray:
    """Rows of the residual that each of them sees, (N, 4), -1 for none; equation e has the x of number e."""
    x, e = np.arange(n_x), np.arange(b)
    seen = np.full((2 * n_x + 2 * b, plain.N_TOKENS), -1)
    at = np.split(seen, np.cumsum([n_x, n_x, b]))  # the rows of positions 0 to 3
    for position, rows in enumerate(at):
        own = x if position < 2 else e
        for sees, first in enumerate((0, n_x, 2 * n_x, 2 * n_x + b)[: position + 1]):
            rows[:, sees] = first + own
    return seen
