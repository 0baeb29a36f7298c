"""How fast a card trains runs of some shape: measured for a second, where no record says it."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from grokking_core.devices import cards, limits
from grokking_core.devices.launch import COMPILED
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.ensemble import make_ensemble

BLOCK = 10  #: updates between two looks at the clock


def seconds_a_run_step(run: Run, n_runs: int, device: torch.device, seconds: float = 1.0) -> float:
    """Seconds of a card for an update of one of `n_runs` runs like this one, as many at a time as fit.

    What comes once is not counted: loading, capturing, the first update. Code is not compiled for it, which
    would take longer than all the rest; training that is long enough to compile is faster.
    """
    runs = [replace(run, seed=seed) for seed in range(n_runs)]
    width = limits.fitting_width(runs, device, limits.default_width(device))
    with limits.settings(device, run.precision), limits.current(device):
        path = "graph" if (best := cards.path_of(device, runs)) in COMPILED else best
        e = make_ensemble(runs[:width], width, device, path)
        try:
            e.load(0, Trajectory(run))
            first = e.snapshot(0)
            for slot in range(1, len(e.slots)):  # the same weights: their values cost nothing
                e.load(slot, replace(first))
            e.update(1)
            limits.synchronize(device)
            started, n_updates = time.monotonic(), 0
            while time.monotonic() < started + seconds:
                e.update(BLOCK)
                limits.synchronize(device)
                n_updates += BLOCK
            return (time.monotonic() - started) / (n_updates * len(e.slots))
        finally:
            e.close()
            limits.give_back(device)
