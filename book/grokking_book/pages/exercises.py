"""Changes worth making to a figure, and what one finds: computed from records, read and never trained.

An exercise changes parameters of the `laptop` profile, whichever profile its page was made with, so that a
reader can follow it on any machine. It is a question, the command that makes the figure so, and an answer
from the runs that the command asks for, as far as they are on record: many are, because other figures ask
for them as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
import yaml

from grokking_core import data, measures
from grokking_core.measures import Side
from grokking_core.paper import experiments
from grokking_core.paper.evidence import LEARNED
from grokking_core.plans import Part, Plan
from grokking_core.plans.capacity import n_parameters
from grokking_core.plans.watched import is_control, is_published
from grokking_core.records.store import Store
from grokking_core.runs import words
from grokking_core.runs.record import Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.runs.words import percent
from grokking_core.weights import sharpness, structure

PROFILE = "laptop"
CURVES: dict[str, Any] = {"keep": (), "watch": (), "watch_every": None}  #: nothing but the curve is asked for


class Finding(NamedTuple):
    """An answer in Markdown."""

    lead: str  #: what the lines are about
    lines: list[str]
    missing: list[Run]  #: that it would need, too


Answer = Callable[[Plan, Store, float], Finding]  #: plan, records, accuracy that counts as learned


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One change of a figure, and a question about it."""

    question: str  #: Markdown
    change: dict[str, Any]  #: parameters of the notebook, laid over those of the laptop profile
    answer: Answer
    beside: bool = False  #: whether the laptop profile's own figure is told first, for comparison

    def command(self, notebook: str) -> str:
        """The command that makes the page of a notebook with the change."""
        values = " ".join(f"{name}={value!r}" for name, value in self.change.items())
        return f'make book PROFILE={PROFILE} ONLY={notebook} P="{values}"'

    def plan(self, notebook: str) -> Plan:
        """What the changed figure asks."""
        return laptop_plan(notebook, self.change)

    def findings(self, notebook: str, store: Store) -> list[Finding]:
        """What the records say: of the figure as it is, where asked for, and of the changed one."""
        as_it_is = [self.answer(laptop_plan(notebook), store, LEARNED)] if self.beside else []
        changed = self.answer(self.plan(notebook), store, self.change.get("threshold", LEARNED))
        return [*as_it_is, changed]


def laptop_plan(notebook: str, change: dict[str, Any] | None = None) -> Plan:
    """What the figure of a notebook asks in the laptop profile, with other parameters laid over it."""
    values = experiments.load_profile(PROFILE).get(notebook, {}) | (change or {})
    asked = {name: value for name, value in values.items() if name not in experiments.READING}
    return experiments.experiment(notebook)(**asked)


def read(parts: Iterable[Part], store: Store) -> Records:
    """What the records answer to a plan's parts; a build that trains all again counts older ones, too."""
    return Plan(tuple(parts)).read(store, fresh=False)


# -------------------------------------------------------------------------------------------------
# The block of a page


def block(notebook: str, store: Store | None = None) -> str:
    """The exercises of a notebook in Markdown: question, command, and, folded, the answer.

    Parameters
    ----------
    notebook : str
        A key of `EXERCISES`.
    store : Store, optional
        By default the user's own and the shipped records.
    """
    store = store or Store()
    exercises = enumerate(EXERCISES[notebook], start=1)
    return "\n\n".join(_block(number, exercise, notebook, store) for number, exercise in exercises)


def _block(number: int, exercise: Exercise, notebook: str, store: Store) -> str:
    return f"""**{number}.** {exercise.question}

```bash
{exercise.command(notebook)}
```

<details class="toggle-details exercise"><summary>What one finds</summary>

{_answer(exercise.findings(notebook, store))}

{_effort(read(exercise.plan(notebook).parts, store))}

</details>"""


def _answer(answers: Sequence[Finding]) -> str:
    """The answers' lines, those with the same lead under one, and what is missing for them."""
    lines: dict[str, dict[str, None]] = {}  # as ordered sets
    for finding in answers:
        lines.setdefault(finding.lead, {}).update(dict.fromkeys(finding.lines))
    text = [f"{lead}:\n\n" + "\n".join(f"- {line}" for line in some) for lead, some in lines.items() if some]
    if missing := dict.fromkeys(setting(run) for finding in answers for run in finding.missing):
        text.append(f"Not on record yet: {'; '.join(missing)}.")
    return "\n\n".join(text)


def _effort(found: Records) -> str:
    """What the command trains; to learn a milestone may take less than to draw the picture."""
    n_read, n_missing = len(found), len(found.missing)
    text = f"For the picture the command reads {n_read} run{'s' * (n_read != 1)} from records and trains"
    updates = sum(found.missing_steps.values())
    return f"{text} {n_missing}, {updates:,} updates at most." if n_missing else f"{text} none."


