"""The film of a run: its output rows, its answers to the whole table and its accuracy, frame by frame.

F frames, P elements, N equations, D width of the last hidden layer, k functions on the elements.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from grokking_book.play.widget import Widget
from grokking_core import data
from grokking_core.paper.evidence import LEARNED
from grokking_core.plots import style as look
from grokking_core.plots import tables
from grokking_core.runs import words
from grokking_core.runs.record import Record
from grokking_core.runs.run import Run
from grokking_core.weights import cosets, number_line, structure

N_STRETCHES = 8  #: of the circle, each with a colour
SIDES = ("train", "validation")


class Order(NamedTuple):
    """What the elements of a network that has learned are ordered by: a circle, or cosets."""

    name: str
    functions: (
        np.ndarray
    )  #: (P, k), orthonormal, each with mean 0: what is constant on cosets, or the circle's
    labels: np.ndarray  #: (P,) which stretch or coset an element is in
    line: np.ndarray | None  #: (P,) the elements in their order on the circle


@dataclass(frozen=True)
class Film:
    """The frames of a run, at least one."""

    run: Run
    order: Order
    curve: pd.DataFrame  #: of the last frame's record
    steps: np.ndarray  #: (F,) increasing
    points: np.ndarray  #: (F, P, 2)
    share: np.ndarray  #: (F,) of the rows' variance that the order explains
    right: np.ndarray  #: (F, N) bool, whether an equation is answered rightly

    @property
    def chance(self) -> float:
        """The share of the variance that the order would explain, on average, of rows without any."""
        n_elements, k = self.order.functions.shape
        return k / (n_elements - 1)

    @property
    def accuracies(self) -> pd.DataFrame:
        """The rows of the curve at the frames."""
        return self.curve.set_index("step").loc[self.steps]

    @property
    def before(self) -> int:
        """The last frame before half of the validation equations are right, or of all if they never are."""
        reached = self.accuracies["validation_accuracy"].to_numpy() >= 0.5
        return max(0, int(reached.argmax()) - 1) if reached.any() else len(self.steps) - 1


# -------------------------------------------------------------------------------------------------
# From records to frames


def read(records: Iterable[Record]) -> list[Film]:
    """The films of the runs that have frames on record, in the order of their first frames.

    All frames of a film are drawn in one plane of the D-dimensional space and to one scale, so that what
    moves on the screen has moved in the network. t-SNE would lay out each frame anew, and the clouds would
    jump. The plane is the one in which the order that the *last* frame has shows most: with R the centred
    rows and B the order's functions on the elements, B B' R is the part of the rows that the order
    explains, and the plane is that of its two strongest directions. For the circle of frequency f, on which
    x is at the angle 2 pi f x / p, this is the plane of the circle. A frame whose rows are not finite is
    left out.

    Raises
    ------
    ValueError
        If there are too few elements to order: fewer than 3 residues, or S_2.
    """
    frames: dict[Run, dict[int, Record]] = {}
    for record in records:
        if np.isfinite(record.kept["frame"]["rows"]).all():
            frames.setdefault(record.run, {})[record.last_step] = record
    return [_film(run, [found[step] for step in sorted(found)]) for run, found in frames.items()]


def _film(run: Run, records: Sequence[Record]) -> Film:
    rows = np.stack([record.kept["frame"]["rows"] for record in records]).astype(np.float64)  # (F, P, D)
    order = _order(run, rows[-1])
    centred = rows - rows.mean(1, keepdims=True)
    explained = order.functions @ (order.functions.T @ centred)
    plane = np.linalg.svd(explained[-1], full_matrices=False)[2][:2]  # (2, D)
    n_equations = len(data.operation_table(run.operation, run.p, run.n).x)
    bits = np.stack([record.kept["frame"]["right"] for record in records])
    return Film(
        run=run,
        order=order,
        curve=records[-1].curve,
        steps=np.array([record.last_step for record in records]),
        points=centred @ plane.T,
        share=np.square(explained).sum((1, 2)) / np.square(centred).sum((1, 2)),
        right=np.unpackbits(bits, axis=1, count=n_equations).astype(bool),
    )


def _order(run: Run, rows: np.ndarray) -> Order:
    """The order that rows (P, D) show most: cosets as in figure 3, or the strongest frequency's circle."""
    if data.OPERATIONS[run.operation].on_group:
        test = cosets.coset_test(rows, run.n)
        labels = cosets.best_labels(test, run.n)
        name = f"cosets of {structure.name_of(test.iloc[0])}"
        return Order(name, _orthonormal(labels[:, None] == np.unique(labels)), labels, None)
    frequency = 1 + int(number_line.frequencies(rows, run.p).argmax())
    place = frequency * np.arange(run.p) % run.p
    angle = 2 * np.pi * place / run.p
    functions = _orthonormal(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    labels, line = place * N_STRETCHES // run.p, place.argsort(kind="stable")
    return Order(f"circle of frequency {frequency}", functions, labels, line)


def _orthonormal(functions: np.ndarray) -> np.ndarray:
    """A basis of what columns (P, m) span but for the constants."""
    basis, size, _ = np.linalg.svd(functions - functions.mean(0), full_matrices=False)
    return basis[:, size > 1e-9 * size[0]]


# -------------------------------------------------------------------------------------------------
# What a page shows


def moments(films: Sequence[Film], threshold: float = LEARNED) -> pd.DataFrame:
    """How far the order has come when the accuracies pass their marks: a row a film and moment.

    Parameters
    ----------
    films : sequence of Film
    threshold : float
        Accuracy in (0, 1] that counts as learned.

    Returns
    -------
    DataFrame
        Index: task and moment, in the order in which they come (the first frame; the first with training
        accuracy at or above `threshold`, with validation accuracy at or above one half, and at or above
        `threshold`; the last). Columns step, training, validation (accuracy), order (share of the variance
        that it explains) and by chance.
        Moments that no frame has reached are left out.
    """
    rows = {}
    for film in films:
        train, validation = (film.accuracies[f"{side}_accuracy"].to_numpy() for side in SIDES)
        marks = {
            "first weights": train >= 0,
            f"training at {100 * threshold:g} %": train >= threshold,
            "validation at 50 %": validation >= 0.5,
            f"validation at {100 * threshold:g} %": validation >= threshold,
            "last frame": film.steps == film.steps[-1],
        }
        passed = {moment: int(reached.argmax()) for moment, reached in marks.items() if reached.any()}
        for moment, i in sorted(passed.items(), key=lambda item: item[1]):
            told = film.steps[i], train[i], validation[i], film.share[i], film.chance
            rows[words.task(film.run), moment] = told
    index = pd.MultiIndex.from_tuples(rows, names=["task", "moment"]) if rows else None
    columns = ["step", "training", "validation", "order", "by chance"]
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def widget(films: Sequence[Film]) -> Widget:
    """The films as a part of a page: one slider moves the picture, the table and the accuracies together.

    It says where there is none. Points are rounded to 1/32,767 of the largest coordinate, shares to 0.01 %.
    """
    kinds = list(tables.KINDS.items())[:4]  # training right and wrong, held out right and wrong
    colours = {"train": look.COLOURS["train"], "validation": look.COLOURS["validation"], "order": look.GREY}
    told = {"films": [_told(film) for film in films], "kinds": kinds, "colours": colours}
    return Widget("film", told, _in_words(films))


def _in_words(films: Sequence[Film]) -> str:
    """What one would see."""
    if not films:
        return (
            "No frame of the film is on record yet; the table at the end of this page says how to get them."
        )
    found = moments(films)
    told = ["The film shows, from frame to frame, the output rows, the table of answers and the accuracies."]
    for film in films:
        steps = found.loc[words.task(film.run)]["step"]
        reached = [f"{moment} at step {step:,}" for moment, step in steps.iloc[1:-1].items()]
        told.append(
            f"{words.task(film.run)}, to step {film.steps[-1]:,}: {'; '.join(reached) or 'not learned'}."
        )
    return " ".join(told)


def _told(film: Film) -> dict[str, Any]:
    table, labels = film.run.dataset(), np.unique(film.order.labels, return_inverse=True)[1]
    largest = np.abs(film.points).max() or 1.0
    accuracies, curve = film.accuracies, film.curve[film.curve["step"] > 0]  # a log axis has no 0
    styles = [look.coset(int(label)) for label in range(labels.max() + 1)]
    return {
        "name": words.task(film.run),
        "order": film.order.name,
        "chance": round(film.chance, 4),
        "frames": {"step": film.steps.tolist(), "order": film.share.round(4).tolist()}
        | {side: accuracies[f"{side}_accuracy"].round(4).tolist() for side in SIDES},
        "curve": {"step": curve["step"].tolist()}
        | {side: curve[f"{side}_accuracy"].round(4).tolist() for side in SIDES},
        "points": _packed((32767 * film.points / largest).round().astype("<i2")),
        "labels": labels.tolist(),
        "marks": [[style.colour, style.marker] for style in styles],
        "line": None if film.order.line is None else film.order.line.tolist(),
        "cells": len(table.x),
        "columns": len(np.unique(table.y)),
        "train": _packed(np.packbits(table.is_train)),
        "right": _packed(np.packbits(film.right, axis=1)),
        "start": film.before,
    }


def _packed(array: np.ndarray) -> str:
    """The bytes of an array, row by row, as text."""
    return base64.b64encode(array.tobytes()).decode("ascii")
