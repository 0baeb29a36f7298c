"""Signals that are said to announce generalization, and rivals that see no more than they do.

The ratio of distances between classes to those within (ILDR, arXiv 2604.20923) and the entropy of the
spectrum of features (arXiv 2604.13123), both on validation equations drawn once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.probes.probe import Probe, Seen
from grokking_core.runs.run import Run

N_CLASSED, N_SPECTRUM = 1500, 512  # validation equations of ILDR, at most, and of the spectrum
EPSILON = 1e-8  # in the denominator of ILDR
MEMORY = 0.99  # of the mean gradient norm, an update
CURVE = (4, 2)  # unmirrored accuracy and validation loss, in the curve's columns after the step


class EarlyWarnings(Probe):
    """Geometry of held-out classes, entropy of the spectrum, gradient norm, and what a curve has."""

    def __init__(self, run: Run, n_slots: int, device: torch.device):
        super().__init__(run, n_slots, device)
        self.drawn = torch.zeros(n_slots, N_CLASSED, dtype=torch.int64, device=device)  # places of equations
        self.used = torch.zeros(
            n_slots, N_CLASSED, dtype=torch.float64, device=device
        )  # 1, or 0: fewer there
        self.n_elements = run.n_elements

    @classmethod
    def check(cls, run: Run) -> None:
        """Raise `ValueError` for a run with fewer validation equations than the spectrum needs."""
        n_validation = int((~run.dataset().is_train).sum())
        if n_validation < N_SPECTRUM:
            raise ValueError(
                f"early_warnings needs at least {N_SPECTRUM} validation equations; "
                f"operation={run.operation!r} at train_fraction={run.train_fraction} leaves {n_validation}"
            )

    @classmethod
    def columns(cls, run: Run) -> tuple[str, ...]:
        """ILDR; entropies in [0, 1]; running mean of the gradient's norm; accuracy; loss in nats."""
        spectrum = ("entropy", "entropy_uncentred")
        return ("ildr", *spectrum, "gradient_norm", "unmirrored_accuracy", "validation_loss")

    def first_state(self, n_slots: int, device: torch.device) -> Tensor:
        """The mean gradient norm, NaN before the first update."""
        return torch.full((n_slots, 1), math.nan, dtype=torch.float64, device=device)

    def load(self, slot: int, run: Run, state: Tensor | None = None) -> None:
        """Draw the run's validation equations."""
        super().load(slot, run, state)
        drawn = drawn_equations(run)
        self.drawn[slot], self.used[slot] = 0, 0.0
        self.drawn[slot, : len(drawn)] = drawn.to(self.device)
        self.used[slot, : len(drawn)] = 1.0

    def update(self, loss: Tensor | None, gradients: Tensor) -> None:
        """Take the gradient's norm into its running mean, which begins as the first."""
        assert self.state is not None
        norm = gradients.norm(dim=1, keepdim=True).double()
        mean = self.state.where(~self.state.isnan(), norm)
        self.state.copy_(MEMORY * mean + (1 - MEMORY) * norm)

    def measure(self, seen: Seen) -> Tensor:
        """A row for each of the K slots, float64 (K, C)."""
        assert self.state is not None
        drawn, used = self.drawn[seen.slots], self.used[seen.slots]
        features = seen.features.gather(1, drawn[:, :, None].expand(-1, -1, seen.features.shape[-1])).double()
        label = seen.label.gather(1, drawn)
        first = features[:, :N_SPECTRUM]
        columns = [
            ildr(features, label, used, self.n_elements),
            entropy(first - first.mean(1, keepdim=True)),
            entropy(first),
            self.state[seen.slots, 0],
            *(seen.curve[:, column] for column in CURVE),
        ]
        return torch.stack(columns, dim=1)


def drawn_equations(run: Run) -> Tensor:
    """Places in the table of the validation equations that a run is watched on, int64, at most N_CLASSED."""
    validation = torch.from_numpy(~run.dataset().is_train).nonzero().squeeze(1)
    split_seed = run.seed if run.split_seed is None else run.split_seed
    order = streams.permutation(streams.stream(split_seed, Purpose.PROBE), len(validation))
    return validation[order[:N_CLASSED]]


def ildr(features: Tensor, label: Tensor, used: Tensor, n_classes: int) -> Tensor:
    """Mean square distance of class means over the mean one within classes, (K,).

    Inter = mean over pairs of classes of |mu_c - mu_c'|^2, Intra = mean over classes of the mean over their
    equations of |phi - mu_c|^2; classes without an equation are left out.
    """
    K, _, D = features.shape
    by_class = label[:, :, None]
    n = features.new_zeros(K, n_classes).scatter_add_(1, label, used)
    n_or_1, there = n.clamp(min=1), n > 0
    total = features.new_zeros(K, n_classes, D)
    total.scatter_add_(1, by_class.expand_as(features), features * used[:, :, None])
    mean = total / n_or_1[:, :, None]
    away = (features - mean.gather(1, by_class.expand_as(features))).square().sum(-1) * used
    within = features.new_zeros(K, n_classes).scatter_add_(1, label, away) / n_or_1
    n_there = there.sum(1)
    intra = within.sum(1) / n_there
    centre = mean.sum(1, keepdim=True) / n_there[:, None, None]
    inter = 2 * ((mean - centre).square().sum(-1) * there).sum(1) / (n_there - 1)
    return inter / (intra + EPSILON)


def entropy(features: Tensor) -> Tensor:
    """Entropy of the eigenvalues of Z' Z as shares, over log D: 1 where all are equal; (K, N, D) -> (K,)."""
    square = features.mT @ features
    finite = square.isfinite().all(-1).all(-1)
    values = torch.linalg.eigvalsh(square.where(finite[:, None, None], 0.0)).clamp(min=0)
    share = values / values.sum(1, keepdim=True)
    found = -torch.special.xlogy(share, share).sum(1) / math.log(features.shape[-1])
    return found.where(finite, math.nan)
