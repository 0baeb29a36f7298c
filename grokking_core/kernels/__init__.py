"""What is not left to tensor operations: loops for a CPU in Numba, kernels for graphics cards in Triton.

Each has a plain twin. No networks, no files.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from grokking_core.kernels import plain
from grokking_core.runs.run import Run

__all__ = ["WIDEST", "are_there", "fit", "load", "plain"]

WIDEST = 128  #: d_model up to which a block of rows and what is summed for it stay in registers


def are_there() -> bool:
    """Whether Triton is installed, which those for cards need; it comes with PyTorch's builds for cards."""
    return find_spec("triton") is not None


def load(name: str) -> ModuleType:
    """The kernels for cards called "branches" or "products", which need Triton.

    Raises
    ------
    ModuleNotFoundError
        If that is not installed.
    """
    return import_module(f"grokking_core.kernels._{name}")


def fit(run: Run) -> bool:
    """Whether those of a layer's branches compute them in a run's update.

    In fp32 they would not pay, nor in tf32x3: the hidden layer is computed three times instead of written
    and read, and products that tensor cores do not make, or make thrice, take longer than the memory does.
    """
    is_the_papers = run.architecture == "transformer" and run.norm == "post" and run.activation == "relu"
    return is_the_papers and not run.dropout and run.precision == "tf32" and run.d_model <= WIDEST
