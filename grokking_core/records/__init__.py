"""Records on disk: a user's own files, and the shipped packs. No training."""

from grokking_core.records.files import RecordWarning, StoreError
from grokking_core.records.store import Store

__all__ = ["RecordWarning", "Store", "StoreError"]
