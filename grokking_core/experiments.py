"""The paper's figures as questions about runs, and the profiles that say how much of each to ask.

A function takes the literal parameters of a notebook and returns the runs and how far to follow them.
The notebook, the command line and the tests ask the same function.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

import grokking_core
from grokking_core.run import Run


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a figure asks of `sweep`."""

    runs: tuple[Run, ...]
    steps: int  # optimizer updates
    stop_at: float | None = None  # validation accuracy in (0, 1]
    keep_parameters: bool = False


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
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 5000,
    threshold: float = 0.99,
) -> Plan:
    """Figures 1 left and 4: one configuration, some seeds. `threshold` is the reading's own."""
    task = {"operation": operation, "p": p, "train_fraction": train_fraction}
    network = {"d_model": d_model, "n_heads": n_heads}
    training: dict[str, Any] = {"optimizer": optimizer, "lr": lr, "weight_decay": weight_decay}
    return Plan(runs=tuple(Run(**task, **network, **training, seed=seed) for seed in seeds), steps=steps)


Experiment = Callable[..., Plan]
EXPERIMENTS: dict[str, Experiment] = {f.__name__: f for f in (fig1_grokking_curves,)}  # in the order to train


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
    return Path(grokking_core.__file__).parent.parent / "book" / "profiles"


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
    known = signature(EXPERIMENTS[name]).parameters
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{path}: {name} has no parameter {key!r}; choose from {', '.join(known)}")
        if isinstance(value, list) and not value:
            raise ValueError(f"{path}: {name}: {key} is an empty list; it must have one value or more")
        if not fits(value, hints[key]):
            kind = known[key].annotation
            hint = "; write 1.0e-3, not 1e-3" if isinstance(value, str) and kind == "float" else ""
            raise ValueError(f"{path}: {name}: {key}={value!r} must be of type {kind}{hint}")
    return values


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML has an annotated type; whole numbers are floats too."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in inner)
    if origin is not None and origin is not dict:
        return isinstance(value, list | tuple) and all(fits(v, inner[0]) for v in value)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, origin or hint)
