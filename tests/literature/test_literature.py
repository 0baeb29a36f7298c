import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from made_up import record, records, seeds

from grokking_core import literature
from grokking_core.claims import KINDS, Verdict
from grokking_core.literature import LEDGER
from grokking_core.paper.experiments import EXPERIMENTS, VARIANTS
from grokking_core.plans.followups import METHODS, temperature
from grokking_core.plans.softmax import ARMS
from grokking_core.plans.watched import PUBLISHED
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run

ROWS = {row.decide.__name__: row for row in LEDGER.values()}


class Case(NamedTuple):
    kind: str
    n: int
    found: str  # part of what is measured
    records: Callable[[], Records | tuple[Records, ...]]


def shares(gaps, **fields):
    """Runs of x+y that learn so many times later than they fit, by share of the table; None: never."""
    return records(
        *(seeds(300, gap and int(300 * gap), train_fraction=f, **fields) for f, gap in gaps.items())
    )


def cells(fall=0.25, norm=1000.0, wait=None, rates=(3e-4, 1e-3, 3e-3), decays=(1.0, 3.0)):
    """A grid of learning rate and decay, two seeds each; networks fit at 300 updates and grok `wait` later.

    `norm` is the squared norm at grokking and `fall` the rate kappa at which it was come to; each is a number
    or a function of learning rate and decay.
    """
    found = []
    for lr, decay in product(rates, decays):
        end, kappa, delay = (f(lr, decay) if callable(f) else f for f in (norm, fall, wait or in_inverse))
        start = end * math.exp(2 * kappa * lr * decay * int(delay))
        norms = {0: math.sqrt(start), 300: math.sqrt(start), 300 + int(delay): math.sqrt(end)}
        fields = {"norms": norms, "lr": lr, "weight_decay": decay}
        found += [record(300, 300 + int(delay), seed=seed, **fields) for seed in range(2)]
    return records(found)


def in_inverse(lr, decay):
    return 2 / (lr * decay)


def uneven(lr, decay):
    """Waits that no power of learning rate and decay tells."""
    return {3e-4: 0.1, 1e-3: 2.0, 3e-3: 0.2}[lr] * {1.0: 1.0, 3.0: 0.2}[decay] / (lr * decay)


def higher(factor):
    """A squared norm that is so many times higher at the highest learning rate."""
    return lambda lr, decay: 1000.0 * (factor if lr > 1e-3 else 1)


def elsewhere(value, others):
    """One value in the cell of the paper's learning rate and decay, and another in all others."""
    return lambda lr, decay: value if (lr, decay) == (1e-3, 1.0) else others


def by_rate(low, high):
    """Grids that fall at one kappa at the lowest learning rate and at another at the others."""
    return records(cells(low, rates=(3e-4,)), cells(high, rates=(1e-3, 3e-3)))


def held(cells, n=3):
    """Networks at norms that are held, and with logits as at others, by when they grok; None: never."""
    plain = {"optimizer": "adam", "weight_decay": 0.0}
    return records(
        *(
            seeds(100, at, n, norm_hold=norm, temperature=temperature(norm, like), **plain)
            for (norm, like), at in cells.items()
        )
    )


def kept(gaps):
    """Networks that keep the norm they begin with: how many times later they learn, by its scale."""
    fields = {"norm_hold": 1.0, "optimizer": "adam", "weight_decay": 0.0}
    return records(*(seeds(300, g and int(300 * g), init_scale=scale, **fields) for scale, g in gaps.items()))


def windows(*quarters, throughout=3, never=0):
    """How many of three networks learn with decay in each quarter of 4,000 updates, throughout and never."""
    spans = [(1000 * i, 1000 * i + 1000, n) for i, n in enumerate(quarters)]
    spans += [(0, 4000, throughout)] if throughout is not None else []
    acts = [({"decay_from": a, "decay_to": b}, n) for a, b, n in spans]
    acts += [({"weight_decay": 0.0, "decay_to": 4000}, never)] if never is not None else []
    return records(
        [record(300, 1000 if seed < n else None, seed=seed, **of) for of, n in acts for seed in range(3)]
    )


def raced(decay=1.0, operation="x+y", **updates):
    """Runs of methods that hold 95 % after so many updates in the better of two cells; None: never."""
    names = {"adamw": "AdamW", "ema": "Grokfast-EMA", "ma": "Grokfast-MA", "perp": "perpGrad", "muon": "Muon"}
    slow, fast = ({"lr": lr, "weight_decay": decay} for lr in (1e-3, 3e-3))
    return records(
        *(
            seeds(100, validation and f * validation, operation=operation, **METHODS[names[name]], **cell)
            for name, validation in updates.items()
            for f, cell in ((2, slow), (1, fast))
        )
    )


def both(sums, differences):
    """Races of AdamW and Muon on x+y and on x-y."""
    first, second = (dict(zip(("adamw", "muon"), of, strict=False)) for of in (sums, differences))
    return records(raced(**first), raced(operation="x-y", **second))


