"""Figure 2 (left): optimizers."""

from __future__ import annotations

from collections.abc import Sequence

from grokking_core.claims.deciding import (
    S5,
    Verdict,
    claim,
    fitting,
    in_order,
    kind_of,
    names,
    verdict,
)
from grokking_core.paper import evidence, experiments
from grokking_core.paper.evidence import BUDGET, UNKNOWN
from grokking_core.runs.records import Records

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
    records = evidence.own(fig2_optimizers, S5)
    needed = evidence.fractions_needed(records, experiments.variant_of)
    others = dict.fromkeys(map(experiments.variant_of, records.runs))
    others.pop(DECAY, None)
    bounds = [evidence.ratio(needed.get(name, UNKNOWN), needed.get(DECAY, UNKNOWN)) for name in others]
    above, below = sum(low >= 2 for low, _ in bounds), sum(high <= 2 for _, high in bounds)
    kind = "agrees" if 2 * above > len(others) else "partly" if above else "not reached"
    if others and 2 * below >= len(others):
        kind = "differs"
    text = (
        f"Of {len(others)} other variants, {above} need more than twice as much as decay 1, {below} do not, "
    )
    text += f"and {len(others) - above - below} are open. {evidence.brackets(needed)}"
    return verdict(kind, len(records), text, records, S5, BUDGET, needed)


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
    records = evidence.own(fig2_optimizers, S5)
    records = records.where(lambda run: experiments.variant_of(run) in rates)
    needed = evidence.fractions_needed(records, experiments.variant_of)
    worse = [a for a in needed if any(evidence.needs_less(needed[b], needed[a]) for b in needed)]
    same = len(needed) == 3 and len(set(needed.values())) == 1 and None not in needed[ADAM]
    kind = "agrees" if len(worse) == 2 else "partly" if worse else "differs" if same else "not reached"
    text = f"{evidence.brackets(needed)} Worse than another: {names(worse) or 'none'}."
    return verdict(kind, len(records), text, records, S5, BUDGET, needed)


def _variants_in_order(records: Records, pairs: Sequence[tuple[str, str]]) -> Verdict:
    named = {name for pair in pairs for name in pair}
    shown = evidence.own(records, S5).where(lambda run: experiments.variant_of(run) in named)
    return in_order(shown, experiments.variant_of, pairs, len(pairs), S5)


@claim("figure 2, left", "Every variant reaches 100 % training accuracy within 1,000 to 10,000 updates.")
def c15(fig2_optimizers: Records) -> Verdict:
    """Decided by the first step at which training accuracy is 99 %; earlier than 1,000 counts as within.

    A variant is late if one of its runs took longer than 10,000 updates, and open if none decides: given
    up earlier, or missing. agrees: no variant asked for is late or open. partly: some are. differs: half of
    them or more are late. not reached: half of them or more are open.
    """
    records = evidence.own(fig2_optimizers, S5)
    asked = dict.fromkeys(map(experiments.variant_of, records.runs))
    table = evidence.outcomes(records)
    table["variant"] = [experiments.variant_of(record.run) for record in records]
    table = table.dropna(subset="fitted_soon")
    soon = {str(name): all(group["fitted_soon"]) for name, group in table.groupby("variant", sort=False)}
    late, is_open = [name for name in soon if not soon[name]], [name for name in asked if name not in soon]
    kind = "partly" if late or is_open else "agrees"
    if 2 * len(is_open) >= len(asked):
        kind = "not reached"
    elif 2 * len(late) >= len(asked):
        kind = "differs"
    text = f"{fitting(table)} Of {len(asked)} variants, {len(asked) - len(late) - len(is_open)} within 10,000"
    text += "".join(f"; {word}: {names(of)}" for word, of in (("late", late), ("open", is_open)) if of)
    return verdict(kind, len(table), f"{text}.", records, S5)


@claim("figure 2, left", "Full-batch optimizers generalize, too, at high fractions.")
def c16(fig2_optimizers: Records) -> Verdict:
    """Decided by whether any fraction suffices for Adam with full batches, without and with update noise.

    agrees: for both. partly: for one. differs: for neither, one of them up to 90 % and with BUDGET updates.
    not reached: for neither, but with smaller fractions or fewer updates only.
    """
    names = (FULL_BATCH, "full batch, update noise")
    records = evidence.own(fig2_optimizers, S5)
    records = records.where(lambda run: experiments.variant_of(run) in names)
    needed = evidence.fractions_needed(records, experiments.variant_of)
    followed = any(r.run.train_fraction >= 0.9 and evidence.has_failed(r) for r in records)
    enough = [needed.get(name, UNKNOWN).reached is not None for name in names]
    kind = kind_of(enough) if any(enough) or followed else "not reached"
    return verdict(kind, len(records), evidence.brackets(needed), records, S5, BUDGET, needed)
