import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from grokking_core import claims
from grokking_core.claims import CLAIMS, KINDS, Verdict
from grokking_core.paper.experiments import EXPERIMENTS, VARIANTS
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.weights import cosets

FULL, ADAM, FULL_NOISE, WEIGHTS, DROPOUT, DECAY, TO_INIT, LOW, HIGH = VARIANTS
S5 = "s5:xy"
LONG = 100_000  # the paper's budget
FIGURE_1 = {"operation": "x/y", "train_fraction": 0.5, "optimizer": "adam", "weight_decay": 0.0}


# Made-up records


def record(
    operation=S5,
    train=300,
    validation=None,
    *,
    followed=4000,
    leaves=None,
    best=0.02,
    unmirrored=None,
    loss=None,
    kept=None,
    **fields,
):
    """A run that fits its training set at `train` and learns at `validation`, or never where that is None.

    `best` is the validation accuracy where it does not learn, `leaves` the step at which it is 20 %,
    `unmirrored` the accuracy on such pairs if it is another, `loss` the validation loss by step.
    """
    loss = loss or {0: 1.0}
    end = max(step for step in (followed, train, validation, *loss) if step)
    steps = sorted({0, 10, end, train or 0, leaves or 0, validation or 0, *loss})
    known = [best * (step > 0) for step in steps]
    if validation:
        known = [float(step >= validation) for step in steps]
    if leaves:
        known = [max(share, 0.2 * (step >= leaves)) for share, step in zip(known, steps, strict=True)]
    curve = pd.DataFrame(1.0, index=range(len(steps)), columns=pd.Index(COLUMNS))
    curve["step"] = steps
    curve["train_accuracy"] = [1.0 if train and step >= train else 0.5 for step in steps]
    curve["validation_accuracy"] = known
    curve["unmirrored_accuracy"] = known if unmirrored is None else unmirrored
    curve["validation_loss"] = np.interp(steps, list(loss), list(loss.values()))
    return Record(run=Run(operation=operation, **fields), curve=curve, kept=kept or {})


def records(*found, missing=()):
    flat = [each for part in found for each in (part if isinstance(part, list) else [part])]
    result = Records(flat, asked=[])
    result.missing = list(missing)
    return result


def seeds(operation=S5, train=300, validation=None, n=3, **fields):
    """Some seeds of one configuration, a few percent apart."""
    return [
        record(operation, train and int(train * f), validation and int(validation * f), seed=seed, **fields)
        for seed, f in enumerate((1, 1.03, 1.06)[:n])
    ]


def curves(train=700, validation=None, **fields):
    """Figure 1 (left), as in the paper up to `fields`."""
    return records(seeds(train=train, validation=validation, **FIGURE_1 | fields))


def fractions(train, validation, **fields):
    """Figure 1 (centre): steps by training fraction."""
    return records(
        *(seeds(train=t, validation=validation.get(f), train_fraction=f, **fields) for f, t in train.items())
    )


def slope(percent, among=(0.25, 0.26, 0.27, 0.28, 0.29, 0.3)):
    """Figure 1 (centre): updates that grow by so many percent for one percentage point less."""
    steps = {f: int(20_000 * (1 + percent / 100) ** (100 * (0.3 - f))) for f in among}
    return fractions(dict.fromkeys(among, 2000), steps)


def learned_from(smallest, among):
    """Steps to learning by fraction: None below the smallest that suffices, or everywhere without one."""
    return {f: 1000 if smallest is not None and f >= smallest else None for f in among}


def operations(needed, among=(0.2, 0.4, 0.6, 0.8), missing=(), **fields):
    """Figure 2 (right): the smallest fraction that suffices by operation, a run a fraction."""
    found = (
        record(name, 300, step, train_fraction=f, **fields)
        for name, smallest in needed.items()
        for f, step in learned_from(smallest, among).items()
    )
    return records(list(found), missing=[Run(operation=name) for name in missing])


def variants(needed, among=(0.2, 0.4, 0.6, 0.8), operation=S5, train=300, budgets=None, missing=(), **fields):
    """Figure 2 (left): the smallest fraction that suffices by variant, a run a fraction."""
    fitted = train if isinstance(train, dict) else dict.fromkeys(VARIANTS, train)
    found = (
        record(operation, fitted[name], step, followed=(budgets or {}).get(name, 4000), train_fraction=f,
               **VARIANTS[name], **fields)
        for name, smallest in needed.items()
        for f, step in learned_from(smallest, among).items()
    )  # fmt: skip
    return records(list(found), missing=[Run(operation=operation, **VARIANTS[name]) for name in missing])


