"""One function a panel: axes in, axes out. No training, no files."""

from grokking_core.plots.curves import (
    COLUMNS,
    FRACTION,
    SHARPNESS,
    accuracy_by_fraction,
    accuracy_curves,
    accuracy_panels,
    loss_curves,
    on_one_grid,
    sharpness_panels,
    sharpness_scatter,
    steps_by_fraction,
    suddenness_strip,
    transition_curves,
    validation_curves,
)
from grokking_core.plots.embeddings import (
    coset_agreement,
    embedding,
    filled_table,
    line_agreement,
    structures,
    table_with_holes,
)

__all__ = [
    "COLUMNS",
    "FRACTION",
    "SHARPNESS",
    "accuracy_by_fraction",
    "accuracy_curves",
    "accuracy_panels",
    "coset_agreement",
    "embedding",
    "filled_table",
    "line_agreement",
    "loss_curves",
    "on_one_grid",
    "sharpness_panels",
    "sharpness_scatter",
    "steps_by_fraction",
    "structures",
    "suddenness_strip",
    "table_with_holes",
    "transition_curves",
    "validation_curves",
]
