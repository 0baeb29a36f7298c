"""How an update is launched: with kernels of our own, compiled, as a CUDA graph, or operation by operation.

What `torch.compile` makes, around our own kernels or of tensor operations alone, is captured as a CUDA graph
too. All four compute the same; each needs less of the machine than the one before it: a card that our kernels
are faster on, then a compiler, then a card that can capture, then nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

COMPILED = ("kernels", "compiled")  #: by `torch.compile`, for minutes
PATHS = (*COMPILED, "graph", "eager")  #: the best first
COMPILING_SECONDS = 100.0  #: that a new shape costs, roughly, on one core
REMAKING_SECONDS = 0.3  #: that an ensemble of another width costs, and its graphs, roughly
SLOT_SECONDS = 5e-5  #: of an update of a slot, with or without a run in it
GAIN_OF_UPDATE, GAIN_OF_RUN = 4e-4, 1e-5  #: seconds an update that compiling saves: of launches, of each run

Update = Callable[[], None]


class LostUpdateError(RuntimeError):
    """The device has not made the updates that the host has asked for."""


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as `torch.compile` makes it for the shapes it is called with."""
    # Products in fp32 are meant where the run says so.
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores", category=UserWarning)
    return torch.compile(function, fullgraph=True, dynamic=False)


def capture_graph(update: Update, device: torch.device) -> Update:
    """Make an update, then capture the next one without making it; returns what replays it."""
    side, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        update()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on with what they do on the card.
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        update()
    return graph.replay


def capture_nothing(update: Update, device: torch.device) -> Update:
    """Make an update, and return what makes the next ones: the same."""
    update()
    return update


@dataclass(frozen=True)
class Backend:
    """What launches ask of torch; tests put others in their places."""

    compile: Callable[[Callable[..., Any]], Callable[..., Any]] = compile_function
    capture: Callable[[Update, torch.device], Update] = capture_graph


def backend_for(device: torch.device) -> Backend:
    """What launches ask of torch on a device: but on a card, nothing is captured."""
    return Backend() if device.type == "cuda" else Backend(capture=capture_nothing)


@contextmanager
def any_number_of_shapes() -> Iterator[None]:
    """Context in which the compiler takes every new shape: by itself it gives up at the ninth.

    The limits belong to the thread, so they must be lifted where the compiled code is called.
    """
    import torch._dynamo.config as config  # takes seconds to import

    with config.patch(recompile_limit=10**6, accumulated_recompile_limit=10**6):
        yield


def pays(n_slots: int, n_updates: int) -> bool:
    """Whether compiling for an ensemble takes less than it saves in so many updates: estimates, for a GPU."""
    return n_updates * max(GAIN_OF_UPDATE, GAIN_OF_RUN * n_slots) > COMPILING_SECONDS


def slots_for(n_runs: int, n_slots: int, n_updates: int) -> int:
    """Slots with which the runs of an ensemble are best trained on, some of whose `n_slots` stay empty.

    As many as it has, or fewer where that saves more than it costs: a power of two, or three times one, so
    that at most a third is empty and few shapes are compiled.
    """
    half = 1 << (n_runs - 1).bit_length() - 1 if n_runs > 1 else 1
    fewer = next(width for width in (half, half * 3 // 2, 2 * half) if width >= n_runs)
    saved = (n_slots - fewer) * n_updates * SLOT_SECONDS
    return fewer if saved > REMAKING_SECONDS else n_slots


def next_path(path: str) -> str:
    """The path to take when this one fails."""
    return PATHS[PATHS.index(path) + 1]
