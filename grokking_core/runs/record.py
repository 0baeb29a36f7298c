"""`Record`: what was seen of one run, and what can be read off it."""

from __future__ import annotations

import datetime
import hashlib
import math
import platform
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from grokking_core._version import __version__
from grokking_core.runs.run import Run

Arrays = dict[str, np.ndarray]  #: by name

COLUMNS = (
    "step",  # optimizer updates done
    "train_loss",  # mean cross-entropy, nats
    "train_accuracy",  # share of the training equations, as labelled, outliers included
    "validation_loss",
    "validation_accuracy",
    "unmirrored_accuracy",  # of validation equations (x, y) whose mirror (y, x) is not in training
    "weight_norm",  # Euclidean norm of all parameters
)
LEARNED = 0.99  #: accuracy that counts as learned, the paper's own
#: What can be kept of a run's end, as `weights.ends` computes it; the names are part of files' names.
KEPT = ("weights", "output_rows", "answers", "frame", "sharpness", "traps")

#: How a curve's losses are computed from the logits; records before there was this number have 1.
EVALUATION = (
    2  # 1: in the run's precision, in float32 artefacts below 1e-6; 2: in float64, right down to 1e-12
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run, followed as far as `curve` goes.

    Attributes
    ----------
    run : Run
    curve : DataFrame
        One row an evaluation, columns `COLUMNS`; shares in [0, 1], losses in nats.
    diverged_at : int or None
        The evaluation step at which a weight or a loss was no longer finite; the run ends there.
    provenance : dict
        Package version and source hash, torch, device, precision, evaluation, seconds, date.
    kept : dict
        What was kept of the run's end, by name: arrays by name, as `weights.ends` says.
    watched : dict
        What probes saw, by name: a frame with `step`, `weight_norm` and the probe's columns.
    parameters : Tensor or None
        Last weights, (n,), in the order of the plain network's parameters, of a run that has just been
        followed. Records do not hold them: ask for `keep=("weights",)`.
    """

    run: Run
    curve: pd.DataFrame
    diverged_at: int | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Arrays] = field(default_factory=dict)
    watched: dict[str, pd.DataFrame] = field(default_factory=dict)
    parameters: Tensor | None = None

    @property
    def last_step(self) -> int:
        """How far the run was followed, in steps."""
        return int(self.curve["step"].iloc[-1])

    def steps_to(
        self, threshold: float, which: Literal["train", "validation", "unmirrored"], sustained: bool = False
    ) -> int | None:
        """First evaluation step with accuracy at or above `threshold`; None if there is none (censored).

        Parameters
        ----------
        threshold : float
            Share in (0, 1], such as 0.99.
        which : {"train", "validation", "unmirrored"}
            Whose accuracy.
        sustained : bool
            If true, the step from which it holds at every later evaluation as well.

        Raises
        ------
        ValueError
            If `threshold` or `which` is not one of the above.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold={threshold} must lie in (0, 1]; write 99 % as 0.99")
        if which not in ("train", "validation", "unmirrored"):
            raise ValueError(f"which={which!r} must be one of train, validation, unmirrored")
        reached = self.curve[f"{which}_accuracy"].to_numpy() >= threshold
        if sustained:
            reached = np.logical_and.accumulate(reached[::-1])[::-1]
        return int(self.curve["step"].to_numpy()[reached.argmax()]) if reached.any() else None

    def until(self, steps: int, stop_at: float | None = None) -> Record | None:
        """The part that answers "follow the run to `steps`, or until `stop_at`"; None if it was cut shorter.

        `stop_at` is a validation accuracy: the first evaluation that reaches it is the last row.
        """
        step, accuracy = self.curve["step"].to_numpy(), self.curve["validation_accuracy"].to_numpy()
        ends = step == steps
        if stop_at is not None:
            ends |= accuracy >= stop_at
        if self.diverged_at is not None:
            ends |= step == self.diverged_at
        end = int(ends.argmax())
        if not ends.any() or step[end] > steps:
            return None
        if end == len(step) - 1:
            return self
        curve = self.curve.iloc[: end + 1]
        watched = {name: frame[frame["step"] <= step[end]] for name, frame in self.watched.items()}
        return replace(self, curve=curve, diverged_at=None, kept={}, watched=watched, parameters=None)


def is_finite(row: tuple[float, ...]) -> bool:
    """Whether training loss and weight norm of a curve's row are finite; where not, the run has diverged."""
    return all(math.isfinite(row[COLUMNS.index(name)]) for name in ("train_loss", "weight_norm"))


def curve_frame(rows: list[tuple[float, ...]]) -> pd.DataFrame:
    """A curve from rows in the order of `COLUMNS`."""
    columns = np.array(rows, np.float64).reshape(-1, len(COLUMNS)).T
    curve = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    curve["step"] = curve["step"].astype(np.int64)
    return curve


def origin(
    device: torch.device | str, precision: str, seconds: float, evaluation: int = EVALUATION
) -> dict[str, Any]:
    """Where a record comes from: versions, device, precision, evaluation, seconds it took, date (UTC)."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return versions() | {
        "device": f"{device.type}: {name}",
        "precision": precision,
        "evaluation": evaluation,
        "seconds": round(seconds, 3),
        "date": utc_now(),
    }


def versions() -> dict[str, str]:
    """The versions of this package, as a number and as a hash of its sources, and of torch."""
    return {"package": __version__, "source": source_hash(), "torch": torch.__version__}


def utc_now() -> str:
    """The date and time, UTC, ISO 8601 to the millisecond: later ones sort after earlier ones."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


@lru_cache
def source_hash(root: Path = Path(__file__).parents[1]) -> str:
    """First 12 hex digits of the SHA-256 of a package's sources, of every room; by default of this one's."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
