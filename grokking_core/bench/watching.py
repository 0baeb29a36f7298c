"""What probes cost: their share of a run's time, where it is evaluated as training does it.

Networks with one probe each and one with none are trained side by side, stop by stop, so that what is
compared was measured at the same time, and each stop gives a ratio of its own.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

import torch

from grokking_core.devices import limits
from grokking_core.probes import PROBES
from grokking_core.runs import schedule
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory, Watched
from grokking_core.training.ensemble import Ensemble

STEPS = 10_000  #: updates of the run whose time is meant
WARM_UP = 3  #: stops before the first that counts


@dataclass
class Timed:
    """An ensemble of one run, and how long an update and an evaluation of it took, stop by stop."""

    ensemble: Ensemble
    update: list[float] = field(default_factory=list)  #: seconds, on a CPU of the processor's time
    evaluation: list[float] = field(default_factory=list)  #: likewise, with what its probe does

    def stop(self, device: torch.device) -> None:
        """Train to the next evaluation, and make it."""
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        run, started = self.ensemble.at(0), clock()
        n_updates = run.next_stop - run.step
        self.ensemble.update(n_updates)
        limits.synchronize(device)
        trained = clock()
        self.ensemble.evaluate([0])
        limits.synchronize(device)
        self.update.append((trained - started) / n_updates)
        self.evaluation.append(clock() - trained)

    def seconds(self, stop: int) -> float:
        """What STEPS updates with their evaluations would take at the speed of one stop."""
        n_evaluations = len(schedule.evaluation_steps(STEPS))
        return STEPS * self.update[stop] + n_evaluations * self.evaluation[stop]


def shares(run: Run, device: torch.device, stops: int) -> dict[str, float]:
    """Share of the time of a run of STEPS updates that each probe adds to it, by name; medians over stops.

    Parameters
    ----------
    run : Run
        One that all probes have.
    device : torch.device
    stops : int
        Evaluations that count.
    """
    with limits.settings(device, run.precision):
        bare, *watched = [_begun(run, device, *name) for name in ((), *zip(PROBES))]
        try:
            for _ in range(WARM_UP + stops):
                for timed in (bare, *watched):
                    timed.stop(device)
        finally:
            for timed in (bare, *watched):
                timed.ensemble.close()
    at = range(WARM_UP, WARM_UP + stops)
    ratios = [[timed.seconds(stop) / bare.seconds(stop) for stop in at] for timed in watched]
    return {name: statistics.median(found) - 1 for name, found in zip(PROBES, ratios, strict=True)}


def _begun(run: Run, device: torch.device, *watch: str) -> Timed:
    """A run with its first evaluation made."""
    ensemble = Ensemble([run], 1, device, watch=watch)
    ensemble.load(0, Trajectory(run, watched={name: Watched() for name in watch}))
    ensemble.evaluate([0])
    return Timed(ensemble)
