"""Grokking, remade: data, networks, training and measures for Power et al. 2022 (arXiv 2201.02177)."""

from grokking_core import data
from grokking_core._version import __version__
from grokking_core.runs import Record, Records, Run
from grokking_core.sweeps import Stopped, sweep

__all__ = ["Record", "Records", "Run", "Stopped", "__version__", "data", "sweep"]