def fitting(train, n_missing=0, **fields):
    """One run of each variant, with the steps it takes to fit its training set; the first are missing."""
    shown, missing = list(VARIANTS)[n_missing:], list(VARIANTS)[:n_missing]
    return variants(dict.fromkeys(shown), among=(0.8,), train=train, missing=missing, **fields)


# Made-up output rows


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def rows(values):
    return {"output_rows": {"rows": values}}


def coset_rows(order, n=5, seed=0):
    """Rows by left coset of a subgroup: the paper's for order 10, S4 or a dihedral group for 24 or 8."""
    subgroup = next(group for group in cosets.subgroups(n) if group.order == order)
    labels = cosets.labels(subgroup, "left")
    return rows(4 * np.eye(labels.max() + 1)[labels] + noise(len(labels), labels.max() + 1, seed=seed))


def line_rows(step, p=97):
    """Residues on a circle on which x and x + step are neighbours; op and = come after them."""
    angle = 2 * np.pi * pow(step, -1, p) * np.arange(p + 2) / p
    return rows(np.stack([np.cos(angle), np.sin(angle)], axis=1))


def no_rows(elements, seed=0):
    return rows(noise(elements + 2, 16, seed=seed))


def product(kept, validation=1000, **fields):
    return record(S5, 300, validation, kept=kept, train_fraction=0.9, **fields)


def addition(kept, validation=1000, **fields):
    return record("x+y", 300, validation, kept=kept, **fields)


def networks(lines, cosets_of_s4, without_knows=True):
    """Two seeds of both operations; the networks with decay, those without, or both have a structure."""
    found = []
    for seed in range(2):
        for decay, name in ((1.0, "with"), (0.0, "without")):
            fields = {"weight_decay": decay, "seed": seed}
            fields["validation"] = 1000 if decay or without_knows else None
            found.append(addition(line_rows(8) if name in lines else no_rows(97, seed), **fields))
            of_group = coset_rows(8, 4, seed) if name in cosets_of_s4 else no_rows(24, seed)
            found.append(product(of_group, n=4, **fields))
    return records(found)


def scattered(trend, n=16, spread=1.0, unfitted=0):
    """Networks the sharpness of which goes with their accuracy, and sharp ones that did not fit."""
    sharp = {"sharpness": {"phi": np.full(3, 1e3), "released": np.zeros(3)}}
    found = [record(train=None, best=0.0, seed=n + i, kept=sharp) for i in range(unfitted)]
    for i in range(n):
        phi = np.full(3, 5 + trend * i + 2 * np.sin(7 * i))
        found.append(record(best=spread * i / n, seed=i, kept={"sharpness": {"phi": phi, "released": -phi}}))
    return records(found)


def outliers(few, many, *, train=300, clean=1000, followed=4000):
    """Three seeds without outliers, with 10 and with 1,000, and the best accuracy that these come to."""
    found = seeds(validation=clean)
    for count, best in ((10, few), (1000, many)):
        found += seeds(train=train, outliers=count, best=best, followed=followed)
    return records(found)


def renamed(addition_steps, product_steps):
    """C22: steps to learning, a seed each."""
    return records(
        [record("x+y", 300, step, p=96, seed=seed) for seed, step in enumerate(addition_steps)],
        [record("x*y!=0", 300, step, p=97, seed=seed) for seed, step in enumerate(product_steps)],
    )


# What each claim is decided to be


class Case(NamedTuple):
    kind: str
    n: int
    told: str  # part of what is measured
    records: Callable[[], Records]


