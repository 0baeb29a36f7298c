"""Sharpness of the training loss around the weights of a network (appendix A.5, figure 7).

Keskar et al. 2016 (arXiv 1609.04836), eq. 4, in their letters: x0 are the n weights, L the loss,

    phi = 100 (max_y L(x0 + A y) - L(x0)) / (1 + L(x0)),   |y_i| <= eps (|(A^+ x0)_i| + 1),

where A (n, dimensions) spans a random subspace; the rows of its pseudo-inverse A^+ have length 1. Beside
it stands what the authors' code computes instead, `released_phi`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from grokking_core import model
from grokking_core.data import streams
from grokking_core.runs.record import Record
from grokking_core.runs.run import Run

Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]  #: weights (n,) -> loss, gradient (n,)

_SUBSPACE = 64  # a stream of its own, beside those of streams.Purpose, which decide training
_BLOCK = 1024  # equations computed at once: few enough to stay in a processor's cache


class Subspace(NamedTuple):
    """Directions and a box in them."""

    A: np.ndarray  #: (n, dimensions)
    bound: np.ndarray  #: (dimensions,), |y_i| <= bound_i


def subspace(x0: np.ndarray, dimensions: int = 10, eps: float = 1e-3, seed: int = 0) -> Subspace:
    """A random subspace through the weights `x0` (n,), and the box of eq. 4 in it.

    The rows of A^+ have independent uniform entries, scaled to length 1, as in the authors' code. They
    depend on `seed` and n alone: networks of one size are compared in the same directions.
    """
    if not 1 <= dimensions <= len(x0):
        raise ValueError(f"dimensions={dimensions} must lie in 1..{len(x0)}, the number of weights")
    key = streams.fold(streams.fold(torch.tensor(seed), _SUBSPACE), torch.arange(dimensions))
    inverse = 2 * streams.uniform(key, len(x0), torch.float64).numpy() - 1  # A^+, (dimensions, n)
    inverse /= np.linalg.norm(inverse, axis=1, keepdims=True)
    A = np.linalg.solve(inverse @ inverse.T, inverse).T
    return Subspace(A, eps * (np.abs(inverse @ x0) + 1))


def phi_in(loss: Loss, x0: np.ndarray, box: Subspace, iterations: int = 10) -> float:
    """phi of eq. 4, in percent, at least 0, for any loss; NaN where the loss at x0 is not finite.

    L-BFGS-B climbs from y = 0 and stops after `iterations` alone. It is given y in units of the bounds, and
    the loss in units of its steepest slope there, so that a loss of 1e-8 is searched as far as one of 1.
    """
    here, slope = loss(x0)
    if not math.isfinite(here):
        return math.nan
    unit = np.abs(box.bound * (slope @ box.A)).max() or 1.0

    def downhill(u: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(x0 + box.A @ (box.bound * u))
        return (here - value) / unit, -box.bound * (gradient @ box.A) / unit

    highest = here - unit * _lowest(downhill, np.ones_like(box.bound), iterations, ftol=0, gtol=0)
    return float(100 * (highest - here) / (1 + here))


def released_phi_in(
    loss: Loss, x0: np.ndarray, box: Subspace, batch_size: int, iterations: int = 10
) -> float:
    """What the authors' code gives in the place of phi, for any loss.

    It flips the sign of the loss only after the search, which therefore goes downhill:
    100 (L(x0) - min_y L(x0 + A y)) / (1 - L(x0)). Its gradients are never zeroed, and divided by the batch
    size at every use, so that with scipy's own tolerances the search often ends before its first step.
    We take the training set in one batch where the authors add up minibatches.
    """
    total = np.zeros_like(x0)

    def downhill(y: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(x0 + box.A @ y)
        total[:] = (total + gradient) / batch_size
        return value, total @ box.A

    here, _ = downhill(np.zeros_like(box.bound))
    if not math.isfinite(here):
        return math.nan
    return 100 * (here - _lowest(downhill, box.bound, iterations)) / (1 - here)


def _lowest(f: Loss, bound: np.ndarray, iterations: int, **tolerances: float) -> float:
    """Lowest value of f that L-BFGS-B finds in the box, starting at its centre."""
    bounds, options = list(zip(-bound, bound, strict=True)), {"maxiter": iterations, **tolerances}
    found = minimize(f, np.zeros_like(bound), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(found.fun)


def training_loss(run: Run) -> Loss:
    """Mean cross-entropy in nats over the training set of a run as labelled, with its gradient, in float64.

    The weights are in the order of the plain network's parameters. float32 would round changes in the box
    by 1e-10 to 1e-8, and all of the change around a network trained for long without decay may be smaller;
    float64 takes about twice as long: 0.4 s for 4,656 equations on one core, 10 to 15 times for one phi.
    """
    dataset = run.dataset()
    columns = (dataset.x, dataset.y, dataset.label)
    blocks = torch.from_numpy(np.stack(columns)[:, None, dataset.train]).split(_BLOCK, dim=-1)  # (3, 1, B)
    parameters = torch.zeros(1, model.Layout(run).n, dtype=torch.float64)
    gradients = torch.zeros_like(parameters)
    network = model.network(run, parameters, gradients, model.loops_for(parameters.device))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        parameters[0] = torch.from_numpy(weights)
        total, gradient = 0.0, np.zeros_like(weights)
        for x, y, label in blocks:
            logits = network.forward(x, y).detach().requires_grad_()
            part = F.cross_entropy(logits[0], label[0], reduction="sum") / len(dataset.train)
            network.backward(torch.autograd.grad(part, logits)[0])
            total += part.item()
            gradient += gradients[0].numpy()
        return total, gradient

    return loss


def phi(
    run: Run,
    parameters: torch.Tensor | np.ndarray,
    *,
    dimensions: int = 10,
    eps: float = 1e-3,
    iterations: int = 10,
    seed: int = 0,
) -> float:
    """phi of a run's training loss around its weights, in percent (Keskar et al. 2016, eq. 4).

    It is NaN for a network that has diverged.

    Parameters
    ----------
    run : Run
    parameters : Tensor or array
        (n,), in the order of the plain network's parameters.
    dimensions : int
        Of the random subspace, at least 1.
    eps : float
        Half the width of the box, for a weight of 0.
    iterations : int
        Of L-BFGS-B, at most; at least 1.
    seed : int
        Of the subspace; not the run's.

    Raises
    ------
    ValueError
        If there are more or fewer parameters than the network has, or `dimensions` is out of range.
    """
    x0 = _weights(run, parameters)
    return phi_in(training_loss(run), x0, subspace(x0, dimensions, eps, seed), iterations)


def released_phi(
    run: Run,
    parameters: torch.Tensor | np.ndarray,
    *,
    dimensions: int = 10,
    eps: float = 1e-3,
    iterations: int = 10,
    seed: int = 0,
) -> float:
    """What the authors' code gives in the place of `phi`, from the same arguments."""
    x0 = _weights(run, parameters)
    box = subspace(x0, dimensions, eps, seed)
    return released_phi_in(training_loss(run), x0, box, run.effective_batch_size, iterations)


