"""How much of a network's logits, embedding and output rows each frequency has.

After Nanda et al. (arXiv 2301.05217), for every operation that is addition or subtraction in a cyclic group:
x + y and x - y mod p as they are, x * y and x / y mod a prime p on the operands that are not 0, by discrete
logarithms, mod p - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.model.tensor_ops import cross_entropy
from grokking_core.probes.probe import Probe, Seen
from grokking_core.runs.run import Run

SIGNS = {"x+y": 1, "x-y": -1, "x*y": 1, "x*y!=0": 1, "x/y": -1}  # of y's exponent in the answer's
KEY = 0.02  # share of the logits' variance above which a frequency is a key
MULTIPLIES = ("x*y", "x*y!=0", "x/y")


@dataclass(frozen=True)
class Cyclic:
    """An operation as addition of exponents in a cyclic group.

    Attributes
    ----------
    modulus : int
        m, the group's order.
    exponent : array
        (P,), int64: of each element; -1 for 0 where the group is multiplicative.
    place : array
        (N,), int64: exponent of the answer to each equation, mod m; m where an operand has none.
    """

    modulus: int
    exponent: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, run: Run) -> Cyclic:
        """The group of a run's operation."""
        check(run)
        if run.operation in MULTIPLIES:
            m, exponent = run.p - 1, discrete_logarithms(run.p)[int(run.operation == "x*y!=0") :]
        else:
            m, exponent = run.p, np.arange(run.p)
        table = run.dataset()
        x, y = exponent[table.x], exponent[table.y]
        inside = (x >= 0) & (y >= 0)
        return cls(m, exponent, np.where(inside, (x + SIGNS[run.operation] * y) % m, m))

    def waves(self) -> np.ndarray:
        """Cosines, then sines, of the frequencies 1..m // 2 at the exponents 0..m-1, (m, 2, m // 2).

        Each wave has norm 1 over the exponents; the sine of frequency m / 2 is 0.
        """
        k, s = np.arange(1, self.modulus // 2 + 1), np.arange(self.modulus)
        angle = 2 * np.pi / self.modulus * (k * s[:, None] % self.modulus)
        alternates = 2 * k == self.modulus
        cosine, sine = np.cos(angle), np.where(alternates, 0.0, np.sin(angle))
        return (
            np.stack([cosine, sine], axis=1) * np.sqrt(np.where(alternates, 1, 2) / self.modulus)[None, None]
        )


def check(run: Run) -> None:
    """Raise `ValueError` for an operation without frequencies."""
    if run.operation not in SIGNS:
        raise ValueError(
            f"fourier has no frequencies for operation={run.operation!r}; it has them for {', '.join(SIGNS)}"
        )
    if run.operation in MULTIPLIES and any(
        run.p % divisor == 0 for divisor in range(2, math.isqrt(run.p) + 1)
    ):
        raise ValueError(f"p={run.p} must be prime for fourier of {run.operation!r}: discrete logarithms")
    if run.p < 3 + (run.operation in MULTIPLIES):
        raise ValueError(f"p={run.p} is too small for fourier of {run.operation!r}: it has no frequency")


def discrete_logarithms(p: int) -> np.ndarray:
    """Exponents of the residues mod a prime p to its smallest generator, (p,); -1 for 0."""
    for generator in range(1, p):
        powers = [1]
        while (power := powers[-1] * generator % p) != 1:
            powers.append(power)
        if len(powers) == p - 1:
            break
    exponent = np.full(p, -1)
    exponent[powers] = np.arange(p - 1)
    return exponent


class Fourier(Probe):
    """Shares of the answer's frequencies in the logits, and what the network is with and without some.

    The keys are the frequencies that have more than KEY of the variance of the logits at that step: in one
    pass, and without a look at the end, from which the sources take them. Restricted to some frequencies,
    logits are their means over all equations with one answer, and only the waves of these frequencies of
    them; without some, the waves are taken out of each equation's own logits.
    """

    def __init__(self, run: Run, n_slots: int, device: torch.device):
        super().__init__(run, n_slots, device)
        P, self.n_frequencies = run.n_elements, run.n_elements // 2
        self.place = torch.full((n_slots, P**2), P, dtype=torch.int64, device=device)
        self.element = torch.zeros(n_slots, P, dtype=torch.int64, device=device)  # with each exponent
        self.drawn = torch.zeros(n_slots, self.n_frequencies, dtype=torch.int64, device=device)  # an order
        shape = (n_slots, P, 2 * self.n_frequencies)
        # by the exponent of an answer, and by the element itself:
        self.waves, self.element_waves = torch.zeros(2, *shape, dtype=torch.float64, device=device)

    @classmethod
    def check(cls, run: Run) -> None:
        """Raise `ValueError` for an operation without frequencies."""
        check(run)

    @classmethod
    def columns(cls, run: Run) -> tuple[str, ...]:
        """Of each frequency its share in the logits, its norm in embedding and output rows; sums.

        Losses in nats: restricted to the keys, on all equations; without the keys, and without as many
        others, on training. Accuracies restricted to the keys, to as many others, to all frequencies, and to
        the means over unmirrored equations alone, on these.
        """
        frequencies = range(1, run.n_elements // 2 + 1)
        named = (f"{of}_{k}" for of in ("share", "embedding", "output") for k in frequencies)
        losses = ("restricted_loss", "excluded_loss", "excluded_random_loss")
        accuracies = ("restricted_accuracy", "random_accuracy", "all_accuracy", "held_out_accuracy")
        return (*named, "gini_embedding", "gini_output", "n_keys", *losses, *accuracies)

    def load(self, slot: int, run: Run, state: Tensor | None = None) -> None:
        """Take the group of the run's operation."""
        super().load(slot, run, state)
        group, P = Cyclic.of(run), run.n_elements
        self.place[slot] = P
        place = np.where(group.place < group.modulus, group.place, P)
        self.place[slot, : len(place)] = torch.from_numpy(place)
        waves = torch.from_numpy(group.waves()).flatten(1)
        self.waves[slot] = self.element_waves[slot] = 0.0
        self.waves[slot, : group.modulus] = waves.to(self.device)
        has = torch.from_numpy(np.flatnonzero(group.exponent >= 0))
        exponent = torch.from_numpy(group.exponent)[has]
        self.element_waves[slot, has.to(self.device)] = waves[exponent].to(self.device)
        self.element[slot, exponent.to(self.device)] = has.to(self.device)
        self.drawn[slot] = drawn_order(run).to(self.device)

    def measure(self, seen: Seen) -> Tensor:
        """A row for each of the K slots, float64 (K, C)."""
        P, slots = self.element_waves.shape[1], seen.slots
        place, waves, element = self.place[slots], self.waves[slots], self.element[slots]
        logits, groups = seen.logits[:, :, :P].double(), seen.groups
        centre, mean, n = means(logits, place, P)
        coefficients = waves.mT @ mean
        share = power(coefficients) * n.amax(1, keepdim=True) / variance(logits, place, centre)[:, None]
        rows = [seen.weights[f"{of}.weight"][:, :P].double() for of in ("embedding", "output")]
        norms = [power(self.element_waves[slots].mT @ of).sqrt() for of in rows]
        keys, others = share > KEY, torch.zeros_like(share, dtype=torch.bool)
        rest = (~keys).gather(1, self.drawn[slots])
        rest &= rest.cumsum(1) <= keys.sum(1, keepdim=True)
        others.scatter_(1, self.drawn[slots], rest)
        only = [waves @ (coefficients * of.repeat(1, 2)[:, :, None]) for of in (keys, others)]
        held_out = means(logits, place.where(groups[:, 2], P), P)
        losses = [
            (cross_entropy(centre + only[0], element) * (n > 0)).sum(1) / (n > 0).sum(1),
            *(excluded_loss(logits, place, seen.label, groups[:, 0], of) for of in only),
        ]
        accuracies = [accuracy(centre + of, element, n) for of in (*only, mean)]
        accuracies.append(accuracy(held_out[0] + held_out[1], element, held_out[2]))
        numbers = [*map(gini, norms), keys.sum(1), *losses, *accuracies]
        return torch.cat([share, *norms, torch.stack([of.double() for of in numbers], dim=1)], dim=1)


def drawn_order(run: Run) -> Tensor:
    """The order in which other frequencies take the place of keys, from 0 on: a draw of the run's own."""
    return streams.permutation(streams.stream(run.seed, Purpose.PROBE, 1), run.n_elements // 2)


def means(logits: Tensor, place: Tensor, n_places: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean logits of the equations below `n_places` (K, 1, P), those of each place beside it, their number.

    Where a place has no equation, its mean is the mean of all.
    """
    K, _, P = logits.shape
    total = logits.new_zeros(K, n_places + 1, P)
    total.scatter_add_(1, place[:, :, None].expand_as(logits), logits)
    n = logits.new_zeros(K, n_places + 1).scatter_add_(1, place, torch.ones_like(logits[:, :, 0]))
    total, n = total[:, :-1], n[:, :-1]
    centre = total.sum(1, keepdim=True) / n.sum(1)[:, None, None]
    mean = total / n.clamp(min=1)[:, :, None] - centre
    return centre, torch.where((n > 0)[:, :, None], mean, 0.0), n


def variance(logits: Tensor, place: Tensor, centre: Tensor) -> Tensor:
    """Sum of squares of the logits (K, N, P) around their mean, over the equations that have a place."""
    inside = place < logits.shape[2]
    return torch.where(inside[:, :, None], logits - centre, 0.0).square().sum((1, 2))


def power(coefficients: Tensor) -> Tensor:
    """Squares of coefficients (K, 2 x frequencies, D), cosine and sine together: (K, frequencies)."""
    K, n, _ = coefficients.shape
    return coefficients.square().sum(-1).view(K, 2, n // 2).sum(1)


def excluded_loss(logits: Tensor, place: Tensor, label: Tensor, train: Tensor, waves: Tensor) -> Tensor:
    """Mean loss (K,) on the training equations that have a place, without these waves (K, places, P)."""
    taken = torch.cat([waves, torch.zeros_like(waves[:, :1])], dim=1)
    loss = cross_entropy(logits - taken.gather(1, place[:, :, None].expand_as(logits)), label)
    counted = train & (place < waves.shape[1])
    return torch.where(counted, loss, 0.0).sum(1) / counted.sum(1)


def accuracy(logits: Tensor, element: Tensor, n: Tensor) -> Tensor:
    """Share (K,) of n equations a place (K, places) that one logit vector a place answers rightly."""
    return ((logits.argmax(-1) == element) * n).sum(1) / n.sum(1)


def gini(values: Tensor) -> Tensor:
    """Gini coefficient of values (K, n) of at least 0: 0 where all are equal, near 1 where one has it all."""
    n = values.shape[1]
    rank = 2 * torch.arange(1, n + 1, device=values.device) - n - 1
    return (rank * values.sort(dim=1).values).sum(1) / (n * values.sum(1))
