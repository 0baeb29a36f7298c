"""Operation tables, tokens, splits and outliers: everything the network is asked to learn.

Equations are `x op y = answer`. Elements are abstract: residues 0..p-1, or the permutations of n letters
in lexicographic order, numbered 0..n!-1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import factorial
from typing import NamedTuple

import numpy as np
import torch

from grokking_core.data import streams
from grokking_core.data.streams import Purpose


class Table(NamedTuple):
    """Every equation of an operation once; three int64 arrays of shape (n_equations,)."""

    x: np.ndarray
    y: np.ndarray
    answer: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One binary operation on residues mod p, or on the symmetric group S_n."""

    answer: Callable[[np.ndarray, np.ndarray, int], np.ndarray]  #: (x, y, p or n) -> answer
    on_group: bool = False  #: on S_n; otherwise on residues mod p
    inverts: bool = False  #: has inverses of all but 0: needs a prime modulus
    y_nonzero: bool = False  #: y = 0 is outside the domain
    nonzero: bool = False  #: on the residues 1..p-1, numbered from 0: a stands for a + 1
    latex: str  #: for pictures and tables
    words: str = ""  #: its name in a sentence, where that is not its key
    symmetric: bool  #: the answer does not depend on the order of the operands
    n_operations: int  #: of arithmetic, or products and inverses, in the term as it is written


# ---------------------------------------------------------------------------------------------------
# Residues


def inverses(p: int) -> np.ndarray:
    """Multiplicative inverses mod a prime p, shape (p,); 0, which has none, is given 0."""
    return np.array([0] + [pow(b, -1, p) for b in range(1, p)])


def _divide(x: np.ndarray, y: np.ndarray, p: int) -> np.ndarray:
    return x * inverses(p)[y] % p


def _multiply_nonzero(x: np.ndarray, y: np.ndarray, p: int) -> np.ndarray:
    return (x + 1) * (y + 1) % p - 1


def _divide_if_odd_else_subtract(x: np.ndarray, y: np.ndarray, p: int) -> np.ndarray:
    return np.where(y % 2 == 1, _divide(x, y, p), (x - y) % p)


# ---------------------------------------------------------------------------------------------------
# Permutations


@lru_cache
def symmetric_group(n: int) -> np.ndarray:
    """The permutations of 0..n-1 in lexicographic order, shape (n!, n): row a maps i to row[i]."""
    return np.array(list(permutations(range(n))))


def _rank(rows: np.ndarray, n: int) -> np.ndarray:
    """Numbers of the permutations in `rows`, shape (..., n) -> (...): their place in lexicographic order."""
    later_and_smaller = (rows[..., None, :] < rows[..., :, None]) & np.triu(np.ones((n, n), bool), 1)
    return later_and_smaller.sum(-1) @ np.array([factorial(n - 1 - i) for i in range(n)])


