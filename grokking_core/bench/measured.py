"""How fast the engine is on this machine, against its plain twin and against the machine's own products.

Every figure is the median over rounds; each round measures everything once, so that what is compared was
measured at the same time. `benchmarks/README.md` says how to read the result.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from grokking_core import data, model
from grokking_core.bench import watching
from grokking_core.devices import cards, limits
from grokking_core.model import plain as plain_networks
from grokking_core.model.products import products_in
from grokking_core.runs import schedule
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.ensemble import Ensemble, make_ensemble
from grokking_core.updates.plain import Optimizer

PAPER = Run(operation="x/y")
SECONDS = 0.6  #: of one measurement
BLOCK = 5  #: updates of an ensemble before a core turns to the next; training makes 10 or more
Precision = Literal["fp32", "tf32", "tf32x3", "tf32-rounded"]
Product = tuple[int, int, int, int]  #: how many products, rows, inner, columns


def products(run: Run) -> list[Product]:
    """Products of the engine's forward pass of one transformer; its backward pass has twice as many.

    Rows are what is left after positions 0 and 1 are computed once for each element, first-layer queries,
    keys and values once for each token, and the last layer for `=` only. Attention itself (under 1 % of the
    operations) is not counted.
    """
    p, b, d, f = run.n_elements, run.effective_batch_size, run.d_model, run.hidden_width
    every, counted = 2 * p + 2 * b, [(1, 2 * p + 2, d, 3 * d), (1, b, d, p + 2)]
    for layer in range(run.n_layers):
        rows = b if layer == run.n_layers - 1 else every
        if layer:
            counted += [(1, every, d, 2 * d), (1, rows, d, d)]
        counted += [(1, rows, d, d), (1, rows, d, f), (1, rows, f, d)]
    return counted


def flops_per_run_step(run: Run) -> int:
    """Operations (additions and multiplications) of the products of one update of one run."""
    return 3 * sum(2 * n * m * k * c for n, m, k, c in products(run))


def measure(device: torch.device, precision: Precision, widths: Sequence[int], rounds: int) -> dict[str, Any]:
    """All figures of the benchmark; see `benchmarks/README.md` for the keys.

    Parameters
    ----------
    device : torch.device
    precision : str
        Of the engine; the plain twin computes in fp32.
    widths : sequence of int
        Numbers of runs trained at a time; the last is also used for other sizes.
    rounds : int
        Times that everything is measured, at least 1.
    """
    run, threads = replace(PAPER, precision=precision), torch.get_num_threads()
    others = {f"p={p}": replace(run, p=p) for p in (23, 59, 113)}
    others |= {f"d_model={d}": replace(run, d_model=d) for d in (32, 64, 256)}
    rates: dict[str, Callable[[], float]] = {"plain": plain_rate(PAPER, device)}
    rates |= {f"width={width}": engine_rate(run, width, device) for width in widths}
    rates |= {"own": product_rate(run, device), "matmul": square_rate(run, device)}
    rates |= {name: engine_rate(other, widths[-1], device) for name, other in others.items()}
    seen = {name: [] for name in rates}
    for _ in range(rounds):
        for name, rate in rates.items():
            seen[name].append(rate())
    median = {name: statistics.median(values) for name, values in seen.items()}
    best = max(widths, key=lambda width: median[f"width={width}"])
    ratio = {name: _median_ratio(seen[f"width={best}"], seen[name]) for name in ("plain", "matmul", "own")}
    flops, base = flops_per_run_step(run), median[f"width={widths[-1]}"]
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "precision": precision,
        "threads": threads,
        "torch": torch.__version__,
        "numba": version("numba") if model.loops_for(device) else None,
        "engine": [{"width": w, "run_steps_per_second": median[f"width={w}"]} for w in widths],
        "best_width": best,
        "microseconds_per_run_step": 1e6 / median[f"width={best}"],
        "plain_run_steps_per_second": median["plain"],
        "times_plain": ratio["plain"],
        "flops_per_run_step": flops,
        "matmul_flops_per_second": median["matmul"],
        "own_products_flops_per_second": median["own"],
        "share_of_floor": flops * ratio["matmul"],
        "share_of_own_products": flops * ratio["own"],
        "cost_of_other_sizes": {name: base / median[name] for name in others},
        "cost_of_watching": watching.shares(replace(run, operation="x+y"), device, stops=3 * rounds),
        "peak_memory_bytes": _peak_memory(device),
    }


# Each function below returns a function that measures for `SECONDS` and returns a rate.


def plain_rate(run: Run, device: torch.device) -> Callable[[], float]:
    """Run-steps a second of the plain twin, one network at a time, on all cores."""
    network = plain_networks.build(run, str(device))
    dataset = run.dataset()
    tokens = torch.from_numpy(data.tokens(dataset.x, dataset.y, run.n_elements)).to(device)
    labels, order = torch.from_numpy(dataset.label).to(device), torch.from_numpy(dataset.train).to(device)
    optimizer = Optimizer(run, list(network.parameters()))
    steps = count()

    def step() -> int:
        update = next(steps)
        chosen = order[schedule.batch(run, update).to(device)]
        loss = F.cross_entropy(network(tokens[chosen]), labels[chosen])
        optimizer.update(update, torch.autograd.grad(loss, optimizer.parameters))
        return 1

    return lambda: _rate([step], device)


def engine_rate(run: Run, width: int, device: torch.device) -> Callable[[], float]:
    """Run-steps a second of the engine with `width` runs at a time."""
    runs = [replace(run, seed=seed) for seed in range(width)]
    if device.type == "cuda":
        return lambda: _card_rate(runs, device)
    ensembles = [Ensemble([run], 1, device) for run in runs]
    for e, run in zip(ensembles, runs, strict=True):
        e.load(0, Trajectory(run))
    n_workers = torch.get_num_threads()
    steppers = [_stepper(ensembles[i::n_workers]) for i in range(min(n_workers, width))]

    def rate() -> float:
        with limits.settings(device, run.precision):
            return _rate(steppers, device)

    return rate


def _card_rate(runs: Sequence[Run], device: torch.device) -> float:
    """One ensemble on a card, made for this measurement alone: several together may not fit.

    Raises
    ------
    MemoryError
        If not all of the runs fit into one ensemble.
    """
    with limits.settings(device, runs[0].precision):
        e = make_ensemble(runs, len(runs), device, cards.path_of(device, runs))
        try:
            if len(e.slots) < len(runs):
                raise MemoryError(
                    f"{len(runs)} runs do not fit into {device}, {len(e.slots)} do: see --widths"
                )
            for slot, run in enumerate(runs):
                e.load(slot, Trajectory(run))
            return _rate([_stepper([e])], device)
        finally:
            e.close()
            limits.give_back(device)


def _stepper(ensembles: Sequence[Ensemble]) -> Callable[[], int]:
    """Makes a block of updates of each of some ensembles; returns how many run-steps these are."""

    def step() -> int:
        for e in ensembles:
            e.update(BLOCK)
        return BLOCK * sum(len(e.slots) for e in ensembles)

    return step


def product_rate(run: Run, device: torch.device) -> Callable[[], float]:
    """Operations a second of the very products of `flops_per_run_step`, alone, out of buffers made before."""
    return _matmul_rate([shape[1:] for shape in products(run) for _ in range(shape[0])], run, device)


def square_rate(run: Run, device: torch.device) -> Callable[[], float]:
    """Operations a second of a product of square matrices, the machine's best."""
    return _matmul_rate([(1024, 1024, 1024)], run, device)


