import pytest

from grokking_core import Records, Run, sweep


@pytest.fixture
def alone(tmp_path):
    """What runs give when nothing disturbs them, on records of their own."""

    def train(some: list[Run], steps: int, **how) -> Records:
        return sweep(some, steps, store=tmp_path / "alone", progress=False, **how)

    return train
