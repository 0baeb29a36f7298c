"""Changes worth making to a figure, and what one finds: computed from records, read and never trained.

An exercise changes parameters of the `laptop` profile, whichever profile its page was made with, so that a
reader can follow it on any machine. It is a question, the command that makes the figure so, and an answer
from the runs that the command asks for, as far as they are on record: many are, because other figures ask
for them as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from itertools import groupby
from statistics import median
from typing import Any, NamedTuple

from grokking_core import data, measures
from grokking_core.measures import Side
from grokking_core.paper import experiments
from grokking_core.paper.evidence import LEARNED
from grokking_core.paper.plans import Part, Plan
from grokking_core.records.store import Store
from grokking_core.runs import words
from grokking_core.runs.record import Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.runs.words import percent
from grokking_core.weights import sharpness, structure

PROFILE = "laptop"


class Told(NamedTuple):
    """An answer in Markdown."""

    lead: str  # what the lines are about
    lines: list[str]
    missing: list[Run]  # that it would need, too


Answer = Callable[[Plan, Store, float], Told]  # plan, records, accuracy that counts as learned


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One change of a figure, and a question about it."""

    question: str  # Markdown
    change: dict[str, Any]  # parameters of the notebook, laid over those of the laptop profile
    answer: Answer
    beside: bool = False  # whether the laptop profile's own figure is told first, for comparison

    def command(self, notebook: str) -> str:
        """The command that makes the page of a notebook with the change."""
        values = " ".join(f"{name}={value!r}" for name, value in self.change.items())
        return f'make book PROFILE={PROFILE} ONLY={notebook} P="{values}"'

    def plan(self, notebook: str) -> Plan:
        """What the changed figure asks."""
        return laptop_plan(notebook, self.change)

    def told(self, notebook: str, store: Store) -> list[Told]:
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

{_answer(exercise.told(notebook, store))}

{_effort(read(exercise.plan(notebook).parts, store))}

</details>"""


def _answer(answers: Sequence[Told]) -> str:
    """The answers' lines, those with the same lead under one, and what is missing for them."""
    lines: dict[str, dict[str, None]] = {}  # as ordered sets
    for told in answers:
        lines.setdefault(told.lead, {}).update(dict.fromkeys(told.lines))
    text = [f"{lead}:\n\n" + "\n".join(f"- {line}" for line in some) for lead, some in lines.items() if some]
    if missing := dict.fromkeys(setting(run) for told in answers for run in told.missing):
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
    told = [f"`{name}={value!r}`" for name, value in others.items() if name not in named]
    return ", ".join([f"`{words.task(run)}`", percent(run.train_fraction), *told])


def _of_seed(run: Run) -> str:
    return f"{setting(run)}, seed {run.seed}"


# -------------------------------------------------------------------------------------------------
# Answers


def when_learned(plan: Plan, store: Store, threshold: float) -> Told:
    """When the runs of the plan's first part, its picture, learned: a line for each setting.

    They count until they have learned, so that a run which another figure followed no further is enough.
    """
    part = plan.parts[0]
    records = read([replace(part, stop_at=min(part.stop_at or 1.0, threshold), keep=())], store)
    groups = groupby(records, key=lambda record: setting(record.run))
    lead = f"Updates until {percent(threshold)} of the training and of the validation set are right, medians"
    lines = [_when_learned(name, list(group), threshold) for name, group in groups]
    return Told(f"{lead} of *n* runs", lines, records.missing)


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


def at_the_end(plan: Plan, store: Store, threshold: float) -> Told:
    """How much of the table is right after the last update, a line a run."""
    records = read([replace(part, keep=()) for part in plan.parts], store)
    lines = []
    for record in records:
        right = {name: f"{100 * share:.2f} %" for name, share in record.curve.iloc[-1].items()}
        text = f"{setting(record.run)}, after {record.last_step:,} updates: in training"
        text += f" {right['train_accuracy']}, held out {right['validation_accuracy']}"
        if data.OPERATIONS[record.run.operation].symmetric:
            text += f", of the unmirrored ones of these {right['unmirrored_accuracy']}"
        lines.append(text)
    return Told("Cells that are right after the last update", lines, records.missing)


