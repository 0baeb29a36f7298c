"""AdamW and its variants for R runs at once, each with values of its own.

Every tensor over parameters is (R, n), every value of a run (R, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.runs.run import Run

VALUES = ("lr", "eps", "warmup_steps", "update_noise", "weight_noise")


class Optimizer:
    """Moments and hyperparameters of R runs; the update of `plain.Optimizer`, each run with its own values.

    Adam, AdamW and what the weights decay to may differ from run to run; SGD is for itself.

    Parameters
    ----------
    runs : sequence of Run
        Every run that will ever hold a slot: what none of them needs is left out of the update.
    parameters, gradients : Tensor
        (R, n). The update writes the first and uses up the second.
    loops : module, optional
        `model.loops_for` the device: where it is given, its loop updates with Adam or AdamW.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        parameters: Tensor,
        gradients: Tensor,
        loops: ModuleType | None = None,
    ):
        n_runs = len(parameters)
        self.parameters, self.gradients = parameters, gradients
        self.is_sgd, self.loops = runs[0].optimizer == "sgd", loops
        self.decouples = any(run.optimizer == "adamw" for run in runs)
        self.couples = any(run.optimizer != "adamw" for run in runs)
        self.first_moment, self.second_moment = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.adds_update_noise = any(run.update_noise for run in runs)
        self.adds_weight_noise = any(run.weight_noise for run in runs)
        toward_init = any(run.decay_toward == "init" for run in runs)
        self.target = torch.zeros_like(parameters) if toward_init else None  # what the weights decay to
        value = parameters.new_zeros(n_runs, 1, dtype=torch.float64)
        self.value = {name: value.clone() for name in (*VALUES, "beta1", "beta2", "decoupled", "coupled")}
        self.seed = value.long().flatten()
        # What the network computes with:
        self.noisy = parameters.clone() if self.adds_weight_noise else parameters

    def load(self, slot: int, run: Run, first: Tensor, moments: tuple[Tensor, Tensor] | None = None) -> None:
        """Give a slot to a run with first weights `first` (n,), and moments (n,) if it is under way."""
        for name in VALUES:
            self.value[name][slot] = getattr(run, name)
        self.value["beta1"][slot], self.value["beta2"][slot] = run.betas
        decouples = run.optimizer == "adamw"
        self.value["decoupled"][slot] = run.weight_decay if decouples else 0.0
        self.value["coupled"][slot] = 0.0 if decouples else run.weight_decay
        self.seed[slot] = run.seed
        for row, start in zip((self.first_moment, self.second_moment), moments or (0.0, 0.0), strict=True):
            row[slot] = start
        if self.target is not None:
            self.target[slot] = first if run.decay_toward == "init" else 0.0

    def perturb(self, step: Tensor) -> None:
        """Put Gaussian weight noise on `noisy`, the weights that the network computes with."""
        if self.adds_weight_noise:
            torch.add(self.parameters, self._draw(Purpose.WEIGHT_NOISE, "weight_noise", step), out=self.noisy)

    def update(self, step: Tensor, apply: Callable[..., None] | None = None) -> None:
        """Update number `step` (int64, (R,), counted from 0) of every run; `apply` may be compiled.

        With rate = lr * warm-up and bias corrections c_i = 1 - beta_i^(step + 1):
        direction = (m / c1) / (sqrt(v / c2) + eps) = sqrt(c2) / c1 * m / (sqrt(v) + eps * sqrt(c2)).
        Update noise is not divided by c1, as it is in the authors' code: see `plain.Optimizer`.
        """
        if self.loops is not None and not (self.is_sgd or self.adds_update_noise or self.target is not None):
            self._update_by_loop(self.loops, step)
            return
        numbers = self._coefficients(step[:, None].double(), self.value)
        noise = self._draw(Purpose.UPDATE_NOISE, "update_noise", step) if self.adds_update_noise else None
        (apply or self.apply)([number.to(self.parameters.dtype) for number in numbers], noise)

    def apply(self, coefficients: Sequence[Tensor], noise: Tensor | None) -> None:
        """The update over parameters, from coefficients (R, 1) in their precision and noise (R, n).

        The powers of the coefficients are in float64: inside, a compiler would take them for every parameter.
        """
        p, g, m, v = self.parameters, self.gradients, self.first_moment, self.second_moment
        rate, scale, eps, beta1, beta2, decoupled, coupled = coefficients
        away = p if self.target is None else p - self.target
        if self.couples:
            g.addcmul_(away, coupled)
        if self.is_sgd:
            g = m.mul_(beta1).add_(g)
        else:
            m.lerp_(g, 1 - beta1)
            v.lerp_(g.mul_(g), 1 - beta2)
            torch.div(m, torch.sqrt(v, out=g).add_(eps), out=g)
        if self.decouples:
            p.mul_(1 - rate * decoupled) if self.target is None else p.addcmul_(away, -rate * decoupled)
        p.addcmul_(g, -rate * scale)
        if noise is not None:
            p.addcmul_(noise, -rate)

    def _update_by_loop(self, loops: ModuleType, step: Tensor) -> None:
        """`update` of Adam and AdamW with decay to the origin, or none."""
        value = {name: a.numpy() for name, a in self.value.items()}
        *numbers, coupled = self._coefficients(step.numpy()[:, None], value)
        if coupled.any():
            self.gradients.addcmul_(self.parameters, self.value["coupled"].to(self.parameters.dtype))
        flat = (self.parameters, self.gradients, self.first_moment, self.second_moment)
        loops.adamw(*flat, *numbers)

    def _coefficients(self, t: Any, value: dict[str, Any]) -> list[Any]:
        """rate, scale of m / (sqrt(v) + eps), eps as it stands there, betas, both decays: (R, 1) each.

        Of tensors or, faster for few numbers, of arrays: the formulas read the same.
        """
        at_once = value["warmup_steps"] == 0
        rate = value["lr"] * ((t + at_once) / (value["warmup_steps"] + at_once)).clip(max=1)
        if self.is_sgd:
            scale, eps = 0 * rate + 1, rate
        else:
            root = (1 - value["beta2"] ** (t + 1)) ** 0.5
            scale, eps = root / (1 - value["beta1"] ** (t + 1)), value["eps"] * root
        return [rate, scale, eps, *(value[name] for name in ("beta1", "beta2", "decoupled", "coupled"))]

    def _draw(self, purpose: Purpose, sigma: str, step: Tensor) -> Tensor:
        """Gaussian noise (R, n), of the standard deviation that each run asks for."""
        p = self.parameters
        noise = streams.normal(streams.stream(self.seed, purpose, step), p.shape[1], p.dtype)
        return noise.mul_(self.value[sigma].to(p.dtype))
