"""What a run is, sees and leaves: configuration, schedule, curve, key. No training, no files."""

from grokking_core.runs.keys import key_of
from grokking_core.runs.provenance import Provenance
from grokking_core.runs.record import Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.runs.trajectory import Trajectory

__all__ = ["Provenance", "Record", "Records", "Run", "Trajectory", "key_of"]