def _matmul_rate(
    shapes: Sequence[tuple[int, int, int]], run: Run, device: torch.device
) -> Callable[[], float]:
    """As an ensemble makes them: forward, and backward with respect to rows and weights."""
    width, n_workers = (64, 1) if device.type == "cuda" else (1, torch.get_num_threads())

    def worker() -> Callable[[], int]:
        def random(*shape: int) -> Tensor:
            return torch.randn(width, *shape, device=device)

        operands = [(random(m, k), random(c, k), random(m, c)) for m, k, c in shapes]
        buffers = [tuple(torch.empty_like(a) for a in three) for three in operands]
        made = products_in(run.precision)

        def step() -> int:
            for (x, w, g), (dx, dw, y) in zip(operands, buffers, strict=True):
                made.linear(x, w, y)
                made.linear_backward(g, x, w, dw, dx)
            return width * sum(6 * m * k * c for m, k, c in shapes)

        return step

    workers = [worker() for _ in range(n_workers)]

    def rate() -> float:
        with limits.settings(device, run.precision):
            return _rate(workers, device)

    return rate


def _rate(steppers: Sequence[Callable[[], int]], device: torch.device) -> float:
    """Units of work a second of some steppers, a thread each, for `SECONDS` after a first step."""

    def work(step: Callable[[], int]) -> int:
        done = step()
        while time.perf_counter() < until:
            done += step()
        return done

    until = 0.0
    with ThreadPoolExecutor(len(steppers), initializer=limits.begin_worker) as pool:
        list(pool.map(lambda step: step(), steppers))
        limits.synchronize(device)
        started = time.perf_counter()
        until = started + SECONDS
        done = sum(pool.map(work, steppers))
        limits.synchronize(device)
        return done / (time.perf_counter() - started)


