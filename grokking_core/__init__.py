"""Grokking, remade: data, networks, training and measures for Power et al. 2022 (arXiv 2201.02177)."""

from grokking_core.run import Run

__version__ = "0.1.0"
__all__ = ["Run"]
