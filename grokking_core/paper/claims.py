"""The paper's claims, each with the function that decides it from records alone.

A function, `c7` say, takes the records of the experiments that its parameters name, in one profile; its
docstring is the rule. There are four verdicts: agrees, partly, differs, and not reached, where the runs
that could decide were not asked for, are missing, or were not followed far enough. `findings` says what
counts as learned and as a fraction needed.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from grokking_core import data, measures
from grokking_core.measures import Needed
from grokking_core.paper import evidence as findings
from grokking_core.paper import experiments
from grokking_core.paper.evidence import BUDGET, LEARNED, UNKNOWN
from grokking_core.runs import words
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.weights import cosets, sharpness, structure

Kind = Literal["agrees", "partly", "differs", "not reached"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ABOUT = 10**0.5  # factor that "about" allows either way: half an order of magnitude
LATE = 10  # gap that is late generalization: an order of magnitude
TOGETHER = 2  # gap up to which two curves move together
LITTLE = 0.05  # change of accuracy that is little
ALPHA = 0.05  # largest corrected p of a structure
NETWORKS = 10  # for a correlation: half of the paper's
PAIRS = 3  # of operations that are told apart, for an order of them
MILLION = 1_000_000  # updates, of the paper's figure 1 (left)
CENTRE = 500_000  # of its figure 1 (centre), from memory
S5 = "s5:xy"


class Verdict(NamedTuple):
    """What records say of a claim."""

    kind: Kind
    measured: str  # sentences of numbers, with n and 95 % intervals
    n: int  # runs that decided


Decide = Callable[..., Verdict]


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims."""

    id: str
    where: str  # in the paper
    says: str  # the paper, in our words
    decide: Decide

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments whose records `decide` takes, in order."""
        return tuple(signature(self.decide).parameters)

    @property
    def page(self) -> str:
        """The notebook that shows these records, from the book's folder, without suffix."""
        return f"figures/{self.experiments[0]}"


CLAIMS: dict[str, Claim] = {}


def claim(where: str, says: str) -> Callable[[Decide], Decide]:
    """Enter the function that decides a claim into `CLAIMS`."""

    def enter(decide: Decide) -> Decide:
        name = decide.__name__.upper()
        CLAIMS[name] = Claim(name, where, says, decide)
        return decide

    return enter


# -------------------------------------------------------------------------------------------------
# Figures 1 and 4: late generalization


@claim(
    "figure 1, left",
    "x/y on half of the table, without weight decay: nearly all training answers are right before 1,000 "
    "updates; validation is at chance until about 100,000 and near 100 % close to 1,000,000. The gap is "
    "about a factor 1000.",
)
def c1(fig1_grokking_curves: Records) -> Verdict:
    """Decided by runs of this setting that learned or were followed for a million updates.

    Medians over seeds must be: 99 % in training within 1,000 updates; 10 % in validation not before
    100,000 and 99 % at 1,000,000, both up to a factor ABOUT; a gap of 1000 up to that factor. agrees: all
    of it. partly: not all, but a gap of LATE or more. differs: a shorter gap, or half of the seeds never
    learned. not reached: half of the seeds asked for, or more, cannot decide.
    """
    asked = fig1_grokking_curves.where(_is_figure_1)
    shown = [
        record for record in asked if findings.has_learned(record) or findings.has_failed(record, MILLION)
    ]
    if 2 * len(shown) <= len(asked.runs):
        return _verdict(
            "not reached", len(shown), _instead_of_figure_1(fig1_grokking_curves), fig1_grokking_curves
        )
    followed = [record.last_step for record in shown]
    train = measures.median_steps([record.steps_to(LEARNED, "train") for record in shown], followed)
    leaves = measures.median_steps([record.steps_to(0.1, "validation") for record in shown], followed)
    late = measures.median_steps([record.steps_to(LEARNED, "validation") for record in shown], followed)
    gap = findings.gap(shown)
    times = train.value <= 1000 and leaves.value >= BUDGET / ABOUT and _is_about(late.value, MILLION)
    kind = "agrees" if times and _is_about(gap.value, 1000) else "partly" if gap.value >= LATE else "differs"
    told = f"Median updates to 99 % in training: {train}; to 10 % in validation: {leaves}; to 99 %: {late}."
    return _verdict(kind, len(shown), f"{told} Gap: {gap}.", asked)


def _is_figure_1(run: Run) -> bool:
    return run.operation == "x/y" and run.train_fraction == 0.5 and run.weight_decay == 0


def _instead_of_figure_1(records: Records) -> str:
    runs = records.runs
    if any(map(_is_figure_1, runs)):
        return "Too few runs without weight decay were followed far enough."
    told = f"Not asked for. Instead, {words.listed(map(words.task, runs))} with weight decay "
    return told + f"{words.listed(run.weight_decay for run in runs)}: gap {findings.gap(records)}."


