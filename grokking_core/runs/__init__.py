"""What a run is, sees and leaves: configuration, schedule, curve, key. No training, no files."""

from grokking_core.runs.keys import key_of
from grokking_core.runs.record import Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run

__all__ = ["Record", "Records", "Run", "key_of"]
