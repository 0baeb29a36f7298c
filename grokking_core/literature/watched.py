"""What is watched while networks learn: signals before generalization, frequencies, loops."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from grokking_core import measures
from grokking_core.claims.deciding import TOGETHER, Verdict, kind_of
from grokking_core.literature.rows import judged, row
from grokking_core.plans.watched import is_control, is_published
from grokking_core.runs import words
from grokking_core.runs.records import Records

ILDR, FALL = "ILDR over 2.5 x its value at fitting", "entropy fell by 0.05"  #: of measures.SIGNALS
QUARTER = 0.25  #: of the logits, that the last keys have before T95
CIRCUIT = (
    "1-layer transformer without layer norm, x+y mod 113, 30 % of the table, full batches, 40,000 updates"
)
MARKS = {"circuit from": 1400, "clean-up from": 9400, "clean-up to": 14_000}  #: theirs, of the phases
PARTS = ("few keys", "the circuit before the clean-up", "fastest in the clean-up", "at their updates")
MANY, HALF = 6, 0.5  #: keys at most, one more than theirs; what they have of the logits at the end


@row(
    "arXiv:2604.20923",
    "The geometry of held-out classes, between against within, flags grokking some 950 updates early.",
    "1-layer encoder, operations mod 97 on 30 % of the table, and S5; 8 seeds; no run that never learns",
)
def held_out_geometry_leads(early_warnings: Records) -> Verdict:
    """Decided by the alarms of ILDR at 2.5 times its value at T_fit; see `measures.alarms`.

    Two parts: each run that learned had its alarm before 95 % of the validation equations were right; no
    control had one. agrees: both. partly: one. differs: none. not reached: no run learned, or there is no
    control.
    """
    return _warns(early_warnings, ILDR)


@row(
    "arXiv:2604.13123",
    "The entropy of the spectrum of the features collapses before grokking.",
    "1-layer transformer, operations mod 97, 10 seeds; S5 on 10 % of the table, where it led in 5 of 10 runs",
)
def entropy_collapse_leads(early_warnings: Records) -> Verdict:
    """Decided by a fall of the centred entropy by 0.05 within 1,000 updates after T_fit, as for ILDR.

    Two parts: each run that learned had its alarm before 95 % of the validation equations were right; no
    control had one. agrees: both. partly: one. differs: none. not reached: no run learned, or there is no
    control.
    """
    return _warns(early_warnings, FALL)


@row(
    "arXiv:2301.05217",
    "A circuit of a few frequencies grows smoothly under the plateau, before generalization.",
    CIRCUIT,
)
def circuit_grows_before(fourier: Records) -> Verdict:
    """Decided by the runs of the first paper's network that learned, as `measures.frequency_table` has them.

    Keys are the frequencies with over 2 % of the logits at the end.

    Two parts, each for all of these runs: the keys had QUARTER of the logits before 95 % of the validation
    equations were right; at the end training loss without the keys is above that without as many others.
    agrees: both. partly: one. differs: none. not reached: no run learned.
    """
    fourier = fourier.where(lambda run: not is_published(run))
    table = measures.frequency_table(fourier)
    if table.empty or (learned := table[table["T95"].notna()]).empty:
        return judged("not reached", 0, "No run learned.", fourier)
    rows = pd.DataFrame(learned).to_dict("records")
    early = [row["share 0.25"] is not pd.NA and row["share 0.25"] < row["T95"] for row in rows]
    matter = [row["excluded loss, end"] > row["excluded random, end"] for row in rows]
    text = (
        f"The keys had a quarter of the logits before T95 in {sum(early)} of {len(rows)} runs that learned;"
    )
    text += f" and without them training loss was above that without others in {sum(matter)}."
    return judged(kind_of([all(early), all(matter)]), len(rows), text, fourier)


@row(
    "arXiv:2301.05217",
    "In its own setting five frequencies carry the answer: their circuit forms from update 1,400 on, and "
    "from 9,400 to 14,000 what was memorised goes, when weights shrink and frequencies thin out fastest.",
    CIRCUIT,
)
def phases_of_the_published_setting(fourier: Records) -> Verdict:
    """Decided by the runs of that setting that learned; see `measures.phases`.

    Four parts, PARTS, each for all of these runs: at the end at most MANY keys have HALF of the logits; they
    had a quarter before the clean-up began; in the clean-up the sum of squared weights falls, and the Gini
    coefficient of the embedding rises, faster than while the circuit forms; the phases begin and end at
    MARKS, up to a factor TOGETHER. agrees: all parts. partly: some. differs: none. not reached: no run of
    that setting learned.
    """
    runs = fourier.where(is_published)
    learned = [record for record in runs if record.steps_to(measures.GROKKED, "validation") is not None]
    if not learned:
        longest = max((record.last_step for record in runs), default=0)
        text = f"None of {len(runs)} runs of that setting learned in up to {longest:,} updates."
        return judged("not reached", len(runs), text, runs)
    rows = measures.phase_table(learned).to_dict("records")
    parts = [all(part) for part in zip(*map(_of_the_published, rows), strict=True)]
    hold = words.listed(name for name, holds in zip(PARTS, parts, strict=True) if holds)
    text = f"Of the four parts hold: {hold or 'none'}. {' '.join(map(_phases_in_words, rows))}"
    return judged(kind_of(parts), len(rows), text, runs)


def _of_the_published(row: dict[str, Any]) -> tuple[bool, ...]:
    """The parts of `phases_of_the_published_setting` for a run."""
    few = len(row["keys"].split(", ")) <= MANY and row["share"] >= HALF
    forms = _known(row["formed"]) < _known(row["clean-up from"])
    sharp = all(row[f"{of}, clean-up"] > row[f"{of}, forming"] for of in ("norm", "gini"))
    near = all(mark / TOGETHER <= _known(row[name]) <= mark * TOGETHER for name, mark in MARKS.items())
    return few, forms, sharp, near


def _known(step: Any) -> float:
    """An update; later than any where there is none."""
    return math.inf if pd.isna(step) else float(step)


def _phases_in_words(row: dict[str, Any]) -> str:
    at = {name: "never" if pd.isna(row[name]) else f"{row[name]:,}" for name in ("formed", *MARKS)}
    marks = ", ".join(f"{name} {at[name]} (theirs: {mark:,})" for name, mark in MARKS.items())
    norm, gini = ([row[f"{of}, {phase}"] for phase in ("forming", "clean-up")] for of in ("norm", "gini"))
    return (
        f"Seed {row['seed']}: keys {row['keys'] or 'none'} with {row['share']:.0%} of the logits at the end;"
        f" {marks}, the keys had a quarter of the logits at {at['formed']}. In a thousand updates the squared"
        f" norm fell by {norm[0]:.1%} while the circuit formed and by {norm[1]:.1%} in the clean-up, and the"
        f" Gini coefficient of the embedding rose by {gini[0]:.3f} and {gini[1]:.3f}."
    )


@row(
    "arXiv:2605.06352",
    "Loops in the element embeddings, by persistent homology, become prominent at grokking.",
    "transformers mod 113, 149 and 197 on 20 to 30 % of the table, 60,000 updates; accuracy leads",
)
def loops_appear(topology: Records) -> Verdict:
    """Decided by the longest life of a loop against the null band, see `measures.null_band`.

    agrees: each run that learned leaves the band for good. partly: some do. differs: none does. not reached:
    no run learned, or there is no control.
    """
    table = measures.loop_table(topology, is_control)
    n_controls = sum(is_control(record.run) for record in topology)
    if table.empty or not n_controls or (learned := table[table["T95"].notna()]).empty:
        return judged("not reached", 0, "No run learned, or there is no control.", topology)
    leads = learned["lead"].tolist()
    left = [lead is not pd.NA for lead in leads]
    early = [lead is not pd.NA and lead > 0 for lead in leads]
    text = f"{sum(left)} of {len(leads)} runs that learned left the band of {n_controls} controls for good,"
    text += f" {sum(early)} of them before 95 % of the validation equations were right."
    return judged(kind_of(left), len(leads), text, topology)


def _warns(records: Records, signal: str) -> Verdict:
    """Whether a signal warns of all that learn, and of nothing else."""
    table = measures.alarms(records, is_control)
    found = measures.judged(pd.DataFrame(table[table["signal"] == signal]))
    if found.empty or not found["learners"].iloc[0] or not found["controls"].iloc[0]:
        return judged("not reached", 0, "No run learned, or there is no control.", records)
    of = found.iloc[0]
    text = f"In time for {of['warned']:.0f} of {of['learners']:.0f} runs that learned, median lead"
    text += f" {of['lead']:,.0f} updates ({of['shortest']:,.0f} to {of['longest']:,.0f}); false alarms in"
    text += f" {of['false_alarms']:.0f} of {of['controls']:.0f} controls."
    parts = [bool(of["warned"] == of["learners"]), bool(of["false_alarms"] == 0)]
    return judged(kind_of(parts), int(of["learners"] + of["controls"]), text, records)