@claim(
    "figure 4",
    "The validation loss rises from about 100 to about 100,000 updates, then falls a second time.",
)
def c2(fig1_grokking_curves: Records) -> Verdict:
    """Decided by runs whose validation loss rose and fell again, by a tenth each, or that ended without it.

    A run ends without it if it learned or was followed for a million updates. agrees: most rose and fell,
    without weight decay, as in the paper, and the median peak is at 100,000 updates up to a factor ABOUT.
    partly: most did, but at another time, or with decay, where the paper gives no time. differs: most did
    not. not reached: half of the runs asked for, or more, cannot decide.
    """
    records, peaks, n = fig1_grokking_curves, [], 0
    for record in records:
        if np.isfinite(record.curve["validation_loss"]).any():
            turn = measures.loss_turn(record)
            turned = turn.rose and turn.fell
            peaks += [turn.peak_step] * turned
            n += turned or findings.has_learned(record) or findings.has_failed(record, MILLION)
    if 2 * n <= len(records.runs):
        return _verdict("not reached", n, "The loss had no time to rise and fall.", records, "x/y")
    peak = measures.interval(peaks)
    as_paper = all(_is_figure_1(record.run) for record in records) and _is_about(peak.value, BUDGET)
    kind = "differs" if 2 * len(peaks) <= n else "agrees" if as_paper else "partly"
    told = f"The loss rose and fell again in {len(peaks)} of {n} runs"
    told += f", with its peak after {peak} updates," if peaks else ""
    told += f" at weight decay {words.listed(record.run.weight_decay for record in records)}"
    return _verdict(kind, n, f"{told} (the paper: 0, and about 100,000 updates).", records, "x/y")


@claim(
    "figure 1, centre",
    "S5 product, between 25 % and 30 % of the table: one percentage point less data costs 40 to 50 % more "
    "updates in the median.",
)
def c3(fig1_data_fraction: Records) -> Verdict:
    """Decided by the slope that `measures.slope_per_point` fits to S5 product from 25 % to 30 %.

    agrees: its interval meets 40 to 50 % and lies above 0. partly: it lies above 0 but misses that.
    differs: it holds 0 or less and does not come to 40 %. not reached: there is no such interval, or it
    holds 0 as well as 40 %, and tells nothing apart.
    """
    asked = fig1_data_fraction.where(lambda run: run.operation == S5 and 0.25 <= run.train_fraction <= 0.3)
    slope = measures.slope_per_point(measures.summary(asked, LEARNED))
    told = f"One percentage point less data costs more updates, in percent: {slope}."
    if not asked.runs:
        instead = measures.slope_per_point(measures.summary(fig1_data_fraction, LEARNED))
        tasks = words.listed(map(words.task, fig1_data_fraction.runs))
        told = f"Not asked for. Instead, {tasks} at all fractions: one percentage point less data costs more "
        told += f"updates, in percent: {instead}."
        return _verdict("not reached", 0, told, fig1_data_fraction)
    kind = "partly" if slope.low > 50 or slope.high < 40 else "agrees"
    if not slope.low > 0:
        kind = "differs" if slope.high < 40 else "not reached"
    return _verdict(kind, slope.n, told, asked, steps=CENTRE)


@claim(
    "figure 1, centre",
    "Updates to 99 % training accuracy stay within 1,000 to 10,000 and tend to fall with the training "
    "fraction.",
)
def c4(fig1_data_fraction: Records) -> Verdict:
    """Decided by the first step at which training accuracy is 99 %; earlier than 1,000 counts as within.

    agrees: no run took longer than 10,000 updates, and Spearman's correlation with the training fraction is
    below 0 with its interval. partly: one of the two. differs: neither. A run followed for less without
    getting there is open, and left out. not reached: fewer than two fractions with runs that decide.
    """
    table = findings.outcomes(fig1_data_fraction).dropna(subset="fitted_soon")
    if len(set(table["train_fraction"])) < 2:
        return _verdict("not reached", len(table), _fitting(table), fig1_data_fraction, S5)
    steps = table["train_steps"].astype(float).fillna(math.inf)
    trend = measures.spearman(table["train_fraction"], steps)
    kind = _kind_of([all(table["fitted_soon"]), trend.high < 0])
    told = f"{_fitting(table)} Spearman's correlation with the training fraction: {trend}."
    return _verdict(kind, len(table), told, fig1_data_fraction, S5)


def _fitting(table: pd.DataFrame) -> str:
    steps = table["train_steps"].dropna()
    return f"99 % in training after {words.span(steps)} updates (n = {len(steps)})." if len(steps) else ""


