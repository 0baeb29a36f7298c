"""All runs on record as one part of a page: what to choose by, the curves packed small, views to begin with.

`book/static/explorer.js` draws it. A record is packed as follows. Its evaluations lie on the grid that all
runs share, so that its steps are whole numbers. Accuracies are kept in units of 0.1 %, rounded down: 99 % and
100 % are shown only where they were reached. Losses are kept as logarithms, to within 1.2 %. First steps at
99 % are computed here, from the record itself, and are exact. What probes saw at these evaluations is kept
as losses are. If all this is still too long, evaluations are left out, but never the first, the last, or one
that a milestone stands on.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from grokking_book.play.widget import Widget
from grokking_core import data, measures
from grokking_core.paper.experiments import variant_of
from grokking_core.plots import style as look
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import Record
from grokking_core.runs.run import Run

THRESHOLD = 0.99  #: accuracy of a milestone
PER_UNIT = 1000  #: codes of an accuracy of 1
LOWEST, PER_DECADE = 1e-9, 100  #: losses: what is lower counts as this; codes of a factor of 10
LIMIT = 800_000  #: characters of all curves: the page stays below a megabyte
ACCURACIES = ("train_accuracy", "validation_accuracy")
LOSSES = ("train_loss", "validation_loss")


class Diagnostic(NamedTuple):
    """A number that a probe saw, as the page offers it."""

    probe: str  #: a name in PROBES
    column: str  #: of what it saw; KEYS: the share of a run's last keys
    title: str
    log: bool = False  #: whether its axis is logarithmic

    def of(self, record: Record) -> Any:
        """Its values by step; none where the probe did not look."""
        if self.probe not in record.watched:
            return pd.Series(dtype=float)
        frame = record.watched[self.probe].set_index("step")
        return measures.key_share(record) if self.column == KEYS else frame[self.column]


KEYS = "keys"
DIAGNOSTICS = {  #: by the name in the page's address
    "ildr": Diagnostic("early_warnings", "ildr", "ILDR", log=True),
    "entropy": Diagnostic("early_warnings", "entropy", "entropy of the features"),
    "gradient": Diagnostic("early_warnings", "gradient_norm", "mean gradient norm", log=True),
    "keys": Diagnostic("fourier", KEYS, "share of the keys in the logits"),
    "loop": Diagnostic("topology", "largest", "longest life of a loop"),
    "collapse": Diagnostic("softmax_collapse", "collapse", "collapsed share"),
    "mean_row": Diagnostic("softmax_collapse", "output_mean_norm", "norm of the mean output row", log=True),
    "logit": Diagnostic("softmax_collapse", "largest_logit", "largest logit", log=True),
    "spike": Diagnostic("spikes", "largest_loss", "largest training loss", log=True),
}

OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD", "muon": "Muon"}
LATER = (  #: fields of a run that papers after the first have changed or added to training
    "eps", "loss", "loss_precision", "temperature", "gradient", "slow_gradient", "positions", "init",
    "init_scale", "norm_hold", "decay_from", "decay_to",
)  # fmt: skip


# -------------------------------------------------------------------------------------------------
# What to choose by


def operation_of(run: Run) -> str:
    """The operation, and its modulus or group where it is not the paper's."""
    if data.OPERATIONS[run.operation].on_group:
        return run.operation if run.n == Run.n else f"{run.operation} on S{run.n}"
    return run.operation if run.p == Run.p else f"{run.operation} mod {run.p}"


def optimizer_of(run: Run) -> str:
    """The label in Figure 2 (left), or name, rate and decay; then what later papers changed."""
    later = {name: getattr(run, name) for name in LATER if getattr(run, name) != getattr(Run, name)}
    plain = replace(run, **{name: getattr(Run, name) for name in later})
    try:
        named = variant_of(plain)
    except ValueError:
        rate = f", lr {run.lr:g}" if run.lr != Run.lr else ""
        batch = ", full batch" if run.batch_size == "full" else ""
        named = f"{OPTIMIZERS[run.optimizer]}{rate}, decay {run.weight_decay:g}{batch}"
    return ", ".join([named, *(f"{name} {value}" for name, value in later.items())])


def network_of(run: Run) -> str:
    """The architecture with its layers, and its width and precision where they are not the paper's."""
    name = look.LABELS.get(run.architecture, run.architecture)
    width = f", width {run.d_model}" if run.d_model != Run.d_model else ""
    precision = f", {run.precision}" if run.precision != Run.precision else ""
    return f"{run.n_layers}-layer {name}{width}{precision}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _in_turn(values: Sequence[Hashable]) -> list[str]:
    """Colours of names: those of the figures, or the next that no other has."""
    return [style.colour for style in look.styles(map(str, values)).values()]


