"""What is watched while networks learn: numbers from the logits, features and weights of an evaluation.

No training, no files. A probe is one class in a file of its own, with a place in `PROBES`; it changes no
bit of a run. Its twin in plain NumPy is among the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from grokking_core.probes.early_warnings import EarlyWarnings
from grokking_core.probes.fourier import Fourier
from grokking_core.probes.probe import Probe, Seen
from grokking_core.probes.softmax_collapse import SoftmaxCollapse
from grokking_core.probes.spikes import Spikes
from grokking_core.probes.topology import Topology
from grokking_core.runs.run import Run

PROBES: dict[str, type[Probe]] = {
    "early_warnings": EarlyWarnings,
    "fourier": Fourier,
    "topology": Topology,
    "softmax_collapse": SoftmaxCollapse,
    "spikes": Spikes,
}

__all__ = ["PROBES", "Probe", "Seen", "check"]


def check(watch: Sequence[str], watch_every: int | None = None, runs: Iterable[Run] = ()) -> tuple[str, ...]:
    """The names of probes, each once.

    Raises
    ------
    ValueError
        For an unknown name, lists those there are; for a `watch_every` below 1, or without anything to watch;
        for a run that a probe does not have, before it is trained.
    """
    names = [watch] if isinstance(watch, str) else list(watch)
    if isinstance(watch, str | dict) or not all(name in PROBES for name in names):
        known = f"must be a sequence of names out of {', '.join(PROBES)}; they have no options"
        raise ValueError(f"watch={watch!r} {known} but watch_every")
    if watch_every is not None:
        if isinstance(watch_every, bool) or not isinstance(watch_every, int) or watch_every < 1:
            raise ValueError(f"watch_every={watch_every!r} must be a whole number of updates, at least 1")
        if not names:
            raise ValueError(f"watch_every={watch_every} has nothing to watch; name probes in watch")
    for run in runs:
        for name in names:
            PROBES[name].check(run)
    return tuple(dict.fromkeys(names))
