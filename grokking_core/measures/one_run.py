"""Numbers from one run's curve: when it learned, how suddenly, and what its loss did."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from grokking_core.runs.record import Record

Side = Literal["train", "validation", "unmirrored"]
SIDES: tuple[Side, ...] = ("train", "validation", "unmirrored")
MARGIN = 1.1  #: factor by which a loss must rise or fall to count


def best_accuracy(record: Record, which: Side = "validation") -> float:
    """Highest accuracy at any evaluation, in [0, 1]; NaN if there is none."""
    return float(np.fmax.reduce(record.curve[f"{which}_accuracy"].to_numpy()))


def gap(record: Record, threshold: float = 0.99, sustained: bool = False) -> float | None:
    """Steps to a validation accuracy over steps to that training accuracy (claim C1); None if censored.

    Parameters
    ----------
    threshold : float
        Accuracy in (0, 1].
    sustained : bool
        Take the steps from which it holds, not the first.
    """
    train, validation = (record.steps_to(threshold, side, sustained) for side in ("train", "validation"))
    return validation / train if train and validation is not None else None


def when_fitted(record: Record, threshold: float = 0.99, which: Side = "validation") -> float | None:
    """Accuracy at the first evaluation with training accuracy `threshold`; None if there is none.

    Where it is near chance the network has overfitted; where it is near 1 the two were learned together.
    """
    step = record.steps_to(threshold, "train")
    curve = record.curve.set_index("step")[f"{which}_accuracy"]
    return None if step is None else float(curve.loc[step])


def suddenness(
    record: Record, low: float = 0.1, high: float = 0.9, which: Side = "validation"
) -> float | None:
    """Updates from accuracy `low` to `high` over updates to `high`: near 0 sudden, near 1 gradual.

    None if `high` was not reached, or at step 0 already. Both are first evaluations at or above: a
    network that waits half-way, as for unmirrored pairs, is gradual.

    Raises
    ------
    ValueError
        Unless 0 < low < high <= 1.
    """
    if not 0 < low < high <= 1:
        raise ValueError(f"low={low}, high={high} must be 0 < low < high <= 1; write 10 % as 0.1")
    start, end = record.steps_to(low, which), record.steps_to(high, which)
    return (end - start) / end if end and start is not None else None


class LossTurn(NamedTuple):
    """The hill of a validation loss, in nats; see `loss_turn`."""

    lowest_before: float
    peak: float
    peak_step: int
    end: float

    @property
    def rose(self) -> bool:
        """Whether the peak is more than a tenth above the lowest loss before it."""
        return self.peak > MARGIN * self.lowest_before

    @property
    def fell(self) -> bool:
        """Whether the last loss is more than a tenth below the peak."""
        return self.end * MARGIN < self.peak


def loss_turn(record: Record) -> LossTurn:
    """Largest rise of the validation loss, and where it ended (figure 4, claim C2).

    `peak` is the evaluation that lies furthest, in nats, above the lowest one before it. A rise counts as far
    as two evaluations in a row show it: late spikes, of one evaluation, can be higher than the hill. Losses
    that are not finite are left out.

    Raises
    ------
    ValueError
        If no validation loss of the record is finite.
    """
    step, loss = record.curve["step"].to_numpy(), record.curve["validation_loss"].to_numpy()
    step, loss = step[np.isfinite(loss)], loss[np.isfinite(loss)]
    if not len(loss):
        raise ValueError(f"record of {record.run}: no validation loss is finite")
    lowest = np.minimum.accumulate(loss)
    beside = np.maximum(np.append(math.inf, loss[:-1]), np.append(loss[1:], -math.inf))
    i = int(np.lexsort((loss, np.minimum(loss, beside) - lowest))[-1])
    return LossTurn(float(lowest[i]), float(loss[i]), int(step[i]), float(loss[-1]))
