"""Does it last? What becomes of networks long after grokking."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from grokking_core import measures
from grokking_core.claims.deciding import NETWORKS, Verdict
from grokking_core.literature.rows import judged, row
from grokking_core.paper import evidence
from grokking_core.plans.followups import window_of
from grokking_core.runs import schedule, words
from grokking_core.runs.record import LEARNED, Record
from grokking_core.runs.records import Records
from grokking_core.weights.spectra import effective_rank

FALLEN = 0.9  #: validation accuracy below which a network that had learned has lost it
MODERATE = (0.1, 2.0)  #: weight decays between which networks are to learn
KEPT_OF_THEIRS = 16 / 20  #: of their networks, at four decays, kept 99 %
BOUNDARY = (0.0109, 0.02)  #: interval of the decay from which on networks grok, theirs
COLLAPSE = 10.0  #: decay at which their networks collapse
EPOCHS = 20_000  #: for which theirs were followed
OVERSTATED = 1.3  #: least factor by which the effective rank at grokking exceeds the last, theirs
FEW = 3  #: networks, to say anything of all
REGIMES = "4-layer transformer with 8 heads, mod 97 on half of the table, 20,000 epochs"
TRAPS = "MLP on MNIST to 10 million updates; 1-layer transformer on modular addition"


@row(
    "arXiv:2605.12394, arXiv:2602.02859",
    "Long after grokking accuracy collapses again.",
    TRAPS,
)
def accuracy_collapses_again(retention: Records) -> Verdict:
    """Decided by the networks that learned: their validation accuracy at and after that.

    agrees: half of them or more end below FALLEN. partly: one or more are below it at a later evaluation.
    differs: none is. not reached: fewer than FEW learned.
    """
    table = aftermath(retention)
    fell, ended = (table[["lowest", "end"]].to_numpy() < FALLEN).sum(axis=0)
    kind = "agrees" if 2 * ended >= len(table) else "partly" if fell else "differs"
    text = (
        f"Of {len(table)} networks that learned {fell} fell below {words.percent(FALLEN)} later and {ended} "
    )
    text += (
        f"ended there; they were followed for {measures.interval(table['times'])} times as long as they took."
    )
    return judged(kind if len(table) >= FEW else "not reached", len(table), text, retention)


@row(
    "arXiv:2605.12394, arXiv:2602.02859",
    "Correlation traps, outliers of the spectra of shuffled weights, show which networks have lost it.",
    TRAPS,
)
def traps_show_the_collapse(retention: Records) -> Verdict:
    """Decided by Spearman's correlation of traps at the end and the lowest accuracy after learning.

    agrees: below 0 with its interval. partly: below 0. differs: 0 or above, or no network has a trap.
    not reached: fewer than NETWORKS learned, or all fell equally far.
    """
    table = aftermath(retention).dropna(subset="traps")
    found = measures.spearman(table["traps"], table["lowest"])
    n_trapped = (table["traps"].to_numpy() >= 1).sum()
    kind = "differs"
    if n_trapped:
        kind = "agrees" if found.high < 0 else "partly" if found.value < 0 else "differs"
    if len(table) < NETWORKS or (np.isnan(found.value) and n_trapped):
        kind = "not reached"
    text = (
        f"{n_trapped} of {len(table)} networks have a trap at the end. Correlation with the lowest accuracy: "
    )
    return judged(kind, len(table), f"{text}{found}.", retention)


@row(
    "arXiv:2605.20441",
    "Of networks that grok four in five still have it in the end, at decays of 0.1 to 2.",
    REGIMES,
)
def most_keep_it(retention: Records) -> Verdict:
    """Decided by the networks at MODERATE decays that learned: whether 99 % hold at the end.

    agrees: the exact 95 % interval of the share that does holds theirs. differs: it does not. not reached:
    fewer than FEW learned.
    """
    table = aftermath(retention)
    table = table.loc[table["weight_decay"].between(*MODERATE)]
    kept = int((table["end"].to_numpy() >= LEARNED).sum())
    if len(table) < FEW:
        return judged("not reached", len(table), f"{len(table)} networks learned.", retention)
    low, high = stats.binomtest(kept, len(table)).proportion_ci()
    kind = "agrees" if low <= KEPT_OF_THEIRS <= high else "differs"
    text = f"{kept} of {len(table)} hold 99 % at the end [{words.percent(low)}, {words.percent(high)}]."
    return judged(kind, len(table), text, retention)


@row("arXiv:2605.20441", "Networks grok from a weight decay of about 0.016 on, and not below.", REGIMES)
def a_boundary_of_decay(retention: Records) -> Verdict:
    """Decided by the smallest decay at which most networks learned, and the largest below it.

    agrees: their BOUNDARY meets the decays from the one to the other. partly: it lies elsewhere. differs:
    most learned at all decays, down to BOUNDARY. not reached: no decay was tried that is so small, none
    sufficed, or those that failed were followed for less than EPOCHS.
    """
    found = evidence.distinct([always(retention)]).where(lambda run: run.weight_decay < COLLAPSE)
    shares = {}
    for decay in sorted({record.run.weight_decay for record in found}):
        shares[decay] = np.mean([evidence.has_learned(r) for r in found if r.run.weight_decay == decay])
    enough = min((decay for decay, share in shares.items() if share > 0.5), default=None)
    failed = max((decay for decay in shares if enough is None or decay < enough), default=None)
    epochs = max((_epochs(r) for r in found if r.run.weight_decay == failed), default=0.0)
    kind = "partly"
    if enough is None or min(shares) > BOUNDARY[1] or (failed is not None and epochs < EPOCHS):
        kind = "not reached"
    elif failed is None:
        kind = "differs"
    elif failed <= BOUNDARY[1] and enough >= BOUNDARY[0]:
        kind = "agrees"
    text = "; ".join(f"{words.percent(share)} at {decay:g}" for decay, share in shares.items())
    text = f"Learned, by decay: {text}."
    if failed is not None:
        text += f" With {failed:g} networks were followed for {epochs:,.0f} epochs, theirs for {EPOCHS:,}."
    return judged(kind, len(found), text, retention)


@row("arXiv:2605.20441", "At a weight decay of 10 training collapses.", REGIMES)
def collapse_at_strong_decay(retention: Records) -> Verdict:
    """Decided by the networks at decays of COLLAPSE and more.

    agrees: none fitted its training set. partly: one or more did, and fewer than half learned. differs: half
    or more learned. not reached: there are fewer than FEW.
    """
    strong = evidence.distinct([always(retention)]).where(lambda run: run.weight_decay >= COLLAPSE)
    fitted = sum(record.steps_to(LEARNED, "train") is not None for record in strong)
    learned = sum(map(evidence.has_learned, strong))
    kind = "differs" if 2 * learned >= len(strong) else "partly" if fitted else "agrees"
    best = max((measures.best_accuracy(record, "train") for record in strong), default=0.0)
    text = f"Of {len(strong)} networks at decay {COLLAPSE:g} and more {fitted} fitted and {learned} learned; "
    text += f"highest training accuracy {words.percent(best)}."
    return judged(kind if len(strong) >= FEW else "not reached", len(strong), text, retention)


@row(
    "arXiv:2607.06639",
    "When it groks a network is not converged: its effective rank is 1.3 to 5 times the last one.",
    "not in the material that we could read",
)
def rank_is_overstated_at_grokking(retention: Records) -> Verdict:
    """Decided by the effective rank of the elements' output rows when a network learned, over the last.

    agrees: the median ratio is OVERSTATED or more. partly: above 1 with its interval. differs: otherwise.
    not reached: fewer than FEW networks that learned and went on.
    """
    ratios = aftermath(retention)["rank_ratio"].dropna()
    found = measures.interval(ratios)
    kind = "agrees" if found.value >= OVERSTATED else "partly" if found.low > 1 else "differs"
    text = f"Effective rank of the output rows at 99 % over that at the end: median {found}."
    return judged(kind if found.n >= FEW else "not reached", found.n, text, retention)


@row(
    "arXiv:2605.04396",
    "When weight decay acts decides between reasoning and memorising on a compositional task, but not on "
    "modular arithmetic, where constant decay does as well.",
    "a compositional task, and modular arithmetic as control; decay in a quarter of the training",
)
def timing_of_decay_is_nothing(retention: Records) -> Verdict:
    """Decided by the shares of networks that learned with decay in a quarter of the updates; see `by_window`.

    agrees: throughout as many learned as with any quarter, and with each quarter most did, or with none.
    partly: the first of the two. differs: with some quarter more learned. not reached: throughout most did
    not, or most did without decay, or one of these has no run on record.
    """
    shares: dict[str, float] = by_window(retention)["learned"].to_dict()
    quarters = [share for when, share in shares.items() if when not in ("throughout", "never")]
    text = "; ".join(f"{words.percent(share)} {when}" for when, share in shares.items())
    n = sum(record.run.decay_to is not None for record in retention)
    text = f"Learned with decay in a quarter of the updates, from its start on: {text}."
    if not quarters or len(shares) < len(quarters) + 2 or not shares["never"] <= 0.5 < shares["throughout"]:
        return judged("not reached", n, text, retention)
    alike = len({share > 0.5 for share in quarters}) == 1
    kind = "differs" if max(quarters) > shares["throughout"] else "agrees" if alike else "partly"
    return judged(kind, n, text, retention)


def always(records: Records) -> Records:
    """The runs whose decay acts in all updates that are asked for."""
    return records.where(lambda run: run.decay_to is None)


def by_window(records: Records) -> pd.DataFrame:
    """What becomes of networks by when decay acts, see `window_of`, in order of its start.

    Returns
    -------
    DataFrame
        By name: learned (share of the networks), when (median of the updates after which these had), end,
        best (median validation accuracies, at the end and ever), n.
    """
    acts = records.where(lambda run: run.decay_to is not None)
    budget = max((run.decay_to or 0 for run in acts.runs), default=0)
    rows = [
        {
            "window": window_of(record.run, budget),
            "learned": evidence.has_learned(record),
            "when": record.steps_to(LEARNED, "validation"),
            "end": record.curve["validation_accuracy"].iloc[-1],
            "best": measures.best_accuracy(record),
        }
        for record in acts
    ]
    numbers = ["learned", "when", "end", "best"]
    table = pd.DataFrame(rows, columns=["window", *numbers]).astype(dict.fromkeys(numbers, float))
    found = table.groupby("window")
    by = found[numbers].median().assign(learned=found["learned"].mean(), n=found.size())
    return by.loc[sorted(by.index, key=lambda name: ({"throughout": 1, "never": 2}.get(name, 0), name))]


def aftermath(records: Records) -> pd.DataFrame:
    """One row a network that learned and was followed on, in order of the runs: what became of it.

    Returns
    -------
    DataFrame
        weight_decay, seed; learned (updates), times (last update over that); lowest, lowest_train (accuracies
        after it had learned), end (in validation); traps (at the end; NaN where they are not kept);
        rank_ratio (of the output rows when it had learned over the end; NaN where one is not kept).
    """
    first: dict[object, Record] = {}
    for record in always(records):
        first[record.run] = min(first.get(record.run, record), record, key=lambda each: each.last_step)
    rows = [_after(first[record.run], record) for record in evidence.distinct([always(records)])]
    names = [
        "weight_decay",
        "seed",
        "learned",
        "times",
        "lowest",
        "lowest_train",
        "end",
        "traps",
        "rank_ratio",
    ]
    known = [row for row in rows if row]
    return pd.DataFrame(known, columns=names).astype(dict.fromkeys(names, float))


def _after(at: Record, end: Record) -> dict[str, float]:
    """The row of `aftermath` of a network, from its records when it had learned and at its end; or none."""
    learned = end.steps_to(LEARNED, "validation")
    if learned is None or learned == end.last_step:
        return {}
    later = end.curve.loc[end.curve["step"] >= learned]
    validation = later["validation_accuracy"].to_numpy()
    row = {"weight_decay": end.run.weight_decay, "seed": end.run.seed, "learned": learned}
    row |= {"times": end.last_step / learned, "lowest": validation.min(), "end": validation[-1]}
    row["lowest_train"] = later["train_accuracy"].min()
    if "traps" in end.kept:
        row["traps"] = end.kept["traps"]["count"].sum()
    if at.last_step < end.last_step and all("output_rows" in record.kept for record in (at, end)):
        of = [effective_rank(r.kept["output_rows"]["rows"][: r.run.n_elements]) for r in (at, end)]
        row["rank_ratio"] = of[0] / of[1]
    return row


def _epochs(record: Record) -> float:
    """How often a run had seen its training set."""
    return record.last_step / schedule.steps_per_epoch(record.run)