@claim(
    "section 3.1",
    "Late generalization is typical near the smallest sufficient table; with more data the two curves move "
    "together.",
)
def c5(fig1_data_fraction: Records) -> Verdict:
    """Decided by the gaps of the runs at sufficient fractions; a run that did not learn has the largest.

    agrees: Spearman's correlation of gap and training fraction is below 0 with its interval, and at the
    largest fraction the median gap is TOGETHER or less. partly: the median gap is larger at the smallest
    sufficient fraction than at the largest, but not all of that holds. differs: it is not larger.
    not reached: fewer than two sufficient fractions.
    """
    records = fig1_data_fraction
    smallest = findings.fractions_needed(records, lambda run: "all").get("all", UNKNOWN).reached
    largest = max((record.run.train_fraction for record in records), default=None)
    if smallest is None or largest is None or smallest == largest:
        return _verdict("not reached", 0, "Fewer than two fractions sufficed.", records, S5, CENTRE)
    fitted = [record for record in records if record.steps_to(LEARNED, "train") is not None]
    enough = [record for record in fitted if record.run.train_fraction >= smallest]
    gaps = [measures.gap(record, LEARNED) or math.inf for record in enough]
    trend = measures.spearman([record.run.train_fraction for record in enough], gaps)
    near, far = (
        findings.gap(r for r in enough if r.run.train_fraction == fraction)
        for fraction in (smallest, largest)
    )
    longer = not (near.value <= far.value or math.isnan(far.value))  # NaN: half of them never learned
    kind = "agrees" if trend.high < 0 and far.value <= TOGETHER else "partly" if longer else "differs"
    told = f"Median gap at {words.percent(smallest)}, the smallest fraction that sufficed: {near}; at "
    told += f"{words.percent(largest)}: {far}. Spearman's correlation with the fraction: {trend}."
    return _verdict(kind, len(enough), told, records, S5)


# -------------------------------------------------------------------------------------------------
# Figure 2 (right): operations

ARITHMETIC = {  # operations of arithmetic, or products and inverses, in the term as it is written
    "x+y": 1,
    "x-y": 1,
    "x*y": 1,
    "x/y": 1,
    "x/y|x-y": 3,
    "x^2+y^2": 3,
    "x^2+xy+y^2": 5,
    "x^2+xy+y^2+x": 6,
    "x^3+xy": 4,
    "x^3+xy^2+y": 6,
    "s5:xy": 1,
    "s5:xyx": 2,
    "s5:xyx^-1": 3,
}


@claim("figure 2, right", "More complicated, less symmetric operations need a larger fraction.")
def c6(fig2_operations: Records) -> Verdict:
    """Decided by pairs of operations of which one is simpler, and the fractions needed are told apart.

    Simpler, in our reading: its term has no more operations (ARITHMETIC), it is symmetric if the other is,
    and one of the two is strict. agrees: the simpler one needs less in more than half of these pairs, with
    the interval of their share, by bootstrap over operations. partly: without it. differs: in half or
    fewer. not reached: fewer than PAIRS pairs.
    """
    records = _operations(fig2_operations, *ARITHMETIC)
    needed = findings.fractions_needed(records, lambda run: run.operation)
    less = np.array([[_simpler_needs_less(a, b, needed) for b in needed] for a in needed], float)
    n_pairs = int(np.isfinite(less).sum())
    if n_pairs < PAIRS:
        told = f"{findings.brackets(needed)} {n_pairs} pairs are told apart."
        return _verdict("not reached", len(records), told, records, steps=BUDGET)

    def share(drawn: np.ndarray) -> float:
        known = less[np.ix_(drawn.astype(int), drawn.astype(int))]
        known = known[np.isfinite(known)]
        return known.mean() if len(known) else math.nan

    found = measures.interval(np.arange(len(needed)), share)
    kind = "agrees" if found.low > 0.5 else "partly" if found.value > 0.5 else "differs"
    told = (
        f"The simpler operation needs less in {np.nansum(less):.0f} of {n_pairs} pairs told apart: a share "
    )
    told += f"of {found}, where n counts operations. {findings.brackets(needed)}"
    return _verdict(kind, len(records), told, records, steps=BUDGET)


def _simpler_needs_less(a: str, b: str, needed: Mapping[str, Needed]) -> float:
    """Whether `a` needs less than `b`, 0 or 1; NaN where `a` is not simpler, or they are not told apart."""
    symmetry = data.is_symmetric(a) - data.is_symmetric(b)
    simpler = ARITHMETIC[a] <= ARITHMETIC[b] and symmetry >= 0 and (ARITHMETIC[a] < ARITHMETIC[b] or symmetry)
    less = findings.needs_less(needed[a], needed[b]) if simpler else None
    return math.nan if less is None else float(less)


def _operations(records: Records, *operations: str) -> Records:
    """The records of some operations, without the two names of C22."""
    renamed = _is_renamed(records)
    return records.where(lambda run: run.operation in operations and not renamed(run))


@claim("figure 2, right", "x-y and x/y need about the same fraction.")
def c7(fig2_operations: Records) -> Verdict:
    """Decided by where the smallest sufficient fractions may be among all fractions tried for the two.

    That is above the one that failed, up to the one that sufficed, or anywhere beyond. agrees: both
    sufficed, and these places are equal or neighbours. differs: they are further apart. not reached:
    neither operation sufficed, neither failed, or one did not suffice and may be a neighbour.
    """
    records = _operations(fig2_operations, "x-y", "x/y")
    needed = findings.fractions_needed(records, lambda run: run.operation)
    tried = sorted({record.run.train_fraction for record in records})
    a, b = (needed.get(name, UNKNOWN) for name in ("x-y", "x/y"))
    (first_a, last_a), (first_b, last_b) = (findings.places(found, tried) for found in (a, b))
    apart = max(first_a - last_b, first_b - last_a)
    kind = "agrees" if apart <= 1 else "differs"
    if (a.failed is None and b.failed is None) or (apart <= 1 and None in (a.reached, b.reached)):
        kind = "not reached"
    told = f"{findings.brackets(needed)} Tried: {words.listed(map(words.percent, tried))}."
    return _verdict(kind, len(records), told, records, steps=BUDGET)


