import pytest

from grokking_core import Records, Run, sweep, training


@pytest.fixture
def alone(tmp_path):
    """What runs give when nothing disturbs them, on records of their own."""

    def train(some: list[Run], steps: int, **how) -> Records:
        return sweep(some, steps, store=tmp_path / "alone", progress=False, **how)

    return train


@pytest.fixture
def begun(monkeypatch):
    """Steps from which runs were trained, by seed, one entry each time."""
    found: list[tuple[int, int]] = []
    train = training.train

    def spy(trajectories, **how):
        trajectories = list(trajectories)
        found.extend((t.run.seed, t.step) for t in trajectories)
        train(trajectories, **how)

    monkeypatch.setattr(training, "train", spy)
    return found
