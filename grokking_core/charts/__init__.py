"""What the chapters after the paper draw beside its figures: axes in, axes out. No training, no files.

Grids of two settings, one number against another, what was watched of runs and their phases; in the look of
`plots.style`.
"""

from grokking_core.charts.cells import steps_by_cell
from grokking_core.charts.phases import phases
from grokking_core.charts.points import points
from grokking_core.charts.watched import leads, operating_curves, watched_columns, watched_curves

__all__ = [
    "leads",
    "operating_curves",
    "phases",
    "points",
    "steps_by_cell",
    "watched_columns",
    "watched_curves",
]
