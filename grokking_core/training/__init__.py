"""Batches, updates, evaluation, stopping: `train` follows many runs at once, `plain.train` one. No files."""

from grokking_core.training.cards import default_device, describe, usable_device
from grokking_core.training.conductor import Listener, train
from grokking_core.training.devices import check_precision, default_width, precisions
from grokking_core.training.ensemble import Ensemble, group_key

__all__ = [
    "Ensemble",
    "Listener",
    "check_precision",
    "default_device",
    "default_width",
    "describe",
    "group_key",
    "precisions",
    "train",
    "usable_device",
]
