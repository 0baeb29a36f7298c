"""A run that a reader trains in the page: what can be set, records of it, questions worth trying.

`book/static/trainer.js` is the page, `trainer_pictures.js` what it draws, and `trainer_core.js` the run: this
package's streams, network, loss and optimizer once more, in the browser. What a reader may set are the fields
in `FIELDS`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import quote

from grokking_book.pages import exercises
from grokking_book.play.widget import Widget
from grokking_core import measures
from grokking_core.paper.experiments import TRAINER_CHANGES
from grokking_core.plots import style, tables
from grokking_core.runs.record import LEARNED, Record
from grokking_core.runs.run import Run
from grokking_core.runs.words import percent

#: What can be set, in the order of the page: a title, and what is allowed. The script has its hands full
#: above these sizes, and below them there is nothing to see.
FIELDS: dict[str, dict[str, Any]] = {
    "operation": {"title": "Operation", "options": ["x+y", "x-y", "x*y", "x/y"]},
    "p": {"title": "Modulus", "lowest": 11, "highest": 59, "multiple": 1},
    "train_fraction": {"title": "Training share", "lowest": 0.05, "highest": 0.95},
    "outliers": {"title": "Wrong answers", "lowest": 0, "highest": 100, "multiple": 1},
    "weight_decay": {"title": "Weight decay", "lowest": 0, "highest": 10},
    "lr": {"title": "Learning rate", "lowest": 1e-5, "highest": 0.1},
    "d_model": {"title": "Width", "lowest": 8, "highest": 128, "multiple": 8},
    "seed": {"title": "Seed", "lowest": 0, "highest": 999_999, "multiple": 1},
}
FIXED = {"architecture": "mlp", "n_layers": 1}  #: what the script trains
FURTHEST = 100_000  #: the step to which an address may lead
COLUMNS = ("step", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
NOTE = (
    "In a browser with scripts, a small network is trained here, by the reader: start it, and see accuracies"
    " and losses, the table filling in, and the embeddings of the elements falling into a circle."
)


# ---------------------------------------------------------------------------------------------------
# The part of the page


def widget(records: Sequence[Record], default: Run, threshold: float = LEARNED) -> Widget:
    """What a reader trains, with the package's records of such runs to lay over it.

    Parameters
    ----------
    records : sequence of Record
        Losses are given to six digits, accuracies to a millionth.
    default : Run
        What the page begins with.
    threshold : float
        Validation accuracy in (0, 1] that counts as learned, and at which a run pauses.

    Raises
    ------
    ValueError
        If the script cannot train the default: it names the field, its value and what is allowed.
    """
    _check(default)
    cosets = [style.coset(i).colour for i in range(8)]
    told = {
        "fields": {name: field | {"default": getattr(default, name)} for name, field in FIELDS.items()},
        "fixed": FIXED,
        "furthest": FURTHEST,
        "threshold": threshold,
        "records": [{"run": settings(record.run), "curve": curve(record)} for record in records],
        "kinds": list(tables.KINDS.items())[:4],
        "colours": {side: style.COLOURS[side] for side in style.SPLITS},
        "stretches": cosets,  # of the circle
    }
    return Widget("trainer", told, NOTE)


def settings(run: Run) -> dict[str, Any]:
    """The values of the fields in `FIELDS`."""
    return {name: getattr(run, name) for name in FIELDS}


def curve(record: Record) -> dict[str, list[float | None]]:
    """The columns of a record's curve in `COLUMNS`, rounded; None where a number is not finite."""
    return {name: [_rounded(name, value) for value in record.curve[name].tolist()] for name in COLUMNS}


def _rounded(name: str, value: float) -> float | None:
    if not math.isfinite(value):
        return None
    return float(f"{value:.6g}") if name.endswith("loss") else round(value, 6)


def address(run: Run) -> str:
    """The fragment of the page's address that leads to a run."""
    return "#" + "&".join(f"{name}={quote(str(value), safe='+*/')}" for name, value in settings(run).items())


def _check(run: Run) -> None:
    for name, field in FIELDS.items():
        value = getattr(run, name)
        if "options" in field and value not in field["options"]:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(field['options'])}")
        if "lowest" in field and not field["lowest"] <= value <= field["highest"]:
            raise ValueError(f"{name}={value} must lie in {field['lowest']}..{field['highest']}")
        if value % field.get("multiple", value or 1) if "lowest" in field else False:
            raise ValueError(f"{name}={value} must be a multiple of {field['multiple']}")
    others = replace(Run(operation=run.operation), **settings(run), **FIXED)
    if run != others:
        raise ValueError(f"{run} differs from {others}, which is what a page can train")


# ---------------------------------------------------------------------------------------------------
# Questions, and what one finds


class Question(NamedTuple):
    """Something to try."""

    text: str  #: Markdown
    names: Mapping[str, str]  #: of the runs that `TRAINER_CHANGES` has for it, in words


