"""The paper's figures as questions about runs, and the profiles that say how much of each to ask.

A function takes the literal parameters of a notebook and returns its runs and how far to follow them.
The notebook, the command line and the tests ask the same function. Defaults are the laptop profile's.
"""

from __future__ import annotations

import types
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from grokking_core.paper.plans import Part, Plan
from grokking_core.runs import schedule
from grokking_core.runs.run import Run

# -------------------------------------------------------------------------------------------------
# The figures

Fractions = Sequence[float]  # shares of the table, in (0, 1)

VARIANTS: dict[str, dict[str, Any]] = {  # of Figure 2 (left); no decay unless named
    "full batch, Adam": {"optimizer": "adam", "weight_decay": 0.0, "batch_size": "full"},
    "minibatch, Adam": {"optimizer": "adam", "weight_decay": 0.0},
    "full batch, update noise": {
        "optimizer": "adam", "weight_decay": 0.0, "batch_size": "full", "update_noise": 1.0
    },
    "weight noise": {"optimizer": "adam", "weight_decay": 0.0, "weight_noise": 0.01},
    "dropout 0.1": {"optimizer": "adam", "weight_decay": 0.0, "dropout": 0.1},
    "AdamW, decay 1": {},
    "AdamW, decay to init": {"decay_toward": "init"},
    "Adam, lr 3e-4": {"optimizer": "adam", "weight_decay": 0.0, "lr": 3e-4},
    "Adam, lr 3e-3": {"optimizer": "adam", "weight_decay": 0.0, "lr": 3e-3},
}  # fmt: skip
LAPTOP_VARIANTS = {
    "full batch, Adam": (0.4,),
    "minibatch, Adam": (0.4, 0.7, 0.8),
    "full batch, update noise": (0.4,),
    "weight noise": (0.8,),
    "dropout 0.1": (0.8,),
    "AdamW, decay 1": (0.3, 0.4, 0.5, 0.8),
    "AdamW, decay to init": (0.4, 0.5, 0.8),
    "Adam, lr 3e-4": (0.8,),
    "Adam, lr 3e-3": (0.8,),
}
LAPTOP_OPERATIONS = {
    "x+y": (0.3, 0.4, 0.5),
    "x-y": (0.4, 0.5, 0.6),
    "x/y": (0.4, 0.5, 0.6),
    "x/y|x-y": (0.5, 0.7, 0.9),
    "x^2+y^2": (0.2, 0.3, 0.5),
    "x^2+xy+y^2": (0.5, 0.7, 0.9),
    "x^2+xy+y^2+x": (0.5, 0.9),
    "x^3+xy": (0.9,),
    "x^3+xy^2+y": (0.9,),
    "s5:xy": (0.9,),
    "s5:xyx^-1": (0.9,),
    "s5:xyx": (0.9,),
}
LAPTOP_OUTLIERS = {0: (0.4, 0.5, 0.6), 10: (0.4, 0.6), 100: (0.4, 0.6), 1000: (0.4, 0.6)}


def variant_of(run: Run) -> str:
    """The label of a run's optimizer in Figure 2 (left).

    Raises
    ------
    ValueError
        If it is none of `VARIANTS`.
    """
    for label, fields in VARIANTS.items():
        plain = Run(operation=run.operation, p=run.p, n=run.n, train_fraction=run.train_fraction, **fields)
        if all(getattr(run, name) == getattr(plain, name) for name in _OPTIMIZER_FIELDS):
            return label
    raise ValueError(f"{run} has an optimizer that is none of {', '.join(VARIANTS)}")


_OPTIMIZER_FIELDS = tuple(dict.fromkeys(name for fields in VARIANTS.values() for name in fields))


def _network(d_model: int, n_heads: int, precision: str) -> dict[str, Any]:
    """What all figures let one set of the paper's network."""
    return {"d_model": d_model, "n_heads": n_heads, "precision": precision}


def fig1_grokking_curves(
    *,
    operation: str = "x/y",
    p: int = 97,
    train_fraction: float = 0.5,
    optimizer: str = "adamw",
    lr: float = 1e-3,
    weight_decay: float = 1.0,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 4000,
) -> Plan:
    """Figures 1 left and 4: one configuration, some seeds."""
    task = {"operation": operation, "p": p, "train_fraction": train_fraction}
    network = _network(d_model, n_heads, precision)
    training: dict[str, Any] = {"optimizer": optimizer, "lr": lr, "weight_decay": weight_decay}
    runs = tuple(Run(**task, **network, **training, seed=seed) for seed in seeds)
    return Plan((Part(runs=runs, steps=steps),))


