"""What a device can do: precisions, widths that fit into its memory, settings of torch for it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from grokking_core import kernels, model
from grokking_core.runs import schedule
from grokking_core.runs.run import CHOICES, MA_WINDOW, Run

UPDATES_AHEAD = 64  #: for which batch orders are made at once
EVALUATION_ROWS = 1024  #: equations of the table that are evaluated at once
DTYPES = dict.fromkeys(CHOICES["precision"], torch.float32) | {"fp64": torch.float64}


def precisions(device: torch.device | str) -> tuple[str, ...]:
    """The precisions of a device: asked for tf32, a card older than Ampere computes in fp32."""
    device = torch.device(device)
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    has = {"tf32": has_tf32, "tf32x3": has_tf32 and kernels.are_there()}
    return tuple(name for name in DTYPES if has.get(name, True))


def check_precision(run: Run, device: torch.device) -> None:
    """Raise `ValueError` if the device does not compute in the run's precision."""
    if run.precision not in precisions(device):
        lacks = f"precision={run.precision!r} is not to be had on device={str(device)!r}"
        needs = "only on CUDA from compute capability 8.0 on"
        needs += ", with Triton" if run.precision == "tf32x3" else ""
        raise ValueError(f"{lacks}, {needs}; use 'fp32' or 'tf32-rounded'")


def epochs_ahead(run: Run) -> int:
    """Epochs for which batch orders of a run are made at once."""
    return -(-UPDATES_AHEAD // schedule.steps_per_epoch(run))


def default_width(device: torch.device) -> int:
    """Runs trained at a time: two a core on a CPU, so that the cores end together; 128 on a GPU."""
    return 128 if device.type == "cuda" else 2 * torch.get_num_threads()


def fitting_width(runs: Sequence[Run], device: torch.device, width: int) -> int:
    """The width that fits into free memory, at most `width` and at most the number of runs.

    Raises
    ------
    MemoryError
        If it is less than one run; says what was needed and what there is.
    """
    largest = max(runs, key=bytes_per_run)
    needed, free = bytes_per_run(largest), free_bytes(device)
    if needed > free:
        raise MemoryError(
            f"{largest} needs about {needed / 2**20:,.0f} MiB; {device} has {free / 2**20:,.0f} MiB free"
        )
    return max(1, min(width, len(runs), int(0.9 * free / needed)))


def bytes_per_run(run: Run) -> int:
    """Memory that a slot takes: weights, moments, tables, and the buffers of a step and of an evaluation."""
    itemsize = DTYPES[run.precision].itemsize
    n_flat = 4 + bool(run.weight_noise) + (run.decay_toward == "init")
    n_flat += {"none": 0, "ema": 1, "ma": 1 + MA_WINDOW}[run.slow_gradient]
    parameters = n_flat * model.Layout(run).n
    n_rows = 0
    for n_equations in (run.effective_batch_size, EVALUATION_ROWS):
        n_x = n_equations if run.dropout else run.n_elements
        n_rows += 2 * n_x + 2 * n_equations
    rows = (run.n_layers + 1) * (run.hidden_width + 16 * run.d_model) + 4 * run.n_elements  # numbers a row
    places = epochs_ahead(run) * schedule.steps_per_epoch(run) * run.effective_batch_size
    tables = 8 * run.n_elements**2 * 4 + 96 * places
    return itemsize * (parameters + n_rows * rows) + tables


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, in bytes; on CUDA with what this process holds and does not use."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    try:
        kib = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024 * int(kib["MemAvailable:"])
    except (OSError, ValueError, LookupError):  # not Linux, or not to be read
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return sys.maxsize  # unknown, which stops nothing


def give_back(device: torch.device) -> None:
    """Free what no ensemble needs any more: what was compiled or captured leaves circles behind."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait until a card has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def current(device: torch.device) -> AbstractContextManager[object]:
    """Context with a card as the current one: streams and graphs that name no card belong to that one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def begin_worker() -> None:
    """Settings of the calling thread, which steps runs: one core, and no numbers too small to be fast.

    Every thread needs this for itself: how many threads a matrix product uses is not passed on to it.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@contextmanager
def settings(device: torch.device, precision: str) -> Iterator[None]:
    """One thread an operation on a CPU; matrix products in the run's precision on a GPU."""
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)
