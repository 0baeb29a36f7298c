"""What came after the paper as grids of runs; as `experiments` has the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Unpack

from grokking_core.plans.grids import Rated, Task, grid, setting_of
from grokking_core.plans.parts import Part, Plan
from grokking_core.runs import words
from grokking_core.runs.run import Run

METHODS: dict[str, dict[str, Any]] = {  #: that are said to hasten grokking, after what they are held against
    "AdamW": {},
    "Grokfast-EMA": {"slow_gradient": "ema"},
    "Grokfast-MA": {"slow_gradient": "ma"},
    "perpGrad": {"gradient": "perp"},
    "StableMax": {"loss": "stablemax"},
    "Muon": {"optimizer": "muon"},
}


_NO_DECAY: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0.0}


def norm_clock(
    *,
    operation: str = "x+y",
    train_fraction: float = 0.6,
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3),
    weight_decays: Sequence[float] = (0.3, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 20_000,
    stop_at: float | None = 0.99,
    held_norms: Sequence[float] = (0.5, 0.7, 1.0),
    init_scales: Sequence[float] = (0.35, 0.5, 0.7, 1.0),
    held_lr: float = 3e-3,
    held_steps: int = 8000,
    **task: Unpack[Task],
) -> Plan:
    """Whether the weight norm tells the time of grokking: a grid of learning rate and decay; and norms held.

    Without decay, and with the norm held at each share of the first, a network's logits are as they are and
    divided as if its norm were each smaller one, see `temperature`. Other networks begin with smaller
    weights, and keep the norm of these.
    """
    common: dict[str, Any] = {"operation": operation, "train_fraction": train_fraction, **task}
    cells = [{"lr": lr, "weight_decay": decay} for lr, decay in product(learning_rates, weight_decays)]
    pairs = [(norm, like) for norm, like in product(held_norms, held_norms) if like <= norm]
    held = [{"norm_hold": norm, "temperature": temperature(norm, like)} for norm, like in pairs]
    begun = [{"norm_hold": 1.0, "init_scale": scale} for scale in init_scales]
    common |= {"seeds": seeds}
    runs = [run for some in (held, begun) for run in grid(*some, lr=held_lr, **_NO_DECAY, **common)]
    return Plan(
        (
            Part(runs=grid(*cells, **common), steps=steps, stop_at=stop_at),
            Part(runs=tuple(runs), steps=held_steps, stop_at=stop_at),
        )
    )


def temperature(norm: float, like: float) -> float:
    """What divides the logits at one norm so that their scale is as at another: they go with its square."""
    return round((norm / like) ** 2, 6)


def accelerators(
    *,
    operation: str = "x+y",
    architecture: str = "transformer",
    n_layers: int = 2,
    train_fraction: float = 0.5,
    methods: Sequence[str] = tuple(METHODS),
    learning_rates: Sequence[float] = (3e-3, 1e-2, 3e-2),
    weight_decays: Sequence[float] = (0.3, 1.0, 3.0),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 2000,
    elsewhere: Mapping[str, Sequence[str]] = {"x-y": ("AdamW", "Muon")},
    **task: Unpack[Task],
) -> Plan:
    """What hastens grokking: every method on one grid of learning rate and decay, each run to the end.

    `elsewhere` has the methods that are held against each other on other operations, too.
    """
    cells = [{"lr": lr, "weight_decay": decay} for lr, decay in product(learning_rates, weight_decays)]
    network = {"architecture": architecture, "n_layers": n_layers, "train_fraction": train_fraction, **task}
    parts = []
    others = {name: some for name, some in elsewhere.items() if name != operation}
    for each, of_each in ({operation: methods} | others).items():
        if unknown := [name for name in of_each if name not in METHODS]:
            raise ValueError(f"methods has {unknown[0]!r}; the methods are {', '.join(METHODS)}")
        settings = [METHODS[name] | cell for name, cell in product(of_each, cells)]
        parts.append(Part(runs=grid(*settings, seeds=seeds, operation=each, **network), steps=steps))
    return Plan(tuple(parts))


def method_of(run: Run) -> str:
    """The name of a run's method among `METHODS`.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if name := setting_of(run, METHODS):
        return name
    raise ValueError(f"{run} has a method that is none of {', '.join(METHODS)}")


WINDOWS = (0.0, 0.25, 0.5, 0.75)  #: shares of the updates from which on decay acts for a quarter of them


def retention(
    *,
    operation: str = "x+y",
    train_fraction: float = 0.6,
    weight_decays: Sequence[float] = (0.5, 1.0, 2.0),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: int = 4000,
    other_decays: Mapping[float, int] = {10.0: 1000},
    other_seeds: Sequence[int] = (0, 1, 2),
    window_steps: int = 6000,
    **rated: Unpack[Rated],
) -> Plan:
    """Whether what was learned lasts: networks at several decays, when they have learned and long after.

    `other_decays` has the updates for each decay around the weakest and beyond the strongest with which
    networks learn; these runs end when they have learned.
    `window_steps` is the budget of networks with decay in a part of it, throughout and never; see
    `window_of`.
    """
    common = {"operation": operation, "train_fraction": train_fraction, **rated}
    runs = grid(*({"weight_decay": decay} for decay in weight_decays), seeds=seeds, **common)
    spans = [(start, start + 0.25) for start in WINDOWS] + [(0, 1)]
    acts: list[dict[str, Any]] = [
        {"decay_from": round(a * window_steps), "decay_to": round(b * window_steps)} for a, b in spans
    ]
    acts.append({"weight_decay": 0.0, "decay_to": window_steps})
    others = (
        Part(runs=grid({"weight_decay": decay}, seeds=other_seeds, **common), steps=budget, stop_at=0.99)
        for decay, budget in other_decays.items()
    )
    ends = ("output_rows", "traps")
    return Plan(
        (
            Part(runs=runs, steps=steps, stop_at=0.99, keep=ends[:1]),
            Part(runs=runs, steps=steps, keep=ends),
            *others,
            Part(runs=grid(*acts, seeds=other_seeds, **common), steps=window_steps),
        )
    )


def window_of(run: Run, budget: int) -> str | None:
    """When decay acts in a run, in words: "from 25 %", "throughout", "never"; None without such a window."""
    if run.decay_to is None:
        return None
    if not run.weight_decay:
        return "never"
    whole = run.decay_from == 0 and run.decay_to == budget
    return "throughout" if whole else f"from {words.percent(run.decay_from / budget)}"
