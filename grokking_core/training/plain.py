"""One network at a time, plain and right: the readable twin of `conductor.train`, which must agree with it.

from grokking_core.training.plain import train
record = train(Run(operation="x/y"), steps=4000)
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from grokking_core import data
from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.model import plain as networks
from grokking_core.runs import schedule
from grokking_core.runs.record import Record, curve_frame, is_finite, origin
from grokking_core.runs.run import Run


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
        If `steps` is below 1.
    """
    network, dataset = networks.build(run), run.dataset()
    tokens = torch.from_numpy(data.tokens(dataset.x, dataset.y, run.n_elements))
    labels, train_order = torch.from_numpy(dataset.label), torch.from_numpy(dataset.train)
    optimizer = Optimizer(run, list(network.parameters()))
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
                gradients = torch.autograd.grad(F.cross_entropy(logits, labels[chosen]), optimizer.parameters)
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


class Optimizer:
    """AdamW and its variants, on one network's parameters (appendix A.1.2, figure 2 left).

    With update noise s an update is rate * (direction + s z), z normal. The authors' code also divides the
    noise by 1 - beta1^t at its update t = 1, 2, ..., as Adam does the first moment: with beta1 = 0.9 that is
    5.3 times ours at the first update whose rate is not 0 (t = 2), 1.12 times at the twentieth (t = 21).
    """

    def __init__(self, run: Run, parameters: list[Tensor]):
        self.run, self.parameters = run, parameters
        self.first = [p.detach().clone() for p in parameters]
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def update(self, step: int, gradients: tuple[Tensor, ...]) -> None:
        """One update; `step` counts from 0."""
        run, (beta1, beta2) = self.run, self.run.betas
        rate = run.lr * schedule.warmup(step, run.warmup_steps)
        noise = self._draw(Purpose.UPDATE_NOISE, step) if run.update_noise else [0.0] * len(gradients)
        for p, g, (m, v), first, z in zip(
            self.parameters, gradients, self.moments, self.first, noise, strict=True
        ):
            decay = run.weight_decay * (p - first if run.decay_toward == "init" else p)
            if run.optimizer != "adamw":
                g = g + decay
            if run.optimizer == "sgd":
                m.mul_(beta1).add_(g)
                direction = m
            else:
                m.mul_(beta1).add_((1 - beta1) * g)
                v.mul_(beta2).add_((1 - beta2) * g**2)
                direction = m / (1 - beta1 ** (step + 1)) / ((v / (1 - beta2 ** (step + 1))).sqrt() + run.eps)
            p -= rate * (direction + run.update_noise * z)
            if run.optimizer == "adamw":
                p -= rate * decay

    @contextmanager
    def weight_noise(self, step: int) -> Iterator[None]:
        """Context in which Gaussian noise is on the weights; the very same weights after it."""
        if not self.run.weight_noise:
            yield
            return
        clean = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            for p, z in zip(self.parameters, self._draw(Purpose.WEIGHT_NOISE, step), strict=True):
                p += self.run.weight_noise * z
        try:
            yield
        finally:
            with torch.no_grad():
                for p, before in zip(self.parameters, clean, strict=True):
                    p.copy_(before)

    def _draw(self, purpose: Purpose, step: int) -> list[Tensor]:
        sizes, dtype = [p.numel() for p in self.parameters], self.parameters[0].dtype
        flat = streams.normal(streams.stream(self.run.seed, purpose, step), sum(sizes), dtype)
        return [z.view(p.shape) for z, p in zip(flat.split(sizes), self.parameters, strict=True)]