def lasting(later, decays=(1.0,), n=3, traps=None, rank=None, epochs=10, **fields):
    """Networks that learn at 1,000 updates, `later` validation accuracy by step, and what is kept of the end.

    `later` is a mapping, or a function of the seed; `rank` the numbers of directions in the output rows when
    it had learned and at the end.
    """
    found = []
    for decay, seed in product(decays, range(n)):
        falls = later(seed) if callable(later) else later
        kept = {"traps": {"count": np.array([float(traps(seed))])}} if traps else {}
        run = {"weight_decay": decay, "seed": seed, "p": 11, "train_fraction": 0.6, **fields}
        end = record(300, 1000, later=falls, kept=kept, followed=2 * epochs * 100, **run)
        if rank:
            at = record(300, 1000, followed=1000, kept=output_rows(rank[0]), **run)
            end = replace(end, kept=kept | output_rows(rank[1]))
            found.append(at)
        found.append(end)
    return records(found)


def by_seed(seed):
    """Networks that fall further the higher their seed."""
    return {2000: 1 - 0.05 * (seed + 1)}


def falling(traps):
    """A dozen networks by `by_seed`, with so many traps at the end."""
    return lasting(by_seed, n=12, traps=traps)


def output_rows(n_directions):
    rows = np.zeros((13, 8))
    rows[:n_directions, :n_directions] = np.eye(n_directions)
    return {"output_rows": {"rows": rows}}


def decays(learn, epochs=100_000, n=3):
    """Whether networks learn, by decay, of some that are followed for so many epochs of two updates."""
    found = [
        record(300, 1000 if learns else None, followed=2 * epochs, weight_decay=decay, seed=seed, p=11)
        for decay, learns in learn.items() for seed in range(n)
    ]  # fmt: skip
    return records(found)


STEPS = np.array([0, 100, 300, 1000, 2000, 3000, 4000])
QUIET = {
    "ildr": 1.0, "entropy": 0.8, "entropy_uncentred": 0.8, "weight_norm": 9.0, "gradient_norm": 1.0,
    "unmirrored_accuracy": 0.0, "validation_loss": 5.0,
}  # fmt: skip


def seen(probe, learned=None, *, control=False, seed=0, **columns):
    """A run and what a probe saw of it; a control has too little data."""
    norms = dict.fromkeys(STEPS.tolist(), 9.0)
    fields = {"train_fraction": 0.1 if control else 0.4, "seed": seed}
    found = record(300, learned, norms=norms, **fields)
    found.watched[probe] = pd.DataFrame(
        {"step": STEPS} | (QUIET if probe == "early_warnings" else {}) | columns
    )
    return found


def from_on(step, high, low):
    """A column that is high from a step on."""
    return np.where(step <= STEPS, high, low)


def signals(column, high, low, at, false=False):
    """A run that learns at 2,000 with an alarm at some step, and a control with a false one or none."""
    alarm, quiet = from_on(at, high, low), np.full(len(STEPS), low)
    control = seen("early_warnings", control=True, **{column: alarm if false else quiet})
    return records(seen("early_warnings", 2000, **{column: alarm}), control)


def ildr(at, false=False):
    return signals("ildr", 3.0, 1.0, at, false)


def entropy(at, false=False):
    return signals("entropy", 0.6, 0.8, at, false)


def keys(at, without=2.0, learned=2000):
    """A run whose one key has its share from a step on, and the loss without it."""
    names = ("restricted_accuracy", "random_accuracy", "all_accuracy", "held_out_accuracy")
    others = dict.fromkeys(names, 0.5) | {"excluded_loss": without, "excluded_random_loss": 1.0}
    return records(seen("fourier", learned, share_3=from_on(at, 0.4, 0.0), **others))


def formed(share=0.9, early=0.3, fall=1.0, learned=14_000):
    """A run of the published setting whose clean-up begins at 9,000 updates.

    With its key's share of the logits at the end and at 5,000, and how far its validation loss is from having
    fallen to a hundredth at 14,000.
    """
    steps = np.array([0, 100, 1400, 5000, 9000, 14_000, 20_000])
    curve = pd.DataFrame(1.0, index=range(len(steps)), columns=pd.Index(COLUMNS))
    curve["step"] = steps
    curve["validation_loss"] = [5.0, 18.0, 20.0, 19.0, 9.0, 0.1 * fall, 0.1 * fall]
    curve["train_accuracy"] = (steps >= 100).astype(float)
    curve["validation_accuracy"] = (steps >= (learned or np.inf)).astype(float)
    before = steps <= 9000
    frame = {
        "step": steps, "share_3": [0.0, 0.0, 0.12, early, 0.2, 0.2, share],
        "weight_norm": np.where(before, 10.0, 4.0), "gini_embedding": np.where(before, 0.1, 0.5),
    }  # fmt: skip
    run = Run(**PUBLISHED, p=113)
    return records(Record(run=run, curve=curve, watched={"fourier": pd.DataFrame(frame)}))


def loops(*largest, control=True):
    """Runs that learn at 2,000 with a loop of some length from 3,000 on, and a control."""
    runs = [seen("topology", 2000, seed=i, largest=from_on(3000, a, 0.1)) for i, a in enumerate(largest)]
    return records(*runs, *[seen("topology", control=True, largest=0.2)] * control)


