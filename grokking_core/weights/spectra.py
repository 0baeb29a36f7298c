"""Shuffled spectra of weight matrices: correlation traps; and effective rank."""

from __future__ import annotations

import numpy as np

SHUFFLES = 5  #: of each matrix


def traps(matrix: np.ndarray, rng: np.random.Generator) -> float:
    """Mean number of traps of a matrix over SHUFFLES shuffles: eigenvalues too large for random entries.

    With its entries shuffled, an (N, M) matrix W, N >= M, has no correlations left; the eigenvalues of
    W'W / N, rescaled to mean 1, then end at the edge (1 + sqrt(q))^2, q = M / N, of Marchenko and Pastur. A
    trap lies further out than the edge by more than sqrt(q^(1/2) edge^(2/3) M^(-2/3)), the scale of Tracy and
    Widom: single entries are so large that they make directions of their own. The scale of the entries is
    their root mean square, where the authors' tool fits a density.

    Parameters
    ----------
    matrix : ndarray, shape (N, M) or (M, N)
        NaN comes back if it is not finite.

    Source: arXiv:2605.12394.
    """
    if not np.isfinite(matrix).all() or not np.isfinite((matrix**2).sum()):
        return float("nan")
    n_short, n_long = sorted(matrix.shape)
    ratio = n_short / n_long
    edge = (1 + np.sqrt(ratio)) ** 2
    limit = edge + np.sqrt(np.sqrt(ratio) * edge ** (2 / 3) * n_short ** (-2 / 3))
    counts = []
    for _ in range(SHUFFLES):
        shuffled = rng.permutation(matrix.ravel()).reshape(n_long, n_short)
        values = np.linalg.svd(shuffled, compute_uv=False) ** 2
        counts.append((values > limit * values.mean()).sum() if values.any() else 0)
    return float(np.mean(counts))


def effective_rank(matrix: np.ndarray) -> float:
    """Exponential of the entropy of the singular values over their sum: 1 to min(N, M).

    NaN of zeros, and of a matrix that is not finite.
    """
    if not np.isfinite(matrix).all():
        return float("nan")
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else float("nan")