def measure(run: Run, parameters: torch.Tensor | np.ndarray, n_subspaces: int = 3) -> dict[str, np.ndarray]:
    """Sharpness in the subspaces of seeds 0..n_subspaces-1.

    Returns
    -------
    dict
        "phi" by the definition and "released" as the authors' code has it, float64 (n_subspaces,) each.
    """
    x0, loss, batch_size = _weights(run, parameters), training_loss(run), run.effective_batch_size
    boxes = [subspace(x0, seed=seed) for seed in range(n_subspaces)]
    return {
        "phi": np.array([phi_in(loss, x0, box) for box in boxes]),
        "released": np.array([released_phi_in(loss, x0, box, batch_size) for box in boxes]),
    }


def table(records: Iterable[Record]) -> pd.DataFrame:
    """One row a network: how well it did at the end, where sharpness is measured, and how sharp that is.

    Parameters
    ----------
    records : iterable of Record
        With sharpness kept.

    Returns
    -------
    DataFrame
        train_fraction, seed; followed (last step); train_loss (nats), train, validation and unmirrored
        (accuracies) there; phi and released (means over subspaces, NaN of a network that diverged);
        n_subspaces.
    """
    sides, rows = ("train", "validation", "unmirrored"), []
    for record in records:
        last, kept = record.curve.iloc[-1], record.kept["sharpness"]
        row = {"train_fraction": record.run.train_fraction, "seed": record.run.seed}
        row |= {"followed": record.last_step, "train_loss": last["train_loss"]}
        row |= {side: last[f"{side}_accuracy"] for side in sides}
        row |= {name: kept[name].mean() for name in ("phi", "released")}
        rows.append(row | {"n_subspaces": len(kept["phi"])})
    columns = ["train_fraction", "seed", "followed", "train_loss", *sides, "phi", "released", "n_subspaces"]
    return pd.DataFrame(rows, columns=columns)


def _weights(run: Run, parameters: torch.Tensor | np.ndarray) -> np.ndarray:
    """The parameters in float64, (n,)."""
    x0 = torch.as_tensor(parameters).detach().cpu().double().numpy()
    if x0.shape != (n := model.Layout(run).n,):
        raise ValueError(
            f"parameters of shape {x0.shape} must have shape ({n},), the weights of this network"
        )
    return x0
