"""What can be kept of a run's end beside its curve: the weights, or what is computed from them.

A name stands for a function of the run and its last weights (n,), in the order of the plain network's
parameters. N equations, V = elements and the two signs, D = width of the last hidden layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from grokking_core import data
from grokking_core.model import plain
from grokking_core.runs.record import KEPT, Arrays
from grokking_core.runs.run import Run
from grokking_core.weights import spectra

_BLOCK = 1024  # equations answered at once
_UNDEFINED = -1  # the answer of a network whose logits are not finite


def weights(run: Run, parameters: Tensor) -> Arrays:
    """Return the weights themselves: `parameters` (n,)."""
    return {"parameters": parameters.numpy()}


def output_rows(run: Run, parameters: Tensor) -> Arrays:
    """Return the output layer: `rows` (V, D), one for each element, then one for op and one for =."""
    return {"rows": _network(run, parameters).output.weight.detach().clone().numpy()}


@torch.no_grad()
def answers(run: Run, parameters: Tensor) -> Arrays:
    """Return what the network answers to each equation of `data.operation_table`: `answer` int16 (N,).

    The token with the highest logit, without dropout and noise; -1 where a logit is not finite.
    """
    network, (x, y, _) = _network(run, parameters), data.operation_table(run.operation, run.p, run.n)
    tokens = torch.from_numpy(data.tokens(x, y, run.n_elements))
    found = []
    for block in tokens.split(_BLOCK):
        logits = network(block)
        found.append(logits.argmax(-1).where(logits.isfinite().all(-1), _UNDEFINED))
    return {"answer": torch.cat(found).numpy().astype(np.int16)}


def frame(run: Run, parameters: Tensor) -> Arrays:
    """Return what a film shows: `rows` float16 (P, D) and `right`, a bit an equation, uint8.

    `rows` are the output rows of the elements; `right` says which equations of `data.operation_table` are
    answered rightly, eight a byte in their order. A film has dozens of frames, so that they compress well:
    rows are multiples of a power of two below 1/64 of the largest number, finer than a picture shows.
    """
    rows = output_rows(run, parameters)["rows"][: run.n_elements]
    with np.errstate(all="ignore"):  # of a network that diverged
        step = 2.0 ** (np.ceil(np.log2(np.abs(rows).max())) - 7)
        rows = (np.rint(rows / step) * step).astype(np.float16)
    right = answers(run, parameters)["answer"] == data.operation_table(run.operation, run.p, run.n).answer
    return {"rows": rows, "right": np.packbits(right)}


def sharpness(run: Run, parameters: Tensor) -> Arrays:
    """Return `phi` and `released` of `sharpness.measure`, one a subspace; NaN if it diverged."""
    from grokking_core.weights import sharpness  # needs scipy, which training does not

    with np.errstate(invalid="ignore", over="ignore"):  # of weights that are not finite
        return sharpness.measure(run, parameters)


def traps(run: Run, parameters: Tensor) -> Arrays:
    """Return the mean number of correlation traps of each of the K matrices, in their order: `count` (K,)."""
    rng = np.random.default_rng(run.seed)
    network = _network(run, parameters)
    matrices = [weight.detach().double().numpy() for weight in network.parameters() if weight.ndim == 2]
    return {"count": np.array([spectra.traps(matrix, rng) for matrix in matrices])}


FUNCTIONS: dict[str, Callable[[Run, Tensor], Arrays]] = {
    "weights": weights,
    "output_rows": output_rows,
    "answers": answers,
    "frame": frame,
    "sharpness": sharpness,
    "traps": traps,
}


def check(keep: Iterable[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises
    ------
    ValueError
        For an unknown one; lists those there are.
    """
    names = [keep] if isinstance(keep, str) else list(keep)
    if isinstance(keep, str) or not set(names) <= set(KEPT):
        raise ValueError(f"keep={keep!r} must be a sequence of names out of {', '.join(KEPT)}")
    return tuple(dict.fromkeys(names))


def prepare(keep: Iterable[str]) -> None:
    """Load what these names need, so that it is missing now rather than after training."""
    if "sharpness" in keep:
        import_module("grokking_core.weights.sharpness")


def measure(keep: Iterable[str], run: Run, parameters: Tensor) -> dict[str, Arrays]:
    """What these names stand for, by name."""
    return {name: FUNCTIONS[name](run, parameters) for name in keep}


def _network(run: Run, parameters: Tensor) -> plain.Transformer | plain.MLP:
    """The plain network of a run with these weights."""
    network = plain.build(run).eval()
    torch.nn.utils.vector_to_parameters(parameters.clone(), network.parameters())
    return network