def fig1_data_fraction(
    *,
    operation: str = "x/y",
    p: int = 97,
    n: int = 5,
    train_fractions: Fractions = (0.4, 0.5, 0.6, 0.8),
    lr: float = 1e-3,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 4000,
    stop_at: float | None = 0.99,
) -> Plan:
    """Figure 1 centre: how long it takes, by training fraction."""
    setting = {"operation": operation, "p": p, "n": n, "lr": lr} | _network(d_model, n_heads, precision)
    runs = tuple(
        Run(**setting, train_fraction=fraction, seed=seed)
        for fraction, seed in product(train_fractions, seeds)
    )
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))


def fig1_operation_table(
    *,
    operation: str = "x/y",
    p: int = 97,
    train_fraction: float = 0.5,
    lr: float = 1e-3,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    seed: int = 0,
    steps: int = 4000,
) -> Plan:
    """Figures 1 right and 5: one run, and its answers to the whole table."""
    task = {"operation": operation, "p": p, "train_fraction": train_fraction}
    network = _network(d_model, n_heads, precision)
    run = Run(**task, **network, lr=lr, seed=seed)
    return Plan((Part(runs=(run,), steps=steps, keep=("answers",)),))


def fig2_optimizers(
    *,
    operation: str = "x+y",
    p: int = 97,
    n: int = 5,
    fractions: Mapping[str, Fractions] = LAPTOP_VARIANTS,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    seeds: Sequence[int] = (0,),
    steps: int = 4000,
    full_batch_steps: int = 1000,
    stop_at: float | None = 0.99,
) -> Plan:
    """Figure 2 left: fractions of the table for each optimizer variant.

    `full_batch_steps` is the budget of the variants with full batches, an update of which costs as many
    times a minibatch's as the training set is larger.
    """
    setting = {"operation": operation, "p": p, "n": n} | _network(d_model, n_heads, precision)
    return _variants(setting, fractions, seeds, steps, full_batch_steps, stop_at)


def _variants(
    setting: dict[str, Any],
    fractions: Mapping[str, Fractions],
    seeds: Sequence[int],
    steps: int,
    full_batch_steps: int,
    stop_at: float | None,
    keep: tuple[str, ...] = (),
) -> Plan:
    if unknown := [label for label in fractions if label not in VARIANTS]:
        raise ValueError(f"fractions has {unknown[0]!r}; the variants are {', '.join(map(repr, VARIANTS))}")
    budgets: dict[int, list[Run]] = {steps: [], full_batch_steps: []}
    for label, shares in fractions.items():
        fields = setting | VARIANTS[label]
        budget = full_batch_steps if fields.get("batch_size") == "full" else steps
        budgets[budget] += [Run(**fields, train_fraction=f, seed=seed) for f, seed in product(shares, seeds)]
    return Plan(
        tuple(
            Part(runs=tuple(runs), steps=budget, stop_at=stop_at, keep=keep)
            for budget, runs in budgets.items()
            if runs
        )
    )


def fig2_operations(
    *,
    p: int = 97,
    n: int = 5,
    fractions: Mapping[str, Fractions] = LAPTOP_OPERATIONS,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    lr: float = 1e-3,
    seeds: Sequence[int] = (0,),
    steps: int = 4000,
    stop_at: float | None = 0.99,
    renamed_fraction: float = 0.5,
    renamed_seeds: Sequence[int] = (0, 1, 2),
) -> Plan:
    """Figure 2 right: fractions of the table for each operation; and one task under two names (C22).

    The two names are x+y mod p-1 and x*y mod p on nonzero operands, at `renamed_fraction`.
    """
    setting = {"n": n, "lr": lr} | _network(d_model, n_heads, precision)
    runs = [
        Run(operation=operation, p=p, **setting, train_fraction=fraction, seed=seed)
        for operation, shares in fractions.items()
        for fraction, seed in product(shares, seeds)
    ]
    renamed = [
        Run(operation=operation, p=modulus, **setting, train_fraction=renamed_fraction, seed=seed)
        for operation, modulus in (("x+y", p - 1), ("x*y!=0", p))
        for seed in renamed_seeds
    ]
    return Plan(tuple(Part(runs=tuple(part), steps=steps, stop_at=stop_at) for part in (runs, renamed)))


