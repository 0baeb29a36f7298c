"""What is watched while networks learn: signals before generalization, frequencies, loops."""

from __future__ import annotations

import pandas as pd

from grokking_core import measures
from grokking_core.claims.deciding import Verdict, kind_of
from grokking_core.literature.rows import judged, row
from grokking_core.plans.watched import is_control
from grokking_core.runs.records import Records

ILDR, FALL = "ILDR over 2.5 x its value at fitting", "entropy fell by 0.05"  #: of measures.SIGNALS
QUARTER = 0.25  #: of the logits, that the last keys have before T95


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
    "1-layer transformer without layer norm, x+y mod 113, 30 % of the table, full batches, 40,000 updates",
)
def circuit_grows_before(fourier: Records) -> Verdict:
    """Decided by the runs that learned; keys are the frequencies with over 2 % of the logits at the end.

    Two parts, each for all of these runs: the keys had QUARTER of the logits before 95 % of the validation
    equations were right; at the end training loss without the keys is above that without as many others.
    agrees: both. partly: one. differs: none. not reached: no run learned.
    """
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
