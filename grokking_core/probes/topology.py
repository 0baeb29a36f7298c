"""Loops in the embedding: persistent homology of dimension 1, as arXiv 2605.06352 measures it.

Rows of the elements are centred, and each is scaled to norm 1, which settles what the paper leaves open.
The reduction is done on the CPU: the one probe that waits for its device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from grokking_core.probes.probe import Probe, Seen
from grokking_core.runs.run import Run


class Topology(Probe):
    """Persistence of the loops among the embedding's rows of the elements."""

    @classmethod
    def columns(cls, run: Run) -> tuple[str, ...]:
        """Longest and total life of a loop, and the longest over the distance that joins all rows."""
        return ("largest", "total", "normalised")

    def measure(self, seen: Seen) -> Tensor:
        """A row for each of the K slots, float64 (K, C)."""
        P = round(seen.label.shape[1] ** 0.5)
        rows = seen.weights["embedding.weight"][:, :P].double().cpu().numpy()
        return torch.tensor([summary(of) for of in rows], dtype=torch.float64)


def summary(rows: np.ndarray) -> tuple[float, float, float]:
    """Longest life of a loop, the sum of all, and the longest over the last merging of components."""
    if not np.isfinite(rows).all():
        return (np.nan, np.nan, np.nan)
    distance = distances(rows)
    loops, joined = persistence(distance)
    life = loops[:, 1] - loops[:, 0]
    longest = life.max(initial=0.0)
    return float(longest), float(life.sum()), float(longest / joined)


def distances(rows: np.ndarray) -> np.ndarray:
    """Distances between rows (P, D), centred and scaled to norm 1 each: (P, P)."""
    rows = rows - rows.mean(0)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    apart = np.sqrt(np.maximum(2 - 2 * rows @ rows.T, 0))
    np.fill_diagonal(apart, 0)
    return (apart + apart.T) / 2


def persistence(distance: np.ndarray) -> tuple[np.ndarray, float]:
    """Births and deaths (loops, 2) in the Vietoris-Rips filtration, and where the last components merge.

    Persistent cohomology modulo 2, as in Ripser (Bauer 2021): edges from the longest to the shortest, each
    with the triangles on it; an edge that begins a loop ends at the earliest triangle that is left once what
    longer edges end at is taken away. Edges are ranked, so that no two are as long as each other. One with a
    triangle in which it is the longest ends there, at once; one that joins components begins no loop.
    """
    P = len(distance)
    i, j = np.triu_indices(P, 1)
    order = np.argsort(distance[i, j], kind="stable")
    i, j = i[order], j[order]
    length, rank = distance[i, j], np.full((P, P), -1)
    rank[i, j] = rank[j, i] = np.arange(len(i))
    triangles = _triangles(i, j, rank)
    joins = _spanning_tree(i, j, P)
    ends_at = np.where(triangles[:, 0] // P == np.arange(len(i)), triangles[:, 0], -1)
    left_over: dict[int, np.ndarray] = {}  # by the triangle that a longer edge ends at
    loops = []
    for edge in np.flatnonzero((ends_at < 0) & ~joins)[::-1]:
        left, at = np.zeros(len(i) * P, bool), 0
        left[triangles[edge]] = True
        while True:
            at += int(left[at:].argmax())
            longest = at // P
            if at in left_over:
                left[left_over[at]] ^= True
            elif ends_at[longest] == at:
                left[triangles[longest]] ^= True
            else:
                break
        left_over[at] = at + np.flatnonzero(left[at:])
        loops.append((length[edge], length[longest]))
    found = np.array(loops).reshape(-1, 2)
    return found[found[:, 1] > found[:, 0]], float(length[joins].max())


def _triangles(i: np.ndarray, j: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The triangles on each edge, earliest first, (E, P - 2): P x longest edge's rank + other point."""
    P, edge = len(rank), np.arange(len(i))[:, None]
    sides = np.stack([np.broadcast_to(edge, (len(i), P)), rank[i], rank[j]])
    others = np.stack(np.broadcast_arrays(np.arange(P), j[:, None], i[:, None]))
    longest = sides.argmax(0)[None]
    number = np.take_along_axis(sides, longest, 0)[0] * P + np.take_along_axis(others, longest, 0)[0]
    number[edge[:, 0], i] = number[edge[:, 0], j] = len(i) * P  # no triangle
    return np.sort(number, axis=1)[:, :-2]


def _spanning_tree(i: np.ndarray, j: np.ndarray, n: int) -> np.ndarray:
    """Which edges, shortest first, join two components: the minimum spanning tree."""
    component, joins = np.arange(n), np.zeros(len(i), bool)
    for edge, (a, b) in enumerate(zip(i, j, strict=True)):
        if component[a] != component[b]:
            joins[edge] = True
            component[component == component[b]] = component[a]
    return joins
