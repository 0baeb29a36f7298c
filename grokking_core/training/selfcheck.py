"""The self-check of a device: small runs by one path against the plain twin, in a process of its own.

python -m grokking_core.training.selfcheck cuda compiled paper
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from grokking_core.devices import limits
from grokking_core.devices.kinds import KINDS, PAPER
from grokking_core.devices.launch import Backend
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training import plain
from grokking_core.training.ensemble import Ensemble

SMALL: dict[str, Any] = {
    "operation": "x/y",
    "p": 13,
    "d_model": 16,
    "n_heads": 2,
    "train_fraction": 0.6,
    "batch_size": 20,
}
STEPS, REFILL_AT = 100, 40  #: batch orders are renewed at update 64
PAPER_STEPS = 20
CLOSE = {"fp64": 1e-9, "fp32": 1e-4, "tf32": 1e-2}  #: of weights in fp64, of losses in fp32 and tf32


class CheckError(Exception):
    """What a path computes is not what the plain twin computes."""


def check(device: torch.device, path: str, kind: str, backend: Backend | None = None) -> None:
    """Train small runs of a kind by a path, and the paper's network where that is the kind, and compare.

    Raises
    ------
    CheckError
        If numbers differ, or the path was not the one in the end.
    """
    check_small(device, path, backend, small_runs(kind))
    for precision in ("fp32", "tf32"):
        if kind == PAPER and precision in limits.precisions(device):
            check_paper(device, path, backend, precision)


def small_runs(kind: str) -> list[Run]:
    """Four runs of a kind, in float64."""
    return [Run(**SMALL | KINDS[kind], precision="fp64", seed=seed) for seed in range(4)]


def check_small(device: torch.device, path: str, backend: Backend | None, runs: Sequence[Run]) -> None:
    """Three runs in float64, one of which gives its slot to a fourth, against the plain twin."""
    e = filled(device, path, backend, runs, 3)
    e.update(REFILL_AT)
    again = [e.snapshot(slot) for slot in range(3)]
    e.load(2, Trajectory(runs[3]))
    e.update(STEPS - REFILL_AT)
    e.evaluate([0, 1, 2])  # asks the device for its steps
    for slot, run, steps in ((0, runs[0], STEPS), (2, runs[3], STEPS - REFILL_AT)):
        compare(
            f"weights of {run}", e.parameters[slot].cpu(), plain.train(run, steps).parameters, CLOSE["fp64"]
        )
    second = filled(device, path, backend, runs, 3)
    second.update(REFILL_AT)
    for slot, trajectory in enumerate(again):
        for name, first in trajectory.tensors.items():
            compare(f"{name} the second time", second.snapshot(slot).tensors[name], first, 0.0)
    if e.path != path:
        raise CheckError(f"{path!r} gave way to {e.path!r}")


def check_paper(device: torch.device, path: str, backend: Backend | None, precision: Any) -> None:
    """The losses of the paper's network against those of a CPU."""
    runs = [Run(operation="x/y", seed=seed, precision=precision) for seed in range(4)]
    losses: list[torch.Tensor] = []
    for e in (
        filled(device, path, backend, runs, 4),
        filled(torch.device("cpu"), "eager", None, [replace(run, precision="fp32") for run in runs], 4),
    ):
        with limits.settings(e.device, precision if e.device == device else "fp32"):
            e.update(PAPER_STEPS)
            e.evaluate(e.live)
        losses.append(torch.tensor([e.at(slot).rows[-1][1] for slot in e.live]))
    compare(f"losses in {precision}", losses[0], losses[1], CLOSE[precision])


def filled(
    device: torch.device, path: str, backend: Backend | None, runs: Sequence[Run], n_slots: int
) -> Ensemble:
    """An ensemble with the first runs in its slots."""
    e = Ensemble(runs, n_slots, device, path, loops=False, backend=backend)
    for slot in range(n_slots):
        e.load(slot, Trajectory(runs[slot]))
    return e


def compare(what: str, ours: torch.Tensor, theirs: torch.Tensor | None, tolerance: float) -> None:
    """Raise `CheckError` where two tensors differ by more than a tolerance, or one is not finite."""
    assert theirs is not None
    difference = (ours.double() - theirs.double()).abs().max().item()
    if not difference <= tolerance:
        raise CheckError(f"{what} differ by {difference:.1e}, more than {tolerance:.0e}")


def main(arguments: Sequence[str]) -> int:
    """Check a device, a path and a kind of runs; the last line on standard error says what failed."""
    device, (path, kind) = torch.device(arguments[0]), arguments[1:]
    with limits.settings(device, "fp32"), limits.current(device):
        check(device, path, kind)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
