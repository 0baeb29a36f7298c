"""How fast a card is, with the processor in its place."""

from types import SimpleNamespace

import pytest
import torch

from grokking_core import Run
from grokking_core.devices import cards, limits
from grokking_core.training import rates
from grokking_core.training.ensemble import Ensemble

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
RUN = Run(operation="x+y", p=7, d_model=16, architecture="mlp", n_layers=1)


@pytest.fixture
def made(monkeypatch):
    """Ensembles that were made, as widths and paths, and the updates that they counted."""
    found, make, update = SimpleNamespace(ensembles=[], updates=0), rates.make_ensemble, Ensemble.update

    def making(runs, width, device, path):
        found.ensembles.append((width, path))
        return make(runs, width, device, "eager")

    def updating(e, n_updates, *more):
        found.updates += n_updates
        update(e, n_updates, *more)

    monkeypatch.setattr(rates, "make_ensemble", making)
    monkeypatch.setattr(Ensemble, "update", updating)
    monkeypatch.setattr(limits, "default_width", lambda device: 4)
    monkeypatch.setattr(cards, "path_of", lambda device, runs: "compiled")
    return found


@pytest.mark.parametrize(("n_runs", "width"), [(1, 1), (3, 3), (9, 4)])
def test_as_many_runs_are_timed_as_are_trained_at_once(made, n_runs, width):
    """And nothing is compiled for it."""
    assert rates.seconds_a_run_step(RUN, n_runs, CPU, seconds=0.01) > 0
    assert made.ensembles == [(width, "graph")]


def test_what_comes_once_is_not_counted(made, monkeypatch):
    """Each block of updates takes a second by this clock, loading and the first update an hour."""
    clock, update = SimpleNamespace(now=0.0), Ensemble.update

    def updating(e, n_updates, *more):
        clock.now += 3600.0 if n_updates == 1 else 1.0
        update(e, n_updates, *more)

    monkeypatch.setattr(Ensemble, "update", updating)
    monkeypatch.setattr(rates, "time", SimpleNamespace(monotonic=lambda: clock.now))
    assert rates.seconds_a_run_step(RUN, 4, CPU, seconds=3.0) == pytest.approx(1 / (rates.BLOCK * 4))
    assert made.updates == 1 + 3 * rates.BLOCK
