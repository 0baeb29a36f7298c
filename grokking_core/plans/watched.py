"""What later papers watch while networks learn: one grid of runs, and what each page watches of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Unpack

from grokking_core.plans.grids import Shared, grid
from grokking_core.plans.parts import Part, Plan
from grokking_core.runs.record import LEARNED
from grokking_core.runs.run import Run

LEARNING = {"x+y": 0.4, "x*y": 0.4, "x/y": 0.5}  #: shares of the table that are enough
CONTROLS = {"x^3+xy^2+y": 0.4, "x+y": 0.15}  #: that are not
SUMS = {"x+y": 0.15}  #: those of them whose answers have frequencies
RANDOM = {"x+y": 0.4}  #: with every training answer drawn at random
PUBLISHED: dict[str, Any] = {  #: network and training of arXiv 2301.05217, as near as a `Run` comes to them
    "operation": "x+y",
    "train_fraction": 0.3,
    "n_layers": 1,
    "norm": "none",
    "positions": "learned",
    "init": "normal",
    "loss_precision": "fp64",
    "batch_size": "full",
}
PUBLISHED_EVERY = 200  #: updates after which its longer runs are looked at


def tasks(
    *,
    learning: Mapping[str, float] = LEARNING,
    controls: Mapping[str, float] = CONTROLS,
    random_answers: Mapping[str, float] = RANDOM,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: int = 5000,
    watch_every: int | None = 100,
    **shared: Unpack[Shared],
) -> Part:
    """The runs that several pages watch: tasks that are learned, and three kinds that are not."""
    settings: list[dict[str, Any]] = [
        {"operation": o, "train_fraction": f} for of in (learning, controls) for o, f in of.items()
    ]
    sizes: dict[str, Any] = {name: size for name, size in shared.items() if name in ("p", "n")}
    for operation, fraction in random_answers.items():
        n_train = Run(operation=operation, train_fraction=fraction, **sizes).n_train
        settings.append({"operation": operation, "train_fraction": fraction, "outliers": n_train})
    return Part(runs=grid(*settings, seeds=seeds, **shared), steps=steps, watch_every=watch_every)


def early_warnings(
    *,
    learning: Mapping[str, float] = LEARNING,
    controls: Mapping[str, float] = CONTROLS,
    random_answers: Mapping[str, float] = RANDOM,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: int = 5000,
    watch_every: int | None = 100,
    s5_fraction: float = 0.45,
    s5_d_model: int = 128,
    s5_seeds: Sequence[int] = (0, 1, 2, 3, 4),
    s5_steps: int = 25_000,
    **shared: Unpack[Shared],
) -> Plan:
    """Signals before generalization, on tasks that are learned and on three kinds that are not.

    Products in S5, which take longer and a wider network, end when they are learned.
    """
    of: dict[str, Any] = {"learning": learning, "controls": controls, "random_answers": random_answers}
    on_residues = tasks(**of, seeds=seeds, steps=steps, watch_every=watch_every, **shared)
    on_letters = Part(
        runs=grid(
            {"operation": "s5:xy", "train_fraction": s5_fraction},
            seeds=s5_seeds,
            **{**shared, "d_model": s5_d_model},
        ),
        steps=s5_steps,
        stop_at=LEARNED,
        watch_every=watch_every,
    )
    return _watching("early_warnings", on_residues, on_letters)


def fourier(
    *,
    learning: Mapping[str, float] = LEARNING,
    controls: Mapping[str, float] = SUMS,
    random_answers: Mapping[str, float] = RANDOM,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: int = 5000,
    watch_every: int | None = 100,
    published_p: int = 113,
    published_d_model: int = 128,
    published_seeds: Sequence[int] = (0,),
    published_steps: int = 15_000,
    **shared: Unpack[Shared],
) -> Plan:
    """Frequencies in logits, embedding and output rows, of sums and of products by logarithms.

    Beside the tasks whose operations have frequencies the setting in which arXiv 2301.05217 found them, in
    its sizes: PUBLISHED.
    """
    of: dict[str, Any] = {"learning": learning, "controls": controls, "random_answers": random_answers}
    sizes = {"p": published_p, "d_model": published_d_model}
    published = Part(
        runs=grid(PUBLISHED, seeds=published_seeds, **{**shared, **sizes}),
        steps=published_steps,
        watch_every=PUBLISHED_EVERY,
    )
    first = tasks(**of, seeds=seeds, steps=steps, watch_every=watch_every, **shared)
    return _watching("fourier", first, published)


@wraps(tasks, assigned=("__annotations__",))  # it has the same parameters
def topology(**asked: Any) -> Plan:
    """Loops in the embedding, before and after generalization."""
    return _watching("topology", tasks(**asked))


def is_control(run: Run) -> bool:
    """Whether a run has nothing to generalize from: random answers, or no more of the table than CONTROLS."""
    return run.outliers == run.n_train or run.train_fraction <= CONTROLS.get(run.operation, 0.0)


def is_published(run: Run) -> bool:
    """Whether a run has the setting of arXiv 2301.05217, sizes apart."""
    return all(getattr(run, name) == value for name, value in PUBLISHED.items())


def _watching(probe: str, *parts: Part) -> Plan:
    return Plan(tuple(replace(part, watch=(probe,)) for part in parts))
