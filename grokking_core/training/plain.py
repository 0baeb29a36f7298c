"""One network at a time, plain and right: the readable twin of `conductor.train`, which must agree with it.

from grokking_core.training.plain import train
record = train(Run(operation="x/y"), steps=4000)
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from grokking_core import data
from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.devices import limits
from grokking_core.model import plain as networks
from grokking_core.runs import schedule
from grokking_core.runs.record import Record, curve_frame, is_finite, origin
from grokking_core.runs.run import Run
from grokking_core.updates.plain import Optimizer, loss


def train(run: Run, steps: int, stop_at: float | None = None, progress: bool = False) -> Record:
    """The record of one run on the CPU.

    Parameters
    ----------
    run : Run
    steps : int
        Updates to make, at least 1; the run goes on to the next step of the evaluation grid.
    stop_at : float, optional
        Validation accuracy in (0, 1] at which the run ends early.
    progress : bool
        Show a bar with the step, both accuracies and the time left.

    Raises
    ------
    ValueError
        If `steps` is below 1, or a CPU does not compute in the run's precision.
    """
    limits.check_precision(run, torch.device("cpu"))
    network, dataset = networks.build(run), run.dataset()
    tokens = torch.from_numpy(data.tokens(dataset.x, dataset.y, run.n_elements))
    labels, train_order = torch.from_numpy(dataset.label), torch.from_numpy(dataset.train)
    optimizer = Optimizer(run, list(network.parameters()), [name for name, _ in network.named_parameters()])
    evaluations, rows, started = schedule.evaluation_steps(steps), [], time.perf_counter()
    with tqdm(total=evaluations[-1], unit="step", disable=not progress) as bar:
        for step in range(evaluations[-1] + 1):
            if step == evaluations[len(rows)]:
                rows.append((step, *evaluate(network, dataset, tokens, labels)))
                bar.set_postfix(train=f"{rows[-1][2]:.3f}", validation=f"{rows[-1][4]:.3f}")
                if step == evaluations[-1] or not is_finite(rows[-1]) or rows[-1][4] >= (stop_at or math.inf):
                    break
            chosen = train_order[schedule.batch(run, step)]
            with optimizer.weight_noise(step):
                logits = network(tokens[chosen], dropout_mask(run, step))
                if run.gradient == "zero_sum":
                    logits.register_hook(lambda g: g - g.mean(-1, keepdim=True))
                gradients = torch.autograd.grad(loss(run, logits, labels[chosen]), optimizer.parameters)
            optimizer.update(step, gradients)
            bar.update()
    return Record(
        run=run,
        curve=curve_frame(rows),
        diverged_at=None if is_finite(rows[-1]) else rows[-1][0],
        provenance=origin("cpu", run.precision, time.perf_counter() - started),
        parameters=torch.nn.utils.parameters_to_vector(network.parameters()).detach(),
    )


@torch.no_grad()
def evaluate(
    network: torch.nn.Module, dataset: data.Dataset, tokens: Tensor, labels: Tensor
) -> tuple[float, ...]:
    """Losses, accuracies and weight norm over the whole table: `record.COLUMNS` without the step."""
    logits = network(tokens)
    loss = F.cross_entropy(logits.double(), labels, reduction="none").numpy()
    right = (logits.argmax(-1) == labels).numpy()
    norm = torch.nn.utils.parameters_to_vector(network.parameters()).double().norm().item()
    of = dataset.is_train, ~dataset.is_train, dataset.is_unmirrored
    train, validation, unmirrored = (mean(right[mask]) for mask in of)
    return mean(loss[of[0]]), train, mean(loss[of[1]]), validation, unmirrored, norm


def mean(values: np.ndarray) -> float:
    """Mean of some values, NaN of none."""
    return float(values.mean()) if len(values) else math.nan


def dropout_mask(run: Run, step: int) -> networks.DropMask | None:
    """Dropout on the branch of a layer, drawn for each equation, position and dimension."""
    if not run.dropout:
        return None
    key = streams.stream(run.seed, Purpose.DROPOUT, step)

    def drop(layer: int, branch: Tensor) -> Tensor:
        counter = torch.arange(branch.numel()).view(branch.shape)
        return branch * streams.drop_mask(streams.fold(key, layer), counter, run.dropout) / (1 - run.dropout)

    return drop
