"""The paper's figures as grids of runs: a function says what is its own, the rest goes to `Run` as it is.

A function takes the literal parameters of a notebook and returns its runs and how far to follow them.
The notebook, the command line and the tests ask the same function. Grids of fractions are in the profiles.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache, wraps
from inspect import Parameter as Argument
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any, Unpack, get_args, get_origin, get_type_hints

from grokking_core.paper import profiles
from grokking_core.paper.profiles import Parameter, Refused
from grokking_core.plans import Part, Plan
from grokking_core.plans.capacity import capacity
from grokking_core.plans.followups import accelerators, norm_clock, retention
from grokking_core.plans.grids import Fractions, Rated, Shared, Task, by_fraction, grid, setting_of
from grokking_core.plans.softmax import softmax_collapse
from grokking_core.plans.watched import early_warnings, fourier, topology
from grokking_core.runs import schedule
from grokking_core.runs.run import Run

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


def fig1_grokking_curves(
    *,
    operation: str = "x/y",
    train_fraction: float = 0.5,
    optimizer: str = "adamw",
    weight_decay: float = 1.0,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 4000,
    **shared: Unpack[Shared],
) -> Plan:
    """Figures 1 left and 4: one configuration, some seeds."""
    task = {"operation": operation, "train_fraction": train_fraction}
    training = {"optimizer": optimizer, "weight_decay": weight_decay}
    return Plan((Part(runs=grid(task | training, seeds=seeds, **shared), steps=steps),))


def fig1_data_fraction(
    *,
    operation: str = "x/y",
    train_fractions: Fractions = (0.4, 0.5, 0.6, 0.8),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 4000,
    stop_at: float | None = 0.99,
    **shared: Unpack[Shared],
) -> Plan:
    """Figure 1 centre: how long it takes, by training fraction."""
    runs = grid(*by_fraction(operation={operation: train_fractions}), seeds=seeds, **shared)
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))


def fig1_operation_table(
    *,
    operation: str = "x/y",
    train_fraction: float = 0.5,
    seed: int = 0,
    steps: int = 4000,
    **shared: Unpack[Shared],
) -> Plan:
    """Figures 1 right and 5: one run, and its answers to the whole table."""
    runs = grid({"operation": operation, "train_fraction": train_fraction}, seeds=(seed,), **shared)
    return Plan((Part(runs=runs, steps=steps, keep=("answers",)),))


def fig2_optimizers(
    *,
    operation: str = "x+y",
    fractions: Mapping[str, Fractions],
    seeds: Sequence[int] = (0,),
    steps: int = 4000,
    full_batch_steps: int = 1000,
    stop_at: float | None = 0.99,
    precision: str = "fp32",
    **task: Unpack[Task],
) -> Plan:
    """Figure 2 left: fractions of the table for each optimizer variant.

    `full_batch_steps` is the budget of the variants with full batches, an update of which costs as many
    times a minibatch's as the training set is larger.
    """
    if unknown := [label for label in fractions if label not in VARIANTS]:
        raise ValueError(f"fractions has {unknown[0]!r}; the variants are {', '.join(map(repr, VARIANTS))}")
    budgets: dict[int, tuple[Run, ...]] = {steps: (), full_batch_steps: ()}
    for label, shares in fractions.items():
        budget = full_batch_steps if VARIANTS[label].get("batch_size") == "full" else steps
        settings = by_fraction(operation={operation: shares})
        budgets[budget] += grid(*settings, seeds=seeds, precision=precision, **VARIANTS[label], **task)
    return Plan(tuple(Part(runs=runs, steps=s, stop_at=stop_at) for s, runs in budgets.items() if runs))


@wraps(fig2_optimizers, assigned=("__annotations__",))  # it has the same parameters
def fig7_sharpness(**asked: Any) -> Plan:
    """Figure 7: networks of Figure 2 left, and the sharpness of the minima they end in."""
    return Plan(tuple(replace(part, keep=("sharpness",)) for part in fig2_optimizers(**asked).parts))


def fig2_operations(
    *,
    fractions: Mapping[str, Fractions],
    seeds: Sequence[int] = (0,),
    steps: int = 4000,
    stop_at: float | None = 0.99,
    renamed_fraction: float = 0.5,
    renamed_seeds: Sequence[int] = (0, 1, 2),
    **shared: Unpack[Shared],
) -> Plan:
    """Figure 2 right: fractions of the table for each operation; and one task under two names (C22).

    The two names are x+y mod p-1 and x*y mod p on nonzero operands, at `renamed_fraction`.
    """
    p = shared.get("p", Run.p)
    names = [{"operation": "x+y", "p": p - 1}, {"operation": "x*y!=0", "p": p}]
    parts = (
        grid(*by_fraction(operation=fractions), seeds=seeds, **shared),
        grid(*names, seeds=renamed_seeds, train_fraction=renamed_fraction, **shared),
    )
    return Plan(tuple(Part(runs=runs, steps=steps, stop_at=stop_at) for runs in parts))


def fig3_embeddings(
    *,
    addition_fraction: float = 0.5,
    product_fraction: float = 0.9,
    weight_decays: Sequence[float] = (1.0, 0.0),
    seeds: Sequence[int] = (0, 1),
    addition_steps: int = 4000,
    product_steps: int = 6000,
    stop_at: float | None = 1.0,
    **shared: Unpack[Shared],
) -> Plan:
    """Figure 3: output rows of x+y and of S5 product, with and without weight decay."""
    decays = [{"weight_decay": decay} for decay in weight_decays]
    asked = (("x+y", addition_fraction, addition_steps), ("s5:xy", product_fraction, product_steps))
    return Plan(
        tuple(
            Part(
                runs=grid(*decays, seeds=seeds, operation=operation, train_fraction=fraction, **shared),
                steps=steps,
                stop_at=stop_at,
                keep=("output_rows",),
            )
            for operation, fraction, steps in asked
        )
    )


def fig6_outliers(
    *,
    operation: str = "x+y",
    fractions: Mapping[int, Fractions],
    seeds: Sequence[int] = (0,),
    steps: int = 4000,
    stop_at: float | None = 0.99,
    **shared: Unpack[Shared],
) -> Plan:
    """Figure 6: fractions of the table for each number of training answers that are replaced."""
    runs = grid(*by_fraction(outliers=fractions), seeds=seeds, operation=operation, **shared)
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))


def beyond_transformers(
    *,
    operation: str = "x+y",
    train_fraction: float = 0.5,
    mlp_layers: Sequence[int] = (1, 2),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 4000,
    stop_at: float | None = 0.99,
    **shared: Unpack[Shared],
) -> Plan:
    """Whether grokking needs a transformer: the paper's network and multilayer perceptrons on one task."""
    networks = [{"n_heads": shared.pop("n_heads", Run.n_heads)}]
    networks += [{"architecture": "mlp", "n_layers": layers} for layers in mlp_layers]
    runs = grid(*networks, seeds=seeds, operation=operation, train_fraction=train_fraction, **shared)
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))