def arms(n=3, **of):
    """Networks by arm, a keyword an arm, with what they do; see `arm`."""
    names = {
        "bare": "nothing", "fp64": "loss in fp64", "zero": "zero-sum gradient", "eps": "epsilon 1e-5",
        "stable": "StableMax", "perp": "perpGrad", "decay": "decay 1", "strong": "decay 3",
    }  # fmt: skip
    return records(*(arm(ARMS[names[key]], n, **told) for key, told in of.items()))


def arm(fields, n, *, spikes=0, collapsed=None, learned=None, grown=1.0, cosine=0.0):
    """Seeds of one arm; `spikes` in so many of them; `collapsed` from a step on, or of each seed."""
    found, steps = [], STEPS
    for seed in range(n):
        run = {"optimizer": "adam", "weight_decay": 0.0, "batch_size": "full"} | fields
        at = collapsed[seed] if isinstance(collapsed, tuple) else collapsed
        here = record(300, learned, norms=dict.fromkeys(steps.tolist(), 9.0), seed=seed, **run)
        share = np.zeros(len(steps)) if at is None else from_on(at, 0.5, 0.0)
        frame = {"step": steps, "collapse": share, "output_mean_norm": from_on(1000, grown, 1.0)}
        frame |= {"cosine": cosine, "largest_logit": 20.0, "weight_norm": 9.0}
        here.watched["softmax_collapse"] = pd.DataFrame(frame)
        here.watched["spikes"] = pd.DataFrame({"step": steps, "spikes": float(seed < spikes)})
        found.append(here)
    return found


def grown(*sizes):
    """Networks by width: when they fit and generalize, and when they memorise; None: never."""
    found, fields = [], {"operation": "x-y", "p": 31, "train_fraction": 0.7, "architecture": "mlp"}
    for width, (fitted, learned, memorised) in sizes:
        run = fields | {"n_layers": 1, "d_model": width}
        found.append(record(fitted, learned, **run))
        found.append(record(memorised, None, outliers=Run(**run).n_train, **run))
    return records(found)


