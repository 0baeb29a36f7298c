"""The training loss and one network's optimizer, plain: what `gradients` and `optimizer` must repeat."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.runs import schedule
from grokking_core.runs.run import MA_WINDOW, Run

EMA_MEMORY, EMA_FACTOR = 0.98, 2.0  #: of Grokfast-EMA: alpha, lambda
MA_FACTOR = 5.0  #: of Grokfast-MA: lambda
MUON_MEMORY = 0.95  #: of Muon's momentum
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  #: of the five iterations that make a matrix nearly orthogonal
TINY = 1e-30  #: keeps a quotient of norms finite


def loss(run: Run, logits: Tensor, label: Tensor) -> Tensor:
    """Mean training loss in nats of logits (B, V) and labels (B,).

    Cross-entropy, or with StableMax -log(s(z_label) / sum of s(z_v)), in float64, where s(z) = z + 1 for
    z >= 0 and 1 / (1 - z) below: it grows linearly where softmax grows exponentially.
    """
    in_float64 = run.loss == "stablemax" or run.loss_precision == "fp64"
    z = (logits.double() if in_float64 else logits) / run.temperature
    if run.loss == "cross_entropy":
        return F.cross_entropy(z, label)
    s = torch.where(z >= 0, z + 1, 1 / (1 - z.clamp(max=0)))
    return -(s.gather(-1, label[:, None])[:, 0] / s.sum(-1)).log().mean()


def is_hidden_matrix(name: str, shape: Sequence[int]) -> bool:
    """Whether Muon orthogonalises the updates of a parameter, rather than leave it to AdamW."""
    return len(shape) == 2 and min(shape) > 1 and not name.startswith(("embedding", "positions", "output"))


def orthogonalised(u: Tensor) -> Tensor:
    """The singular vectors of u (A, B) with singular values near 1, times sqrt(max(1, A / B))."""
    a, b, c = NEWTON_SCHULZ
    x = (u if len(u) <= u.shape[1] else u.T) / (u.norm() + TINY)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return math.sqrt(max(1, len(u) / u.shape[1])) * (x if len(u) <= u.shape[1] else x.T)


def perpendicular(g: Tensor, w: Tensor) -> Tensor:
    """A gradient without its part along the weights, at its old length (perpGrad, as released)."""
    across = g - (w * g).sum() / ((w * w).sum() + TINY) * w
    return across * g.norm() / (across.norm() + TINY)


class Optimizer:
    """AdamW and its variants, on one network's parameters (appendix A.1.2, figure 2 left).

    Gradients are made perpendicular to the weights first, then slow ones are added to them, where the run
    asks for it. Muon is AdamW but for the direction in which hidden matrices go; `names` says which these
    are. Its rate is the same for all parameters, and queries, keys and values are one matrix: both are ours.

    With update noise s an update is rate * (direction + s z), z normal. The authors' code also divides the
    noise by 1 - beta1^t at its update t = 1, 2, ..., as Adam does the first moment: with beta1 = 0.9 that is
    5.3 times ours at the first update whose rate is not 0 (t = 2), 1.12 times at the twentieth (t = 21).
    """

    def __init__(self, run: Run, parameters: list[Tensor], names: Sequence[str] = ()):
        self.run, self.parameters = run, parameters
        names = names or [""] * len(parameters)
        self.is_matrix = [is_hidden_matrix(name, p.shape) for name, p in zip(names, parameters, strict=True)]
        self.first_norm = self._norm()
        self.slow: Sequence[Tensor] = ()  # memory of Grokfast-EMA
        self.recent: deque[Sequence[Tensor]] = deque(maxlen=MA_WINDOW)
        self.first = [p.detach().clone() for p in parameters]
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def update(self, step: int, gradients: Sequence[Tensor]) -> None:
        """One update; `step` counts from 0."""
        run, (beta1, beta2) = self.run, self.run.betas
        rate = run.lr * schedule.warmup(step, run.warmup_steps)
        decays = run.decay_from <= step < (run.decay_to or math.inf)
        gradients = self._transformed(gradients)
        noise = self._draw(Purpose.UPDATE_NOISE, step) if run.update_noise else [0.0] * len(gradients)
        for p, g, (m, v), first, z, is_matrix in zip(
            self.parameters, gradients, self.moments, self.first, noise, self.is_matrix, strict=True
        ):
            decay = decays * run.weight_decay * (p - first if run.decay_toward == "init" else p)
            if run.optimizer in ("adam", "sgd"):
                g = g + decay
            if run.optimizer == "sgd":
                m.mul_(beta1).add_(g)
                direction = m
            elif run.optimizer == "muon" and is_matrix:
                m.mul_(MUON_MEMORY).add_((1 - MUON_MEMORY) * g)
                direction = orthogonalised((1 - MUON_MEMORY) * g + MUON_MEMORY * m)
            else:
                m.mul_(beta1).add_((1 - beta1) * g)
                v.mul_(beta2).add_((1 - beta2) * g**2)
                direction = m / (1 - beta1 ** (step + 1)) / ((v / (1 - beta2 ** (step + 1))).sqrt() + run.eps)
            p -= rate * (direction + run.update_noise * z)
            if run.optimizer in ("adamw", "muon"):
                p -= rate * decay
        if run.norm_hold:
            factor = run.norm_hold * self.first_norm / self._norm()
            for p in self.parameters:
                p *= factor

    def _norm(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.parameters]).double().norm()

    def _transformed(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """Gradients as the optimizer gets them."""
        run = self.run
        if run.gradient == "perp":
            gradients = [perpendicular(g, w) for g, w in zip(gradients, self.parameters, strict=True)]
        if run.slow_gradient == "ema":
            past = zip(self.slow or gradients, gradients, strict=True)
            self.slow = [EMA_MEMORY * h + (1 - EMA_MEMORY) * g for h, g in past]
            return [g + EMA_FACTOR * h for g, h in zip(gradients, self.slow, strict=True)]
        if run.slow_gradient == "ma":
            self.recent.append(gradients)
            if len(self.recent) == MA_WINDOW:
                sums = [sum(past) for past in zip(*self.recent, strict=True)]
                return [g + MA_FACTOR / MA_WINDOW * s for g, s in zip(gradients, sums, strict=True)]
        return gradients

    @contextmanager
    def weight_noise(self, step: int) -> Iterator[None]:
        """Context in which Gaussian noise is on the weights; the very same weights after it."""
        if not self.run.weight_noise:
            yield
            return
        clean = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            for p, z in zip(self.parameters, self._draw(Purpose.WEIGHT_NOISE, step), strict=True):
                p += self.run.weight_noise * z
        try:
            yield
        finally:
            with torch.no_grad():
                for p, before in zip(self.parameters, clean, strict=True):
                    p.copy_(before)

    def _draw(self, purpose: Purpose, step: int) -> list[Tensor]:
        sizes, dtype = [p.numel() for p in self.parameters], self.parameters[0].dtype
        flat = streams.normal(streams.stream(self.run.seed, purpose, step), sum(sizes), dtype)
        return [z.view(p.shape) for z, p in zip(flat.split(sizes), self.parameters, strict=True)]
