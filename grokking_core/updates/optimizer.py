"""AdamW and its variants for R runs at once, each with values of its own.

Every tensor over parameters is (R, n), every value of a run (R, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.runs.run import Run
from grokking_core.updates.gradients import Transformation
from grokking_core.updates.plain import MUON_MEMORY, NEWTON_SCHULZ, TINY, is_hidden_matrix

VALUES = ("lr", "eps", "warmup_steps", "update_noise", "weight_noise", "decay_from")
DECOUPLED = ("adamw", "muon")  #: the decay is no part of their gradient


def needs_first(run: Run) -> bool:
    """Whether updates depend on the first weights: their norm is held, or the decay leads to them."""
    return run.norm_hold > 0 or run.decay_toward == "init"


class Optimizer:
    """Moments and hyperparameters of R runs; the update of `plain.Optimizer`, each run with its own values.

    Adam, AdamW and what the weights decay to may differ from run to run; SGD and Muon are for themselves.

    Parameters
    ----------
    runs : sequence of Run
        Every run that will ever hold a slot: what none of them needs is left out of the update.
    parameters, gradients : Tensor
        (R, n). The update writes the first and uses up the second.
    loops : module, optional
        `model.loops_for` the device: where it is given, its loop updates with Adam or AdamW.
    shapes : mapping, optional
        The shape of each parameter of a network by name, in their order; by default one of n numbers.

    Attributes
    ----------
    state : dict
        What a run needs to go on beside its weights, (R, ...) by name: the moments (Muon's momentum is the
        first one of its matrices), and what `gradients.Transformation` has.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        parameters: Tensor,
        gradients: Tensor,
        loops: ModuleType | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ):
        n_runs, shapes = len(parameters), shapes or {"": parameters.shape[1:]}
        self.parameters, self.gradients = parameters, gradients
        self.is_sgd, self.loops = runs[0].optimizer == "sgd", loops
        self.is_muon = runs[0].optimizer == "muon"
        self.decouples = any(run.optimizer in DECOUPLED for run in runs)
        self.couples = any(run.optimizer not in DECOUPLED for run in runs)
        self.first_moment, self.second_moment = torch.zeros_like(parameters), torch.zeros_like(parameters)
        sizes = [math.prod(shape) for shape in shapes.values()]
        self.transformation = Transformation(runs[0], parameters, gradients, sizes)
        self.state = {"first_moment": self.first_moment, "second_moment": self.second_moment}
        self.state |= self.transformation.state
        parts = zip(shapes.items(), gradients.split(sizes, 1), self.first_moment.split(sizes, 1), strict=True)
        self.matrices = [
            (g.unflatten(1, shape), m.unflatten(1, shape))
            for (name, shape), g, m in parts
            if self.is_muon and is_hidden_matrix(name, shape)
        ]
        self.adds_update_noise = any(run.update_noise for run in runs)
        self.adds_weight_noise = any(run.weight_noise for run in runs)
        toward_init = any(run.decay_toward == "init" for run in runs)
        self.target = torch.zeros_like(parameters) if toward_init else None  # what the weights decay to
        self.has_window = any(run.decay_from or run.decay_to for run in runs)
        self.holds_norm = any(run.norm_hold for run in runs)
        value = parameters.new_zeros(n_runs, 1, dtype=torch.float64)
        more = ("beta1", "beta2", "decoupled", "coupled", "decay_to", "norm")
        self.value = {name: value.clone() for name in (*VALUES, *more)}
        self.seed = value.long().flatten()
        # What the network computes with:
        self.noisy = parameters.clone() if self.adds_weight_noise else parameters

    def load(
        self, slot: int, run: Run, first: Tensor | None, state: Mapping[str, Tensor] | None = None
    ) -> None:
        """Give a slot to a run, with a state by name if it is under way.

        `first` (n,) are its first weights; None will do where it does not need them.
        """
        for name in VALUES:
            self.value[name][slot] = getattr(run, name)
        self.value["beta1"][slot], self.value["beta2"][slot] = run.betas
        self.value["decay_to"][slot] = run.decay_to or math.inf
        assert first is not None or not needs_first(run)
        self.value["norm"][slot] = 0.0 if first is None else run.norm_hold * first.double().norm()
        decouples = run.optimizer in DECOUPLED
        self.value["decoupled"][slot] = run.weight_decay if decouples else 0.0
        self.value["coupled"][slot] = 0.0 if decouples else run.weight_decay
        self.seed[slot] = run.seed
        for name, rows in self.state.items():
            rows[slot] = (state or {}).get(name, 0.0)
        if self.target is not None:
            self.target[slot] = 0.0 if first is None or run.decay_toward == "origin" else first

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
        self.transformation.apply_(step)
        by_operations = self.is_sgd or self.is_muon or self.adds_update_noise or self.target is not None
        if self.loops is not None and not by_operations:
            self._update_by_loop(self.loops, step)
        else:
            numbers = self._coefficients(step[:, None].double(), self.value)
            noise = self._draw(Purpose.UPDATE_NOISE, "update_noise", step) if self.adds_update_noise else None
            (apply or self.apply)([number.to(self.parameters.dtype) for number in numbers], noise)
        if self.holds_norm:
            norm = torch.linalg.vector_norm(self.parameters, dim=1, keepdim=True, dtype=torch.float64)
            factor = torch.where(self.value["norm"] > 0, self.value["norm"] / norm, 1.0)
            self.parameters.mul_(factor.to(self.parameters.dtype))

    def apply(self, coefficients: Sequence[Tensor], noise: Tensor | None) -> None:
        """The update over parameters, from coefficients (R, 1) in their precision and noise (R, n).

        The powers of the coefficients are in float64: inside, a compiler would take them for every parameter.
        """
        p, g, m, v = self.parameters, self.gradients, self.first_moment, self.second_moment
        rate, scale, eps, beta1, beta2, decoupled, coupled = coefficients
        if torch.compiler.is_compiling():
            g = g.clone()  # which is no memory of its own there: what is used up need not be written
        away = p if self.target is None else p - self.target
        muon = [_muon(matrix, momentum) for matrix, momentum in self.matrices]  # before g and m change
        if self.couples:
            g.addcmul_(away, coupled)
        if self.is_sgd:
            g = m.mul_(beta1).add_(g)
        else:
            m.lerp_(g, 1 - beta1)
            v.lerp_(g.mul_(g), 1 - beta2)
            torch.div(m, torch.sqrt(v, out=g).add_(eps), out=g)
        for (matrix, momentum), (direction, new) in zip(self.matrices, muon, strict=True):
            momentum.copy_(new)
            matrix.copy_(direction / scale[..., None])
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
        decays = [value["decoupled"], value["coupled"]]
        if self.has_window:
            inside = (t >= value["decay_from"]) & (t < value["decay_to"])
            decays = [decay * inside for decay in decays]
        return [rate, scale, eps, value["beta1"], value["beta2"], *decays]

    def _draw(self, purpose: Purpose, sigma: str, step: Tensor) -> Tensor:
        """Gaussian noise (R, n), of the standard deviation that each run asks for."""
        p = self.parameters
        noise = streams.normal(streams.stream(self.seed, purpose, step), p.shape[1], p.dtype)
        return noise.mul_(self.value[sigma].to(p.dtype))


def _muon(g: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
    """Direction and new momentum of Muon for R matrices (R, A, B); `plain.orthogonalised` for each."""
    a, b, c = NEWTON_SCHULZ
    new = momentum.lerp(g, 1 - MUON_MEMORY)
    u = g.lerp(new, MUON_MEMORY)
    rows, columns = u.shape[1:]
    x = (u if rows <= columns else u.mT) / (torch.linalg.vector_norm(u, dim=(1, 2), keepdim=True) + TINY)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return math.sqrt(max(1, rows / columns)) * (x if rows <= columns else x.mT), new