HILL = {0: 4.0, 100: 1.0, 100_000: 9.0, 1_000_000: 2.0}
EARLY_HILL = {0: 4.0, 100: 1.0, 1000: 9.0, 4000: 2.0}
CLIMB, SLOPE = {0: 4.0, 100: 1.0, 4000: 9.0}, {0: 4.0, 100: 3.0, 4000: 2.0}
SHARES = (0.3, 0.5, 0.8)
CASES = {
    "c1": [
        Case("agrees", 3, "Gap: 1,143", lambda: curves(700, 800_000, leaves=90_000)),
        Case("partly", 3, "Gap: 42.9", lambda: curves(700, 30_000, leaves=9000)),
        Case("partly", 3, "training: 3,090", lambda: curves(3000, 900_000, leaves=90_000)),
        Case("partly", 3, "validation: 20,000", lambda: curves(700, 800_000, leaves=20_000)),
        Case("differs", 3, "Gap: 1.29", lambda: curves(700, 900)),
        Case("differs", 3, "to 99 %: not reached", lambda: curves(700, followed=1_000_000)),
        Case("not reached", 0, "1: gap 3.43", lambda: curves(700, 2400, optimizer="adamw", weight_decay=1.0)),
        Case(
            "not reached", 0, "Not asked for. Instead, x+y mod", lambda: curves(700, 800_000, operation="x+y")
        ),
        Case("not reached", 0, "Too few runs without", lambda: curves(700)),
        Case(
            "not reached",
            1,
            "Missing: 2 of 3",
            lambda: records(
                curves(700, 800_000)[:1], missing=[Run(**FIGURE_1, seed=seed) for seed in (1, 2)]
            ),
        ),
    ],
    "c2": [
        Case("agrees", 3, "peak after 100,000", lambda: curves(loss=HILL)),
        Case("partly", 3, "peak after 1,000", lambda: curves(loss=EARLY_HILL)),
        Case("partly", 3, "at weight decay 1 ", lambda: curves(loss=HILL, weight_decay=1.0)),
        Case("differs", 3, "in 0 of 3 runs at", lambda: curves(700, 2000, loss=SLOPE)),
        Case("differs", 3, "in 0 of 3 runs at", lambda: curves(loss=CLIMB, followed=1_000_000)),
        Case("not reached", 0, "no time", lambda: curves(loss=CLIMB)),
        Case("not reached", 0, "no time", lambda: curves(loss=SLOPE)),
        Case("not reached", 0, "no time", lambda: curves(loss={0: np.nan})),
    ],
    "c3": [
        Case("agrees", 18, "in percent: 45", lambda: slope(45)),
        Case("partly", 18, "in percent: 20", lambda: slope(20)),
        Case("partly", 18, "in percent: 90", lambda: slope(90)),
        Case("differs", 18, "in percent: ", lambda: slope(0)),
        Case("differs", 18, "in percent: -10", lambda: slope(-10)),
        Case("not reached", 0, "Not asked for. Instead, S5 product", lambda: slope(45, (0.4, 0.5))),
        Case("not reached", 6, "no estimate", lambda: fractions({0.25: 2000, 0.3: 2000}, {0.3: 9000})),
        Case("not reached", 3, "no estimate", lambda: slope(45, (0.25,))),
    ],
    "c4": [
        Case("agrees", 9, "2,000 to 4,240", lambda: fractions({0.3: 4000, 0.5: 3000, 0.8: 2000}, {})),
        Case("partly", 9, "900 to 1,378", lambda: fractions({0.3: 900, 0.5: 1100, 0.8: 1300}, {})),
        Case("partly", 6, "3,000 to 42,400", lambda: fractions({0.3: 40_000, 0.5: 3000}, {})),
        Case("differs", 9, "9,000 to 15,900", lambda: fractions({0.3: 9000, 0.5: 12_000, 0.8: 15_000}, {})),
        Case("differs", 6, "900 to 954", lambda: fractions({0.3: 900, 0.8: None}, {}, followed=20_000)),
        Case("not reached", 3, "900 to 954", lambda: fractions({0.3: 900, 0.8: None}, {})),
        Case("not reached", 3, "900 to 954", lambda: fractions({0.3: 900}, {})),
    ],
    "c5": [
        Case(
            "agrees",
            6,
            "gap at 50 %, the smallest fraction that sufficed: 10 ",
            lambda: fractions(dict.fromkeys(SHARES, 900), {0.5: 9000, 0.8: 1200}),
        ),
        Case("partly", 6, "at 80 %: 6.67", lambda: fractions({0.5: 900, 0.8: 900}, {0.5: 9000, 0.8: 6000})),
        Case("differs", 6, "at 80 %: 6.67", lambda: fractions({0.5: 900, 0.8: 900}, {0.5: 2000, 0.8: 6000})),
        Case("not reached", 0, "Fewer than two", lambda: fractions({0.5: 900, 0.8: 900}, {0.8: 1000})),
        Case("not reached", 0, "Fewer than two", lambda: fractions({0.5: 900, 0.8: 900}, {})),
    ],
    "c6": [
        Case(
            "agrees",
            24,
            "x+y 20 to 40 %",
            lambda: operations(
                {"x+y": 0.4, "x-y": 0.6, "x/y": 0.6, "x^2+y^2": 0.4, "x^3+xy": None, "x^2+xy+y^2+x": 0.8}
            ),
        ),
        Case(
            "partly",
            16,
            "in 4 of 5 pairs",
            lambda: operations({"x+y": 0.6, "x-y": 0.4, "x^3+xy": None, "s5:xyx": None}),
        ),
        Case(
            "differs",
            20,
            "in 0 of 7 pairs",
            lambda: operations({"x+y": None, "x-y": 0.8, "x/y": 0.8, "x^2+y^2": 0.8, "x^3+xy": 0.4}),
        ),
        Case("not reached", 8, "1 pairs are told apart", lambda: operations({"x+y": 0.4, "x-y": 0.6})),
        Case("not reached", 12, "0 pairs", lambda: operations(dict.fromkeys(("x+y", "x-y", "x^3+xy")))),
    ],
    "c7": [
        Case("agrees", 8, "x-y 20 to 40 %; x/y 20 to 40 %", lambda: operations({"x-y": 0.4, "x/y": 0.4})),
        Case("agrees", 8, "x/y 40 to 60 %", lambda: operations({"x-y": 0.4, "x/y": 0.6})),
        Case("differs", 8, "x/y 60 to 80 %", lambda: operations({"x-y": 0.4, "x/y": 0.8})),
        Case("differs", 8, "x/y above 80 %", lambda: operations({"x-y": 0.4, "x/y": None})),
        Case("not reached", 8, "x/y above 80 %", lambda: operations({"x-y": 0.8, "x/y": None})),
        Case("not reached", 8, "x/y above 80 %", lambda: operations({"x-y": None, "x/y": None})),
        Case("not reached", 8, "x/y at most 20 %", lambda: operations({"x-y": 0.2, "x/y": 0.2})),
        Case("not reached", 4, "Missing: 1 of 5", lambda: operations({"x-y": 0.4}, missing=["x/y"])),
    ],
    "c8": [
        Case(
            "agrees",
            16,
            "x+y less than x-y",
            lambda: operations({"x+y": 0.4, "x-y": 0.6, "x^2+y^2": 0.4, "x^2+xy+y^2+x": None}),
        ),
        Case("partly", 8, "x+y less than x-y", lambda: operations({"x+y": 0.4, "x-y": 0.6})),
        Case(
            "partly",
            16,
            "x^2+y^2 more than",
            lambda: operations({"x+y": 0.4, "x-y": 0.6, "x^2+y^2": 0.8, "x^2+xy+y^2+x": 0.4}),
        ),
        Case("differs", 8, "x+y more than x-y", lambda: operations({"x+y": 0.8, "x-y": 0.6})),
        Case(
            "differs",
            8,
            "x+y more than x-y",
            lambda: records(  # it only ignores the order
                operations({"x+y": 0.4}, unmirrored=0.1),
                operations({"x-y": 0.6}),
            ),
        ),
        Case("not reached", 8, "x+y not told apart from x-y", lambda: operations({"x+y": 0.4, "x-y": 0.4})),
        Case("not reached", 4, "Missing: 1 of 5", lambda: operations({"x+y": 0.4}, missing=["x-y"])),
    ],
    "c9": [
        Case(
            "agrees", 2, "any run: 2 %", lambda: operations({"x^3+xy^2+y": None}, (0.5, 0.95), followed=LONG)
        ),
        Case(
            "partly",
            1,
            "any run: 70 %",
            lambda: operations({"x^3+xy^2+y": None}, (0.95,), followed=LONG, best=0.7),
        ),
        Case("differs", 2, "50 to 90 %", lambda: operations({"x^3+xy^2+y": 0.9}, (0.5, 0.9))),
        Case(
            "not reached",
            1,
            "4,000 updates; the paper's, for 100,000",
            lambda: operations({"x^3+xy^2+y": None}, (0.95,)),
        ),
        Case("not reached", 1, "above 90 %", lambda: operations({"x^3+xy^2+y": None}, (0.9,), followed=LONG)),
    ],
    "c10": [
        Case("agrees", 2, "50 to 90 %", lambda: operations({"x/y|x-y": 0.9}, (0.5, 0.9))),
        Case("differs", 2, "above 95 %", lambda: operations({"x/y|x-y": None}, (0.5, 0.95), followed=LONG)),
        Case("not reached", 2, "for 4,000 updates", lambda: operations({"x/y|x-y": None}, (0.5, 0.95))),
        Case("not reached", 1, "above 50 %", lambda: operations({"x/y|x-y": None}, (0.5,), followed=LONG)),
    ],
    "c11": [
        Case(
            "agrees",
            16,
            "Of 3 other variants, 2 need more than twice as much",
            lambda: variants({DECAY: 0.4, ADAM: None, DROPOUT: None, WEIGHTS: 0.6}),
        ),
        Case(
            "partly",
            16,
            "1 need more than twice as much as decay 1, 0 do not, and 2 are open",
            lambda: variants({DECAY: 0.4, ADAM: None, DROPOUT: 0.6, FULL: None}, budgets={FULL: 1000}),
        ),
        Case("differs", 12, "2 do not", lambda: variants({DECAY: 0.4, ADAM: 0.4, DROPOUT: 0.4})),
        Case("not reached", 8, "1 are open", lambda: variants({DECAY: None, ADAM: None})),
        Case("not reached", 8, "1 are open", lambda: variants({DECAY: 0.4, ADAM: 0.6})),
        Case("not reached", 4, "Missing: 1 of 5", lambda: variants({DECAY: 0.4}, missing=[ADAM])),
    ],
    "c12": [
        Case(
            "agrees",
            12,
            "'AdamW, decay 1' 20 to 40 %",
            lambda: variants({DECAY: 0.4, TO_INIT: 0.6, ADAM: 0.8}),
        ),
        Case("partly", 12, "not told apart", lambda: variants({DECAY: 0.4, TO_INIT: 0.4, ADAM: 0.8})),
        Case(
            "partly",
            12,
            "'AdamW, decay 1' more than 'AdamW, decay to init'",
            lambda: variants({DECAY: 0.6, TO_INIT: 0.4, ADAM: 0.8}),
        ),
        Case(
            "differs",
            12,
            "'AdamW, decay 1' more than 'AdamW, decay to init'",
            lambda: variants({DECAY: 0.6, TO_INIT: 0.4, ADAM: 0.4}),
        ),
        Case("not reached", 12, "above 80 %", lambda: variants({DECAY: None, TO_INIT: None, ADAM: None})),
    ],
    "c13": [
        Case(
            "agrees",
            16,
            "weight noise less than 'minibatch, Adam'",
            lambda: variants({FULL: 0.8, ADAM: 0.6, WEIGHTS: 0.4, FULL_NOISE: 0.6}),
        ),
        Case(
            "partly",
            12,
            "'minibatch, Adam' not told apart from 'full batch, Adam'",
            lambda: variants(  # given up earlier
                {FULL: None, ADAM: 0.6, WEIGHTS: 0.4}, budgets={FULL: 1000}
            ),
        ),
        Case("differs", 8, "weight noise more than 'minibatch", lambda: variants({ADAM: 0.4, WEIGHTS: 0.6})),
        Case("not reached", 8, "above 80 %", lambda: variants({FULL: None, ADAM: None})),
    ],
    "c14": [
        Case(
            "agrees",
            12,
            "another: 'Adam, lr 3e-4', 'Adam, lr 3e-3'.",
            lambda: variants({LOW: None, ADAM: 0.6, HIGH: 0.8}),
        ),
        Case("partly", 12, "another: 'Adam, lr 3e-3'.", lambda: variants({LOW: 0.6, ADAM: 0.6, HIGH: 0.8})),
        Case("differs", 12, "another: none", lambda: variants({LOW: 0.6, ADAM: 0.6, HIGH: 0.6})),
        Case("not reached", 12, "above 80 %", lambda: variants({LOW: None, ADAM: None, HIGH: None})),
        Case("not reached", 12, "at most 20 %", lambda: variants({LOW: 0.2, ADAM: 0.2, HIGH: 0.2})),
        Case("not reached", 8, "Missing: 1 of 9", lambda: variants({LOW: 0.6, ADAM: 0.6}, missing=[HIGH])),
    ],
    "c15": [
        Case("agrees", 9, "Of 9 variants, 9 within 10,000.", lambda: fitting(300)),
        Case(
            "partly",
            8,
            "open: 'full batch, Adam'.",
            lambda: fitting(dict.fromkeys(VARIANTS, 300) | {FULL: None}),
        ),
        Case(
            "partly",
            9,
            "late: 'full batch, Adam'.",
            lambda: fitting(dict.fromkeys(VARIANTS, 300) | {FULL: 20_000}),
        ),
        Case("partly", 8, "open: 'full batch, Adam'.", lambda: fitting(300, n_missing=1)),
        Case("differs", 9, "after 20,000 updates (n = 9). Of 9 variants, 0", lambda: fitting(20_000)),
        Case(
            "differs",
            9,
            "0 within 10,000; late",
            lambda: fitting(None, budgets=dict.fromkeys(VARIANTS, 10_000)),
        ),
        Case("not reached", 0, "0 within 10,000; open", lambda: fitting(None)),
        Case("not reached", 4, "Missing: 5 of 9", lambda: fitting(300, n_missing=5)),
    ],
    "c16": [
        Case("agrees", 8, "'full batch, Adam' 60 to 80 %", lambda: variants({FULL: 0.8, FULL_NOISE: 0.6})),
        Case("partly", 8, "above 80 %", lambda: variants({FULL: None, FULL_NOISE: 0.6})),
        Case(
            "differs",
            2,
            "above 90 %",
            lambda: variants({FULL: None, FULL_NOISE: None}, (0.9,), budgets=dict.fromkeys(VARIANTS, LONG)),
        ),
        Case(
            "not reached",
            1,
            "for 1,000 updates",
            lambda: variants({FULL: None}, (0.9,), budgets={FULL: 1000}),
        ),
        Case("not reached", 1, "above 40 %", lambda: variants({FULL: None}, (0.4,), budgets={FULL: LONG})),
    ],
    "c17": [
        Case(
            "agrees",
            2,
            "the paper's, D5, in 2",
            lambda: records([product(coset_rows(10, seed=seed), seed=seed) for seed in range(2)]),
        ),
        Case("partly", 1, "for S4 (order 24, p", lambda: records(product(coset_rows(24)))),
        Case("differs", 1, "in 0 of 1 networks", lambda: records(product(no_rows(120)))),
        Case(
            "not reached",
            0,
            "0 of 1 networks know",
            lambda: records(product(coset_rows(10), validation=None)),
        ),
        Case("not reached", 0, "0 of 1 networks know", lambda: records(product({}))),
        Case("not reached", 0, "Not asked for", lambda: records(product(coset_rows(8, n=4), n=4))),
        Case(
            "not reached",
            1,
            "Missing: 1 of 2",
            lambda: records(product(coset_rows(10)), missing=[Run(operation=S5, seed=1)]),
        ),
    ],
    "c18": [
        Case(
            "agrees",
            2,
            "in 2 of 2 networks, of step 8 in 1",
            lambda: records(addition(line_rows(8)), addition(line_rows(5), seed=1)),
        ),
        Case(
            "partly", 2, "in 1 of 2", lambda: records(addition(line_rows(8)), addition(no_rows(97), seed=1))
        ),
        Case("differs", 1, "in 0 of 1 networks", lambda: records(addition(no_rows(97)))),
        Case(
            "not reached",
            0,
            "0 of 1 networks know x+y",
            lambda: records(addition(line_rows(8), validation=None)),
        ),
        Case(
            "not reached",
            0,
            "0 of 1 networks know x+y",
            lambda: records(addition(line_rows(8), unmirrored=0.02)),
        ),
        Case("not reached", 0, "Not asked for", lambda: records(addition(line_rows(8), weight_decay=0.0))),
        Case("not reached", 0, "Not asked for", lambda: records(addition(line_rows(8, 89), p=89))),
    ],
    "c19": [
        Case("agrees", 8, "4 of 4 networks without decay know", lambda: networks(["with"], ["with"])),
        Case(
            "partly", 8, "0 of 4 networks without", lambda: networks(["with"], ["with"], without_knows=False)
        ),
        Case("partly", 8, "S4 product: z is larger with decay by -", lambda: networks(["with"], ["without"])),
        Case(
            "differs",
            8,
            "x+y mod 97: z is larger with decay by -",
            lambda: networks(["without"], ["without"]),
        ),
        Case(
            "not reached",
            2,
            "Missing: 1 of 3",
            lambda: records(
                addition(line_rows(8)), addition(no_rows(97), weight_decay=0.0), missing=[Run(operation=S5)]
            ),
        ),
        Case(
            "not reached",
            0,
            "0 of 0",
            lambda: records(addition(line_rows(8), validation=None), addition(no_rows(97), weight_decay=0.0)),
        ),
    ],
    "c20": [
        Case("agrees", 6, "Of 6 runs with outliers 6 fitted", lambda: outliers(0.98, 0.3)),
        Case("partly", 6, "-0.02 [-0.02, -0.02] (n = 3) with few", lambda: outliers(0.98, 0.97)),
        Case("partly", 6, "-0.5 [-0.5, -0.5] (n = 3) with few", lambda: outliers(0.5, 0.3)),
        Case(
            "partly",
            6,
            "0 fitted their training set; open, being given up early: 6",
            lambda: outliers(0.98, 0.3, train=None),
        ),
        Case(
            "differs",
            6,
            "0 fitted their training set; open, being given up early: 0",
            lambda: outliers(0.5, 0.97, train=None, followed=LONG),
        ),
        Case("not reached", 0, "Of 0 runs with outliers 0", lambda: outliers(0.98, 0.3, clean=None)),
        Case("not reached", 3, "(n = 0) with many", lambda: records(outliers(0.98, 0.3)[:6])),
    ],
    "c21": [
        Case("agrees", 16, "(the paper: -0.795)", lambda: scattered(-1)),
        Case("partly", 16, "correlation: -0.", lambda: scattered(-0.04)),
        Case("differs", 16, "correlation: 0.", lambda: scattered(1)),
        Case("not reached", 6, "(n = 6)", lambda: scattered(-1, n=6)),
        Case("not reached", 16, "no estimate", lambda: scattered(-1, spread=0.0)),
        Case("differs", 16, "1 did not fit", lambda: scattered(1, unfitted=1)),
        Case("not reached", 0, "None of 3 runs", lambda: records(seeds())),
    ],
    "c22": [
        Case("agrees", 6, "x+y 2,100", lambda: renamed((1900, 2400, 2100), (2000, 2300, 2200))),
        Case("partly", 6, "Ratio of the means", lambda: renamed((500, 2400, 9000), (2000, 300, 7000))),
        Case("differs", 6, "means: 0.476", lambda: renamed((1900, 2000, 2100), (4000, 4200, 4400))),
        Case("not reached", 6, "no estimate", lambda: renamed((1900, 2000, None), (1900, 2000, 2100))),
        Case("not reached", 2, "no estimate", lambda: renamed((1900,), (1900,))),
        Case("not reached", 0, "Not asked for", lambda: records(seeds("x+y", 300, 1000))),
    ],
}
PARAMETERS = [
    pytest.param(name, case, id=f"{name}-{case.kind}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]


# The verdicts


@pytest.mark.parametrize(("name", "case"), PARAMETERS)
def test_claim_is_decided_by_its_rule(name, case):
    found = CLAIMS[name.upper()].decide(case.records())
    assert found.kind == case.kind, found.measured
    assert found.n == case.n, found.measured
    assert case.told in found.measured


def test_every_claim_can_agree_differ_and_stay_open():
    assert list(CASES) == [f"c{i}" for i in range(1, 23)]
    for name, cases in CASES.items():
        assert {"agrees", "differs", "not reached"} <= {case.kind for case in cases}, name


@pytest.mark.parametrize(("name", "case"), [p for p in PARAMETERS if p.id.endswith("-0")])
def test_verdict_does_not_depend_on_the_order_of_records(name, case):
    there = case.records()
    back = records(there[::-1], missing=there.missing[::-1])
    first, second = (CLAIMS[name.upper()].decide(found) for found in (there, back))
    assert (first.kind, first.n) == (second.kind, second.n)


@pytest.mark.parametrize(("name", "case"), [p for p in PARAMETERS if p.id.endswith("-0")])
def test_missing_runs_decide_nothing(name, case):
    runs = [found.run for found in case.records()]
    found = CLAIMS[name.upper()].decide(records(missing=runs))
    assert (found.kind, found.n) == ("not reached", 0)
    assert found.measured == f"None of {len(runs)} runs is on record."


@pytest.mark.parametrize("name", CASES)
def test_what_was_not_asked_for_is_said(name):
    assert CLAIMS[name.upper()].decide(records()) == Verdict("not reached", "Not asked for.", 0)


def test_run_that_is_missing_is_counted_and_does_not_decide():
    verdict = CLAIMS["C7"].decide(operations({"x-y": 0.4, "x/y": 0.4}, missing=["x/y"]))
    assert verdict.kind == "agrees"
    assert verdict.n == 8
    assert verdict.measured.endswith("Missing: 1 of 9 runs.")


def test_run_that_never_fitted_has_no_time_of_its_own():
    censored = record(train=None, train_fraction=0.8, seed=9, followed=50_000)
    verdict = CLAIMS["C4"].decide(records(fractions({0.3: 2000, 0.8: 1500}, {}), censored))
    assert "after 1,500 to 2,120 updates (n = 6)" in verdict.measured
    assert verdict.n == 7  # that it took longer than 10,000 updates is known


def test_other_setting_than_the_papers_is_said():
    small = {"operation": "x+y", "p": 23, "d_model": 32}
    told = CLAIMS["C11"].decide(variants({DECAY: 0.4, ADAM: None}, **small)).measured
    assert "This is x+y mod 23; the paper's is S5 product." in told
    assert "Not the paper's size: width 32, modulus 23." in told
    assert "Runs that did not learn were followed for 4,000 updates; the paper's, for 100,000." in told


def test_the_papers_setting_is_said():
    found = variants({DECAY: 0.4, ADAM: None}, budgets=dict.fromkeys(VARIANTS, LONG))
    text = CLAIMS["C11"].decide(found).measured
    assert text.endswith(" The paper's own operation and budget.")
    assert re.findall("the paper's|Missing", text) == []


@pytest.mark.parametrize("name", ["C4", "C5", "C11", "C12", "C13", "C14", "C15", "C16", "C20", "C21"])
def test_substitute_is_never_mixed_with_the_papers_operation(name):
    case = CASES[name.lower()][0].records()
    other = [replace(r, run=replace(r.run, operation="x+y", seed=50 + r.run.seed)) for r in case]
    alone, mixed = (CLAIMS[name].decide(records(found)) for found in (list(case), [*other, *case]))
    assert mixed == alone
    assert "The paper's own operation" in alone.measured
    assert "This is x+y mod 97" in CLAIMS[name].decide(records(other)).measured


def test_curves_with_decay_are_not_mixed_with_those_without():
    loss = {0: 4.0, 10: 3.0, 100_000: 9.0, 200_000: 1.0}
    own = curves(validation=150_000, loss=loss)
    decaying = curves(validation=3000, weight_decay=1.0, loss={0: 4.0, 10: 3.0, 1000: 9.0, 4000: 1.0})
    assert CLAIMS["C2"].decide(records(list(decaying), list(own))) == CLAIMS["C2"].decide(own)


def test_sharpness_of_runs_that_ended_on_learning_is_said_to_be_theirs():
    found = scattered(-1)
    assert "Runs ended" not in CLAIMS["C21"].decide(found).measured
    found.asked = ((4000, 0.99), (1000, None))
    assert " Runs ended as soon as 99 % of validation was right." in CLAIMS["C21"].decide(found).measured


# All of them


@pytest.fixture(scope="module")
def table():
    """Verdicts from records that decide one of the claims of each experiment."""
    evidence = {name: records() for name in EXPERIMENTS}
    for name, cases in CASES.items():
        evidence[CLAIMS[name.upper()].experiments[0]] = cases[0].records()
    return claims.verdicts(evidence)


def test_claims_are_those_of_the_paper_and_decided_by_experiments():
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 23)]
    for name, claim in CLAIMS.items():
        assert claim.decide.__name__ == name.lower()
        assert claim.experiments
        assert set(claim.experiments) <= set(EXPERIMENTS)
        assert claim.page == f"figures/{claim.experiments[0]}"
        assert (claim.decide.__doc__ or "").startswith("Decided by ")
        assert {kind for kind in KINDS if f"{kind}:" in (claim.decide.__doc__ or "")} >= {"agrees", "differs"}


def test_verdicts_are_one_row_a_claim(table):
    assert list(table["id"]) == list(CLAIMS)
    columns = ["id", "where", "claim", "verdict", "measured", "needed", "n", "page", "decided by"]
    assert list(table.columns) == columns
    assert set(table["verdict"]) <= set(KINDS)
    row = table.set_index("id").loc["C22"]
    assert row["verdict"] == "agrees"
    assert row["n"] == 6
    assert row["page"] == "figures/fig2_operations"


def test_evidence_is_what_is_on_record_and_trains_nothing(own_folders):
    found = claims.read("smoke")
    assert set(found) == {name for claim in CLAIMS.values() for name in claim.experiments}
    for there in found.values():
        assert len(there) == 0
        assert there.missing
    assert set(claims.verdicts(found)["verdict"]) == {"not reached"}