@claim("figure 2, right", "Symmetric operations need a smaller fraction than close ones that are not.")
def c8(fig2_operations: Records) -> Verdict:
    """Decided by x+y against x-y, and x^2+y^2 and x^2+xy+y^2 against x^2+xy+y^2+x.

    A pair is decided if what sufficed for one failed for the other. agrees: the symmetric one needs less
    in two pairs or more, and more in none. partly: it needs less in a pair, but not all of that. differs:
    it needs more in a pair, and less in none. not reached: no pair is decided.
    """
    close = [("x+y", "x-y"), ("x^2+y^2", "x^2+xy+y^2+x"), ("x^2+xy+y^2", "x^2+xy+y^2+x")]
    records = _operations(fig2_operations, *(name for pair in close for name in pair))
    return _in_order(records, lambda run: run.operation, close, enough=2)


@claim("figure 2, right", "x^3+xy^2+y does not generalize, up to 95 % of the table.")
def c9(fig2_operations: Records) -> Verdict:
    """Decided by the best validation accuracy of any run at any fraction.

    differs: a fraction suffices. agrees: none does, up to 95 % and with BUDGET updates, and no run answers
    half of what it was not shown. partly: one does. not reached: smaller fractions or fewer updates only.
    """
    name = "x^3+xy^2+y"
    records = _operations(fig2_operations, name)
    needed = findings.fractions_needed(records, lambda run: run.operation).get(name, UNKNOWN)
    followed = any(r.run.train_fraction >= 0.95 and findings.has_failed(r) for r in records)
    best = max(map(measures.best_accuracy, records), default=math.nan)
    kind = "not reached" if not followed else "agrees" if best < 0.5 else "partly"
    told = f"{findings.brackets({name: needed})} Best accuracy of any run: {words.percent(best)}."
    return _verdict("differs" if needed.reached else kind, len(records), told, records, steps=BUDGET)


@claim("figure 2, right", "The mixed operation, x/y for odd y and else x-y, does generalize.")
def c10(fig2_operations: Records) -> Verdict:
    """Decided by whether any fraction suffices.

    agrees: one does. differs: none does, up to 95 % and with BUDGET updates. not reached: none does, but
    with smaller fractions or fewer updates only.
    """
    name = "x/y|x-y"
    records = _operations(fig2_operations, name)
    needed = findings.fractions_needed(records, lambda run: run.operation).get(name, UNKNOWN)
    followed = any(r.run.train_fraction >= 0.95 and findings.has_failed(r) for r in records)
    kind = "agrees" if needed.reached else "differs" if followed else "not reached"
    return _verdict(kind, len(records), findings.brackets({name: needed}), records, steps=BUDGET)


# -------------------------------------------------------------------------------------------------
# Figure 2 (left): optimizers

FULL_BATCH, ADAM = "full batch, Adam", "minibatch, Adam"
DECAY, DECAY_TO_INIT = "AdamW, decay 1", "AdamW, decay to init"


@claim(
    "figure 2, left", "Weight decay more than halves the fraction needed, against most other interventions."
)
def c11(fig2_optimizers: Records) -> Verdict:
    """Decided by bounds of (fraction needed by another variant) / (fraction needed with decay 1).

    The ratio lies above (failed by the other) / (sufficed with decay), and up to (sufficed for the other) /
    (failed with decay). agrees: it is surely above 2 for more than half of the other variants asked for.
    differs: surely not above 2 for half of them or more. partly: above 2 for some, while too many are open.
    not reached: decay sufficed nowhere, or none is surely above 2 and too many are open.
    """
    needed = findings.fractions_needed(fig2_optimizers, experiments.variant_of)
    others = dict.fromkeys(map(experiments.variant_of, fig2_optimizers.runs))
    others.pop(DECAY, None)
    bounds = [findings.ratio(needed.get(name, UNKNOWN), needed.get(DECAY, UNKNOWN)) for name in others]
    above, below = sum(low >= 2 for low, _ in bounds), sum(high <= 2 for _, high in bounds)
    kind = "agrees" if 2 * above > len(others) else "partly" if above else "not reached"
    if others and 2 * below >= len(others):
        kind = "differs"
    told = (
        f"Of {len(others)} other variants, {above} need more than twice as much as decay 1, {below} do not, "
    )
    told += f"and {len(others) - above - below} are open. {findings.brackets(needed)}"
    return _verdict(kind, len(fig2_optimizers), told, fig2_optimizers, S5, BUDGET)


