"""The networks: plain ones to read, and many at once in one set of tensors. No data, no training, no files.

`plain` is the paper's network and the MLP, as `torch.nn` modules. `networks` computes R of them at once,
forward and backward, by the tensor operations of `tensor_ops`; `networks_on_loops` does what is not a matrix
product in the loops of `loop_ops`, which Numba compiles for a CPU. `network` chooses.
"""

from __future__ import annotations

from importlib.util import find_spec

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

__all__ = ["Drop", "Layout", "Network", "first_parameters", "has_loops", "network"]


def has_loops(device: torch.device) -> bool:
    """Whether the loops of `loop_ops` can be had: on a CPU, where Numba is installed."""
    return device.type == "cpu" and find_spec("numba") is not None


def network(run: Run, parameters: Tensor, gradients: Tensor, loops: bool | None = None) -> Network:
    """Networks of the run's architecture and sizes on flat parameters and gradients (R, n).

    `loops` says whether those of `loop_ops` are used, by default where `has_loops` says so.
    """
    if run.architecture == "mlp":
        return MLPNetwork(run, parameters, gradients)
    if has_loops(parameters.device) if loops is None else loops:
        from grokking_core.model.networks_on_loops import LoopedTransformerNetwork  # needs Numba

        return LoopedTransformerNetwork(run, parameters, gradients)
    return TransformerNetwork(run, parameters, gradients)
