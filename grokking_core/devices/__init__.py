"""Processors and cards: which is usable, what fits, how an update is launched. No network, no training."""

from grokking_core.devices.cards import check_device, default_device, describe, usable_device
from grokking_core.devices.limits import check_precision, default_width, precisions

__all__ = [
    "check_device",
    "check_precision",
    "default_device",
    "default_width",
    "describe",
    "precisions",
    "usable_device",
]