@claim("figure 2, left", "Decay towards the initialization helps, but less than towards the origin.")
def c12(fig2_optimizers: Records) -> Verdict:
    """Decided by the fractions needed: decay to the initialization against none, to the origin against it.

    agrees: both need less, what sufficed for one having failed for the other. partly: one does, the other
    is open or needs more. differs: what is decided is against it. not reached: nothing is decided.
    """
    return _variants_in_order(fig2_optimizers, [(DECAY_TO_INIT, ADAM), (DECAY, DECAY_TO_INIT)])


@claim("figure 2, left", "Noise helps: minibatches against the full batch, noise on weights, on updates.")
def c13(fig2_optimizers: Records) -> Verdict:
    """Decided by the fractions needed in three pairs that differ by one kind of noise.

    agrees: less with noise in all, what sufficed for one having failed for the other. partly: in some, the
    others are open or need more. differs: what is decided is against it. not reached: nothing is decided.
    """
    pairs = [(ADAM, FULL_BATCH), ("weight noise", ADAM), ("full batch, update noise", FULL_BATCH)]
    return _variants_in_order(fig2_optimizers, pairs)


@claim("figure 2, left", "The learning rate must lie within about one order of magnitude.")
def c14(fig2_optimizers: Records) -> Verdict:
    """Decided by the fractions needed by Adam at 3e-4, 1e-3 and 3e-3, the ends and the middle of a decade.

    A rate is worse if what failed for it sufficed for another. agrees: two are, so that within a decade the
    rate decides. partly: one is. differs: the three need the same, none of them censored. not reached: they
    are not told apart.
    """
    rates = ("Adam, lr 3e-4", ADAM, "Adam, lr 3e-3")
    records = fig2_optimizers.where(lambda run: experiments.variant_of(run) in rates)
    needed = findings.fractions_needed(records, experiments.variant_of)
    worse = [a for a in needed if any(findings.needs_less(needed[b], needed[a]) for b in needed)]
    same = len(needed) == 3 and len(set(needed.values())) == 1 and None not in needed[ADAM]
    kind = "agrees" if len(worse) == 2 else "partly" if worse else "differs" if same else "not reached"
    told = f"{findings.brackets(needed)} Worse than another: {_names(worse) or 'none'}."
    return _verdict(kind, len(records), told, records, S5, BUDGET)


def _variants_in_order(records: Records, pairs: Sequence[tuple[str, str]]) -> Verdict:
    named = {name for pair in pairs for name in pair}
    shown = records.where(lambda run: experiments.variant_of(run) in named)
    return _in_order(shown, experiments.variant_of, pairs, len(pairs), S5)


@claim("figure 2, left", "Every variant reaches 100 % training accuracy within 1,000 to 10,000 updates.")
def c15(fig2_optimizers: Records) -> Verdict:
    """Decided by the first step at which training accuracy is 99 %; earlier than 1,000 counts as within.

    A variant is late if one of its runs took longer than 10,000 updates, and open if none decides: given
    up earlier, or missing. agrees: no variant asked for is late or open. partly: some are. differs: half of
    them or more are late. not reached: half of them or more are open.
    """
    asked = dict.fromkeys(map(experiments.variant_of, fig2_optimizers.runs))
    table = findings.outcomes(fig2_optimizers)
    table["variant"] = [experiments.variant_of(record.run) for record in fig2_optimizers]
    table = table.dropna(subset="fitted_soon")
    soon = {str(name): all(group["fitted_soon"]) for name, group in table.groupby("variant", sort=False)}
    late, is_open = [name for name in soon if not soon[name]], [name for name in asked if name not in soon]
    kind = "partly" if late or is_open else "agrees"
    if 2 * len(is_open) >= len(asked):
        kind = "not reached"
    elif 2 * len(late) >= len(asked):
        kind = "differs"
    told = (
        f"{_fitting(table)} Of {len(asked)} variants, {len(asked) - len(late) - len(is_open)} within 10,000"
    )
    told += "".join(f"; {word}: {_names(of)}" for word, of in (("late", late), ("open", is_open)) if of)
    return _verdict(kind, len(table), f"{told}.", fig2_optimizers, S5)


@claim("figure 2, left", "Full-batch optimizers generalize, too, at high fractions.")
def c16(fig2_optimizers: Records) -> Verdict:
    """Decided by whether any fraction suffices for Adam with full batches, without and with update noise.

    agrees: for both. partly: for one. differs: for neither, one of them up to 90 % and with BUDGET updates.
    not reached: for neither, but with smaller fractions or fewer updates only.
    """
    names = (FULL_BATCH, "full batch, update noise")
    records = fig2_optimizers.where(lambda run: experiments.variant_of(run) in names)
    needed = findings.fractions_needed(records, experiments.variant_of)
    followed = any(r.run.train_fraction >= 0.9 and findings.has_failed(r) for r in records)
    enough = [needed.get(name, UNKNOWN).reached is not None for name in names]
    kind = _kind_of(enough) if any(enough) or followed else "not reached"
    return _verdict(kind, len(records), findings.brackets(needed), records, S5, BUDGET)


# -------------------------------------------------------------------------------------------------
# Figure 3: what the output layer has learned


