"""What is on record is read, what is missing is trained, here or by workers."""

from grokking_core.sweeps.sweeping import Stopped, sweep

__all__ = ["Stopped", "sweep"]