def _in_order(values: Sequence[float]) -> list[str]:
    """Colours of numbers that increase, from dark to light."""
    return [to_hex(colour) for colour in mpl.colormaps["plasma"](np.linspace(0, 0.85, len(values)))]


def _counted(values: Sequence[int]) -> list[str]:
    return [style.colour for style in look.styles(values).values()]


class Facet(NamedTuple):
    """Something that runs differ in: its heading, its value of a run, how that is written and coloured."""

    title: str
    of: Callable[[Run], Any]
    written: Callable[[Any], str] = str
    colours: Callable[[Sequence[Any]], list[str]] = _in_turn


FACETS = {
    "operation": Facet("Operation", operation_of),
    "fraction": Facet("Training fraction", attrgetter("train_fraction"), _percent, _in_order),
    "optimizer": Facet("Optimizer", optimizer_of),
    "network": Facet("Network", network_of),
    "outliers": Facet("Outliers", attrgetter("outliers"), "{:,}".format, _counted),
    "seed": Facet("Seed", attrgetter("seed")),
}


# -------------------------------------------------------------------------------------------------
# The records, packed


def distinct(found: Mapping[str, Sequence[Record]]) -> dict[str, tuple[Record, str]]:
    """Each run once, by its key: the record that follows it farthest, the first experiment that asked for it.

    The record has what was watched of the run for any of them.

    Parameters
    ----------
    found : mapping from str to sequence of Record
        By the name of the experiment.
    """
    kept: dict[str, tuple[Record, str]] = {}
    for name, records in found.items():
        for record in records:
            past, first = kept.get(key_of(record.run), (record, name))
            longest, watched = max(past, record, key=attrgetter("last_step")), past.watched | record.watched
            if watched.keys() > longest.watched.keys():
                longest = replace(longest, watched=watched | longest.watched)
            kept[key_of(record.run)] = longest, first
    return kept


def codes(curve: pd.DataFrame) -> dict[str, np.ndarray]:
    """Whole numbers for the columns of a curve: uint16, shape (evaluations,); 0 where a loss is not finite.

    An accuracy a has the code floor(1000 a), a loss L the code 1 + round(100 log10(L / 1e-9)).
    """
    found = {name: np.floor(PER_UNIT * curve[name].to_numpy() + 1e-9) for name in ACCURACIES}
    found |= {name: _logarithms(curve[name].to_numpy(float)) for name in LOSSES}
    return {name: values.astype(np.uint16) for name, values in found.items()}


def diagnostic_codes(record: Record) -> dict[str, np.ndarray]:
    """Codes, as of a loss, for what probes saw at the evaluations of the curve; 0 where they did not look.

    Returns
    -------
    dict
        By name of `DIAGNOSTICS`, uint16, shape (evaluations,).
    """
    found = {}
    for name, diagnostic in DIAGNOSTICS.items():
        values = diagnostic.of(record).reindex(record.curve["step"]).to_numpy(float)
        found[name] = _logarithms(values).astype(np.uint16)
    return found


def _logarithms(values: np.ndarray) -> np.ndarray:
    known = np.clip(np.nan_to_num(values, nan=1, posinf=1, neginf=1), LOWEST, 1e300)
    return np.where(np.isfinite(values), 1 + np.round(PER_DECADE * np.log10(known / LOWEST)), 0)


def milestones(record: Record) -> tuple[int | None, int | None]:
    """First steps at 99 % in training and in validation; None: not within the run."""
    return record.steps_to(THRESHOLD, "train"), record.steps_to(THRESHOLD, "validation")


def never_thinned(record: Record) -> np.ndarray:
    """Whether a row of the curve is the last or that of a milestone: bool, shape (evaluations,)."""
    step = record.curve["step"].to_numpy()
    return np.isin(step, [at for at in (step[-1], *milestones(record)) if at is not None])


