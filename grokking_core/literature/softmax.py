"""Softmax collapse and slingshots; see `measures.softmax`."""

from __future__ import annotations

import math
from typing import Any

from grokking_core import measures
from grokking_core.claims.deciding import Verdict, kind_of
from grokking_core.literature.accelerators import KNOWN, SOONER
from grokking_core.literature.rows import judged, row
from grokking_core.plans.softmax import arm_of
from grokking_core.runs import words
from grokking_core.runs.records import Records

NOTHING, EPSILON, STABLEMAX, PERP = "nothing", "epsilon 1e-5", "StableMax", "perpGrad"
RIGHT_SUMS = ("loss in fp64", "zero-sum gradient")  #: arms whose class gradients sum to zero
GROWN, STEADY = 10.0, 2.0  #: growth of the mean output row since fitting: inflation, and none
OPPOSED = -0.9  #: cosine of the mean output row and the mean feature, at most
SLINGSHOTS = (
    "x/y mod 97 on half of the table; 2-layer transformer and MLP without layer norm, Adam, 100,000 updates"
)
PRIETO = "MLP with two hidden layers of 200, x+y mod 113 on 40 % of the table, full batches, no decay"


@row(
    "arXiv:2605.06152",
    "The spikes of late training are rounding in the loss, no property of the dynamics.",
    SLINGSHOTS,
)
def rounding_makes_spikes(softmax_collapse: Records) -> Verdict:
    """Decided by the networks with nothing done against collapse, and those of RIGHT_SUMS.

    A spike is a training loss of 100 times its running mean; see `probes.spikes`. agrees: half or more of
    the former have one, and none of the latter. partly: a smaller share of the latter. differs: as large a
    share. not reached: none of the former has one, or an arm has no run on record.
    """
    return _spiked(softmax_collapse, RIGHT_SUMS)


@row("arXiv:2605.06152", "With an epsilon of 1e-5 in Adam, instead of 1e-8, there are no spikes.", SLINGSHOTS)
def epsilon_stops_spikes(softmax_collapse: Records) -> Verdict:
    """Decided by the networks with nothing done against collapse, and those with that epsilon.

    agrees: half or more of the former have a spike, and none of the latter. partly: a smaller share of the
    latter. differs: as large a share. not reached: none of the former has one, or an arm has no run on
    record.
    """
    return _spiked(softmax_collapse, (EPSILON,))


@row(
    "arXiv:2605.06152",
    "Rounding breaks the zero sum of the class gradients, so that the mean output row grows against the mean "
    "feature.",
    SLINGSHOTS,
)
def rounding_inflates(softmax_collapse: Records) -> Verdict:
    """Decided by the norm of the mean output row at the end over that at fitting.

    Two parts: with nothing done it grew GROWN times or more in each network, and is OPPOSED to the mean
    feature; in each network of RIGHT_SUMS it grew STEADY times or less. agrees: both. partly: one. differs:
    neither. not reached: no softmax collapsed with nothing done, or an arm has no run on record.
    """
    table = _table(softmax_collapse)
    bare, right = _of(table, NOTHING), _of(table, *RIGHT_SUMS)
    inflated = (bare["growth"] >= GROWN) & (bare["cosine"] <= OPPOSED)
    steady = right["growth"] <= STEADY
    medians = [f"{of['growth'].median():.3g}" for of in (bare, right)]
    text = f"It grew {GROWN:g} times or more, opposed to the mean feature, in {inflated.sum()} of {len(bare)}"
    text += f" networks with nothing done (median {medians[0]}), and {STEADY:g} times or less in"
    text += f" {steady.sum()} of {len(right)} whose gradients sum to zero ({medians[1]})."
    is_open = _lack(table, NOTHING, *RIGHT_SUMS) or not bare["collapsed"].notna().any()
    kind = "not reached" if is_open else kind_of([bool(inflated.all()), bool(steady.all())])
    return judged(kind, len(bare) + len(right), text, softmax_collapse)


@row(
    "arXiv:2501.04697",
    "Without regularisation the softmax collapses, which stops learning; with StableMax networks grok "
    "without decay.",
    PRIETO,
)
def stablemax_lets_learn(softmax_collapse: Records) -> Verdict:
    """Decided by the networks with nothing done, and those with StableMax; all fit without decay.

    Two parts: each of the former collapsed, see `measures.softmax`, and none learned; half or more of the
    latter learned. agrees: both. partly: one. differs: neither. not reached: an arm has no run on record.
    """
    table = _table(softmax_collapse)
    bare, stable = _of(table, NOTHING), _of(table, STABLEMAX)
    stopped = bare["collapsed"].notna() & bare["learned"].isna()
    learned = stable["learned"].notna()
    text = f"Collapsed without having learned: {stopped.sum()} of {len(bare)} with nothing done. Learned"
    text += f" with StableMax: {learned.sum()} of {len(stable)}"
    in_double = _of(table, RIGHT_SUMS[0])["learned"].notna()
    text += f", with the loss in fp64: {in_double.sum()} of {len(in_double)}." if len(in_double) else "."
    parts = [bool(stopped.all()), bool(2 * learned.sum() >= len(stable))]
    kind = "not reached" if _lack(table, NOTHING, STABLEMAX) else kind_of(parts)
    return judged(kind, len(bare) + len(stable) + len(in_double), text, softmax_collapse)


