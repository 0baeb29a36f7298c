"""Tables of hyper-parameters and names: what was run, what the paper says, and who calls it what.

Nothing is typed twice: `table` reads the runs that a plan asks for, `settings` the defaults of `Run`, and
`names` the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from grokking_core import data
from grokking_core.plans import Plan
from grokking_core.runs import schedule
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run

MOST = 6  #: numbers that are listed; more become a range
NONE = "–"  #: where a column says nothing of a run

#: What None stands for.
RULES = {
    "split_seed": "the run's seed",
    "d_ff": "4 × d_model",
    "decay_to": "the last",
    "batch_size": "min(512, half of the training set, rounded up)",
}


# -------------------------------------------------------------------------------------------------
# What was run


class Column(NamedTuple):
    """A column of `table`: what it says of a run, None where it says nothing."""

    group: str
    name: str
    of: Callable[[Run], Any]
    unit: str = ""


def _domain(run: Run) -> str:
    return f"S{run.n}" if data.OPERATIONS[run.operation].on_group else f"mod {run.p}"


AFTER = (
    *("positions", "init", "init_scale", "loss", "loss_precision", "temperature", "gradient"),
    *("slow_gradient", "decay_from", "decay_to", "norm_hold"),
)  #: fields of `Run` that later papers brought


def _after(run: Run) -> str | None:
    """What a run has of later papers, as text."""
    plain = Run(operation="x+y")
    values = {name: getattr(run, name) for name in AFTER}
    changed = {name: value for name, value in values.items() if value != getattr(plain, name)}
    return "; ".join(f"{name} {value}" for name, value in changed.items()) or None


def _in_transformers(name: str) -> Callable[[Run], Any]:
    return lambda run: getattr(run, name) if run.architecture == "transformer" else None


def _field(name: str) -> Callable[[Run], Any]:
    return lambda run: getattr(run, name)


COLUMNS = (
    Column("task", "operation", _field("operation")),
    Column("task", "domain", _domain),
    Column("task", "training set", lambda run: 100 * run.train_fraction, "\N{NO-BREAK SPACE}%"),
    Column("task", "outliers", _field("outliers")),
    Column("task", "seeds", _field("seed")),
    Column("network", "architecture", _field("architecture")),
    Column("network", "layers", _field("n_layers")),
    Column("network", "width", _field("d_model")),
    Column("network", "hidden width", _field("hidden_width")),
    Column("network", "heads", _in_transformers("n_heads")),
    Column("network", "activation", _field("activation")),
    Column("network", "layer norm", _in_transformers("norm")),
    Column("optimizer", "optimizer", _field("optimizer")),
    Column("optimizer", "learning rate", _field("lr")),
    Column("optimizer", "decay", _field("weight_decay")),
    Column("optimizer", "decay toward", lambda run: run.decay_toward if run.weight_decay else None),
    Column("optimizer", "betas", _field("betas")),
    Column("optimizer", "eps", _field("eps")),
    Column("optimizer", "warm-up", _field("warmup_steps")),
    Column("optimizer", "of later papers", _after),
    Column(
        "batches and noise", "batch", lambda r: "all" if r.batch_size == "full" else r.effective_batch_size
    ),
    Column("batches and noise", "update noise", _field("update_noise")),
    Column("batches and noise", "weight noise", _field("weight_noise")),
    Column("batches and noise", "dropout", _field("dropout")),
    Column("batches and noise", "precision", _field("precision")),
)


def table(plans: Mapping[str, Plan], found: Mapping[str, Records] | None = None) -> pd.DataFrame:
    """Hyper-parameters of the runs that plans ask for, a row a plan, as text.

    Where runs agree there is one value; else the values, or of more than six numbers their range.

    Parameters
    ----------
    plans : mapping from str to Plan
        By the name of the experiment, or of what else makes a row.
    found : mapping from str to Records, optional
        What `Plan.read` or `Plan.sweep` gave, by the same names.

    Returns
    -------
    DataFrame
        Index: the names. Columns in two levels: "task", "network", "optimizer", "batches and noise" as
        `COLUMNS` has them, and "followed": runs, steps (rounded up to the evaluation grid), stop rule;
        with `found` also how many runs are on record, and on which devices they were trained.

    Raises
    ------
    ValueError
        If a name of `found` is no name of `plans`, or one of `plans` is lacking in it.
    """
    if found is not None and (odd := set(plans) ^ set(found)):
        raise ValueError(f"found must have the names of plans; not in both: {', '.join(sorted(odd))}")
    rows = {
        name: {(c.group, c.name): _said(map(c.of, plan.runs), c.unit) for c in COLUMNS}
        | {("followed", key): value for key, value in _followed(plan).items()}
        | {("followed", key): value for key, value in _recorded(plan, (found or {}).get(name)).items()}
        for name, plan in plans.items()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.columns = pd.MultiIndex.from_tuples(frame.columns, names=["group", "of a run"])
    return frame.rename_axis(index="experiment")


def by_label(plan: Plan, label: Callable[[Run], Hashable]) -> dict[str, Plan]:
    """The plan in pieces, one for each label of its runs, in order: rows for `table`."""
    names = dict.fromkeys(str(label(run)) for run in plan.runs)
    return {name: Plan(tuple(_parts(plan, label, name))) for name in names}


def _parts(plan: Plan, label: Callable[[Run], Hashable], name: str) -> Iterable[Any]:
    for part in plan.parts:
        runs = tuple(run for run in part.runs if str(label(run)) == name)
        if runs:
            yield replace(part, runs=runs)


def to_html(frame: pd.DataFrame) -> str:
    """A table of words as HTML: small, set to the left, nothing cut short."""
    with pd.option_context("display.max_colwidth", None):
        text = frame.rename_axis(index=None, columns=frame.index.name).to_html(border=0)
    for cell in ("th", "td"):
        text = text.replace(f"<{cell}>", f'<{cell} style="text-align: left; padding: 0.2em 0.4em">')
    return text.replace("<table", '<table style="font-size: 0.85em"', 1)


def _followed(plan: Plan) -> dict[str, str]:
    parts = [part for part in plan.parts if not part.goes_on]
    stops = (
        f"validation {100 * p.stop_at:g}\N{NO-BREAK SPACE}%" if p.stop_at is not None else "none"
        for p in parts
    )
    steps = (schedule.last_step(part.steps) for part in parts)
    return {"runs": f"{len(plan.runs):,}", "steps": _said(steps), "stop rule": _said(stops)}


def _recorded(plan: Plan, records: Records | None) -> dict[str, str]:
    if records is None:
        return {}
    n = len(set(plan.runs) - set(records.missing))
    devices = _said(record.provenance.get("device", "not told") for record in records)
    return {"on record": f"{n:,} of {len(plan.runs):,}", "device": devices}


def _said(values: Iterable[Any], unit: str = "") -> str:
    """Different values as text: numbers in increasing order or as a range, then others as they come."""
    different = [value for value in dict.fromkeys(values) if value is not None]
    numbers = sorted(value for value in different if isinstance(value, int | float))
    texts = [str(value) for value in different if not isinstance(value, int | float)]
    if len(numbers) > MOST:
        numbers_said = f"{_number(numbers[0])} to {_number(numbers[-1])}{unit} ({len(numbers)} values)"
        return ", ".join([numbers_said, *texts])
    said = ", ".join(map(_number, numbers)) + (unit if numbers else "")
    return ", ".join(filter(None, [said, *texts])) or NONE


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


# -------------------------------------------------------------------------------------------------
# What the paper says


class Setting(NamedTuple):
    """A setting as the paper or its code has it, or one of ours where neither says."""

    what: str
    stated: str
    source: str  #: paper; code: only the authors' code shows it; ours: neither says
    code: str = ""  #: the authors' argument of the command line
    field: str = ""  #: of `Run`
    here: str = ""  #: what we do, where no field says it


SETTINGS = (
    Setting("equation", "tokens x op y = z, an abstract symbol an element", "paper", here="the same"),
    Setting("operation", "twelve, mod 97 or on S5", "paper", "math_operator", "operation",
            "the same, x*y, and x*y of nonzero operands"),
    Setting("modulus", "97", "paper", field="p"),
    Setting("letters of the symmetric group", "5", "paper", field="n"),
    Setting("training set", "a random share of all pairs; the rest is validation", "paper",
            "train_data_pct (percent)", "train_fraction", "the same, as a share in (0, 1)"),
    Setting("seed", "not stated", "ours", "random_seed", "seed",
            "decides split, first weights, batches and noise"),
    Setting("seed of the split", "0 in all runs", "code", field="split_seed"),
    Setting("loss and accuracy", "on the answer alone", "paper", here="the same"),
    Setting("loss and accuracy in their code", "mean over answer and end sign; right if both are", "code",
            here="the answer alone, as the paper says"),
    Setting("tokens of a sequence", "7: two more that frame it, the last also predicted", "code",
            here="4 are read, x op y =, and z is predicted"),
    Setting("vocabulary", "the symbols of all operations at once", "code",
            here="those of the one operation, and the signs op and ="),
    Setting("outliers", "the first k of the shuffled equations; answers drawn with replacement", "code",
            "_noisy_k after the operator", "outliers", "the same; the numbers k are ours"),
    Setting("network", "decoder-only transformer, causal mask", "paper", "", "architecture",
            "the same (transformer)"),
    Setting("layers", "2", "paper", "n_layers", "n_layers"),
    Setting("width", "128", "paper", "d_model", "d_model"),
    Setting("attention heads", "4", "paper", "n_heads", "n_heads"),
    Setting("hidden width", "4 × d_model", "code", field="d_ff"),
    Setting("activation", "relu", "code", "non_linearity", "activation"),
    Setting("layer norm", "post", "code", field="norm"),
    Setting("biases", "none in linear layers", "code", here="the same"),
    Setting("positions", "sinusoidal, fixed, added to the embedding", "code", field="positions",
            here="the same (sinusoidal)"),
    Setting("output layer", "not tied to the embedding, no norm before it", "code", here="the same"),
    Setting("first weights", "PyTorch's: embeddings N(0, 1), linear layers uniform within 1/sqrt(fan_in)",
            "code", field="init", here="the same distributions (pytorch)"),
    Setting("factor on the first weights", "1", "code", field="init_scale"),
    Setting("objective", "cross-entropy", "paper", field="loss", here="the same (cross_entropy)"),
    Setting("precision of the loss", "that of the network", "code", field="loss_precision",
            here="the same (run)"),
    Setting("temperature of the softmax", "1", "code", field="temperature"),
    Setting("gradient that the optimizer gets", "plain", "code", field="gradient"),
    Setting("slow gradient added to it", "none", "code", field="slow_gradient"),
    Setting("optimizer", "adamw", "paper", field="optimizer"),
    Setting("optimizer of Figures 1 (left) and 4", "Adam, no decay, 1,000,000 updates", "paper",
            here="the same in the profile paper"),
    Setting("learning rate", "0.001", "paper", "max_lr", "lr"),
    Setting("betas", "(0.9, 0.98)", "paper", field="betas"),
    Setting("eps", "1e-08", "code", field="eps"),
    Setting("weight decay", "1", "paper", "weight_decay", "weight_decay"),
    Setting("what it decays to", "origin", "paper", "weight_decay_kind", "decay_toward"),
    Setting("first update with decay", "0", "code", field="decay_from"),
    Setting("last update with decay", "the last", "code", field="decay_to"),
    Setting("norm that the weights are held at", "none", "code", field="norm_hold", here="none (0)"),
    Setting("what decays", "every parameter, embeddings and layer norms too", "code", here="the same"),
    Setting("warm-up", "10", "paper", "warmup_steps", "warmup_steps"),
    Setting("rate of the first update", "0", "code", here="the same"),
    Setting("batch", "min(512, half of the training set, rounded up)", "paper; rounding: code", "batchsize",
            "batch_size"),
    Setting("order of batches", "a new permutation each epoch; its last batch may be short", "code",
            here="the same"),
    Setting("noise added to updates", "0", "paper", "noise_factor", "update_noise"),
    Setting("scale of that noise", "divided by 1 - 0.9^(t + 1) at update t = 0, 1, ...", "code",
            here="not divided: theirs is 5.3 times ours at t = 1 (rate 0 before), 1.12 at t = 20"),
    Setting("noise added to weights", "0", "paper", "weight_noise", "weight_noise"),
    Setting("dropout", "0", "paper", "dropout", "dropout"),
    Setting("precision", "fp32", "code", field="precision"),
    Setting("budget", "100,000 updates", "paper", "max_steps", here="steps of the profile"),
    Setting("evaluation", "not stated", "ours", here="of the whole table, on one grid of steps for all runs"),
)  # fmt: skip


def settings() -> pd.DataFrame:
    """What the paper or the authors' code states, beside the defaults of `Run`, a row a setting.

    Returns
    -------
    DataFrame
        Columns as text: stated; from (paper; code: only the authors' code shows it; ours: neither says);
        in their code (the command line's argument); in `Run` (the field); ours (the field's default, or
        what we do).
    """
    run = Run(operation="x/y")
    rows = {s.what: (s.stated, s.source, s.code, s.field, s.here or default(run, s.field)) for s in SETTINGS}
    columns = ["stated", "from", "in their code", "in Run", "ours"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(index="setting")


def default(run: Run, field: str) -> str:
    """A field of a run as `settings` writes it; rules in words."""
    value = getattr(run, field)
    return RULES.get(field, str(value)) if value is None else _said([value])


# -------------------------------------------------------------------------------------------------
# Who calls it what


class Name(NamedTuple):
    """One thing by its three names, a dash where it has none, and where ours is found."""

    paper: str  #: the paper's name, or what it is in words
    code: str  #: of the authors: an argument of the command line, or a column of their logs
    ours: str
    where: str


FIELD, KEY, CURVE = "field of Run", "key of data.OPERATIONS", "column of Record.curve"
TWO = "of answer and end sign:"  #: their logs average the losses of two tokens, and ask for both
#: The paper's names, where `Setting.what` has another.
PAPERS = {
    "training set": "training data fraction",
    "batch": "minibatch size",
    "betas": "β₁, β₂",
    "noise added to updates": "noise added to the update direction",
}
OPERATIONS = (
    Name("x + y", "+", "x+y", KEY),
    Name("x - y", "-", "x-y", KEY),
    Name("x · y", "*", "x*y", KEY),
    Name("x · y, without 0", NONE, "x*y!=0", KEY),
    Name("x / y", "/", "x/y", KEY),
    Name("x / y if y is odd, else x - y", "(x._value//y)if(y._value%2==1)else(x-y)_mod_97", "x/y|x-y", KEY),
    Name("x² + y²", "x**2+y**2_mod_97", "x^2+y^2", KEY),
    Name("x² + xy + y²", "x**2+y**2+x*y_mod_97", "x^2+xy+y^2", KEY),
    Name("x² + xy + y² + x", "x**2+y**2+x*y+x_mod_97", "x^2+xy+y^2+x", KEY),
    Name("x³ + xy", "x**3+x*y_mod_97", "x^3+xy", KEY),
    Name("x³ + xy² + y", "x**3+x*y**2+y_mod_97", "x^3+xy^2+y", KEY),
    Name("x · y on S5", "s5", "s5:xy", KEY),
    Name("x · y · x⁻¹ on S5", "s5conj", "s5:xyx^-1", KEY),
    Name("x · y · x on S5", "s5aba", "s5:xyx", KEY),
)
MEASURED = (
    Name("optimization step, update", "step (their logs also count epochs)", "step", CURVE),
    Name("training loss", f"not logged ({TWO} full_train_loss)", "train_loss", CURVE),
    Name("training accuracy", f"not logged ({TWO} full_train_acc)", "train_accuracy", CURVE),
    Name("validation loss", f"not logged ({TWO} val_loss)", "validation_loss", CURVE),
    Name("validation accuracy", f"not logged ({TWO} val_accuracy)", "validation_accuracy", CURVE),
    Name("accuracy on unmirrored equations", NONE, "unmirrored_accuracy", CURVE),
    Name("norm of the weights", "paramnorm_..., root mean square by tensor", "weight_norm", CURVE),
    Name("optimization budget", "max_steps", "steps", "argument of sweep"),
    Name("rule that ends a run early", NONE, "stop_at", "argument of sweep"),
    Name("steps until 99 % accuracy", NONE, "steps_to", "method of Record"),
    Name("rows of the output layer", "transformer.linear.weight", "output_rows", "what sweep may keep"),
    Name("sharpness φ", "get_sharpness", "phi", "column of sharpness.table"),
)


def names() -> pd.DataFrame:
    """The names of settings, operations and measured numbers: the paper's, its code's and ours, a row each.

    Returns
    -------
    DataFrame
        Index: the paper's name. Columns as text: in their code; ours; where ours is found. A dash stands
        where there is no name.
    """
    fields = (Name(PAPERS.get(s.what, s.what), s.code or NONE, s.field, FIELD) for s in SETTINGS if s.field)
    columns = ["in the paper", "in their code", "ours", "where"]
    return pd.DataFrame([*fields, *OPERATIONS, *MEASURED], columns=columns).set_index("in the paper")
