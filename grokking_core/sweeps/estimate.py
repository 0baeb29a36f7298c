"""How long training will take, measured on this machine before it begins."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence

import torch

from grokking_core import training
from grokking_core.model import networks as ensemble
from grokking_core.runs import record
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory

LONG = 120.0  # seconds from which a sweep says beforehand what it will take
OVERHEAD, SPEED = 1.5e-3, 2.5e10  # seconds an update, operations a second: one core, roughly


def work(run: Run) -> float:
    """Seconds of an update on one CPU core, by a rough count of its operations."""
    weights = ensemble.Layout(run).n - 2 * run.n_elements * run.d_model
    rows = run.effective_batch_size + run.n_elements
    return OVERHEAD + 6 * rows * max(weights, run.d_model**2) / SPEED


def measured(run: Run, device: str, seconds: float = 1.0) -> float:
    """Seconds an update of a run takes this device, with as many runs at a time as it trains best."""
    begun: list[float] = []
    row = (1000, *[0.0] * (len(record.COLUMNS) - 1))  # from here no evaluation is near
    width = training.default_width(torch.device(device))
    probes = [Trajectory(run, step=1000, rows=[row]) for _ in range(width)]

    def over() -> bool:
        begun.append(time.monotonic())
        return begun[-1] > begun[0] + seconds

    listener = training.Listener(ended=lambda _: None)
    training.train(probes, steps=10**6, listener=listener, device=device, interrupted=over)
    updates = sum(probe.step - 1000 for probe in probes)
    return (time.monotonic() - begun[0]) / max(1, updates)


def total(runs: Sequence[Run], steps: int, device: str) -> float:
    """Seconds that training the runs for `steps` takes at most, by the measure of the costliest."""
    costs = [work(run) for run in runs]
    costliest = runs[max(range(len(runs)), key=costs.__getitem__)]
    return steps * sum(costs) * measured(costliest, device) / max(costs)


def announce(runs: Sequence[Run], steps: int, device: str, n_devices: int = 1) -> None:
    """Print what a long sweep will take on devices like this, before it begins; nothing for a short one."""
    if steps * sum(map(work, runs)) < LONG / 4:
        return
    seconds = total(runs, steps, device) / n_devices
    if seconds < LONG:
        return
    n = len(runs) * steps
    told = f"{len(runs)} runs are to be trained, {n:.3g} run-steps in all at {n / seconds:,.0f} a second here"
    told += f" ({n_devices} x {device}): at most {duration(seconds)}."
    told += " Fewer points: `make book PROFILE=laptop` or `smoke`, or `--profile`. What is trained is kept."
    print(told, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds in words: "40 seconds", "12 minutes", "3.5 hours"."""
    if seconds < 60:
        return f"{math.ceil(seconds)} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