def fig3_embeddings(
    *,
    p: int = 97,
    n: int = 5,
    addition_fraction: float = 0.5,
    product_fraction: float = 0.9,
    weight_decays: Sequence[float] = (1.0, 0.0),
    lr: float = 1e-3,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    seeds: Sequence[int] = (0, 1),
    addition_steps: int = 4000,
    product_steps: int = 6000,
    stop_at: float | None = 1.0,
) -> Plan:
    """Figure 3: output rows of x+y and of S5 product, with and without weight decay."""
    setting = {"p": p, "n": n, "lr": lr} | _network(d_model, n_heads, precision)
    parts = []
    for operation, fraction, steps in (
        ("x+y", addition_fraction, addition_steps),
        ("s5:xy", product_fraction, product_steps),
    ):
        runs = tuple(
            Run(operation=operation, **setting, train_fraction=fraction, weight_decay=decay, seed=seed)
            for decay, seed in product(weight_decays, seeds)
        )
        parts.append(Part(runs=runs, steps=steps, stop_at=stop_at, keep=("output_rows",)))
    return Plan(tuple(parts))


def fig6_outliers(
    *,
    operation: str = "x+y",
    p: int = 97,
    n: int = 5,
    fractions: Mapping[int, Fractions] = LAPTOP_OUTLIERS,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    lr: float = 1e-3,
    seeds: Sequence[int] = (0,),
    steps: int = 4000,
    stop_at: float | None = 0.99,
) -> Plan:
    """Figure 6: fractions of the table for each number of training answers that are replaced."""
    setting = {"operation": operation, "p": p, "n": n, "lr": lr} | _network(d_model, n_heads, precision)
    runs = tuple(
        Run(**setting, outliers=outliers, train_fraction=fraction, seed=seed)
        for outliers, shares in fractions.items()
        for fraction, seed in product(shares, seeds)
    )
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))


def fig7_sharpness(
    *,
    operation: str = "x+y",
    p: int = 97,
    n: int = 5,
    fractions: Mapping[str, Fractions] = LAPTOP_VARIANTS,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    seeds: Sequence[int] = (0,),
    steps: int = 4000,
    full_batch_steps: int = 1000,
    stop_at: float | None = 0.99,
) -> Plan:
    """Figure 7: networks of Figure 2 left, and the sharpness of the minima they end in."""
    setting = {"operation": operation, "p": p, "n": n} | _network(d_model, n_heads, precision)
    return _variants(setting, fractions, seeds, steps, full_batch_steps, stop_at, keep=("sharpness",))


def beyond_transformers(
    *,
    operation: str = "x+y",
    p: int = 97,
    train_fraction: float = 0.5,
    lr: float = 1e-3,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    mlp_layers: Sequence[int] = (1, 2),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 4000,
    stop_at: float | None = 0.99,
) -> Plan:
    """Whether grokking needs a transformer: the paper's network and multilayer perceptrons on one task."""
    task: dict[str, Any] = {"operation": operation, "p": p, "train_fraction": train_fraction, "lr": lr}
    networks = [_network(d_model, n_heads, precision)]
    networks += [
        {"architecture": "mlp", "d_model": d_model, "n_layers": layers, "precision": precision}
        for layers in mlp_layers
    ]
    runs = tuple(Run(**task, **network, seed=seed) for network, seed in product(networks, seeds))
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))


def rounding(
    *,
    operation: str = "x+y",
    p: int = 97,
    train_fraction: float = 0.5,
    precisions: Sequence[str] = ("fp32", "fp64"),
    lr: float = 1e-3,
    d_model: int = 128,
    n_heads: int = 4,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: int = 4000,
    stop_at: float | None = 0.99,
) -> Plan:
    """Whether the rounding of numbers matters: the same runs in one precision and in another."""
    task: dict[str, Any] = {"operation": operation, "p": p, "train_fraction": train_fraction, "lr": lr}
    networks = [_network(d_model, n_heads, precision) for precision in precisions]
    runs = tuple(Run(**task, **network, seed=seed) for network, seed in product(networks, seeds))
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))


def film(
    *,
    p: int = 97,
    n: int = 5,
    addition_fraction: float = 0.5,
    product_fraction: float = 0.9,
    weight_decay: float = 1.0,
    lr: float = 1e-3,
    d_model: int = 128,
    n_heads: int = 4,
    precision: str = "fp32",
    addition_seed: int = 0,
    product_seed: int = 1,
    addition_steps: int = 3000,
    product_steps: int = 6000,
    n_frames: int = 36,
) -> Plan:
    """The film: one run of x+y and one of S5 product, those of Figure 3, looked at again and again."""
    setting = {"p": p, "n": n, "lr": lr, "weight_decay": weight_decay} | _network(d_model, n_heads, precision)
    parts = []
    for operation, fraction, seed, steps in (
        ("x+y", addition_fraction, addition_seed, addition_steps),
        ("s5:xy", product_fraction, product_seed, product_steps),
    ):
        run = Run(operation=operation, **setting, train_fraction=fraction, seed=seed)
        frames = frame_steps(steps, n_frames)
        parts += [
            Part(runs=(run,), steps=step, keep=("frame",), goes_on=step < frames[-1]) for step in frames
        ]
    return Plan(tuple(parts))