@claim(
    "figure 3, left",
    "The output rows of S5 product cluster by cosets of the subgroup of order 10 that (0 3)(1 4) and "
    "(1 2)(3 4) generate, or of a conjugate of it.",
)
def c17(fig3_embeddings: Records) -> Verdict:
    """Decided by `cosets.coset_test` on networks with weight decay that know S5 product.

    The subgroup that stands out most has the largest z, with a corrected p of ALPHA or less; those around
    it and in it stand out with it. agrees: in most networks it is the paper's or a conjugate. partly: in
    most there is one, but in most it is not the paper's. differs: in most there is none. not reached: half
    of the networks asked for, or more, do not know it.
    """
    asked = fig3_embeddings.where(lambda run: run.operation == S5 and run.n == 5 and run.weight_decay > 0)
    shown = [record for record in asked if structure.has_rows(record) and structure.knows(record)]
    if 2 * len(shown) <= len(asked.runs):
        told = f"{len(shown)} of {len(asked.runs)} networks know S5 product."
        return _verdict("not reached", len(shown), told, asked, S5)
    paper, tables = cosets.paper_subgroup().name, [structure.row_test(record) for record in shown]
    largest = [table.iloc[0].to_dict() for table in tables if table["p_corrected"].iloc[0] <= ALPHA]
    n_paper = [row["name"] for row in largest].count(paper)
    kind = "agrees" if 2 * n_paper > len(shown) else "partly" if 2 * len(largest) > len(shown) else "differs"
    told = f"A subgroup stands out in {len(largest)} of {len(shown)} networks, and most of all the paper's, "
    told += f"{paper}, in {n_paper}. Largest z by network: "
    told += "; ".join(_largest_z(table, paper) for table in tables)
    return _verdict(kind, len(shown), f"{told}.", asked, S5)


def _largest_z(table: pd.DataFrame, paper: str) -> str:
    """The first row of a coset test in words, and the largest z of the paper's subgroup."""
    row, theirs = table.iloc[0].to_dict(), table.loc[table["name"].eq(paper), "z"].max()
    found = f"{row['z']:.1f} for {row['name']} (order {row['order']}, p = {row['p_corrected']:.2g})"
    return found if row["name"] == paper else f"{found}, {theirs:.1f} for {paper}"


@claim("figure 3, right", "The output rows of addition lie along a number line whose step is 8.")
def c18(fig3_embeddings: Records) -> Verdict:
    """Decided by `number_line.line_test` on networks with weight decay that know x+y.

    To multiply all residues by a number leaves addition what it is, so that a network is free to choose the
    step: a line of another step is the same in kind. agrees: in most networks a step stands out, with a
    corrected p of ALPHA or less. partly: in some. differs: in none. The steps are listed; s is also p - s.
    not reached: half of the networks asked for, or more, do not know it.
    """
    asked = fig3_embeddings.where(lambda run: run.operation == "x+y" and run.weight_decay > 0)
    shown = [record for record in asked if structure.has_rows(record) and structure.knows(record)]
    if 2 * len(shown) <= len(asked.runs):
        told = f"{len(shown)} of {len(asked.runs)} networks know x+y."
        return _verdict("not reached", len(shown), told, asked, "x+y")
    largest = [structure.row_test(record).iloc[0].to_dict() for record in shown]
    steps = [row["step"] for row in largest if row["p_corrected"] <= ALPHA]
    kind = "agrees" if 2 * len(steps) > len(shown) else "partly" if steps else "differs"
    told = f"A line stands out in {len(steps)} of {len(shown)} networks, of step 8 in {steps.count(8)}. "
    told += "Largest z by network: "
    told += "; ".join(f"{r['z']:.1f} for step {r['step']:g} (p = {r['p_corrected']:.2g})" for r in largest)
    return _verdict(kind, len(shown), f"{told}.", asked, "x+y")


@claim("section 3.4", "The structure of the output rows is clearer with weight decay than without.")
def c19(fig3_embeddings: Records) -> Verdict:
    """Decided by pairs of networks, with weight decay and without, else the same; the former know the task.

    Clearer is a larger z of what stands out most, see C17 and C18. agrees: in most pairs of each operation,
    and most of the networks without decay know the task as well. partly: in most pairs of one operation
    only, or most of the networks without decay do not know it, so that more than decay sets them apart.
    differs: in most pairs of neither. not reached: an operation has no pair.
    """
    asked = {words.task(run) for run in fig3_embeddings.runs}
    pairs = structure.decay_pairs(fig3_embeddings)
    by_task = {str(task): list(group["more"]) for task, group in pairs.groupby("task", sort=False)}
    kind = _kind_of([2 * sum(z > 0 for z in more) > len(more) for more in by_task.values()])
    n_know = sum(pairs["knows_without"])
    if not asked or set(by_task) != asked:
        kind = "not reached"
    elif kind == "agrees" and 2 * n_know <= len(pairs):
        kind = "partly"
    told = [f"{task}: z is larger with decay by {measures.interval(more)}." for task, more in by_task.items()]
    told.append(f"{n_know} of {len(pairs)} networks without decay know their task.")
    return _verdict(kind, 2 * len(pairs), " ".join(told), fig3_embeddings)


