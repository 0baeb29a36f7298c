"""Random numbers that depend on (seed, purpose, step) and a counter, and on nothing else.

A counter-based integer hash (multiply, shift, xor on int64) gives the same bits on CPU and GPU, alone and
in an ensemble. Every draw below is made of such bits by exact operations (comparison, table look-up,
multiplication by a power of two), so it too is the same everywhere, bit for bit.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor


class Purpose(IntEnum):
    """What a stream is for; each has numbers of its own."""

    SPLIT = 0
    OUTLIERS = 1
    INIT = 2
    ORDER = 3
    UPDATE_NOISE = 4
    WEIGHT_NOISE = 5
    DROPOUT = 6
    PROBE = 7


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # odd, near 2**64 over the golden ratio: spreads the counters
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_NORMAL_BITS = 16  # bits a normal draw uses; 2**16 equally likely quantiles


def mix(z: Tensor) -> Tensor:
    """Hash of each int64, an int64: the finalizer of SplitMix64 (Steele, Lea & Flood 2014)."""
    z = (z ^ _shift_right(z, 30)) * _MULTIPLIERS[0]
    z = (z ^ _shift_right(z, 27)) * _MULTIPLIERS[1]
    return z ^ _shift_right(z, 31)


def fold(key: Tensor, value: Tensor | int) -> Tensor:
    """Keys of the sub-streams numbered `value` of the streams `key`; both int64, shapes broadcast."""
    offset = value * _GOLDEN  # a plain int does not wrap by itself
    if isinstance(offset, int):
        offset = (offset + 2**63) % 2**64 - 2**63
    return mix(mix(key) + offset)


def stream(seed: Tensor | int, purpose: Purpose, step: Tensor | int = 0) -> Tensor:
    """Keys of the streams for (seed, purpose, step), int64.

    Parameters
    ----------
    seed, step : int64 Tensor of shape (R,), or int
        One value a run, or one for all. `step` is the optimizer update, or the epoch for `Purpose.ORDER`.
    """
    return fold(fold(torch.as_tensor(seed, dtype=torch.int64), int(purpose)), step)


def bits(key: Tensor, counter: Tensor) -> Tensor:
    """64 random bits for each counter of each stream, int64 of shape (*key.shape, *counter.shape)."""
    return bits_at(key, offsets(counter))


def offsets(counter: Tensor) -> Tensor:
    """What counters add to a key, int64: to be made before what is compiled, which has no such constants."""
    return counter * _GOLDEN


def bits_at(key: Tensor, offset: Tensor) -> Tensor:
    """As `bits`, from `offsets`."""
    return mix(key.reshape(*key.shape, *[1] * offset.dim()) + offset)


def uniform(key: Tensor, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Multiples of 2**-24 in [0, 1), shape (*key.shape, n)."""
    counter = torch.arange(n, device=key.device)
    return _shift_right(bits(key, counter), 40).to(dtype) * 2.0**-24


def normal(key: Tensor, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal draws of shape (*key.shape, n): one of 65,536 equally likely quantiles each.

    The quantiles are scaled to variance 1 exactly; their distribution function is within 1e-5 of the
    normal's everywhere, and the largest is 4.3.
    """
    counter = torch.arange(-(-n // 4), device=key.device)
    sixteen_bits = bits(key, counter).view(torch.int16)[..., :n]
    return _normal_quantiles(dtype, key.device)[sixteen_bits.int() + 2 ** (_NORMAL_BITS - 1)]


def permutation(key: Tensor, n: int) -> Tensor:
    """Permutations of 0..n-1, uniformly distributed, int64 of shape (*key.shape, n)."""
    return bits(key, torch.arange(n, device=key.device)).argsort(dim=-1, stable=True)


def drop_mask(key: Tensor, counter: Tensor, drop: Tensor | float) -> Tensor:
    """Boolean dropout mask of shape (*key.shape, *counter.shape): False with probability `drop`.

    `drop` has the shape of `key` (or is one number); it is exact to 2**-32.
    """
    drop = torch.as_tensor(drop, dtype=torch.float64, device=key.device)
    return is_kept(bits(key, counter), drop_threshold(drop).expand(key.shape))


def drop_threshold(drop: Tensor) -> Tensor:
    """Where the bits of what is kept begin, int64, for probabilities in float64."""
    return (drop * 2.0**32).to(torch.int64)


def is_kept(bits: Tensor, threshold: Tensor) -> Tensor:
    """Which of some bits of streams are not dropped, by the threshold of each stream; as `drop_mask`."""
    more = bits.dim() - threshold.dim()
    return _shift_right(bits, 32) >= threshold.reshape(*threshold.shape, *[1] * more)


def _shift_right(z: Tensor, places: int) -> Tensor:
    """Logical shift: torch's own copies the sign bit."""
    return (z >> places) & (2 ** (64 - places) - 1)


@lru_cache
def _normal_quantiles(dtype: torch.dtype, device: torch.device) -> Tensor:
    n = 2**_NORMAL_BITS
    quantiles = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    return (quantiles / quantiles.square().mean().sqrt()).to(dtype).to(device)