def rounding(
    *,
    operation: str = "x+y",
    train_fraction: float = 0.5,
    precisions: Sequence[str] = ("fp32", "fp64", "tf32-rounded"),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: int = 4000,
    stop_at: float | None = 0.99,
    **rated: Unpack[Rated],
) -> Plan:
    """Whether the rounding of numbers matters: the same runs in one precision and in others."""
    settings = [{"precision": precision} for precision in precisions]
    runs = grid(*settings, seeds=seeds, operation=operation, train_fraction=train_fraction, **rated)
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))


def film(
    *,
    addition_fraction: float = 0.5,
    product_fraction: float = 0.9,
    weight_decay: float = 1.0,
    addition_seed: int = 0,
    product_seed: int = 1,
    addition_steps: int = 3000,
    product_steps: int = 6000,
    n_frames: int = 36,
    **shared: Unpack[Shared],
) -> Plan:
    """The film: one run of x+y and one of S5 product, those of Figure 3, looked at again and again."""
    parts = []
    for operation, fraction, seed, steps in (
        ("x+y", addition_fraction, addition_seed, addition_steps),
        ("s5:xy", product_fraction, product_seed, product_steps),
    ):
        setting = {"operation": operation, "train_fraction": fraction, "weight_decay": weight_decay}
        runs, frames = grid(setting, seeds=(seed,), **shared), frame_steps(steps, n_frames)
        parts += [Part(runs=runs, steps=s, keep=("frame",), goes_on=s < frames[-1]) for s in frames]
    return Plan(tuple(parts))


#: What the page on which readers train asks of the default run, by question: fields laid over it.
TRAINER_CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "decay": {"as it is": {}, "none": {"weight_decay": 0.0}},
    "share": {"as it is": {}, "third": {"train_fraction": 0.33}},
    "modulus": {
        "as it is": {},
        "composite": {"p": 42},
        "product": {"operation": "x*y"},
        "composite product": {"operation": "x*y", "p": 42},
    },
    "outliers": {"as it is": {}, "ten": {"outliers": 10}},
    "width": {"narrow": {"d_model": 16}, "as it is": {}, "wide": {"d_model": 64}},
    "operation": {"as it is": {}, "difference": {"operation": "x-y"}},
}