# -------------------------------------------------------------------------------------------------
# The appendix, and section 3.2


@claim(
    "figure 6, appendix A.4",
    "With outliers the training set is still fitted; few outliers do little, many hinder generalization.",
)
def c20(fig6_outliers: Records) -> Verdict:
    """Decided by changes of best validation accuracy from the run without outliers, where that one learned.

    Of a symmetric operation it is that on unmirrored pairs. Few are 10, or 1 % of the training set; many
    are 10 % or more. Three parts: training accuracy, outliers included, reaches 99 %; with few the median
    change is a loss of LITTLE at most; with many it is a larger one. agrees: all three. partly: one or two;
    the first is open where a run was given up before BUDGET updates. differs: none. not reached: no run
    with few, or none with many, has its counterpart on record.
    """
    table, keys = findings.outcomes(fig6_outliers), ["operation", "train_fraction", "seed"]
    clean = table.loc[table["outliers"].eq(0) & table["enough"], [*keys, "accuracy"]]
    pairs = table.loc[table["outliers"].gt(0)].merge(clean, on=keys, suffixes=("", "_clean"))
    change = pairs["accuracy"] - pairs["accuracy_clean"]
    few = change.loc[pairs["outliers"] <= (0.01 * pairs["n_train"]).clip(lower=10)].to_numpy()
    many = change.loc[pairs["outliers"] >= 0.1 * pairs["n_train"]].to_numpy()
    fitted = pairs["best_train"] >= LEARNED
    given_up = ~fitted & (pairs["followed"].ge(BUDGET) | pairs["diverged"])
    with_few, with_many = measures.interval(few), measures.interval(many)
    all_fitted = False if given_up.any() else True if fitted.all() else None
    kind = _kind_of([all_fitted, with_few.value >= -LITTLE, with_many.value < -LITTLE])
    told = f"Of {len(pairs)} runs with outliers {fitted.sum()} fitted their training set"
    told += f"; open, being given up early: {(~fitted & ~given_up).sum()}. Median change of best accuracy: "
    told += f"{with_few} with few outliers, {with_many} with many."
    known = len(few) and len(many)
    return _verdict(kind if known else "not reached", len(pairs), told, fig6_outliers, S5, BUDGET)


@claim("figure 7, appendix A.5", "Sharpness and validation accuracy correlate: Spearman's rho is -0.795.")
def c21(fig7_sharpness: Records) -> Verdict:
    """Decided by Spearman's correlation of phi (mean over subspaces) and validation accuracy at the end.

    Networks that did not fit their training set are in no minimum, and do not count. Of a symmetric
    operation it is the accuracy on unmirrored pairs, with that on all pairs beside it. agrees: below 0 with
    its interval. partly: below 0, but the interval holds 0. differs: 0 or above. not reached: fewer than
    NETWORKS.
    """
    records = fig7_sharpness.with_kept("sharpness")
    table = sharpness.table(records)
    table = table[table["train"] >= LEARNED]
    side = "unmirrored" if any(data.is_symmetric(r.run.operation) for r in records) else "validation"
    found = measures.spearman(table["phi"], table[side])
    kind = "agrees" if found.high < 0 else "partly" if found.value < 0 else "differs"
    if found.n < NETWORKS or math.isnan(found.value):
        kind = "not reached"
    told = f"Spearman's correlation: {found} (the paper: -0.795). On all pairs, mirrored ones included: "
    told += f"{measures.spearman(table['phi'], table['validation'])}. With sharpness as released: "
    told += f"{measures.spearman(table['released'], table[side])}."
    if unfitted := len(records) - len(table):
        told += f" {unfitted} did not fit their training set, and do not count."
    if stops := [stop for _, stop in records.asked if stop is not None and stop < 1]:
        told += f" Runs ended as soon as {words.percent(max(stops))} of validation was right."
    return _verdict(kind, found.n, told, records, S5, BUDGET)


@claim(
    "section 3.2",
    "x+y mod p-1 and x*y mod p on nonzero operands are one task up to renaming, and so train alike.",
)
def c22(fig2_operations: Records) -> Verdict:
    """Decided by the ratio of their updates to 99 % in validation.

    agrees: 1 is in its interval, which lies within 1/2 to 2. partly: 1 is in it, but it is wider.
    differs: 1 is not in it. not reached: fewer than two runs of either, or one that did not learn in time.
    """
    records = fig2_operations.where(_is_renamed(fig2_operations))
    table = measures.summary(records, LEARNED)
    product = table["operation"].eq("x*y!=0")
    sides = table.loc[~product], table.loc[product]
    ratio = measures.steps_ratio(*sides)
    kind = "agrees" if ratio.low >= 0.5 and ratio.high <= 2 else "partly"
    if math.isnan(ratio.value):
        kind = "not reached"
    elif not ratio.low <= 1 <= ratio.high:
        kind = "differs"
    medians = [measures.median_steps(side["validation_steps"], side["followed"]) for side in sides]
    told = f"Median updates to 99 %: x+y {medians[0]}, x*y {medians[1]}. Ratio of the means: {ratio}."
    return _verdict(kind, ratio.n, told, records)