def frame_steps(steps: int, n_frames: int) -> list[int]:
    """The evaluation steps of a film's frames, at most `n_frames`, increasing, from 1 to the last.

    Half of them are the last evaluations, one after the other, since what the film is about happens there.
    The others are spread evenly over those before, which are about geometric.

    Raises
    ------
    ValueError
        If `n_frames` is not a whole number of at least 2.
    """
    if isinstance(n_frames, bool) or not isinstance(n_frames, int) or n_frames < 2:
        raise ValueError(f"n_frames={n_frames!r} must be a whole number of at least 2")
    grid = schedule.evaluation_steps(steps)[1:]
    late = n_frames // 2
    early, last = grid[:-late], grid[-late:]
    n_early = min(n_frames - late, len(early))
    places = (round(i * (len(early) - 1) / max(1, n_early - 1)) for i in range(n_early))
    return [*(early[place] for place in places), *last]


Experiment = Callable[..., Plan]
EXPERIMENTS: dict[str, Experiment] = {
    f.__name__: f
    for f in (
        fig1_grokking_curves,
        fig1_data_fraction,
        fig1_operation_table,
        fig2_optimizers,
        fig2_operations,
        fig3_embeddings,
        fig6_outliers,
        fig7_sharpness,
        beyond_transformers,
        rounding,
        film,
    )
}
READING = {"threshold": float}  # parameters of notebooks that decide no run: accuracy that counts as learned


def experiment(name: str) -> Experiment:
    """The experiment of a name.

    Raises
    ------
    ValueError
        If there is none; lists those there are.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"experiment {name!r} is unknown; choose from {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def plan(name: str, profile: str | None = None) -> Plan:
    """What an experiment asks in a profile, or, without one, by its own parameters.

    Raises
    ------
    ValueError
        If there is no such experiment, or the profile is wrong.
    """
    return experiment(name)(**(load_profile(profile).get(name, {}) if profile else {}))


# -------------------------------------------------------------------------------------------------
# Profiles


def profiles_folder() -> Path:
    """Where the profiles lie: book/profiles beside the package."""
    return Path(__file__).parents[2] / "book" / "profiles"


def load_profile(profile: str) -> dict[str, dict[str, Any]]:
    """Parameters by experiment, of a profile's name or of a file that ends with .yml.

    Raises
    ------
    ValueError
        For an unknown profile, experiment or parameter, a wrong type or an empty list: names the
        file, the key and what is allowed.
    """
    path = Path(profile) if profile.endswith(".yml") else profiles_folder() / f"{profile}.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in profiles_folder().glob("*.yml")))
        raise ValueError(f"profile={profile!r} is unknown: no file {path}; choose from {known or 'none'}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must map experiments to parameters; it is a {type(content).__name__}")
    return {name: _checked(path, name, values) for name, values in content.items()}


def _checked(path: Path, name: str, values: Any) -> dict[str, Any]:
    if name not in EXPERIMENTS:
        raise ValueError(f"{path}: experiment {name!r} is unknown; choose from {', '.join(EXPERIMENTS)}")
    if not isinstance(values, dict):
        raise ValueError(f"{path}: {name} must map parameters to values; it is {values!r}")
    hints = get_type_hints(EXPERIMENTS[name])
    kinds = {key: known.annotation for key, known in signature(EXPERIMENTS[name]).parameters.items()}
    hints, kinds = hints | READING, kinds | {key: kind.__name__ for key, kind in READING.items()}
    for key, value in values.items():
        if key not in kinds:
            raise ValueError(f"{path}: {name} has no parameter {key!r}; choose from {', '.join(kinds)}")
        if _is_empty(value):
            raise ValueError(f"{path}: {name}: {key}={value!r} is empty; a list must have one value or more")
        if not fits(value, hints[key]):
            hint = "; write 1.0e-3, not 1e-3" if isinstance(value, str) and hints[key] is float else ""
            raise ValueError(f"{path}: {name}: {key}={value!r} must be of type {kinds[key]}{hint}")
    return {key: value for key, value in values.items() if key not in READING}


def _is_empty(value: Any) -> bool:
    """Whether it is an empty list or mapping, or has one in it."""
    if not isinstance(value, list | dict):
        return False
    return not value or any(_is_empty(v) for v in (value.values() if isinstance(value, dict) else value))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML has an annotated type; whole numbers are floats too."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in inner)
    if origin is abc.Mapping:
        return isinstance(value, dict) and all(
            fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items()
        )
    if origin is abc.Sequence:
        return isinstance(value, list | tuple) and all(fits(v, inner[0]) for v in value)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)