def setting(run: Run) -> str:
    """A run in words: task and share of the table, then the fields of `Run` that are not at their default."""
    named = {"operation", "p", "n", "train_fraction", "seed"}
    defaults = {field.name: field.default for field in fields(Run) if field.default is not MISSING}
    others = {name: value for name, value in asdict(run).items() if value != defaults.get(name)}
    changed = [f"`{name}={value!r}`" for name, value in others.items() if name not in named]
    return ", ".join([f"`{words.task(run)}`", percent(run.train_fraction), *changed])


def _of_seed(run: Run) -> str:
    return f"{setting(run)}, seed {run.seed}"


# -------------------------------------------------------------------------------------------------
# Answers


def when_learned(plan: Plan, store: Store, threshold: float) -> Finding:
    """When the runs of the plan's first part, its picture, learned: a line for each setting.

    They count until they have learned, so that a run which another figure followed no further is enough.
    """
    part = plan.parts[0]
    records = read([replace(part, stop_at=min(part.stop_at or 1.0, threshold), **CURVES)], store)
    groups = groupby(records, key=lambda record: setting(record.run))
    lead = f"Updates until {percent(threshold)} of the training and of the validation set are right, medians"
    lines = [_when_learned(name, list(group), threshold) for name, group in groups]
    return Finding(f"{lead} of *n* runs", lines, records.missing)


def _when_learned(name: str, group: Sequence[Record], threshold: float) -> str:
    text = f"{name}: training {reached(group, 'train', threshold)}"
    text += f", validation {reached(group, 'validation', threshold)}"
    if any(record.steps_to(threshold, "validation") is None for record in group):
        text += f", best accuracy {_best(group, 'validation')}"
        if data.OPERATIONS[group[0].run.operation].symmetric:
            text += f", on unmirrored equations {_best(group, 'unmirrored')}"
    return f"{text} (*n* = {len(group)})"


def reached(group: Sequence[Record], side: Side, threshold: float) -> str:
    """After how many updates some runs reached an accuracy: the median of all, or those that did."""
    times = [record.steps_to(threshold, side) for record in group]
    known = [time for time in times if time is not None]
    late = [record.last_step for record, time in zip(group, times, strict=True) if time is None]
    if not known:
        return f"not within {words.span(late)}"
    if late:
        others = f"the others not within {words.span(late)}"
        return f"{words.span(known)} in {len(known)} of {len(group)} runs and {others}"
    spread = f" ({words.span(known)})" if len(set(known)) > 1 else ""
    return f"{median(known):,.0f}{spread}"


def _best(group: Sequence[Record], side: Side) -> str:
    """From the lowest to the highest of the runs' best accuracies."""
    best = [measures.best_accuracy(record, side) for record in group]
    return " to ".join(dict.fromkeys(map(percent, (min(best), max(best)))))


def at_the_end(plan: Plan, store: Store, threshold: float) -> Finding:
    """How much of the table is right after the last update of the first part, the picture, a line a run."""
    records = read([replace(plan.parts[0], stop_at=None, **CURVES)], store)
    lines = []
    for record in records:
        right = {name: f"{100 * share:.2f} %" for name, share in record.curve.iloc[-1].items()}
        text = f"{setting(record.run)}, after {record.last_step:,} updates: in training"
        text += f" {right['train_accuracy']}, held out {right['validation_accuracy']}"
        if data.OPERATIONS[record.run.operation].symmetric:
            text += f", of the unmirrored ones of these {right['unmirrored_accuracy']}"
        lines.append(text)
    return Finding("Cells that are right after the last update", lines, records.missing)


def number_lines(plan: Plan, store: Store, threshold: float) -> Finding:
    """The step that stands out in the output rows of the networks that add, a line a network."""
    records = read(plan.parts[:1], store)
    rows = structure.table([structure.structure_of(record) for record in records]).to_dict("records")
    lines = [
        f"{_of_seed(record.run)}: {row['best']}, z = {row['z']:.1f}" + ", not learned" * (not row["knows"])
        for record, row in zip(records, rows, strict=True)
    ]
    return Finding("The step that stands out most in the output rows", lines, records.missing)


def correlation(plan: Plan, store: Store, threshold: float) -> Finding:
    """Whether the flatter networks generalize better, over those that fit their training set: one line."""
    records = read(plan.parts, store)
    table = sharpness.table(records)
    fitted = table[table["train"] >= threshold]
    on_all, on_unmirrored = (measures.spearman(fitted["phi"], fitted[side]) for side in measures.SIDES[1:])
    text = f"{len(fitted)} of {len(records)} networks fit: {on_all}, on unmirrored equations {on_unmirrored}"
    lead = "Rank correlation of sharpness and validation accuracy, over networks that fit their training set"
    return Finding(lead, [text] * bool(records), records.missing)