def number_lines(plan: Plan, store: Store, threshold: float) -> Told:
    """The step that stands out in the output rows of the networks that add, a line a network."""
    records = read(plan.parts[:1], store)
    rows = structure.table([structure.structure_of(record) for record in records]).to_dict("records")
    lines = [
        f"{_of_seed(record.run)}: {row['best']}, z = {row['z']:.1f}" + ", not learned" * (not row["knows"])
        for record, row in zip(records, rows, strict=True)
    ]
    return Told("The step that stands out most in the output rows", lines, records.missing)


def correlation(plan: Plan, store: Store, threshold: float) -> Told:
    """Whether the flatter networks generalize better, over those that fit their training set: one line."""
    records = read(plan.parts, store)
    table = sharpness.table(records)
    fitted = table[table["train"] >= threshold]
    on_all, on_unmirrored = (measures.spearman(fitted["phi"], fitted[side]) for side in measures.SIDES[1:])
    text = f"{len(fitted)} of {len(records)} networks fit: {on_all}, on unmirrored equations {on_unmirrored}"
    lead = "Rank correlation of sharpness and validation accuracy, over networks that fit their training set"
    return Told(lead, [text] * bool(records), records.missing)


def sharpness_of_each(plan: Plan, store: Store, threshold: float) -> Told:
    """Sharpness at the end, a line a network."""
    records = read(plan.parts, store)
    rows = sharpness.table(records).to_dict("records")
    lines = [
        f"{_of_seed(record.run)}: sharpness {row['phi']:.2g} % after {row['followed']:,} updates, training"
        f" loss {row['train_loss']:.2g}, validation accuracy {percent(row['validation'])}"
        for record, row in zip(records, rows, strict=True)
    ]
    return Told("At the end of each run", lines, records.missing)


# -------------------------------------------------------------------------------------------------
# The exercises

_VARIANTS = experiments.load_profile(PROFILE)["fig7_sharpness"]["fractions"]
_DECAYING = {name: _VARIANTS[name] for name in ("AdamW, decay 1", "AdamW, decay to init")}
_AT_80 = {name: [0.8] for name, fractions in _VARIANTS.items() if 0.8 in fractions}

