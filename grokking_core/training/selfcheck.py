"""The self-check of a device: small runs by one path against the plain twin, in a process of its own.

python -m grokking_core.training.selfcheck cuda compiled paper
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from grokking_core import kernels
from grokking_core.devices import limits
from grokking_core.devices.kinds import KINDS, PAPER
from grokking_core.devices.launch import COMPILED, Backend
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
KERNEL_SHAPES = ((2, 67, 16, 64), (3, 5, 24, 100), (2, 1218, 128, 512))  #: R, N, D, F
TF32_APART = (
    2e-3  #: of a largest number, what rounding factors to 11 bits may change; 6e-4 where it was tried
)
#: Of weights in fp64, of losses in the others.
CLOSE = {"fp64": 1e-9, "fp32": 1e-4, "tf32": 1e-2, "tf32x3": 1e-4, "tf32-rounded": 1e-2}


class CheckError(Exception):
    """What a path computes is not what the plain twin computes."""


def check(device: torch.device, path: str, kind: str, backend: Backend | None = None) -> None:
    """Train small runs of a kind by a path, and compare; the paper's network where that is the kind.

    Where a precision is the kind, the paper's network is trained in it, and nothing else.

    The path "kernels" is checked where "compiled" has passed: kernels alone, the paper's network, and speed.

    Raises
    ------
    CheckError
        If numbers differ, the path was not the one in the end, or "kernels" is no faster than "compiled".
    """
    if path == "kernels":
        check_kernels("branches", kernels.plain.branches_apart, device, TF32_APART)
        check_paper(device, path, backend, "tf32")
        check_faster(device, backend)
        return
    if precision := KINDS[kind].get("precision"):
        if precision == "tf32x3":
            check_kernels("products", kernels.plain.products_apart, device)
        check_paper(device, path, backend, precision)
        return
    check_small(device, path, backend, small_runs(kind))
    for precision in ("fp32", "tf32"):
        if kind == PAPER and precision in limits.precisions(device):
            check_paper(device, path, backend, precision)


def check_kernels(name: str, apart: Callable[..., float], device: torch.device, most: float = 0.0) -> None:
    """Kernels against their twins, in shapes of which the last is an update's; all of them twice."""
    for shape in 2 * KERNEL_SHAPES:
        difference = apart(kernels.load(name), shape, device)
        if difference > most:
            raise CheckError(f"kernels of shape {shape} differ from their twins by {difference:.1e}")


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
    check_path(e, path)


def check_paper(device: torch.device, path: str, backend: Backend | None, precision: Any) -> None:
    """The losses of the paper's network against those of a CPU."""
    runs = [Run(operation="x/y", seed=seed, precision=precision) for seed in range(4)]
    ours = filled(device, path, backend, runs, 4)
    theirs = filled(torch.device("cpu"), "eager", None, [replace(run, precision="fp32") for run in runs], 4)
    losses = losses_after(ours, precision), losses_after(theirs, "fp32")
    check_path(ours, path)
    compare(f"losses in {precision}", *losses, CLOSE[precision])


def losses_after(e: Ensemble, precision: str) -> torch.Tensor:
    """Training losses after some updates in a precision."""
    with limits.settings(e.device, precision):
        e.update(PAPER_STEPS)
        e.evaluate(e.live)
    return torch.tensor([e.at(slot).rows[-1][1] for slot in e.live])


def check_path(e: Ensemble, path: str) -> None:
    """Raise `CheckError` if an ensemble is not on a path any more."""
    if e.path != path:
        raise CheckError(f"{path!r} gave way to {e.path!r}")


def check_faster(device: torch.device, backend: Backend | None) -> None:
    """The time of an update of the paper's networks by our own kernels, and that of the path "compiled"."""
    runs = [Run(operation="x/y", precision="tf32", seed=seed) for seed in range(limits.default_width(device))]
    width = limits.fitting_width(runs, device, len(runs))
    seconds = {}
    with limits.settings(device, "tf32"):
        for path in COMPILED:
            e = filled(device, path, backend, runs, width)
            seconds[path] = seconds_an_update(e)
            check_path(e, path)
            e.close()
            limits.give_back(device)
    ours, theirs = (1e6 * seconds[path] / width for path in COMPILED)
    if not ours < theirs:
        raise CheckError(f"{ours:.4g} microseconds a run-step, where 'compiled' takes {theirs:.4g}")


def seconds_an_update(e: Ensemble, n_updates: int = 40, n_times: int = 5) -> float:
    """Of the fastest of a few stretches of updates, the first of which is not counted."""
    times = []
    for _ in range(1 + n_times):
        e.update(n_updates)
        limits.synchronize(e.device)
        times.append(time.perf_counter())
    return min(after - before for before, after in pairwise(times)) / n_updates


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
