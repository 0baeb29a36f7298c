"""Products of R runs with their weights, in the precision that the runs ask for.

Axes: R runs, N rows, D, F widths.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grokking_core import kernels
from grokking_core.model.tensor_ops import write


class Products:
    """Batched products as the device makes them, which `devices.limits.settings` decides on a card."""

    adds = True  #: whether a product can be added to a tensor as it is made

    def operand(self, a: Tensor) -> Tensor:
        """What the products see of a factor."""
        return a

    def bmm(self, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        """a b for each run: (R, N, D), (R, D, F) -> (R, N, F), in `out`, which may be a view, if given."""
        a, b = self.operand(a), self.operand(b)
        return torch.bmm(a, b) if out is None else write(out, torch.bmm, a, b)

    def plus(self, a: Tensor, x: Tensor, w: Tensor) -> Tensor:
        """a + x w for each run: (R, N, F), (R, N, D), (R, D, F).

        A product that adds to a tensor copies it first; compiled, the sum is made where it is used.
        """
        if torch.compiler.is_compiling() or not self.adds:
            return a + self.bmm(x, w)
        return torch.baddbmm(a, self.operand(x), self.operand(w))

    def add_(self, a: Tensor, x: Tensor, w: Tensor) -> Tensor:
        """`plus`, in place of a, which may be a view."""
        if torch.compiler.is_compiling() or not self.adds:
            return a.add_(self.bmm(x, w))
        return a.baddbmm_(self.operand(x), self.operand(w))

    def linear(self, x: Tensor, w: Tensor, out: Tensor | None = None) -> Tensor:
        """x W^T for each run: (R, N, D), (R, F, D) -> (R, N, F)."""
        return self.bmm(x, w.mT, out)

    def linear_backward(self, g: Tensor, x: Tensor, w: Tensor, dw: Tensor, out: Tensor) -> Tensor:
        """Gradients of `linear`: dw <- g^T x, out <- g W."""
        self.bmm(g.mT, x, dw)
        return self.bmm(g, w, out)


class Rounded(Products):
    """Products of factors rounded to tf32, summed in float32: what tensor cores make of them, anywhere."""

    def operand(self, a: Tensor) -> Tensor:
        """The factor, rounded."""
        return kernels.plain.rounded(a)


class Split(Products):
    """Three products in tf32 for each: of factors in two parts, by a kernel of our own."""

    adds = False

    def __init__(self) -> None:
        self.kernel = kernels.load("products")

    def bmm(self, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        """As `Products.bmm`."""
        made = self.kernel.bmm(a, b)
        return made if out is None else out.copy_(made)


def products_in(precision: str) -> Products:
    """The products of runs in a precision of `Run`.

    Raises
    ------
    ModuleNotFoundError
        For tf32x3 without Triton.
    """
    return {"tf32-rounded": Rounded, "tf32x3": Split}.get(precision, Products)()