def compose(x: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    """Numbers of the products xy, first x, then y applied to positions: (xy)[i] = y[x[i]]."""
    group = symmetric_group(n)
    return _rank(np.take_along_axis(group[y], group[x], axis=-1), n)


def inverse(x: np.ndarray, n: int) -> np.ndarray:
    """Numbers of the inverse permutations."""
    return _rank(np.argsort(symmetric_group(n)[x], axis=-1), n)


def _conjugate(x: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    return compose(compose(x, y, n), inverse(x, n), n)


def _sandwich(x: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    return compose(compose(x, y, n), x, n)


# ---------------------------------------------------------------------------------------------------
# The paper's twelve operations (appendix A.1.1), x*y of section 3.2 over all pairs (our reading), and over
# those of the multiplicative group, where it is x+y mod p-1 under other names

OPERATIONS: dict[str, Operation] = {
    "x+y": Operation(answer=lambda x, y, p: (x + y) % p, latex="$x+y$", symmetric=True, n_operations=1),
    "x-y": Operation(answer=lambda x, y, p: (x - y) % p, latex="$x-y$", symmetric=False, n_operations=1),
    "x*y": Operation(answer=lambda x, y, p: x * y % p, latex=r"$x \cdot y$", symmetric=True, n_operations=1),
    "x*y!=0": Operation(
        answer=_multiply_nonzero,
        inverts=True,
        nonzero=True,
        latex=r"$x \cdot y$ (without 0)",
        symmetric=True,
        n_operations=1,
    ),
    "x/y": Operation(
        answer=_divide, inverts=True, y_nonzero=True, latex="$x/y$", symmetric=False, n_operations=1
    ),
    "x/y|x-y": Operation(
        answer=_divide_if_odd_else_subtract,
        inverts=True,
        latex="$x/y$ or $x-y$",
        symmetric=False,
        n_operations=3,
    ),
    "x^2+y^2": Operation(
        answer=lambda x, y, p: (x**2 + y**2) % p, latex="$x^2+y^2$", symmetric=True, n_operations=3
    ),
    "x^2+xy+y^2": Operation(
        answer=lambda x, y, p: (x**2 + x * y + y**2) % p, latex="$x^2+xy+y^2$", symmetric=True, n_operations=5
    ),
    "x^2+xy+y^2+x": Operation(
        answer=lambda x, y, p: (x**2 + x * y + y**2 + x) % p,
        latex="$x^2+xy+y^2+x$",
        symmetric=False,
        n_operations=6,
    ),
    "x^3+xy": Operation(
        answer=lambda x, y, p: (x**3 + x * y) % p, latex="$x^3+xy$", symmetric=False, n_operations=4
    ),
    "x^3+xy^2+y": Operation(
        answer=lambda x, y, p: (x**3 + x * y**2 + y) % p,
        latex="$x^3+xy^2+y$",
        symmetric=False,
        n_operations=6,
    ),
    "s5:xy": Operation(
        answer=compose,
        on_group=True,
        latex="$xy$ (permutations)",
        words="S5 product",
        symmetric=False,
        n_operations=1,
    ),
    "s5:xyx^-1": Operation(
        answer=_conjugate,
        on_group=True,
        latex="$xyx^{-1}$ (permutations)",
        words="xyx^-1 on S5",
        symmetric=False,
        n_operations=3,
    ),
    "s5:xyx": Operation(
        answer=_sandwich,
        on_group=True,
        latex="$xyx$ (permutations)",
        words="xyx on S5",
        symmetric=False,
        n_operations=2,
    ),
}
BUILT_IN = dict(OPERATIONS)  #: without what a user registers


def check_operation(operation: str, p: int = 97, n: int = 5) -> None:
    """Raise `ValueError` unless `operation` exists and `p` (or `n`) is a size it is defined for."""
    if not isinstance(operation, str) or operation not in OPERATIONS:
        raise ValueError(f"operation={operation!r} is unknown; choose from {', '.join(OPERATIONS)}")
    op = OPERATIONS[operation]
    name, size = ("n", n) if op.on_group else ("p", p)
    if isinstance(size, bool) or not isinstance(size, int):
        raise ValueError(f"{name}={size!r} must be a whole number")
    if op.on_group and not 2 <= n <= 5:
        raise ValueError(f"n={n} must lie in 2..5 for {operation!r}: S_n has n! elements")
    if not op.on_group and p < 2:
        raise ValueError(f"p={p} must be at least 2: a table needs 2 elements or more")
    if op.nonzero and p < 3:
        raise ValueError(f"p={p} must be at least 3 for {operation!r}: a table needs 2 elements or more")
    if op.inverts and any(p % divisor == 0 for divisor in range(2, int(p**0.5) + 1)):
        raise ValueError(
            f"p={p} must be prime for {operation!r}: only then has every residue but 0 an inverse"
        )


def n_elements(operation: str, p: int = 97, n: int = 5) -> int:
    """Elements the operation acts on: p, p - 1 where 0 is none of them, or n! for the symmetric group."""
    check_operation(operation, p, n)
    op = OPERATIONS[operation]
    return factorial(n) if op.on_group else p - op.nonzero


def operation_table(operation: str, p: int = 97, n: int = 5) -> Table:
    """The whole table of an operation, every pair of its domain once.

    Parameters
    ----------
    operation : str
        A key of `OPERATIONS`.
    p : int
        Modulus of the operations on residues, at least 2; prime where the operation divides.
    n : int
        Letters of the symmetric group, 2 to 5.

    Returns
    -------
    Table
        x, y, answer: read-only int64 arrays of shape (n_equations,), x running slowest.

    Raises
    ------
    ValueError
        If the operation is unknown or not defined for this p or n.
    """
    check_operation(operation, p, n)
    op = OPERATIONS[operation]
    return _table(op, n if op.on_group else p)


@lru_cache
def _table(op: Operation, size: int) -> Table:
    n_elements = factorial(size) if op.on_group else size - op.nonzero
    x, y = np.meshgrid(np.arange(n_elements), np.arange(int(op.y_nonzero), n_elements), indexing="ij")
    x, y = x.ravel(), y.ravel()
    table = Table(x, y, op.answer(x, y, size).astype(np.int64))
    for column in table:
        column.flags.writeable = False
    return table


def rule(operation: str, p: int = 97, n: int = 5) -> str | None:
    """A hash of the table of an operation that a user has registered, or changed; None for those above.

    With it, a record is found again by what was learned, and not by the operation's name alone.
    """
    op = OPERATIONS[operation]
    return None if op is BUILT_IN.get(operation) else _rule(op, n if op.on_group else p)


@lru_cache
def _rule(op: Operation, size: int) -> str:
    return hashlib.sha256(b"".join(column.tobytes() for column in _table(op, size))).hexdigest()[:32]


# ---------------------------------------------------------------------------------------------------
# Tokens, split, outliers


def tokens(x: np.ndarray, y: np.ndarray, n_elements: int) -> np.ndarray:
    """Token ids of `x op y =`, shape (n_equations, 4); elements keep their numbers, op and = follow."""
    return np.stack([x, np.full_like(x, n_elements), y, np.full_like(x, n_elements + 1)], axis=1)


def n_training_equations(train_fraction: float, n_equations: int) -> int:
    """Training equations of a fraction: the nearest whole number, as in the authors' code."""
    return round(train_fraction * n_equations)


class Dataset(NamedTuple):
    """What one run is trained on and measured against; N equations, n_train of them for training."""

    x: np.ndarray  #: (N,)
    y: np.ndarray  #: (N,)
    label: np.ndarray  #: (N,), the answer, or what an outlier has in its place
    train: np.ndarray  #: (n_train,), training equations in shuffled order, outliers first
    is_train: np.ndarray  #: (N,), bool
    is_unmirrored: np.ndarray  #: (N,), bool: validation equations (x, y) with (y, x) not in training


def dataset(
    operation: str, p: int = 97, n: int = 5, *, train_fraction: float, outliers: int = 0, split_seed: int
) -> Dataset:
    """Table, split and outliers (section 3, appendix A.4).

    The split is the head of one permutation of the table that depends on `split_seed` alone, so a smaller
    fraction's training set is part of a larger one's. The first `outliers` training equations get answers
    drawn from the table with replacement.
    """
    x, y, answer = operation_table(operation, p, n)
    order = streams.permutation(streams.stream(split_seed, Purpose.SPLIT), len(x)).numpy()
    train = order[: n_training_equations(train_fraction, len(x))]
    is_train = np.isin(np.arange(len(x)), train)
    drawn = streams.bits(streams.stream(split_seed, Purpose.OUTLIERS), torch.arange(outliers))
    label = answer.copy()
    label[train[:outliers]] = answer[(drawn.numpy() >> 1) % len(x)]
    return Dataset(x, y, label, train, is_train, ~is_train & ~_mirror_in(x, y, is_train))


def _mirror_in(x: np.ndarray, y: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Whether (y, x) is a chosen equation, for every (x, y); (x, x) is its own mirror."""
    size = int(max(x.max(), y.max())) + 1
    return np.isin(y * size + x, (x * size + y)[chosen])
