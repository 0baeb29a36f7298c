"""Batches, updates, evaluation, stopping: `train` follows many runs at once, `plain.train` one. No files."""

from grokking_core.training.conductor import Listener, train
from grokking_core.training.ensemble import Ensemble, group_key

__all__ = ["Ensemble", "Listener", "group_key", "train"]
