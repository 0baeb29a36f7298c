"""Grokking, remade: data, networks, training and measures for Power et al. 2022 (arXiv 2201.02177)."""

from grokking_core import data
from grokking_core.record import Record
from grokking_core.run import Run
from grokking_core.sweep import Records, Stopped, sweep

__version__ = "0.1.0"
__all__ = ["Record", "Records", "Run", "Stopped", "data", "sweep"]
