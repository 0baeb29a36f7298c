"""Made-up tensors, and how close gradients come: what tests of the engine's parts share."""

from importlib.util import find_spec

import pytest
import torch

CLOSE = 1e-13
LOOPS = [  # how what is not a product is computed
    pytest.param(False, id="tensors"),
    pytest.param(True, id="loops", marks=pytest.mark.skipif(find_spec("numba") is None, reason="no Numba")),
]


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def leaf(*shape, seed=0):
    return draw(*shape, seed=seed).requires_grad_()


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < CLOSE