def _is_renamed(records: Records) -> Callable[[Run], bool]:
    """Whether a run is of x*y on nonzero operands, or of x+y under the modulus that makes it the same."""
    moduli = {run.p - 1 for run in records.runs if run.operation == "x*y!=0"}
    return lambda run: run.operation == "x*y!=0" or (run.operation == "x+y" and run.p in moduli)


# -------------------------------------------------------------------------------------------------
# What they share


def _verdict(
    kind: Kind, n: int, told: str, records: Records, operation: str | None = None, steps: int | None = None
) -> Verdict:
    """A verdict with what is missing, and where the setting is not the paper's; see `findings.notes`."""
    if not records.runs:
        return Verdict("not reached", "Not asked for.", 0)
    if not records:
        return Verdict("not reached", f"None of {len(records.missing)} runs is on record.", 0)
    return Verdict(kind, " ".join(filter(None, [told, *findings.notes(records, operation, steps)])), n)


def _in_order(
    records: Records,
    label: Callable[[Run], str],
    pairs: Iterable[tuple[str, str]],
    enough: int,
    operation: str | None = None,
) -> Verdict:
    """Whether the first label of each pair needs less data, in `enough` of them for agreement."""
    needed = findings.fractions_needed(records, label)
    less = {(a, b): findings.needs_less(needed.get(a, UNKNOWN), needed.get(b, UNKNOWN)) for a, b in pairs}
    n_less, n_more = (list(less.values()).count(known) for known in (True, False))
    kind = "partly" if n_less else "differs" if n_more else "not reached"
    if n_less >= enough and not n_more:
        kind = "agrees"
    relation = {True: "less than", False: "more than", None: "not told apart from"}
    order = "; ".join(f"{words.name(a)} {relation[known]} {words.name(b)}" for (a, b), known in less.items())
    told = f"{findings.brackets(needed)} So {order}."
    return _verdict(kind, len(records), told, records, operation, BUDGET)


def _kind_of(parts: Sequence[bool | None]) -> Kind:
    """agrees if all parts hold, partly if some do, differs if none does; None is open."""
    if all(parts):
        return "agrees"
    return "partly" if any(parts) else "differs"


def _names(labels: Iterable[str]) -> str:
    return ", ".join(map(words.name, labels))


def _is_about(value: float, target: float) -> bool:
    return target / ABOUT <= value <= target * ABOUT


# -------------------------------------------------------------------------------------------------
# All of them


def evidence(profile: str | None = None) -> dict[str, Records]:
    """What is on record of every experiment that decides a claim, in a profile; nothing is trained."""
    names = dict.fromkeys(name for claim in CLAIMS.values() for name in claim.experiments)
    return {name: experiments.plan(name, profile).read() for name in names}


def verdicts(evidence: Mapping[str, Records]) -> pd.DataFrame:
    """One row a claim: id, where, claim, verdict, measured, n, page, decided by.

    Parameters
    ----------
    evidence : mapping from str to Records
        By experiment, as `evidence` gives it.
    """
    rows = []
    for claim in CLAIMS.values():
        found = claim.decide(*(evidence[name] for name in claim.experiments))
        told = {"id": claim.id, "where": claim.where, "claim": claim.says, "verdict": found.kind}
        told |= {"measured": found.measured, "n": found.n, "page": claim.page}
        rows.append(told | {"decided by": claim.decide.__name__})
    return pd.DataFrame(rows)


COLOURS: dict[Kind, str] = {  # of the ground; the word on it is white
    "agrees": "#1a6e3c",
    "partly": "#8a5a00",
    "differs": "#a12a2a",
    "not reached": "#5f6670",
}


def to_html(table: pd.DataFrame, code_page: str = "claims_code.html") -> str:
    """`verdicts` as a table for the book: the verdict by colour and word, links to figure and rule.

    Links are relative to the book's folder; that to the rule goes to an anchor, such as decides-c7, of
    `code_page`.
    """
    head = "".join(f"<th>{name}</th>" for name in ("claim", "the paper says", "measured", "n"))
    badge = "color: white; padding: 0.1em 0.5em; white-space: nowrap; background: "
    style = "text-align: left; vertical-align: top; padding: 0.5em; border-top: 1px solid #8888"
    rows = []
    for row in table.to_dict("records"):
        word = f'<span style="{badge}{COLOURS[row["verdict"]]}">{row["verdict"]}</span>'
        links = f'<a href="{row["page"]}.html">figure</a>, '
        links += f'<a href="{code_page}#decides-{row["decided by"]}">rule</a>'
        cells = (
            f"<strong>{row['id']}</strong><br/>{word}<br/>{links}",
            f"{html.escape(row['claim'])} <em>({html.escape(row['where'])})</em>",
            html.escape(row["measured"]),
            f"{row['n']}",
        )
        inside = "".join(f'<td style="{style}">{cell}</td>' for cell in cells)
        rows.append(f'<tr id="{row["decided by"]}">{inside}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
