"""What the kernels for cards compute, in tensor operations; those of loops are in `model` and `updates`."""

from __future__ import annotations

import math
from types import ModuleType

import torch
from torch import Tensor

NORM_EPS = 1e-5  #: of torch.nn.LayerNorm


def feed_forward(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """relu(x up^T) down^T for each run: (R, N, D), (R, F, D), (R, D, F) -> (R, N, D)."""
    return torch.bmm(torch.bmm(x, up.mT).relu(), down.mT)


def feed_forward_backward(g: Tensor, x: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of sum(g * feed_forward(x, up, down)) with respect to x, up and down."""
    hidden = torch.bmm(x, up.mT).relu()
    dhidden = torch.where(hidden <= 0, 0, torch.bmm(g, down))
    return torch.bmm(dhidden, up), torch.bmm(dhidden.mT, x), torch.bmm(g.mT, hidden)


def differences(kernels: ModuleType, shape: tuple[int, int, int, int], device: torch.device) -> float:
    """The largest difference of the kernels in `_feed_forward` from these twins in float64; of NaN, infinity.

    Of whole numbers so small that tf32 holds them and float32 their sums, so that no difference is one of
    rounding. The shape is (R, N, D, F).
    """
    n_runs, n_rows, d, f = shape
    of = torch.Generator().manual_seed(0)
    sizes = ((n_rows, d), (n_rows, d), (f, d), (d, f))
    g, x, up, down = (torch.randint(-1, 2, (n_runs, *size), generator=of).double() for size in sizes)
    expected = (feed_forward(x, up, down), *feed_forward_backward(g, x, up, down))
    g, x, up, down = (a.float().to(device) for a in (g, x, up, down))
    ours = (kernels.forward(x, up, down), *kernels.backward(g, x, up, down))
    apart = [
        (a.cpu() - b).abs().nan_to_num(math.inf).max().item() for a, b in zip(ours, expected, strict=True)
    ]
    return max(apart)