TOGETHER, LAGS, SMALL = (500, 500, None), (200, 900, 300), (None, None, None)
RIGHT, SPIKED, SOME = {"fp64": {}, "zero": {}}, {"spikes": 3}, (300, 300, None)
INFLATED = {"collapsed": 1000, "grown": 30.0, "cosine": -0.99}
FALL, DIP, HOLD = {2000: 0.2}, {2000: 0.2, 3000: 1.0}, {2000: 1.0}
CASES = {
    "share_decides_the_wait": [
        Case("agrees", 9, "more: 1.5 [1.5", lambda: (shares({0.2: None, 0.3: 20, 0.7: 1.5}), records())),
        Case("agrees", 9, "With 30 %: 20 ", lambda: (shares({0.7: 1.5}), shares({0.2: None, 0.3: 20}))),
        Case("partly", 6, "of 0 runs learned", lambda: (shares({0.3: 5, 0.7: 1.5}), records())),
        Case("partly", 9, "3 of 3 runs", lambda: (shares({0.2: 40, 0.3: 20, 0.7: 1.5}), records())),
        Case("differs", 9, "more: 5 ", lambda: (shares({0.2: 6, 0.3: 5, 0.7: 5}), records())),
        Case("not reached", 3, "more: 1.5 [1.5", lambda: (shares({0.7: 1.5}), records())),
        Case(
            "not reached", 0, "Not asked for",
            lambda: (records(), shares({0.3: 20, 0.7: 1.5}, **VARIANTS["Adam, lr 3e-4"])),
        ),
        Case("not reached", 0, "Not asked for", lambda: (records(), shares({0.3: 20, 0.7: 1.5}, p=96))),
    ],
    "norm_predicts_the_delay": [
        Case("agrees", 10, "(theirs: 0.177)", lambda: cells(wait=uneven)),
        Case("partly", 10, "clock 0.44", lambda: cells(elsewhere(0.25, 0.36), wait=uneven)),
        Case("differs", 10, "1 / (lr decay) 0.00", lambda: cells(norm=higher(1.5))),
        Case("differs", 10, "same delay 0 ", lambda: cells(norm=higher(1.5), wait=elsewhere(2000, 2000))),
        Case("not reached", 2, "in 1 other cells", lambda: cells(rates=(1e-3,))),
        Case("not reached", 0, "in 0 other cells", lambda: cells(rates=(3e-4, 3e-3))),
    ],
    "norm_falls_on_the_plateau": [
        Case("agrees", 12, "in 12 of 12", cells),
        Case("partly", 12, "in 8 of 12", lambda: by_rate(-0.1, 0.25)),
        Case("differs", 12, "in 0 of 12", lambda: cells(-0.1)),
        Case("not reached", 4, "in 4 of 4", lambda: cells(rates=(1e-3,))),
    ],
    "one_kappa_for_all_cells": [
        Case("agrees", 12, "6 cells: 0.25 to 0.25", cells),
        Case("partly", 12, "6 cells: 0.1 to 0.3", lambda: by_rate(0.1, 0.3)),
        Case("differs", 12, "6 cells: 0.02 to 0.4", lambda: by_rate(0.02, 0.4)),
        Case("differs", 12, "6 cells: -0.1 to 0.25", lambda: by_rate(-0.1, 0.25)),
        Case("not reached", 4, "2 cells", lambda: cells(rates=(1e-3,))),
    ],
    "grokking_at_one_norm": [
        Case("agrees", 12, "6 cells: 1 at grokking", lambda: cells(wait=uneven)),
        Case("partly", 12, "1.5 at grokking, 1.5 at fitting", lambda: cells(norm=higher(1.5))),
        Case("differs", 12, "6 cells: 5 at grokking", lambda: cells(norm=higher(5))),
        Case("not reached", 4, "2 cells", lambda: cells(rates=(1e-3,))),
    ],
    "powers_of_rate_and_decay": [
        Case("agrees", 12, "Exponents: -1.00 of the rate, -1.00 of the decay", cells),
        Case("partly", 12, "-1.00 of the rate, 0.30", lambda: cells(wait=lambda lr, wd: 2 * wd**0.3 / lr)),
        Case("differs", 12, "1.00 of the rate, 1.00", lambda: cells(wait=lambda lr, decay: 4e6 * lr * decay)),
        Case("not reached", 6, "nan of the decay", lambda: cells(decays=(1.0,))),
    ],
    "logits_carry_the_norm": [
        Case("agrees", 9, "Taken back: 97", lambda: held({(0.5, 0.5): 300, (1, 1): 2000, (1, 0.5): 350})),
        Case("agrees", 9, "Taken back: at least 97", lambda: held(
            {(0.5, 0.5): 300, (1, 1): None, (1, 0.5): 400})),
        Case("agrees", 12, "at 0.5 of the first norm", lambda: held(
            {(0.5, 0.5): 300, (0.7, 0.5): 3000, (1, 1): 2000, (1, 0.5): 350})),
        Case("agrees", 12, "2,060 at 0.7, 360 there", lambda: held(
            {(0.5, 0.5): 300, (0.7, 0.7): 2000, (0.7, 0.5): 350, (1, 1): None})),
        Case("partly", 9, "Taken back: 58", lambda: held({(0.5, 0.5): 300, (1, 1): 2000, (1, 0.5): 1000})),
        Case("differs", 9, "Taken back: 0 %", lambda: held({(0.5, 0.5): 300, (1, 1): 2000, (1, 0.5): 2000})),
        Case("differs", 9, "Taken back: -", lambda: held({(0.5, 0.5): 300, (1, 1): 2000, (1, 0.5): None})),
        Case("not reached", 9, "4,000 (not reached) there", lambda: held(
            {(0.5, 0.5): 300, (1, 1): None, (1, 0.5): None})),
        Case("not reached", 9, "least 10.7", lambda: held({(0.5, 0.5): 300, (1, 1): None, (1, 0.5): 3500})),
        Case("not reached", 9, "at 0.5", lambda: held({(0.5, 0.5): 1500, (1, 1): 2000, (1, 0.5): 1500})),
        Case("not reached", 9, "4,000 (not reached) at 0.5", lambda: held(
            {(0.5, 0.5): None, (1, 1): 900, (1, 0.5): 900})),
        Case("not reached", 0, "not all there", lambda: held({(0.5, 0.5): 300, (1, 1): 2000})),
        Case("not reached", 0, "not all there", lambda: cells()),
    ],
    "small_norms_learn_at_once": [
        Case("agrees", 9, "1.5 at 0.35; 5 at 0.5; 20 at 1", lambda: kept({0.35: 1.5, 0.5: 5, 1.0: 20})),
        Case("agrees", 6, "not learned at 1", lambda: kept({0.5: 1.5, 1.0: None})),
        Case("partly", 6, "4 at 0.5; 20 at 1", lambda: kept({0.5: 4, 1.0: 20})),
        Case("differs", 6, "20 at 0.5; 4 at 1", lambda: kept({0.5: 20, 1.0: 4})),
        Case("not reached", 6, "1.5 at 1", lambda: kept({0.5: 1.2, 1.0: 1.5})),
        Case("not reached", 6, "not learned at 0.5", lambda: kept({0.5: None, 1.0: 20})),
        Case("not reached", 3, "1.5 at 0.5", lambda: kept({0.5: 1.5})),
    ],
    "slow_gradients_hasten": [
        Case("agrees", 18, "rate 0.003", lambda: raced(adamw=1000, ema=500, ma=800)),
        Case("agrees", 18, "AdamW in none of 2 cells", lambda: raced(adamw=None, ema=500, ma=800)),
        Case("partly", 18, "Grokfast-MA 949", lambda: raced(adamw=1000, ema=500, ma=922, perp=300)),
        Case("partly", 18, "Grokfast-EMA in none", lambda: raced(adamw=1000, ema=None, ma=500)),
        Case("differs", 18, "Grokfast-EMA 978", lambda: raced(adamw=1000, ema=950, ma=2000)),
        Case("not reached", 18, "in none of 2 cells", lambda: raced(adamw=None, ema=None, ma=None)),
        Case("not reached", 0, "Ours: x+y", lambda: raced(adamw=1000, ema=500)),
    ],
    "muon_hastens": [
        Case("agrees", 12, "decay 1", lambda: raced(adamw=1000, muon=600)),
        Case("differs", 12, "Muon 1,236", lambda: raced(adamw=1000, muon=1200)),
        Case("not reached", 0, "Ours", lambda: raced(adamw=1000, perp=100)),
    ],
    "muon_hastens_sums_alone": [
        Case("agrees", 24, "x-y: AdamW 515", lambda: both((1000, 500), (500, 900))),
        Case("agrees", 24, "Muon in none of 2", lambda: both((1000, 500), (500, None))),
        Case("partly", 24, "x+y: AdamW 515", lambda: both((500, 900), (500, 900))),
        Case("differs", 24, "x-y: AdamW 927", lambda: both((500, 900), (900, 500))),
        Case("not reached", 0, "On x-y there", lambda: both((500, 900), (500,))),
        Case("not reached", 0, "On x-y there", lambda: both((500, 900), ())),
        Case("not reached", 0, "On x+y there", lambda: both((None, None), (900, 900))),
    ],
    "accuracy_collapses_again": [
        Case("agrees", 3, "3 fell below 90 % later and 3 ended there", lambda: lasting(FALL)),
        Case("partly", 3, "3 fell below 90 % later and 0 ended there", lambda: lasting(DIP)),
        Case("differs", 3, "0 fell below 90 %", lambda: lasting(HOLD)),
        Case("not reached", 2, "Of 2 networks", lambda: lasting(FALL, n=2)),
        Case("not reached", 0, "Of 0 networks", lambda: records(seeds(300, None))),
    ],
    "traps_show_the_collapse": [
        Case("agrees", 12, "12 of 12 networks", lambda: falling(lambda seed: 1 + seed)),
        Case("partly", 12, "Correlation with", lambda: falling(lambda seed: (7 * seed + 1) % 12)),
        Case("differs", 12, "12 of 12 networks", lambda: falling(lambda seed: 20 - seed)),
        Case("differs", 12, "0 of 12 networks", lambda: falling(lambda seed: 0)),
        Case("differs", 12, "0 of 12 networks", lambda: falling(lambda seed: 0.2 * (seed > 8))),
        Case("not reached", 12, "no estimate", lambda: lasting(HOLD, n=12, traps=lambda seed: 1 + seed)),
        Case("not reached", 3, "3 of 3", lambda: lasting(FALL, traps=lambda seed: 1 + seed)),
        Case("not reached", 0, "0 of 0", lambda: lasting(FALL, n=12)),
    ],
    "most_keep_it": [
        Case("agrees", 10, "8 of 10 hold", lambda: lasting(lambda seed: FALL if seed < 2 else HOLD, n=10)),
        Case("differs", 10, "0 of 10 hold", lambda: lasting(FALL, n=10)),
        Case("differs", 30, "30 of 30 hold", lambda: lasting(HOLD, n=30)),
        Case("not reached", 0, "0 networks learned", lambda: lasting(HOLD, decays=(0.01, 10.0), n=10)),
    ],
    "a_boundary_of_decay": [
        Case("agrees", 9, "0 % at 0.01; 100 % at 0.02", lambda: decays({0.01: False, 0.02: True, 1.0: True})),
        Case("partly", 6, "0 % at 0.001; 100 % at 0.005", lambda: decays({0.001: False, 0.005: True})),
        Case("differs", 6, "100 % at 0.01", lambda: decays({0.01: True, 1.0: True})),
        Case("not reached", 6, "followed for 1,000 epochs", lambda: decays({0.01: False, 1.0: True}, 1000)),
        Case("not reached", 6, "0 % at 1", lambda: decays({0.01: False, 1.0: False})),
        Case("not reached", 3, "100 % at 1", lambda: decays({1.0: True})),
    ],
    "collapse_at_strong_decay": [
        Case("agrees", 3, "0 fitted and 0 learned", lambda: records(seeds(None, weight_decay=10.0))),
        Case("partly", 3, "3 fitted and 0 learned", lambda: records(seeds(300, weight_decay=10.0))),
        Case("differs", 3, "3 fitted and 3 learned", lambda: records(seeds(300, 900, weight_decay=10.0))),
        Case("not reached", 0, "Of 0 networks", lambda: records(seeds(300, 900))),
    ],
    "rank_is_overstated_at_grokking": [
        Case("agrees", 3, "median 2 [2, 2]", lambda: lasting(HOLD, rank=(6, 3))),
        Case("partly", 3, "median 1.2 [1.2, 1.2]", lambda: lasting(HOLD, rank=(6, 5))),
        Case("differs", 3, "median 0.5 [0.5, 0.5]", lambda: lasting(HOLD, rank=(3, 6))),
        Case("not reached", 0, "no estimate", lambda: lasting(HOLD)),
    ],
    "timing_of_decay_is_nothing": [
        Case("agrees", 18, "100 % from 0 %; 100 % from 25 %", lambda: windows(3, 3, 2, 2)),
        Case("agrees", 18, "33.3 % from 75 %", lambda: windows(0, 0, 1, 1)),
        Case("partly", 18, "0 % from 0 %", lambda: windows(0, 3, 3, 1)),
        Case("differs", 18, "66.7 % throughout", lambda: windows(0, 3, 3, 1, throughout=2)),
        Case("not reached", 18, "33.3 % throughout", lambda: windows(0, 3, 3, 1, throughout=1)),
        Case("not reached", 18, "66.7 % never", lambda: windows(3, 3, 3, 3, never=2)),
        Case("not reached", 15, "100 % throughout.", lambda: windows(3, 3, 3, 3, never=None)),
        Case("not reached", 6, "0 % never", lambda: windows()),
        Case("not reached", 0, "Learned with decay", lambda: lasting(HOLD)),
    ],
    "held_out_geometry_leads": [
        Case("agrees", 2, "median lead 1,000", lambda: ildr(1000)),
        Case("partly", 2, "in 1 of 1 controls", lambda: ildr(1000, false=True)),
        Case("partly", 2, "In time for 0 of 1", lambda: ildr(3000)),
        Case("differs", 2, "In time for 0 of 1", lambda: ildr(3000, false=True)),
        Case("not reached", 0, "Not asked for", records),
        Case("not reached", 0, "no control", lambda: records(seen("early_warnings", 2000))),
        Case("not reached", 0, "No run learned", lambda: records(seen("early_warnings", control=True))),
    ],
    "entropy_collapse_leads": [
        Case("agrees", 2, "median lead 1,000", lambda: entropy(1000)),
        Case("partly", 2, "in 1 of 1 controls", lambda: entropy(1000, false=True)),
        Case("differs", 2, "In time for 0 of 1", lambda: entropy(3000, false=True)),
        Case("not reached", 0, "no control", lambda: records(seen("early_warnings", 2000))),
    ],
    "circuit_grows_before": [
        Case("agrees", 1, "before T95 in 1 of 1", lambda: keys(1000)),
        Case("partly", 1, "before T95 in 0 of 1", lambda: keys(3000)),
        Case("partly", 1, "without others in 0", lambda: keys(1000, without=0.5)),
        Case("differs", 1, "before T95 in 0 of 1", lambda: keys(3000, without=0.5)),
        Case("not reached", 0, "No run learned", lambda: keys(1000, learned=None)),
        Case("not reached", 0, "Not asked for", formed),
        Case("not reached", 0, "Not asked for", records),
    ],
    "phases_of_the_published_setting": [
        Case("agrees", 1, "clean-up from 9,000 (theirs: 9,400)", formed),
        Case("partly", 1, "logits at 20,000", lambda: formed(early=0.2)),
        Case("partly", 1, "keys 3 with 30%", lambda: formed(share=0.3)),
        Case("differs", 1, "clean-up to never", lambda: formed(share=0.3, early=0.2, fall=9.0)),
        Case("not reached", 1, "None of 1 runs", lambda: formed(learned=None)),
        Case("not reached", 0, "Not asked for", lambda: keys(1000)),
    ],
    "loops_appear": [
        Case("agrees", 2, "2 of 2 runs", lambda: loops(0.5, 0.5)),
        Case("partly", 2, "1 of 2 runs", lambda: loops(0.5, 0.1)),
        Case("differs", 2, "0 of 2 runs", lambda: loops(0.1, 0.1)),
        Case("not reached", 0, "no control", lambda: loops(0.5, 0.5, control=False)),
    ],
    "rounding_makes_spikes": [
        Case("agrees", 9, "in 2 of 3 networks with nothing", lambda: arms(bare={"spikes": 2}, **RIGHT)),
        Case("partly", 9, "in 1 of 3 networks with nothing", lambda: arms(bare={"spikes": 1}, **RIGHT)),
        Case("partly", 9, "in 1 of 6", lambda: arms(bare=SPIKED, fp64={"spikes": 1}, zero={})),
        Case("differs", 9, "in 6 of 6", lambda: arms(bare=SPIKED, fp64=SPIKED, zero=SPIKED)),
        Case("not reached", 9, "in 0 of 3", lambda: arms(bare={}, **RIGHT)),
        Case("not reached", 6, "in 3 of 3", lambda: arms(bare=SPIKED, fp64={})),
        Case("not reached", 3, "in 3 of 3", lambda: arms(zero=SPIKED)),
    ],
    "epsilon_stops_spikes": [
        Case("agrees", 6, "in 0 of 3 with", lambda: arms(bare={"spikes": 2}, eps={}, fp64=SPIKED)),
        Case("partly", 6, "in 1 of 3", lambda: arms(bare={"spikes": 2}, eps={"spikes": 1})),
        Case("differs", 6, "in 2 of 3", lambda: arms(bare={"spikes": 2}, eps={"spikes": 2})),
        Case("not reached", 6, "in 0 of 3", lambda: arms(bare={}, eps={"spikes": 1})),
        Case("not reached", 3, "in 2 of 3", lambda: arms(bare={"spikes": 2})),
    ],
    "rounding_inflates": [
        Case("agrees", 9, "nothing done (median 30)", lambda: arms(bare=INFLATED, **RIGHT)),
        Case("partly", 9, "in 3 of 6", lambda: arms(bare=INFLATED, fp64={"grown": 3.0}, zero={})),
        Case("partly", 9, "in 0 of 3", lambda: arms(bare=INFLATED | {"cosine": -0.5}, **RIGHT)),
        Case("differs", 9, "in 0 of 3", lambda: arms(bare={"collapsed": 300}, fp64={"grown": 3.0}, zero={})),
        Case("not reached", 9, "in 0 of 3", lambda: arms(bare={}, **RIGHT)),
        Case("not reached", 6, "in 3 of 3", lambda: arms(bare=INFLATED, zero={})),
    ],
    "stablemax_lets_learn": [
        Case("agrees", 9, "with the loss in fp64: 3 of 3", lambda: arms(
            bare=INFLATED, stable={"learned": 1000}, fp64={"learned": 1000})),
        Case("partly", 6, "Learned with StableMax: 0", lambda: arms(bare=INFLATED, stable={})),
        Case("partly", 6, "learned: 0 of 3", lambda: arms(bare={}, stable={"learned": 1000})),
        Case("differs", 6, "learned: 0", lambda: arms(bare=INFLATED | {"learned": 1000}, stable={})),
        Case("not reached", 3, "learned: 3", lambda: arms(bare=INFLATED)),
    ],
    "right_angles_prevent_collapse": [
        Case("agrees", 6, "(from update 1,000), 0 of 3 with perpGrad.", lambda: arms(bare=INFLATED, perp={})),
        Case("partly", 6, "2 of 3 with perpGrad", lambda: arms(bare=INFLATED, perp={"collapsed": SOME})),
        Case("partly", 6, "(from update 2,000)", lambda: arms(bare=INFLATED, perp={"collapsed": 2000})),
        Case("differs", 6, "3 of 3 with perpGrad", lambda: arms(bare=INFLATED, perp={"collapsed": 1000})),
        Case("not reached", 6, "0 of 3 with nothing", lambda: arms(bare={}, perp={})),
        Case("not reached", 3, "0 of 0 with perpGrad", lambda: arms(bare=INFLATED)),
    ],
    "right_angles_hasten": [
        Case("agrees", 9, "hold: 300 with perpGrad", lambda: arms(
            perp={"learned": 300}, decay={"learned": 1000}, strong={}, eps={"learned": 100})),
        Case("differs", 9, "best decay, 3", lambda: arms(
            perp={"learned": 300}, decay={"learned": 1000}, strong={"learned": 300})),
        Case("differs", 6, "hold: never with", lambda: arms(perp={}, decay={"learned": 1000})),
        Case("agrees", 6, "never with AdamW.", lambda: arms(perp={"learned": 300}, decay={})),
        Case("not reached", 6, "hold: never", lambda: arms(perp={}, decay={})),
        Case("not reached", 0, "not both", lambda: arms(perp={"learned": 300}, eps={"learned": 100})),
    ],
    "delay_starts_at_the_crossing": [
        Case("agrees", 6, "lags from 1,832 on (not at 788)", lambda: grown(
            (3, SMALL), (4, TOGETHER), (8, LAGS))),
        Case("partly", 8, "lags from 1,278 on", lambda: grown(
            (4, TOGETHER), (6, (200, 900, None)), (7, (200, 900, None)), (8, LAGS))),
        Case("differs", 8, "lags from 788 on", lambda: grown(
            (3, TOGETHER), (4, (200, 900, None)), (16, (200, 900, None)), (24, LAGS))),
        Case("not reached", 4, "lags at no size", lambda: grown((4, TOGETHER), (8, (500, 500, 300)))),
        Case("not reached", 2, "lags from 1,832 on (the smallest)", lambda: grown((8, LAGS))),
        Case("not reached", 4, "lags from 1,278 on (the smallest)", lambda: grown(
            (6, (200, 900, None)), (8, LAGS))),
        Case("differs", 6, "lags from 567 on (the smallest)", lambda: grown(
            (3, (200, 900, None)), (8, (200, 900, None)), (10, LAGS))),
    ],
    "bits_a_parameter": [
        Case("agrees", 4, "1.82 to 4.23 bits", lambda: grown((4, TOGETHER), (8, LAGS))),
        Case("partly", 4, "4.23 to 5.88 bits", lambda: grown((3, TOGETHER), (4, LAGS))),
        Case("differs", 4, "0.25 to 0.39 bits", lambda: grown((24, TOGETHER), (32, LAGS))),
        Case("not reached", 2, "on (the smallest)", lambda: grown((8, LAGS))),
        Case("not reached", 2, "at no size", lambda: grown((8, TOGETHER))),
    ],
}  # fmt: skip
PARAMETERS = [
    pytest.param(name, case, id=f"{name}-{case.kind}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]
BESIDE = {  # rows of runs that others stand beside
    "norm_predicts_the_delay", "norm_falls_on_the_plateau", "one_kappa_for_all_cells", "grokking_at_one_norm",
    "powers_of_rate_and_decay", "accuracy_collapses_again", "traps_show_the_collapse", "most_keep_it",
    "collapse_at_strong_decay", "rank_is_overstated_at_grokking",
}  # fmt: skip
FIRST = [parameter for parameter in PARAMETERS if parameter.id.endswith("-0")]


def decided(name, case):
    """The verdict on the case's records, one argument for each experiment."""
    found = case.records()
    return ROWS[name].decide(*(found if isinstance(found, tuple) else (found,)))


@pytest.mark.parametrize(("name", "case"), PARAMETERS)
def test_row_is_decided_by_its_rule(name, case):
    found = decided(name, case)
    assert found.kind == case.kind, found.measured
    assert found.n == case.n, found.measured
    assert case.found in found.measured


def test_every_row_can_agree_differ_and_stay_open():
    assert list(CASES) == list(ROWS)
    for name, cases in CASES.items():
        assert {"agrees", "differs", "not reached"} <= {case.kind for case in cases}, name


@pytest.mark.parametrize(("name", "case"), FIRST)
def test_verdict_does_not_depend_on_the_order_of_records(name, case):
    found = case.records()
    there = found if isinstance(found, tuple) else (found,)
    back = [records(part[::-1], missing=part.missing[::-1]) for part in there]
    first, second = (ROWS[name].decide(*parts) for parts in (there, back))
    assert (first.kind, first.n) == (second.kind, second.n)


@pytest.mark.parametrize(("name", "case"), FIRST)
def test_missing_runs_decide_nothing(name, case):
    found = case.records()
    parts = [records(missing=part.runs) for part in (found if isinstance(found, tuple) else (found,))]
    verdict = ROWS[name].decide(*parts)
    assert (verdict.kind, verdict.n) == ("not reached", 0)
    assert re.fullmatch(r"None of \d+ runs is on record.", verdict.measured)


@pytest.mark.parametrize("name", ROWS)
def test_what_was_not_asked_for_is_said(name):
    empty = [records() for _ in ROWS[name].experiments]
    assert ROWS[name].decide(*empty) == Verdict("not reached", "Not asked for.", 0)


def test_a_verdict_has_our_setting_and_what_is_missing():
    asked = shares({0.3: 20, 0.7: 1.5}, d_model=64)
    asked.missing = [Run(operation="x+y", train_fraction=0.8, d_model=32)]
    told = ROWS["share_decides_the_wait"].decide(asked, records()).measured
    setting = "Ours: x+y mod 97, 30 to 80 % of the table; 2-layer transformer, width 32 to 64; seeds 0 to 2."
    assert told.endswith(f"{setting} Missing: 1 of 7 runs.")


def test_run_of_two_experiments_counts_once_as_far_as_it_was_followed():
    short = shares({0.3: None, 0.7: 1.5})
    long = shares({0.3: 20})
    found = ROWS["share_decides_the_wait"].decide(short, long)
    assert (found.kind, found.n) == ("partly", 6)
    assert "With 30 %: 20 " in found.measured


# All of them


def test_rows_are_numbered_and_decided_by_experiments():
    assert list(LEDGER) == [f"F{i}" for i in range(1, len(LEDGER) + 1)]
    assert len(ROWS) == len(LEDGER)
    for name, row in LEDGER.items():
        assert row.id == name
        assert set(row.experiments) <= set(EXPERIMENTS)
        assert row in literature.of_page(row.experiments[0]).values()
        assert row.where
        assert row.setting
        rule = row.decide.__doc__ or ""
        assert rule.startswith("Decided by ")
        assert {kind for kind in KINDS if f"{kind}:" in rule} >= {"agrees", "differs", "not reached"}


def test_runs_of_one_question_do_not_count_for_another():
    strangers = {
        "norm_clock": [*held({(1, 1): 2000, (1, 0.5): 350}), *kept({0.5: 5})],
        "retention": [*windows(3, 2, 1, 0), *seeds(300, 4000, weight_decay=0.2, p=11)],
    }
    asked = [row for row in FIRST if row.values[0] in BESIDE]
    for name, case in (row.values for row in asked):
        alone, experiment = case.records(), ROWS[name].experiments[0]
        found = ROWS[name].decide(records(alone, strangers[experiment]))
        assert (found.kind, found.n) == (case.kind, case.n), found.measured


def test_methods_are_compared_on_the_operation_on_which_most_stand():
    of_sums = raced(adamw=1000, ema=500, ma=800, muon=600)
    for name in ("slow_gradients_hasten", "muon_hastens"):
        alone = ROWS[name].decide(of_sums)
        beside = ROWS[name].decide(records(raced(operation="x-y", adamw=100, muon=900), of_sums))
        assert beside == alone


def test_nothing_on_record_decides_nothing(own_folders):
    found = literature.read("smoke")
    assert set(found) == {name for row in LEDGER.values() for name in row.experiments}
    table = literature.verdicts(found)
    assert list(table["id"]) == list(LEDGER)
    assert set(table["verdict"]) == {"not reached"}
    assert table["setting"].tolist() == [row.setting for row in LEDGER.values()]
