"""The networks: plain ones to read, and many at once in one set of tensors. No data, no training, no files.

`plain` is the paper's network and the MLP, as `torch.nn` modules. `networks` computes R of them at once,
forward and backward, by the tensor operations of `tensor_ops`; `networks_on_loops` does what is not a matrix
product in the loops of `kernels.loop_ops`, which Numba compiles for a CPU. `loops_for` and `network` choose.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from grokking_core.model.networks import (
    Drop,
    Layout,
    MLPNetwork,
    Network,
    TransformerNetwork,
    first_parameters,
)
from grokking_core.runs.run import Run

__all__ = ["Drop", "Layout", "Network", "first_parameters", "loops_for", "network"]


def loops_for(device: torch.device) -> ModuleType | None:
    """`networks_on_loops`, all that a CPU computes in loops; None on a GPU, and where Numba does not work.

    Where Numba is installed and does not work a warning says why, once.
    """
    return _loops() if device.type == "cpu" else None


@lru_cache
def _loops() -> ModuleType | None:
    try:
        return import_module("grokking_core.model.networks_on_loops")
    except Exception as error:  # whatever ails Numba: tensor operations do the same
        if isinstance(error, ModuleNotFoundError) and error.name == "numba":
            return None  # it is not installed
        message = f"Numba is installed but does not work ({error}); training goes on without it, more slowly"
        warnings.warn(" ".join(message.split()), RuntimeWarning, stacklevel=3)
        return None


def network(run: Run, parameters: Tensor, gradients: Tensor, loops: ModuleType | None = None) -> Network:
    """Networks of the run's architecture and sizes on flat parameters and gradients (R, n).

    `loops` is what `loops_for` gives for their device; None: tensor operations alone.
    """
    if run.architecture == "mlp":
        return MLPNetwork(run, parameters, gradients)
    if loops:
        return loops.LoopedTransformerNetwork(run, parameters, gradients)
    return TransformerNetwork(run, parameters, gradients)
