"""One function a panel: axes in, axes out. No training, no files."""

from grokking_core.plots.curves import (
    accuracy_curves,
    loss_curves,
    on_one_grid,
    transition_curves,
    validation_curves,
)
from grokking_core.plots.embeddings import (
    coset_agreement,
    embedding,
    line_agreement,
    structures,
)
from grokking_core.plots.fractions import (
    FRACTION,
    accuracy_by_fraction,
    accuracy_panels,
    steps_by_fraction,
)
from grokking_core.plots.networks import (
    SHARPNESS,
    sharpness_panels,
    sharpness_scatter,
    suddenness_strip,
)
from grokking_core.plots.style import (
    COLUMNS,
)
from grokking_core.plots.tables import (
    filled_table,
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