@row("arXiv:2501.04697", "Updates at right angles to the weights (perpGrad) prevent the collapse.", PRIETO)
def right_angles_prevent_collapse(softmax_collapse: Records) -> Verdict:
    """Decided by the networks with nothing done, and those with perpGrad; all fit without decay.

    agrees: the former collapsed, see `measures.softmax`, and none of the latter. partly: fewer of the latter
    did, or each later than any of the former. differs: otherwise. not reached: none of the former did, or an
    arm has no run on record.
    """
    table = _table(softmax_collapse)
    bare, perp = _of(table, NOTHING)["collapsed"], _of(table, PERP)["collapsed"]
    n_bare, n_perp = int(bare.notna().sum()), int(perp.notna().sum())
    kind = "agrees" if not n_perp else "differs"
    if n_perp and n_bare and (n_perp * len(bare) < n_bare * len(perp) or perp.min() > bare.max()):
        kind = "partly"
    if _lack(table, NOTHING, PERP) or not n_bare:
        kind = "not reached"
    text = f"Collapsed: {n_bare} of {len(bare)} with nothing done{_from(bare)}, {n_perp} of {len(perp)} with "
    return judged(kind, len(bare) + len(perp), f"{text}perpGrad{_from(perp)}.", softmax_collapse)


@row(
    "arXiv:2501.04697",
    "Updates at right angles to the weights (perpGrad), without decay, bring grokking sooner than AdamW.",
    PRIETO,
)
def right_angles_hasten(softmax_collapse: Records) -> Verdict:
    """Decided by the update from which KNOWN of the validation answers hold, median over the seeds.

    AdamW counts at the decay that suits it best. agrees: perpGrad takes SOONER of its updates or fewer.
    differs: it does not. not reached: an arm has no run on record, or neither learned.
    """
    table = measures.summary([*softmax_collapse], KNOWN)
    table["method"] = ["AdamW" if r.run.optimizer == "adamw" else arm_of(r.run) for r in softmax_collapse]
    asked: Any = table[table["method"].isin(["AdamW", PERP])]
    if len(set(asked["method"])) < 2:
        return judged("not reached", 0, "AdamW and perpGrad are not both there.", softmax_collapse)
    best = measures.best_cells(asked, "method", column="validation_sustained").to_dict("index")
    adamw, perp = (_when(best[name]) for name in ("AdamW", PERP))
    kind = "agrees" if perp <= SOONER * adamw and perp < math.inf else "differs"
    if min(adamw, perp) == math.inf:
        kind = "not reached"
    text = f"Updates until 95 % hold: {perp:,.0f} with perpGrad and no decay, {adamw:,.0f} with AdamW"
    text += f" at its best decay, {best['AdamW']['weight_decay']:g}" if adamw < math.inf else ""
    return judged(kind, len(asked), f"{text}.".replace("inf", "never"), softmax_collapse)


def _when(cell: dict) -> float:
    """The median of a best cell; infinite where none was reached."""
    return math.inf if math.isnan(cell["value"]) else cell["value"]


def _spiked(records: Records, cures: tuple[str, ...]) -> Verdict:
    """Whether spikes come with nothing done and not with these arms."""
    table = _table(records)
    bare, cured = _of(table, NOTHING)["spikes"] > 0, _of(table, *cures)["spikes"] > 0
    kind = "partly" if cured.mean() < bare.mean() else "differs"
    if not cured.any() and 2 * bare.sum() >= len(bare):
        kind = "agrees"
    if _lack(table, NOTHING, *cures) or not bare.any():
        kind = "not reached"
    text = f"Spikes in {bare.sum()} of {len(bare)} networks with nothing done, and in {cured.sum()} of "
    return judged(kind, len(bare) + len(cured), f"{text}{len(cured)} with {words.listed(cures)}.", records)


def _table(records: Records) -> Any:
    return measures.collapse_table(records, arm_of)


def _of(table: Any, *arms: str) -> Any:
    return table[table["arm"].isin(arms)]


def _lack(table: Any, *arms: str) -> bool:
    return not set(arms) <= set(table["arm"])


def _from(steps: Any) -> str:
    """From which updates on, in words."""
    return f" (from update {words.span(steps.dropna())})" if steps.notna().any() else ""