def packed(values: np.ndarray) -> str:
    """Whole numbers below 65,536 as text that a browser unpacks: shape (n,).

    Differences from one to the next, the first from 0, modulo 65,536; all low bytes, then all high bytes;
    deflated (zlib) and written in base64.
    """
    differences = np.diff(values.astype("<u2"), prepend=np.uint16(0)).astype("<u2")
    planes = differences.view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def curves(records: Sequence[Record], limit: int = LIMIT) -> dict[str, Any]:
    """Curves of all runs, one after the other, in at most about `limit` characters.

    Returns
    -------
    dict
        grid: steps that occur, in order; points: evaluations of each run; every: one evaluation in so many
        was kept; packed: by name, `row` (places in the grid), the `codes` of `ACCURACIES` and `LOSSES`, and
        the `diagnostic_codes` of what any run has; diagnostics: title and axis of each of these, by name.
    """
    grid = sorted({step for record in records for step in record.curve["step"].tolist()})
    coded = [codes(r.curve) | diagnostic_codes(r) for r in records]
    for one, record in zip(coded, records, strict=True):
        one["row"] = np.searchsorted(grid, record.curve["step"])
    seen = [name for name in DIAGNOSTICS if any(one[name].any() for one in coded)]
    always = [never_thinned(record) for record in records]
    every = 0
    while True:
        every += 1
        rows = [np.flatnonzero(kept | (np.arange(len(kept)) % every == 0)) for kept in always]
        texts = {}
        for name in ("row", *ACCURACIES, *LOSSES, *seen):
            of_runs = [one[name][kept] for one, kept in zip(coded, rows, strict=True)]
            texts[name] = packed(np.concatenate([np.zeros(0, np.uint16), *of_runs]))
        fewest = all(len(kept) <= 4 for kept in rows)  # ends and milestones: no more can be left out
        if fewest or sum(map(len, texts.values())) <= limit:
            diagnostics = {name: DIAGNOSTICS[name] for name in seen}
            diagnostics = {name: {"title": of.title, "log": of.log} for name, of in diagnostics.items()}
            told = {"grid": grid, "points": [len(kept) for kept in rows], "every": every}
            return told | {"packed": texts, "diagnostics": diagnostics}


# -------------------------------------------------------------------------------------------------
# The part of the page


def widget(found: Mapping[str, Sequence[Record]]) -> Widget:
    """The explorer of all runs on record.

    Parameters
    ----------
    found : mapping from str to sequence of Record
        By the name of the experiment, as `Plan.read` gives them.
    """
    kept = list(distinct(found).values())
    table = pd.DataFrame({key: [facet.of(r.run) for r, _ in kept] for key, facet in FACETS.items()})
    order = {key: _values(table[key].tolist()) for key in FACETS}
    places = pd.DataFrame({key: [order[key].index(value) for value in table[key]] for key in FACETS})
    places = places.sort_values(list(FACETS))
    records = [kept[place][0] for place in places.index]
    first = [milestones(record) for record in records]
    runs = places.to_dict("list") | {"page": [kept[place][1] for place in places.index]}
    runs |= {"train": [train for train, _ in first], "validation": [validation for _, validation in first]}
    runs["diverged"] = [int(record.diverged_at is not None) for record in records]
    units = {"threshold": THRESHOLD, "per_unit": PER_UNIT, "lowest": LOWEST, "per_decade": PER_DECADE}
    told = {
        "facets": {key: _facet(FACETS[key], values) for key, values in order.items()},
        "runs": runs,
        "curves": curves(records) | units,
        "views": views(table),
    }
    note = f"Here a reader with scripts chooses among {len(records):,} runs, by operation, training fraction,"
    note += " optimizer, network, outliers and seed, and sees their accuracy and loss, step by step."
    return Widget("explorer", told, note)


def _values(column: Sequence[Any]) -> list[Any]:
    """Different values: numbers in increasing order, names in the figures' order and then as they come."""
    known = {name: place for place, name in enumerate(look.STYLES)}
    return sorted(dict.fromkeys(column), key=lambda v: known.get(v, len(known)) if isinstance(v, str) else v)


def _facet(facet: Facet, values: Sequence[Any]) -> dict[str, Any]:
    told = {"title": facet.title, "values": list(map(str, values))}
    return told | {"written": list(map(facet.written, values)), "colours": facet.colours(values)}


def views(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Choices worth a look: the first run's with all its seeds; then, for each facet, most values compared.

    Parameters
    ----------
    table : DataFrame
        One row a run, one column a facet of `FACETS`.

    Returns
    -------
    list of dict
        title; choose: one value a facet, as text; colour: the facet that is coloured, or "side" for training
        and validation.
    """
    setting = [key for key in FACETS if key != "seed"]
    found = []
    if len(table):
        choose = table[setting].iloc[0].map(str).to_dict()
        found.append({"title": "grokking", "choose": choose, "colour": "side"})
    for vary in setting:
        others = [key for key in setting if key != vary]
        groups = [(len(set(rows[vary])), len(rows), rows) for _, rows in table.groupby(others, sort=False)]
        n_values, _, rows = max(groups, key=lambda group: group[:2], default=(0, 0, table))
        if n_values > 1:
            choose = rows[others].iloc[0].map(str).to_dict()
            found.append({"title": f"by {FACETS[vary].title.lower()}", "choose": choose, "colour": vary})
    return found