def _median_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(result: dict[str, Any]) -> str:
    """The figures of `measure` as lines for people."""
    rate, gflop = "run-steps/s", "Gflop/s"
    lines = [("plain twin", f"{result['plain_run_steps_per_second']:.1f}", rate)]
    lines += [
        (f"engine, width {e['width']}", f"{e['run_steps_per_second']:.1f}", rate) for e in result["engine"]
    ]
    lines += [
        ("engine / plain twin", f"{result['times_plain']:.2f}", ""),
        ("one run-step", f"{result['microseconds_per_run_step']:.1f}", "us"),
        ("its products", f"{result['flops_per_run_step'] / 1e9:.3f}", "Gflop"),
        ("a large product", f"{result['matmul_flops_per_second'] / 1e9:.1f}", gflop),
        ("share of that floor", f"{100 * result['share_of_floor']:.1f}", "%"),
        ("its own products", f"{result['own_products_flops_per_second'] / 1e9:.1f}", gflop),
        ("share of that rate", f"{100 * result['share_of_own_products']:.1f}", "%"),
        ("peak memory", f"{result['peak_memory_bytes'] / 2**20:.0f}", "MiB"),
    ]
    lines += [(f"cost, {name}", f"{cost:.2f}", "x") for name, cost in result["cost_of_other_sizes"].items()]
    lines += [(f"watching {name}", f"{100 * of:.1f}", "%") for name, of in result["cost_of_watching"].items()]
    head = f"{result['device']}, {result['threads']} threads, {result['precision']}, torch {result['torch']}"
    head += f", Numba {result['numba']}" if result["numba"] else ""
    return "\n".join([head, *(f"{name:<22}{number:>10} {unit}" for name, number, unit in lines)])


def report(
    device: str,
    precision: Precision,
    widths: Sequence[int] | None,
    rounds: int,
    *,
    as_json: bool = False,
    output: str | None = None,
) -> str:
    """What `grokking bench` prints: the table, or JSON, which also goes into the file `output`.

    Raises
    ------
    ValueError
        If `rounds` or a width is below 1, or the device has not the precision.
    """
    on = torch.device(device)
    limits.check_precision(replace(PAPER, precision=precision), on)
    widths = widths or ([1, 16, 64, 128] if on.type == "cuda" else [1, 2, 4, 8])
    if rounds < 1 or min(widths) < 1:
        raise ValueError("--rounds and --widths must be at least 1")
    result = measure(on, precision, widths, rounds)
    if output:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        Path(output).write_text(json.dumps(result, indent=2) + "\n")
    return json.dumps(result, indent=2) if as_json else table(result)