EXERCISES: dict[str, tuple[Exercise, ...]] = {
    "fig1_grokking_curves": (
        Exercise(
            question="Show the network 80 % of the table instead of half. Which of the two milestones moves,"
            " and how far?",
            change={"train_fraction": 0.8},
            answer=when_learned,
            beside=True,
        ),
        Exercise(
            question="Addition instead of division. Is it learned by heart sooner, and understood sooner?",
            change={"operation": "x+y"},
            answer=when_learned,
            beside=True,
        ),
        Exercise(
            question="Take the weight decay away, for addition and two seeds. How much of the validation set"
            " is right then, and how much of that is only knowing that the order does not matter?",
            change={"operation": "x+y", "weight_decay": 0.0, "seeds": [0, 1]},
            answer=when_learned,
        ),
    ),
    "fig1_data_fraction": (
        Exercise(
            question="Is the curve as steep for addition? One seed, and a smaller share than the others.",
            change={"operation": "x+y", "train_fractions": [0.3, 0.4, 0.5, 0.6, 0.8], "seeds": [0]},
            answer=when_learned,
        ),
        Exercise(
            question="Call 90 % learned instead of 99 %. How much of the wait is for the last tenth?",
            change={"threshold": 0.9},
            answer=when_learned,
            beside=True,
        ),
        Exercise(
            question="Follow the smallest share five times as long. What has not been learned by 4,000"
            " updates, is it only late?",
            change={"train_fractions": [0.4], "steps": 20_000},
            answer=when_learned,
        ),
    ),
    "fig1_operation_table": (
        Exercise(
            question="Look at the table earlier, after 1,200 updates. What does the network know by heart by"
            " then, and what has it understood?",
            change={"steps": 1200},
            answer=at_the_end,
            beside=True,
        ),
        Exercise(
            question="Show it 40 % of the table instead of half. What does that tenth cost?",
            change={"train_fraction": 0.4},
            answer=at_the_end,
            beside=True,
        ),
        Exercise(
            question="Give it 30 % of the table of addition, where a mirror may fill in a cell. What is"
            " left without those?",
            change={"operation": "x+y", "train_fraction": 0.3},
            answer=at_the_end,
        ),
    ),
    "fig2_optimizers": (
        Exercise(
            question="A point of this figure is one seed. How far apart do three seeds of one variant lie?",
            change={"seeds": [0, 1, 2], "fractions": {"AdamW, decay 1": [0.5]}},
            answer=when_learned,
        ),
        Exercise(
            question="Division instead of addition: what does AdamW with weight decay need there?",
            change={"operation": "x/y", "fractions": {"AdamW, decay 1": [0.4, 0.5, 0.6, 0.8]}},
            answer=when_learned,
        ),
        Exercise(
            question="Without weight decay, how much of the table is enough? Go on where the figure stops.",
            change={"fractions": {"minibatch, Adam": [0.9, 0.95]}},
            answer=when_learned,
        ),
    ),
    "fig2_operations": (
        Exercise(
            question="A point of this figure is one seed. Which points of division would three seeds move?",
            change={"fractions": {"x/y": [0.4, 0.5, 0.6]}, "seeds": [0, 1, 2]},
            answer=when_learned,
        ),
        Exercise(
            question="The product of permutations, half as many updates again: is it out of reach, or late?",
            change={"fractions": {"s5:xy": [0.9]}, "steps": 6000},
            answer=when_learned,
        ),
        Exercise(
            question="Multiplication, 0 included, is not in this figure. Does it need what addition needs?",
            change={"fractions": {"x+y": [0.3, 0.4, 0.5], "x*y": [0.3, 0.4, 0.5]}},
            answer=when_learned,
        ),
    ),
    "fig3_embeddings": (
        Exercise(
            question="Two networks that add, alike in all but the seed. Do they find the same number line?",
            change={"weight_decays": [1.0], "seeds": [0, 1]},
            answer=number_lines,
        ),
        Exercise(
            question="Residues modulo 96, which is no prime, have subgroups. Do rows of addition lie along"
            " a line all the same, and does its step share a divisor with 96?",
            change={"p": 96, "weight_decays": [1.0]},
            answer=number_lines,
        ),
    ),
    "fig6_outliers": (
        Exercise(
            question="Half as many updates. Which numbers of outliers would you now say cannot be overcome?",
            change={"steps": 2000},
            answer=when_learned,
        ),
        Exercise(
            question="How much of a difference is chance? Three seeds without a single outlier.",
            change={"fractions": {0: [0.5]}, "seeds": [0, 1, 2]},
            answer=when_learned,
        ),
        Exercise(
            question="Is it the number of outliers that counts, or their share? With 80 % of the table, the"
            " same 1,000 are a smaller part of the training set.",
            change={"fractions": {0: [0.8], 1000: [0.8]}},
            answer=when_learned,
        ),
    ),
    "fig7_sharpness": (
        Exercise(
            question="Take only the networks with weight decay. Do the flatter ones generalize better?",
            change={"fractions": _DECAYING},
            answer=correlation,
            beside=True,
        ),
        Exercise(
            question="All networks were given the same share of the table here, 80 %. What is left of the"
            " correlation?",
            change={"fractions": _AT_80},
            answer=correlation,
            beside=True,
        ),
        Exercise(
            question="A network that learns is measured right then. Follow one to the end of the budget: does"
            " it become flatter?",
            change={"fractions": {"AdamW, decay 1": [0.8]}, "stop_at": None},
            answer=sharpness_of_each,
        ),
    ),
    "beyond_transformers": (
        Exercise(
            question="Call 90 % learned instead of 99 %. Which network comes first then?",
            change={"threshold": 0.9},
            answer=when_learned,
            beside=True,
        ),
        Exercise(
            question="Stop after 2,500 updates. Which networks would you then have called unable to learn?",
            change={"steps": 2500},
            answer=when_learned,
        ),
        Exercise(
            question="Division is not symmetric: ignoring order gains nothing. Do the MLPs learn it as well?",
            change={"operation": "x/y"},
            answer=when_learned,
        ),
    ),
    "rounding": (
        Exercise(
            question="Ask for 50 % of the validation set instead of 99 %. Do the precisions agree better?",
            change={"threshold": 0.5},
            answer=when_learned,
            beside=True,
        ),
        Exercise(
            question="Division takes longer than addition, and has more time to drift apart. Does it?",
            change={"operation": "x/y", "seeds": [0, 1, 2]},
            answer=when_learned,
        ),
    ),
}
