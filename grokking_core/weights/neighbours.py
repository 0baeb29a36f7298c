"""Rows of the output layer as points, one an element: neighbours, tests by shuffled names, a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Agreement = Callable[[np.ndarray, np.ndarray], np.ndarray]  #: names (P,), of neighbours (P, k) -> (tests,)


def elements(rows: np.ndarray, n_elements: int) -> np.ndarray:
    """The rows of the elements alone, (n_elements, D) in float64, from those with or without `op` and `=`.

    Raises
    ------
    ValueError
        If there are more or fewer rows than that, or one that is not finite.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or len(rows) not in (n_elements, n_elements + 2):
        wanted = f"({n_elements}, D), or ({n_elements + 2}, D) with those of op and ="
        raise ValueError(f"rows of shape {rows.shape} must have shape {wanted}")
    if not np.isfinite(rows).all():
        raise ValueError("rows must be finite; a network that diverged has none to show")
    return rows[:n_elements]


def nearest(rows: np.ndarray, k: int) -> np.ndarray:
    """Numbers of the k nearest other rows of each row by Euclidean distance, nearest first, (P, k)."""
    squares = np.square(rows).sum(1)
    distance = squares[:, None] + squares - 2 * rows @ rows.T  # squared
    np.fill_diagonal(distance, np.inf)
    return distance.argsort(axis=1, kind="stable")[:, :k]


class Tested(NamedTuple):
    """Agreements and how far they are from chance, one value a test."""

    agreement: np.ndarray
    z: np.ndarray  #: (agreement - chance) / its standard deviation over shuffles; 0 where nothing varies
    p_corrected: np.ndarray  #: for all the tests together; at least 1 / (1 + n_shuffles)


def against_shuffles(
    agreement: Agreement, chance: np.ndarray, near: np.ndarray, n_shuffles: int, seed: int
) -> Tested:
    """Agreements between the elements' names and their neighbours, against shuffled names.

    The names are shuffled, the points stay. `p_corrected` is the share of shuffles (the data count as one
    more) in which the largest z of all tests is at least as large as this test's own: the single-step
    maximum of Westfall & Young 1993, which allows for any dependence between the tests.

    Parameters
    ----------
    agreement : function
        Of the elements' names (P,) and their neighbours' (P, k); gives one value a test.
    chance : (tests,)
        Its mean over all shuffles.
    near : (P, k)
        Neighbours of each element.
    n_shuffles, seed : int
        How many, and the seed of the generator that draws them.
    """
    generator = np.random.default_rng(seed)
    names = [generator.permutation(len(near)) for _ in range(n_shuffles)]
    observed = agreement(np.arange(len(near)), near)
    shuffled = np.stack([agreement(name, name[near]) for name in names]) - chance  # (shuffles, tests)
    spread = shuffled.std(0)
    unit = np.where(spread > 0, spread, np.inf)
    z, highest = (observed - chance) / unit, (shuffled / unit).max(1)
    reached = (highest[:, None] >= z).sum(0)
    return Tested(observed, z, (1 + reached) / (1 + n_shuffles))


def picture(rows: np.ndarray, seed: int = 0, perplexity: float = 10.0) -> np.ndarray:
    """t-SNE of some rows (P, D), points of shape (P, 2) (figure 3); the perplexity is our choice.

    It starts from the principal components and depends on the arguments alone. Its distances mean little:
    measure in the full space instead.
    """
    from sklearn.manifold import TSNE  # takes a second to import

    perplexity = min(perplexity, (len(rows) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", method="exact", random_state=seed)
    return tsne.fit_transform(np.asarray(rows, np.float64))