def trainer(
    *,
    operation: str = "x+y",
    p: int = 41,
    train_fraction: float = 0.5,
    weight_decay: float = 1.0,
    lr: float = 3e-3,
    d_model: int = 32,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 10_000,
    stop_at: float | None = 0.99,
) -> Plan:
    """Runs small enough for a browser: the one that a page begins with, and what its questions change."""
    task: dict[str, Any] = {"operation": operation, "p": p, "train_fraction": train_fraction}
    network = {"architecture": "mlp", "n_layers": 1, "d_model": d_model}
    default = Run(**task, **network, lr=lr, weight_decay=weight_decay)
    changed = [replace(default, **change) for some in TRAINER_CHANGES.values() for change in some.values()]
    runs = (replace(run, seed=seed) for run, seed in product(changed, seeds))
    return Plan((Part(runs=tuple(dict.fromkeys(runs)), steps=steps, stop_at=stop_at),))


def variant_of(run: Run) -> str:
    """The label of a run's optimizer in Figure 2 (left).

    Raises
    ------
    ValueError
        If it is none of `VARIANTS`.
    """
    if label := setting_of(run, VARIANTS):
        return label
    raise ValueError(f"{run} has an optimizer that is none of {', '.join(VARIANTS)}")


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
        early_warnings,
        fourier,
        softmax_collapse,
        norm_clock,
        topology,
        retention,
        accelerators,
        capacity,
        film,
        trainer,
    )
}
READING = {"threshold": float}  #: parameters of notebooks that decide no run: accuracy that counts as learned


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
    """What an experiment asks in a profile, the laptop's without one.

    Raises
    ------
    ValueError
        If there is no such experiment, or the profile is wrong.
    """
    return experiment(name)(**load_profile(profile or "laptop").get(name, {}))


# -------------------------------------------------------------------------------------------------
# Their parameters


@lru_cache
def parameters(name: str) -> dict[str, Parameter]:
    """What an experiment can be asked, and what its notebook reads beside it, by name."""
    hints, known = get_type_hints(experiment(name)), {}
    for key, argument in signature(experiment(name)).parameters.items():
        if argument.kind is Argument.VAR_KEYWORD:
            shared = get_type_hints(get_args(hints[key])[0])
            known |= {
                field: Parameter(field, getattr(Run, field), _kind(hint)) for field, hint in shared.items()
            }
        else:
            default = None if argument.default is Argument.empty else argument.default
            known[key] = Parameter(key, default, _kind(hints[key]))
    known = {name: known[name] for name in sorted(known, key=_place)}
    return known | {key: Parameter(key, None, _kind(hint)) for key, hint in READING.items()}


def _place(name: str) -> int:
    """Fields of `Run` come first, in their order."""
    names = [field.name for field in fields(Run)]
    return names.index(name) if name in names else len(names)


def _kind(hint: Any) -> str:
    """An annotation as the type of a literal."""
    inner = [_kind(each) for each in get_args(hint)]
    if get_origin(hint) in (abc.Sequence, abc.Mapping):
        return f"{'list' if len(inner) == 1 else 'dict'}[{', '.join(inner)}]"
    return " | ".join(inner) or ("None" if hint is type(None) else hint.__name__)


def load_profile(profile: str) -> dict[str, dict[str, Any]]:
    """Parameters by experiment, of a profile's name or of a file that ends with .yml.

    Raises
    ------
    ValueError
        For an unknown profile, experiment or parameter, a wrong type, an empty list or a value that is in
        it twice: names the file, the key and what is allowed.
    """
    path = profiles.path_of(profile)
    content = profiles.read(path, "experiments")
    return {name: _checked(path, name, values) for name, values in content.items()}


def _checked(path: Path, name: Any, values: Any) -> dict[str, Any]:
    if name not in EXPERIMENTS:
        raise ValueError(f"{path}: experiment {name!r} is unknown; choose from {', '.join(EXPERIMENTS)}")
    if not isinstance(values, dict):
        raise ValueError(f"{path}: {name} must map parameters to values; it is {values!r}")
    known = parameters(name)
    try:
        fitted = profiles.check(values, known)
    except Refused as error:
        key, given = error.name, f"{error.name}={values[error.name]!r}"
        arguments = signature(EXPERIMENTS[name]).parameters
        kind = arguments[key].annotation if key in arguments else getattr(known.get(key), "kind", "")
        advice = "; write 1.0e-3, not 1e-3" if error.detail.startswith("; in YAML") else error.detail
        said = {
            "unknown": f"no parameter {key!r}; choose from {', '.join(known)}",
            "type": f"{given} must be of type {kind}{advice}",
            "empty": f"{given} is empty; a list must have one value or more",
            "twice": error.detail,
        }
        raise ValueError(f"{path}: {name}: {said[error.reason]}") from None
    return {key: value for key, value in fitted.items() if key not in READING}
