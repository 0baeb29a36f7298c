"""What training costs a graphics card, counted where there is none: `grokking bench --plan`.

An update is made with tensors that have shapes but no numbers, by the operations that a card makes on the
path "graph", and each is counted. Times follow from a card's rates, which are assumptions and stand in the
table. How much of a profile's work falls to empty slots and to evaluations is simulated by the conductor
itself, with ensembles that only count.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from grokking_core import kernels
from grokking_core.kernels.plain import BranchWeights
from grokking_core.paper import experiments
from grokking_core.plans import Part, merged
from grokking_core.runs import schedule
from grokking_core.runs.record import COLUMNS
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.sweeps.estimate import duration
from grokking_core.sweeps.trainer import groups
from grokking_core.training.conductor import Conductor, Listener
from grokking_core.training.ensemble import Ensemble, evaluated_at_once, group_key
from grokking_core.training.evaluation import n_parts

ADDING_PRODUCTS = ("addmm", "baddbmm")  #: matrix products that are added to their first argument
PRODUCTS = ("mm", "bmm", *ADDING_PRODUCTS)
N_SLOTS = 2  #: counted with so many; what a run adds is the same for each
SHARE_TO_THE_END = 0.35  #: of the simulated runs with `stop_at`: they do not end early
EARLIEST = 1000  #: updates of the shortest simulated run; the others are spread evenly by magnitude

ONLY_WRITES = ("copy_", "zero_", "fill_")  #: in place, and what was there is not read
MAKES_NO_KERNEL = ("empty", "new_empty", "empty_like", "empty_strided", "detach", "_unsafe_view")


@dataclass(frozen=True)
class Card:
    """What a card is assumed to reach; nothing of this was measured by us."""

    bytes_per_second: float  #: 90 % of a copy's rate
    flops_per_second: dict[str, float]  #: of large products, by precision
    seconds_between_launches: float = 1e-6  #: inside a CUDA graph


CARDS = {
    "H100": Card(3.0e12, {"fp32": 45e12, "tf32": 250e12, "tf32x3": 83e12}),
    "H200": Card(4.3e12, {"fp32": 45e12, "tf32": 250e12, "tf32x3": 83e12}),
}


@dataclass
class Count:
    """Launches and memory traffic of R runs."""

    n_runs: int
    launches: Counter[str] = field(default_factory=Counter)  #: by operation
    traffic: int = 0  #: bytes that are read or written, but for products
    products: list[tuple[float, float]] = field(default_factory=list)  #: operations and bytes of each
    n_double: int = 0  #: operations in double precision on as many numbers as there are weights

    @property
    def bytes_per_run(self) -> float:
        """Bytes read or written, products included, for each run."""
        return (self.traffic + sum(touched for _, touched in self.products)) / self.n_runs

    def seconds_per_run(self, card: Card, precision: str, width: int, launched: float = 1.0) -> float:
        """Expected seconds of a card for each run where `width` of them are trained at a time.

        `launched` is the share of the launches that are made: wider tensors need fewer of them.
        """
        rate = card.flops_per_second[precision]
        products = sum(max(flops / rate, touched / card.bytes_per_second) for flops, touched in self.products)
        alone = (self.traffic / card.bytes_per_second + products) / self.n_runs
        return alone + launched * self.launches.total() * card.seconds_between_launches / width


class Counting(TorchDispatchMode):
    """Counts every tensor operation that would launch a kernel."""

    def __init__(self, count: Count, n_weights: int):
        super().__init__()
        self.count, self.n_weights = count, n_weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make an operation as a card would, and count it."""
        out = func(*args, **kwargs or {})
        name = func.overloadpacket.__name__
        written = {argument.name for argument in func._schema.arguments if argument.is_out}
        read = (
            args[name in ONLY_WRITES :],
            {key: a for key, a in (kwargs or {}).items() if key not in written},
        )
        inputs = [a for a in tree_leaves(read) if isinstance(a, Tensor)]
        outputs = [a for a in tree_leaves(out) if isinstance(a, Tensor)]
        if name not in MAKES_NO_KERNEL and not func.is_view:
            self._add(name, args, inputs, outputs)
        return out

    def _add(self, name: str, args: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        count, is_added = self.count, name in ADDING_PRODUCTS  # to another tensor's copy, made before
        if is_added:
            self._add("copy_", (), outputs, outputs)
        name = name.rstrip("_")
        once = [{id(a): a for a in some}.values() for some in (inputs, outputs)]
        touched = sum(a.numel() * a.element_size() for some in once for a in some)
        count.launches[name] += 1
        if name in PRODUCTS:
            inner = args[name in ADDING_PRODUCTS].shape[-1]
            count.products.append((2.0 * outputs[0].numel() * inner, touched))
        else:
            count.traffic += touched
        count.n_double += any(a.dtype == torch.float64 and a.numel() >= self.n_weights for a in outputs)


class Fused:
    """`kernels._branches` for tensors without numbers: counts what kernels read, write and compute."""

    def __init__(self, count: Count):
        self.count = count

    def forward(
        self, source: Tensor, row: Tensor | None, attended: Tensor, w: BranchWeights
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As of the kernels."""
        u, v, z = (torch.empty_like(attended) for _ in range(3))
        taken = (source[:, : attended.shape[1]],) if row is None else (source, row)
        self._launch(attended, w, 1, 2, *taken, attended, *w, u, v, z)
        return z, u, v

    def backward(
        self, g: Tensor, attended: Tensor, u: Tensor, v: Tensor, w: BranchWeights
    ) -> tuple[Tensor, Tensor, BranchWeights]:
        """As of the kernels, each of which computes the hidden layer anew."""
        du, dattended, dv = (torch.empty_like(u) for _ in range(3))
        dw = BranchWeights(*(a.new_empty(a.shape) for a in w))
        self._launch(u, w, 1, 3, g, u, v, *w[:-1], du, dattended, dv, dw.norm1, dw.bias1, dw.norm2, dw.bias2)
        self._launch(u, w, 0, 4, dv, u, w.norm1, w.bias1, w.up, w.down, dw.up, dw.down)
        torch.bmm(du.mT, attended, out=dw.out)
        return du, dattended, dw

    def _launch(self, rows: Tensor, w: BranchWeights, n_square: int, n_wide: int, *touched: Tensor) -> None:
        """Count a kernel that makes so many products of some rows with `out`, and with `up` or `down`."""
        self.count.launches["branches"] += 1
        n_factors = n_square * rows.shape[2] + n_wide * w.up.shape[1]
        n_bytes = sum(a.numel() * a.element_size() for a in touched)
        self.count.products.append((2.0 * rows.numel() * n_factors, n_bytes))


def counted(run: Run) -> tuple[Count, Count]:
    """What an update costs runs of one shape, and what an evaluation of the whole table does."""
    e = Ensemble([run] * N_SLOTS, N_SLOTS, torch.device("meta"), "eager", loops=False)
    with torch.inference_mode():
        return _count(e, lambda: e.update(1)), _count(e, e.evaluators[N_SLOTS].measure)


def counted_with_kernels(run: Run) -> Count:
    """What an update costs runs of one shape where our own kernels make a layer's branches."""
    e = Ensemble([run] * N_SLOTS, N_SLOTS, torch.device("meta"), "eager", loops=False)
    e.network.fused = fused = Fused(Count(N_SLOTS))
    with torch.inference_mode():
        return _count(e, lambda: e.update(1), fused)


def _count(e: Ensemble, function: Callable[[], None], fused: Fused | None = None) -> Count:
    """What a call of a function costs, once every buffer is there."""
    function()
    count = Count(N_SLOTS)
    if fused:
        fused.count = count
    with Counting(count, e.parameters.numel()):
        function()
    return count


@dataclass
class Work:
    """What a card has to do, by the simulation: how often, by `group_key` and number of slots."""

    updates: Counter[tuple[object, int]] = field(default_factory=Counter)
    evaluations: Counter[tuple[object, int, int]] = field(default_factory=Counter)  #: of some of these slots
    used: int = 0  #: slot-steps of slots that hold a run
    costs: dict[object, tuple[Count, Count]] = field(default_factory=dict)  #: as `counted` gives them
    equations: dict[object, int] = field(default_factory=dict)  #: places in a table

    def of(self, run: Run) -> object:
        """The shape of a run, whose costs are counted by then."""
        shape = group_key(run)
        if shape not in self.costs:
            self.costs[shape], self.equations[shape] = counted(run), run.n_elements**2
        return shape

    @property
    def empty(self) -> float:
        """The share of the slot-steps whose slots hold no run."""
        return 1 - self.used / sum(n * width for (_, width), n in self.updates.items())

    def seconds(self, card: Card, precision: str) -> tuple[float, float]:
        """Expected seconds of a card for the updates, and for the evaluations."""
        updates = sum(
            n * width * self.costs[shape][0].seconds_per_run(card, precision, width)
            for (shape, width), n in self.updates.items()
        )
        evaluations = 0.0
        for (shape, width, size), n in self.evaluations.items():
            parts, whole = (n_parts(self.equations[shape], size, of) for of in (width, size))
            count = self.costs[shape][1]
            evaluations += n * size * count.seconds_per_run(card, precision, size, parts / whole)
        return updates, evaluations


class Pretended:
    """An ensemble that only counts its updates and evaluations; `end_of` says when a run ends."""

    def __init__(self, shape: object, width: int, end_of: Callable[[Run], int], work: Work):
        self.slots: list[Trajectory | None] = [None] * width
        self.shape, self.end_of, self.work = shape, end_of, work
        self.device = torch.device("meta")

    @property
    def live(self) -> list[int]:
        """As of `Ensemble`."""
        return [slot for slot, trajectory in enumerate(self.slots) if trajectory]

    def at(self, slot: int) -> Trajectory:
        """As of `Ensemble`."""
        trajectory = self.slots[slot]
        assert trajectory
        return trajectory

    snapshot = at

    def load(self, slot: int, trajectory: Trajectory) -> None:
        """As of `Ensemble`."""
        self.slots[slot] = trajectory

    def close(self) -> None:
        """Nothing is held."""

    def advance(self, interrupted: object) -> None:
        """Step to the first end of a run, as `Ensemble.advance` does in many calls; nothing else changes."""
        runs, width = [t for t in self.slots if t], len(self.slots)
        n = min(self.end_of(t.run) - t.step for t in runs)
        self.work.updates[self.shape, width] += n
        self.work.used += n * len(runs)
        stops = np.concatenate([_stops(t, n) for t in runs])
        _, n_due = np.unique(stops, return_counts=True)
        for due, times in zip(*np.unique(n_due, return_counts=True), strict=True):
            size = evaluated_at_once(int(due), width)
            self.work.evaluations[self.shape, width, size] += int(times) * math.ceil(due / size)
        for trajectory in runs:
            trajectory.step += n
            right = float(trajectory.step >= self.end_of(trajectory.run))
            trajectory.rows = [(trajectory.step, *[right] * (len(COLUMNS) - 1))]


def _stops(trajectory: Trajectory, n: int) -> np.ndarray:
    """After how many of the next updates a run is evaluated or looked at, step 0 included once."""
    begin, end = trajectory.step, trajectory.step + n
    first = begin if not trajectory.rows else begin + 1
    grid = np.array(_grid(schedule.last_step(max(end, 1))))
    every = trajectory.watch_every
    looks = np.arange(-(-first // every) * every, end + 1, every) if every else grid[:0]
    steps = np.union1d(grid[(grid >= first) & (grid <= end)], looks)
    return steps - begin


@lru_cache
def _grid(last: int) -> list[int]:
    return schedule.evaluation_steps(last)


def simulated(profile: str, width: int) -> Work:
    """What a profile asks of a card, from nothing on record.

    Which run ends early is not known before it is trained: a share of those with a stop rule is followed to
    the end, the others end anywhere from some update on, evenly by magnitude, the same at each call.
    """
    work, chance, trained = Work(), random.Random(0), set[Run]()
    for part in merged(experiments.plan(name, profile) for name in experiments.load_profile(profile)):
        for runs in groups(run for run in part.runs if run not in trained and not part.goes_on):
            trained |= {*runs}
            ends = {run: _end(part.steps, part.stop_at, chance) for run in runs}
            _conduct(ends, part, width, work)
    return work


def _end(steps: int, stop_at: float | None, chance: random.Random) -> int:
    """The step at which a run ends."""
    if stop_at is None or chance.random() < SHARE_TO_THE_END or steps <= EARLIEST:
        return schedule.last_step(steps)
    return schedule.last_step(round(EARLIEST * (steps / EARLIEST) ** chance.random()))


def _conduct(ends: dict[Run, int], part: Part, width: int, work: Work) -> None:
    """Let the conductor lead pretended ensembles through runs of one shape."""
    shape, every = work.of(next(iter(ends))), part.watch_every if part.watch else None
    conductor = Conductor(
        make=lambda width, step: Pretended(shape, width, ends.__getitem__, work),  # type: ignore[arg-type]
        n_alone=0,
        queue=deque(Trajectory(run, watch_every=every) for run in ends),
        last_step=schedule.last_step(part.steps),
        stop_at=1.0,
        listener=Listener(ended=lambda _: None),
        checkpoint_seconds=math.inf,
        asked_to_stop=lambda: False,
    )
    conductor.make_one(min(width, len(ends)))
    conductor.conduct(n_workers=1, n_beside=1)


def report(run: Run, profile: str, widths: Sequence[int]) -> str:
    """What `grokking bench --plan` prints: counts of an update, times on named cards, a profile's work.

    Raises
    ------
    ValueError
        If a width is below 1, or the profile is not known.
    """
    if min(widths) < 1:
        raise ValueError("--widths must be at least 1")
    update, evaluation = counted(run)
    counts = {"an update": update, "an evaluation": evaluation}
    if own := kernels.fit(replace(run, precision="tf32")):
        counts["with kernels"] = counted_with_kernels(run)
    lines = ["by tensor operations in a CUDA graph; compiled code needs fewer launches"]
    for name, count in counts.items():
        products = sum(flops for flops, _ in count.products) / count.n_runs
        message = f"{name:<15}{count.launches.total():5} launches{count.bytes_per_run / 1e6:7.0f} MB a run"
        lines.append(f"{message}{products / 1e9:7.2f} Gflop of products{count.n_double:3} large in fp64")
    lines += ["", "expected microseconds of a run-step, evaluations not counted"]
    for name, card in CARDS.items():
        ways = [(precision, "", update) for precision in card.flops_per_second]
        ways += [("tf32", " with kernels", counts["with kernels"])] if own else []
        for precision, how, count in ways:
            times = (f"{1e6 * count.seconds_per_run(card, precision, w):.0f} at width {w}" for w in widths)
            rate = card.flops_per_second[precision]
            assumed = f"{card.bytes_per_second / 1e12:.1f} TB/s, {rate / 1e12:.0f} Tflop/s"
            lines.append(f"{name} {precision + how:<18}{', '.join(times)} (assumed: {assumed})")
    work = simulated(profile, widths[-1])
    lines += [
        "",
        f"profile {profile}, nothing on record, width {widths[-1]}: {work.empty:.0%} of slots empty",
    ]
    for name, card in CARDS.items():
        updates, evaluations = work.seconds(card, "fp32")
        share = evaluations / (updates + evaluations)
        lines.append(f"{name} fp32      {duration(updates + evaluations)}, {share:.0%} of it evaluation")
    gap = 1e6 * next(iter(CARDS.values())).seconds_between_launches
    lines += ["", f"Assumed too: {gap:.0f} microsecond between launches. No card was measured for this."]
    return "\n".join(lines)
