"""Figures 1 (left) and 4: late generalization."""

from __future__ import annotations

import numpy as np

from grokking_core import measures
from grokking_core.claims.deciding import (
    ABOUT,
    LATE,
    MILLION,
    Verdict,
    claim,
    is_about,
    verdict,
)
from grokking_core.paper import evidence
from grokking_core.paper.evidence import BUDGET
from grokking_core.runs import words
from grokking_core.runs.record import LEARNED
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run


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
        record for record in asked if evidence.has_learned(record) or evidence.has_failed(record, MILLION)
    ]
    if 2 * len(shown) <= len(asked.runs):
        return verdict(
            "not reached", len(shown), _instead_of_figure_1(fig1_grokking_curves), fig1_grokking_curves
        )
    followed = [record.last_step for record in shown]
    train = measures.median_steps([record.steps_to(LEARNED, "train") for record in shown], followed)
    leaves = measures.median_steps([record.steps_to(0.1, "validation") for record in shown], followed)
    late = measures.median_steps([record.steps_to(LEARNED, "validation") for record in shown], followed)
    gap = evidence.gap(shown)
    times = train.value <= 1000 and leaves.value >= BUDGET / ABOUT and is_about(late.value, MILLION)
    kind = "agrees" if times and is_about(gap.value, 1000) else "partly" if gap.value >= LATE else "differs"
    text = f"Median updates to 99 % in training: {train}; to 10 % in validation: {leaves}; to 99 %: {late}."
    return verdict(kind, len(shown), f"{text} Gap: {gap}.", asked)


def _is_figure_1(run: Run) -> bool:
    return run.operation == "x/y" and run.train_fraction == 0.5 and run.weight_decay == 0


def _instead_of_figure_1(records: Records) -> str:
    runs = records.runs
    if any(map(_is_figure_1, runs)):
        return "Too few runs without weight decay were followed far enough."
    text = f"Not asked for. Instead, {words.listed(map(words.task, runs))} with weight decay "
    return text + f"{words.listed(run.weight_decay for run in runs)}: gap {evidence.gap(records)}."


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
    own = fig1_grokking_curves.where(_is_figure_1)
    records, peaks, n = own if own.runs else fig1_grokking_curves, [], 0
    for record in records:
        if np.isfinite(record.curve["validation_loss"]).any():
            turn = measures.loss_turn(record)
            turned = turn.rose and turn.fell
            peaks += [turn.peak_step] * turned
            n += turned or evidence.has_learned(record) or evidence.has_failed(record, MILLION)
    if 2 * n <= len(records.runs):
        return verdict("not reached", n, "The loss had no time to rise and fall.", records, "x/y")
    peak = measures.interval(peaks)
    as_paper = all(_is_figure_1(record.run) for record in records) and is_about(peak.value, BUDGET)
    kind = "differs" if 2 * len(peaks) <= n else "agrees" if as_paper else "partly"
    text = f"The loss rose and fell again in {len(peaks)} of {n} runs"
    text += f", with its peak after {peak} updates," if peaks else ""
    text += f" at weight decay {words.listed(record.run.weight_decay for record in records)}"
    return verdict(kind, n, f"{text} (the paper: 0, and about 100,000 updates).", records, "x/y")