def sharpness_of_each(plan: Plan, store: Store, threshold: float) -> Finding:
    """Sharpness at the end, a line a network."""
    records = read(plan.parts, store)
    rows = sharpness.table(records).to_dict("records")
    lines = [
        f"{_of_seed(record.run)}: sharpness {row['phi']:.2g} % after {row['followed']:,} updates, training"
        f" loss {row['train_loss']:.2g}, validation accuracy {percent(row['validation'])}"
        for record, row in zip(records, rows, strict=True)
    ]
    return Finding("At the end of each run", lines, records.missing)


def warned(plan: Plan, store: Store, threshold: float) -> Finding:
    """Whom each signal warns of, how long before, and how often for nothing: a line a signal."""
    records = read(plan.parts, store)
    found = measures.judged(measures.alarms(records, is_control)).to_dict("index")
    lines = [
        f"{name}: {row['warned']} of {row['learners']} learners in time"
        + f", median lead {row['lead']:,.0f}" * (row["lead"] == row["lead"])
        + f"; {row['false_alarms']} of {row['controls']} controls"
        for name, row in found.items()
    ]
    return Finding("Signals, the learners that they warned of, and false alarms", lines, records.missing)


def keys_of_each(plan: Plan, store: Store, threshold: float) -> Finding:
    """The keys of each network of ours, and when they had a quarter of its logits: a line a run."""
    records = read(plan.parts, store)
    ours = records.where(lambda run: not is_published(run))
    rows = measures.frequency_table(ours).to_dict("records") if ours else []
    lines = [
        f"{row['task']}, seed {row['seed']}: keys {row['keys'] or 'none'}; a quarter of the logits"
        f" {_at(row['share 0.25'])}, 95 % in validation {_at(row['T95'])}"
        for row in rows
    ]
    return Finding("The frequencies with more than 2 % of the logits at the end", lines, records.missing)


def loops_of_each(plan: Plan, store: Store, threshold: float) -> Finding:
    """When each network that learned leaves the band of the controls, a line a run."""
    records = read(plan.parts, store)
    table: Any = measures.loop_table(records, is_control) if records else pd.DataFrame({"T95": []})
    lines = [
        f"{row['task']}, seed {row['seed']}: outside the band {_at(row['leaves the band'])}, 95 % in"
        f" validation {_at(row['T95'])}; longest life of a loop {row['at T_fit']:.2f} at fitting,"
        f" {row['at the end']:.2f} at the end"
        for row in table[table["T95"].notna()].to_dict("records")
    ]
    return Finding("Networks that learned, and the band of those that did not", lines, records.missing)


def _at(step: Any) -> str:
    """An update in words; NA where there is none."""
    return "never" if pd.isna(step) else f"from {step:,} on"


def memorised(plan: Plan, store: Store, threshold: float) -> Finding:
    """When networks of many widths generalize, and when they learn random answers, a line a width."""
    records = read(plan.parts, store)
    rows = measures.by_size(records, n_parameters).to_dict("records")
    told = {name: [_or_never(row[name]) for row in rows] for name in ("generalized", "memorised")}
    lines = [
        f"width {row['width']:.0f}, {row['size']:,.0f} parameters: the rule {rule}, random answers {random}"
        for row, rule, random in zip(rows, told["generalized"], told["memorised"], strict=True)
    ]
    return Finding("Updates until 99 % are right, medians over the seeds", lines, records.missing)


def _or_never(steps: float) -> str:
    """Updates in words; NaN where nothing is on record."""
    return f"{steps:,.0f}" if steps < math.inf else "not on record" if math.isnan(steps) else "never"


# -------------------------------------------------------------------------------------------------
# The exercises

FILE = Path(__file__).parents[2] / "exercises.yml"
ANSWERS = {
    answer.__name__: answer
    for answer in (
        when_learned, at_the_end, number_lines, correlation, sharpness_of_each, memorised,
        warned, keys_of_each, loops_of_each,
    )
}  # fmt: skip


def exercise(question: str, change: dict[str, Any], answer: str, beside: bool = False) -> Exercise:
    """An exercise as the file has it, its answer by name."""
    return Exercise(question=question, change=change, answer=ANSWERS[answer], beside=beside)


EXERCISES: dict[str, tuple[Exercise, ...]] = {
    notebook: tuple(exercise(**entry) for entry in entries)
    for notebook, entries in yaml.safe_load(FILE.read_text(encoding="utf-8")).items()
}
