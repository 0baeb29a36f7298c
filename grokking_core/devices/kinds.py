"""Kinds of runs that a card is checked for one by one: what later papers changed has code of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from grokking_core.runs.run import Run

PAPER = "paper"  #: the paper's network and update, which every card must be able to train

#: What the runs of a kind have that the paper's have not; a run with any of it is of that kind.
KINDS: dict[str, dict[str, Any]] = {
    PAPER: {},
    "noise": {"dropout": 0.1, "weight_noise": 0.01, "update_noise": 0.1, "decay_toward": "init"},
    "pre-norm": {"norm": "pre", "activation": "gelu", "optimizer": "adam"},
    "MLP": {"architecture": "mlp", "activation": "tanh", "optimizer": "sgd"},
    "StableMax": {
        "norm": "none",
        "positions": "learned",
        "loss": "stablemax",
        "gradient": "perp",
        "slow_gradient": "ma",
        "norm_hold": 1.0,
    },
    "Muon": {
        "optimizer": "muon",
        "loss_precision": "fp64",
        "gradient": "zero_sum",
        "slow_gradient": "ema",
        "temperature": 2.0,
        "decay_from": 20,
        "decay_to": 50,
    },
    "tf32x3": {"precision": "tf32x3"},
    "tf32-rounded": {"precision": "tf32-rounded"},
}
DEFAULTS = {field.name: field.default for field in fields(Run)}


def kinds_of(runs: Iterable[Run]) -> list[str]:
    """The kinds that some runs are of, in the order of `KINDS`; each is also of the paper's."""
    runs = list(runs)
    return [kind for kind in KINDS if kind == PAPER or any(_is_of(run, kind) for run in runs)]


def _is_of(run: Run, kind: str) -> bool:
    """Whether a run has a choice of a kind, or a number other than the paper's where that has its own."""
    for name, value in KINDS[kind].items():
        own = getattr(run, name)
        if own == value if isinstance(value, str) else own != DEFAULTS[name]:
            return True
    return False
