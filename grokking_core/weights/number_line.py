"""Whether output rows for x+y mod p lie along a number line of some step (figure 3 right).

A network that solves addition puts its rows on circles, x at the angle 2 pi f x / p, for a few frequencies
f. On one circle the next element is s further, where f s = 1 mod p: the line of figure 3. On several, the
step is a compromise, s with f s near 0 mod p for most of them.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from grokking_core.weights import neighbours

NEIGHBOURS = 2  #: of each element, in the line test: one on either side


def frequencies(rows: np.ndarray, p: int) -> np.ndarray:
    """Share of each frequency 1..p//2 in the variance of the rows, (p // 2,); they add up to 1.

    Parameters
    ----------
    rows : array
        Output rows of the residues, (p, D), or (p + 2, D) with those of `op` and `=`.
    p : int
        Modulus, at least 3.

    Raises
    ------
    ValueError
        If p is below 3, or the rows are not finite, all equal, or not those of p elements.
    """
    if p < 3:
        raise ValueError(f"p={p} must be at least 3: two elements have one distance only")
    rows = neighbours.elements(rows, p)
    power = np.square(np.abs(np.fft.fft(rows - rows.mean(0), axis=0))).sum(1)  # of f and of p - f
    pairs = [power[f] + power[p - f] if 2 * f < p else power[f] for f in range(1, p // 2 + 1)]
    if not np.sum(pairs):
        raise ValueError("rows must differ; all of them are equal")
    return np.array(pairs) / np.sum(pairs)


def line_test(rows: np.ndarray, p: int, n_shuffles: int = 200, seed: int = 0) -> pd.DataFrame:
    """Whether the elements next to x are x + s and x - s, for every step s.

    Parameters
    ----------
    rows : array
        Output rows of the residues, (p, D), or (p + 2, D) with those of `op` and `=`.
    p : int
        Modulus, at least 4.
    n_shuffles, seed : int
        Shuffles of the elements' names, and their seed.

    Returns
    -------
    DataFrame
        One row a step, the largest z first: step (1..p//2), agreement (share of the 2 nearest neighbours
        of each element x, Euclidean in all D dimensions, that are x + step or x - step), chance (its mean
        over all shuffles), z and p_corrected (see `neighbours.against_shuffles`), distance (mean square of
        that from x to x + step, over the mean for all pairs).

    Raises
    ------
    ValueError
        If p is below 4, or the rows are not finite or not those of p elements.
    """
    if p < 4:
        raise ValueError(f"p={p} must be at least 4: with fewer, all elements are neighbours")
    step, rows = np.arange(1, p // 2 + 1), neighbours.elements(rows, p)
    near, chance = neighbours.nearest(rows, NEIGHBOURS), np.where(2 * step == p, 1, 2) / (p - 1)

    def agreement(names: np.ndarray, of_neighbours: np.ndarray) -> np.ndarray:
        apart = (of_neighbours - names[:, None]) % p
        return np.bincount(np.minimum(apart, p - apart).ravel(), minlength=p // 2 + 1)[1:] / apart.size

    result = neighbours.against_shuffles(agreement, chance, near, n_shuffles, seed)
    apart = np.array([np.square(rows - np.roll(rows, -s, axis=0)).sum() for s in step])
    columns = {
        "step": step,
        "agreement": result.agreement,
        "chance": chance,
        "z": result.z,
        "p_corrected": result.p_corrected,
        "distance": apart / (apart @ chance),
    }
    return pd.DataFrame(columns).sort_values("z", ascending=False, kind="stable", ignore_index=True)


def stretches(p: int, step: int, n: int = 8) -> np.ndarray:
    """Which of n stretches of the line of a step each element is in, (p,): what the picture's colours mean.

    The line 0, step, 2 step, ... mod p passes through all elements; where p and step have a common divisor
    g it is g lines, one after the other. The stretches are as long as each other, or one element longer.
    For step 8 mod 97 they are nearly the residues mod 8 of figure 3.
    """
    n_lines = math.gcd(p, step)
    on_line = np.arange(p // n_lines) * step % p
    order = (np.arange(n_lines)[:, None] + on_line).ravel() % p
    place = np.empty(p, int)
    place[order] = np.arange(p)
    return place * n // p
