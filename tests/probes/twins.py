"""Every probe once more, for one run and in plain NumPy, float64, from the definitions."""

import math

import numpy as np

from grokking_core.data import operation_table
from grokking_core.probes import early_warnings, fourier

GENERATORS = {11: 2, 13: 2, 29: 2, 31: 3, 37: 2}  # smallest, from tables


def first_warnings(run, logits, features, rows):
    """ILDR and entropies, over validation equations drawn once."""
    data = run.dataset()
    drawn = early_warnings.drawn_equations(run).numpy()
    assert not data.is_train[drawn].any()
    phi, label = features[drawn], data.label[drawn]
    by_class = [phi[label == c] for c in np.unique(label)]
    means = [of.mean(0) for of in by_class]
    intra = np.mean([np.mean(np.sum((of - mean) ** 2, 1)) for of, mean in zip(by_class, means, strict=True)])
    inter = np.mean([np.sum((a - b) ** 2) for i, a in enumerate(means) for b in means[:i]])
    first = phi[:512]
    return [inter / (intra + 1e-8), entropy(first - first.mean(0)), entropy(first)]


def entropy(z):
    share = np.linalg.svd(z, compute_uv=False) ** 2
    share = share / share.sum()
    return -sum(s * math.log(s) for s in share if s > 0) / math.log(z.shape[1])


def frequencies(run, logits, features, rows):
    """Shares in the logits, norms in embedding and output rows, by 2-D waves on the table."""
    data, P = run.dataset(), run.n_elements
    if run.operation in fourier.MULTIPLIES:
        m, first = run.p - 1, int(run.operation == "x*y!=0")
        exponent = {pow(GENERATORS[run.p], e, run.p) - first: e for e in range(m)}
    else:
        m, exponent = run.p, {a: a for a in range(run.p)}
    inside = [n for n, (x, y) in enumerate(zip(data.x, data.y, strict=True)) if {x, y} <= exponent.keys()]
    u = np.array([exponent[a] for a in data.x[inside]])
    v = np.array([exponent[a] for a in data.y[inside]]) * (-1 if run.operation in ("x-y", "x/y") else 1)
    L = logits[inside, :P]
    variance = np.sum((L - L.mean(0)) ** 2)
    element = np.array(list(exponent)), np.array(list(exponent.values()))
    share, norms = [], ([], [])
    for k in range(1, P // 2 + 1):
        waves = [np.cos(2 * np.pi * k * (u + v) / m), np.sin(2 * np.pi * k * (u + v) / m)]
        kept = [wave / np.linalg.norm(wave) for wave in waves if np.linalg.norm(wave) > 1e-6]
        share.append(sum(np.sum((wave @ L) ** 2) for wave in kept) / variance)
        for of, found in zip(rows[:2], norms, strict=True):
            angle = 2 * np.pi * k * element[1] / m
            waves = [
                w / np.linalg.norm(w) for w in (np.cos(angle), np.sin(angle)) if np.linalg.norm(w) > 1e-6
            ]
            found.append(math.sqrt(sum(np.sum((wave @ of[element[0]]) ** 2) for wave in waves)))
    keys = {k for k, of in enumerate(share, start=1) if of > fourier.KEY}
    others = [k + 1 for k in fourier.drawn_order(run).tolist() if k + 1 not in keys][: len(keys)]
    label, train, unmirrored = data.label[inside], data.is_train[inside], data.is_unmirrored[inside]
    answer = data_answer(run)[inside]

    def projected(frequencies):
        found = np.zeros_like(L)
        for k in frequencies:
            for wave in (np.cos(2 * np.pi * k * (u + v) / m), np.sin(2 * np.pi * k * (u + v) / m)):
                if (norm := np.linalg.norm(wave)) > 1e-6:
                    found += np.outer(wave / norm, wave / norm @ L)
        return found

    def loss(z, label):
        return np.mean(
            np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[range(len(z)), label]
        )

    kept, random, every = (projected(of) for of in (keys, others, range(1, P // 2 + 1)))
    held = np.array([L[unmirrored & ((u + v) % m == s)].mean(0) for s in ((u + v) % m)[unmirrored]])
    restricted = [(L.mean(0) + of).argmax(1) == answer for of in (kept, random, every)]
    return [
        *(*share, *norms[0], *norms[1], gini(norms[0]), gini(norms[1]), len(keys)),
        loss(L.mean(0) + kept, answer),
        *(loss((L - of)[train], label[train]) for of in (kept, random)),
        *(of.mean() for of in restricted),
        (held.argmax(1) == answer[unmirrored]).mean(),
    ]


def data_answer(run):
    return operation_table(run.operation, run.p, run.n).answer


def gini(values):
    """Half the mean difference of two of them, over their mean."""
    values = np.array(values)
    return np.abs(values[:, None] - values).mean() / (2 * values.mean())


def collapse(run, logits, features, rows):
    """On the training set; sums of exponentials in the precision of the logits that are given."""
    data, output = run.dataset(), rows[2]
    L, label = logits[data.train], data.label[data.train]
    gap = L - L.max(1, keepdims=True)
    own = L[np.arange(len(L)), label]
    zero = np.log(np.exp(gap).sum(1)) + L.max(1) == own
    gap = gap.astype(np.float64)
    p = np.exp(gap[np.arange(len(L)), label]) / np.exp(gap).sum(1)
    w, mu = output.mean(0), features[data.train].mean(0)
    cosine = w @ mu / np.linalg.norm(w) / np.linalg.norm(mu)
    means = [np.linalg.norm(w), np.linalg.norm(mu), cosine]
    collapsed = np.exp(L - L.max(1, keepdims=True)).sum(1) == 1
    return [collapsed.mean(), zero.mean(), *means, np.mean(1 - p), np.abs(L).max()]


def loops(distance):
    """Births and deaths by the textbook's reduction of the boundary matrix, over all triangles."""
    n = len(distance)
    edges = sorted((distance[a, b], a, b) for a in range(n) for b in range(a + 1, n))
    place = {(a, b): at for at, (_, a, b) in enumerate(edges)}
    sides = [
        sorted((place[a, b], place[a, c], place[b, c]))
        for a in range(n)
        for b in range(a + 1, n)
        for c in range(b + 1, n)
    ]
    sides.sort(key=lambda three: three[::-1])
    by_pivot, found = {}, []
    for three in sides:
        column = {*three}
        while column and max(column) in by_pivot:
            column ^= by_pivot[max(column)]
        if column:
            by_pivot[max(column)] = column
            birth, death = edges[max(column)][0], edges[three[-1]][0]
            if death > birth:
                found.append((birth, death))
    return np.array(sorted(found)).reshape(-1, 2)
