"""Gradients of R runs between the logits and the optimizer: the loss, and what later papers do to gradients.

`plain` says the same for one run. Every tensor over parameters is (R, n), with the parameters of a
network side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from grokking_core.runs.run import MA_WINDOW, Run
from grokking_core.updates.plain import EMA_FACTOR, EMA_MEMORY, MA_FACTOR, TINY


def logit_gradient(
    run: Run,
    logits: Tensor,
    label: Tensor,
    weight: Tensor,
    temperature: Tensor | None = None,
    loops: ModuleType | None = None,
) -> Tensor:
    """Gradient of the weighted sum of training losses, `plain.loss`, with respect to the logits, (R, B, V).

    Parameters
    ----------
    run : Run
        Any of the runs: loss, its precision and "zero_sum" are read from it.
    logits : Tensor
        (R, B, V).
    label, weight : Tensor
        int64 and float, (R, B) each.
    temperature : Tensor, optional
        (R, 1, 1), in float64; by default 1 for all.
    loops : module, optional
        `model.loops_for` the device.
    """
    in_float64 = run.loss == "stablemax" or run.loss_precision == "fp64"
    z = logits.double() if in_float64 else logits
    z = z if temperature is None else z / temperature.to(z.dtype)
    if run.loss == "stablemax":
        g = _stablemax_backward(z, label, weight)
    elif loops:
        g = loops.cross_entropy_backward_(z.softmax(-1), label, weight)
    elif torch.compiler.is_compiling():  # scattering is a kernel of its own
        is_label = torch.arange(z.shape[-1], device=z.device) == label[..., None]
        g = (z.softmax(-1) - is_label.to(z.dtype)) * weight[..., None]
    else:
        g = z.softmax(-1)
        one = torch.ones_like(label[..., None], dtype=g.dtype)
        g.scatter_add_(-1, label[..., None], -one).mul_(weight[..., None])
    if run.gradient == "zero_sum":
        g = g - g.mean(-1, keepdim=True)
    return (g if temperature is None else g / temperature.to(g.dtype)).to(logits.dtype)


def _stablemax_backward(z: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """s'(z_v) (1 / sum of s - [v is the label] / s(z_v)), where s' is 1 for z >= 0 and s^2 below."""
    s = torch.where(z >= 0, z + 1, 1 / (1 - z.clamp(max=0)))
    slope = torch.where(z >= 0, 1.0, s * s)
    own = label[..., None]
    g = (1 / s.sum(-1, keepdim=True)).expand_as(s).scatter_add(-1, own, -1 / s.gather(-1, own))
    return g * slope * weight[..., None]


class Transformation:
    """perpGrad and Grokfast for R runs, which share both settings; `plain.Optimizer` has the formulas.

    Parameters
    ----------
    run : Run
        Any of the runs.
    parameters, gradients : Tensor
        (R, n) each; the gradients are changed in place.
    sizes : sequence of int
        Numbers in each parameter of a network, n in all: perpGrad goes tensor by tensor.

    Attributes
    ----------
    state : dict
        What a run needs to go on: "slow_gradient" (R, n), the memory of Grokfast-EMA or the sum of the last
        `MA_WINDOW` gradients, and with Grokfast-MA these, "recent_gradients" (R, MA_WINDOW, n).
    """

    def __init__(self, run: Run, parameters: Tensor, gradients: Tensor, sizes: Sequence[int]):
        self.gradients, self.kind = gradients, run.slow_gradient
        both = (parameters, gradients) if run.gradient == "perp" else ()
        self.parts = [*zip(*(flat.split([*sizes], dim=1) for flat in both), strict=True)]
        self.state: dict[str, Tensor] = {}
        if self.kind != "none":
            self.state["slow_gradient"] = torch.zeros_like(parameters)
        if self.kind == "ma":
            n_runs, n = parameters.shape
            self.state["recent_gradients"] = parameters.new_zeros(n_runs, MA_WINDOW, n)

    def apply_(self, step: Tensor) -> None:
        """Change the gradients of update number `step`, int64 (R,)."""
        for w, g in self.parts:
            length, along = _length(g), (w * g).sum(1, keepdim=True)
            g.addcmul_(w, -along / ((w * w).sum(1, keepdim=True) + TINY))
            g.mul_(length / (_length(g) + TINY))
        if self.kind == "none":
            return
        g, slow, step = self.gradients, self.state["slow_gradient"], step[:, None]
        if self.kind == "ema":
            starts = (step == 0).to(g.dtype)  # as the first gradient
            slow.lerp_(g, starts * EMA_MEMORY + (1 - EMA_MEMORY))
            g.add_(slow, alpha=EMA_FACTOR)
            return
        recent = self.state["recent_gradients"]
        place = (step % MA_WINDOW)[..., None].expand(-1, 1, g.shape[1])
        slow.add_(g).sub_(recent.gather(1, place)[:, 0])
        recent.scatter_(1, place, g[:, None])
        is_full = (step >= MA_WINDOW - 1).to(g.dtype)
        g.addcmul_(slow, is_full * (MA_FACTOR / MA_WINDOW))


def _length(g: Tensor) -> Tensor:
    return torch.linalg.vector_norm(g, dim=1, keepdim=True)
