"""How long training is expected to take: by the records that such a device has left, or by a measurement."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from grokking_core import devices, training
from grokking_core._streams import say
from grokking_core.model import networks
from grokking_core.records.store import Store
from grokking_core.runs import record as records
from grokking_core.runs.record import Record
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.sweeps.reading import Reading
from grokking_core.training.rates import seconds_a_run_step

LONG = 120.0  #: seconds from which a sweep says beforehand what it will take
OVERHEAD, SPEED = 1.5e-3, 2.5e10  #: seconds an update, operations a second: one core, roughly
UPDATE_SECONDS = 4e-4  #: of a card for an update of however few runs: its launches
ENOUGH = 200  #: updates of a record from which its speed tells something


@dataclass(frozen=True)
class Estimate:
    """An expectation, and what it rests on."""

    seconds: float
    basis: str

    def __str__(self) -> str:
        return f"about {duration(self.seconds)}, {self.basis}"


def work(run: Run) -> float:
    """Seconds of an update on one CPU core, by a rough count of its operations."""
    weights = networks.Layout(run).n - 2 * run.n_elements * run.d_model
    rows = run.effective_batch_size + run.n_elements
    operations = 6 * rows * max(weights, run.d_model**2)
    return OVERHEAD + operations / SPEED * (2 if run.precision == "fp64" else 1)


def expected(left: Mapping[Run, int], store: Store, device: str, n_devices: int = 1) -> Estimate:
    """What training takes.

    Parameters
    ----------
    left : mapping from Run to int
        Updates that are still to be made of each run.
    store : Store
        Whose records say how fast such a device was.
    device : str
        Such as "cpu" or "cuda:0".
    n_devices : int
        How many of these train at once.
    """
    pace, basis = _pace(left, store, device)
    costs = {run: steps * pace(run) for run, steps in left.items()}
    if device.startswith("cuda"):
        return Estimate(_on_cards(costs, left) / n_devices, basis)
    longest = max(costs.values(), default=0.0)  # one core trains a run
    return Estimate(max(sum(costs.values()) / (n_devices * torch.get_num_threads()), longest), basis)


def _on_cards(costs: Mapping[Run, float], left: Mapping[Run, int]) -> float:
    """Seconds of a card, group by group; few runs take as long as their longest one's launches."""
    groups = defaultdict[object, list[Run]](list)
    for run in left:
        groups[training.group_key(run)].append(run)
    return sum(
        max(sum(costs[run] for run in runs), UPDATE_SECONDS * max(left[run] for run in runs))
        for runs in groups.values()
    )


class _Pace:
    """Seconds of a core, or of a GPU shared by many runs, that an update of a run takes."""

    def __init__(self, seen: Mapping[Run, float]):
        self.groups: dict[object, float] = {}  # the best of each
        self.others = sorted((work(run), seconds / work(run)) for run, seconds in seen.items())
        for run, seconds in seen.items():
            key = training.group_key(run)
            self.groups[key] = min(seconds, self.groups.get(key, math.inf))

    def __call__(self, run: Run) -> float:
        if known := self.groups.get(training.group_key(run)):
            return known
        cost = work(run)
        nearest = min(abs(math.log(cost / other)) for other, _ in self.others)
        return cost * min(ratio for other, ratio in self.others if abs(math.log(cost / other)) <= nearest)


def _pace(left: Mapping[Run, int], store: Store, device: str) -> tuple[_Pace, str]:
    """The pace of a device, by the records of such devices, or measured where there are none; the basis."""
    name = records.origin(device, "fp32", 0.0)["device"]
    seen, n = dict[Run, float](), {True: 0, False: 0}
    for own in n:
        for record in store.newest(own=own):
            if record.provenance.get("device") == name and (seconds := seconds_an_update(record)):
                seen[record.run] = min(seconds, seen.get(record.run, math.inf))
                n[own] += 1
    if seen:
        return _Pace(seen), f"by the best speeds of {n[True]} own and {n[False]} shipped records ({name})"
    costliest = max(left, key=work)
    if device.startswith("cuda"):
        alike = sum(training.group_key(run) == training.group_key(costliest) for run in left)
        seconds = seconds_a_run_step(costliest, alike, torch.device(device))
    else:
        seconds = measured(costliest, device) * torch.get_num_threads()
    return _Pace({costliest: seconds}), "measured here for a second"


def seconds_an_update(record: Record) -> float | None:
    """What an update of a record took; None where it is too short to tell."""
    seconds = record.provenance.get("seconds") or 0.0
    return seconds / record.last_step if record.last_step >= ENOUGH and seconds > 0 else None


def measured(run: Run, device: str, seconds: float = 1.0) -> float:
    """Seconds an update of a run takes a processor, with as many runs at a time as it trains best."""
    begun: list[float] = []
    row = (1000, *[0.0] * (len(records.COLUMNS) - 1))  # from here no evaluation is near
    width = devices.default_width(torch.device(device))
    probes = [Trajectory(run, step=1000, rows=[row]) for _ in range(width)]

    def over() -> bool:
        begun.append(time.monotonic())
        return begun[-1] > begun[0] + seconds

    listener = training.Listener(ended=lambda _: None)
    training.train(probes, steps=10**6, listener=listener, device=device, interrupted=over)
    updates = sum(probe.step - 1000 for probe in probes)
    return (time.monotonic() - begun[0]) / max(1, updates)


def steps_left(runs: Iterable[Run], steps: int, store: Store, since: str = "") -> dict[Run, int]:
    """Updates still to be made of each run: from its checkpoint on, where that is not older than a date."""
    return {run: max(1, steps - store.checkpoint_step(run, since)) for run in runs}


def announce(reading: Reading, device: str, n_devices: int = 1) -> None:
    """Print what a long sweep is expected to take, before it begins; nothing for a short one."""
    try:
        question, runs = reading.question, reading.left.values()
        left = steps_left(runs, question.steps, reading.store, question.since)
        n = sum(left.values())
        if sum(steps * work(run) for run, steps in left.items()) < LONG / 4:
            return None
        estimate = expected(left, reading.store, device, n_devices)
    except Exception as error:  # an estimate stops nothing
        return say(f"how long it takes is not known: {error}")
    if estimate.seconds >= LONG:
        message = f"{len(left)} runs are to be trained, {n:.3g} run-steps on {n_devices} x {device}:"
        message += f" {estimate}" + "; less where runs end early" * (question.stop_at is not None)
        message += ". Fewer points: `make book PROFILE=laptop` or `smoke`, or `--profile`."
        say(f"{message} What is trained stays.")
    return None


def duration(seconds: float) -> str:
    """Seconds in words: "40 seconds", "12 minutes", "3.5 hours"."""
    if seconds < 60:
        return f"{math.ceil(seconds)} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