QUESTIONS: dict[str, Question] = {
    "decay": Question(
        "**Take the weight decay away.** Is the training set still learned by heart? And the"
        " rest of the table?",
        {"as it is": "weight decay 1", "none": "none"},
    ),
    "share": Question(
        "**Show it a third of the table** instead of half. How much longer does it take?",
        {"as it is": "half of the table", "third": "a third"},
    ),
    "modulus": Question(
        "**A prime against a composite modulus.** For addition all moduli are circles. For products a prime"
        " modulus is one as well, but for 0; a composite one has divisors of 0, and no single circle."
        " Which of the four is easiest?",
        {
            "as it is": "x+y mod 41, a prime",
            "composite": "x+y mod 42",
            "product": "x*y mod 41, a prime",
            "composite product": "x*y mod 42",
        },
    ),
    "outliers": Question(
        "**Ten wrong answers** among those it is trained on. Are they learned by heart, and what do"
        " they cost?",
        {"as it is": "none wrong", "ten": "ten wrong"},
    ),
    "width": Question(
        "**Wide against narrow.** Does a network with more weights than equations learn the rule later, or"
        " sooner?",
        {"narrow": "width 16", "as it is": "width 32", "wide": "width 64"},
    ),
    "operation": Question(
        "**x-y against x+y.** A sum does not depend on the order of its operands, a difference does. Is it"
        " harder?",
        {"as it is": "x+y", "difference": "x-y"},
    ),
}


def questions(records: Sequence[Record], default: Run, threshold: float = LEARNED) -> str:
    """The questions in Markdown, each with what the records say, folded.

    Parameters
    ----------
    records : sequence of Record
        Of the default run and of the changed ones, all their seeds.
    default : Run
        What the changes are laid over.
    threshold : float
        Accuracy in (0, 1] that counts as learned.
    """
    blocks = []
    for number, (key, question) in enumerate(QUESTIONS.items(), start=1):
        groups = {
            words: (run, [record for record in records if replace(record.run, seed=run.seed) == run])
            for name, words in question.names.items()
            for run in [replace(default, **TRAINER_CHANGES[key][name])]
        }
        blocks.append(_block(number, question, groups, threshold))
    return "\n\n".join(blocks)


Groups = Mapping[str, tuple[Run, Sequence[Record]]]  #: by name: a run, and the records of all its seeds


def _block(number: int, question: Question, groups: Groups, threshold: float) -> str:
    buttons = " ".join(
        f'<button type="button" class="trainer-try" data-trainer="{html.escape(address(run))}" hidden>'
        f"{html.escape(words)}</button>"
        for words, (run, _) in groups.items()
    )
    return f"""**{number}.** {question.text}

<p class="trainer-tries">{buttons}</p>

<details class="toggle-details exercise"><summary>What one finds</summary>

{_answer(groups, threshold)}

</details>"""


def _answer(groups: Groups, threshold: float) -> str:
    """A table with a row a run, and in a sentence how many times as long each takes as the first."""
    goal = percent(threshold)
    titles = [
        "",
        "seeds",
        f"updates to {goal} in training",
        f"to {goal} in validation",
        "best validation accuracy",
    ]
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    rows = "".join(_row(words, records, threshold) for words, (_, records) in groups.items())
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="trainer-found">{table}</div>\n\n{_told(groups, threshold)}'


def _row(words: str, records: Sequence[Record], threshold: float) -> str:
    cells = ["0", "not on record", "", ""]
    if records:
        best = [measures.best_accuracy(record, "validation") for record in records]
        span = " to ".join(dict.fromkeys(map(percent, (min(best), max(best)))))
        reached = [exercises.reached(records, side, threshold) for side in style.SPLITS]
        cells = [str(len(records)), *reached, span]
    return f'<tr><th scope="row">{words}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _told(groups: Groups, threshold: float) -> str:
    """How the others compare with the first, by the medians of those that all learned."""
    times = {words: _time(records, threshold) for words, (_, records) in groups.items()}
    (first, base), *others = times.items()
    if base is None:
        return f"Not every run of *{first}* has learned as far as it was followed, or none is on record."
    told = [
        f"of *{words}*, {_learned(groups[words][1], threshold)}"
        if time is None
        else f"*{words}* {time / base:.2g} times as many"
        for words, time in others
    ]
    return f"*{first}* needs {base:,.0f} updates, the median over its seeds; {'; '.join(told)}."


def _learned(records: Sequence[Record], threshold: float) -> str:
    """How many runs learned, in words."""
    n = sum(record.steps_to(threshold, "validation") is not None for record in records)
    return f"{n} of {len(records)} runs learned"


def _time(records: Sequence[Record], threshold: float) -> float | None:
    """Median steps to learn, None where a run did not, or none is on record."""
    times = [record.steps_to(threshold, "validation") for record in records]
    known = [time for time in times if time is not None]
    return median(known) if known and len(known) == len(times) else None
