"""The paper: its figures as grids of runs, its claims and what decides them. No pictures.

`experiments` has the figures and the profiles; `evidence` and `claims` need SciPy, and are imported by name.
"""

from grokking_core.paper.experiments import (
    EXPERIMENTS,
    VARIANTS,
    Part,
    Plan,
    beyond_transformers,
    fig1_data_fraction,
    fig1_grokking_curves,
    fig1_operation_table,
    fig2_operations,
    fig2_optimizers,
    fig3_embeddings,
    fig6_outliers,
    fig7_sharpness,
    variant_of,
)

__all__ = [
    "EXPERIMENTS",
    "VARIANTS",
    "Part",
    "Plan",
    "beyond_transformers",
    "fig1_data_fraction",
    "fig1_grokking_curves",
    "fig1_operation_table",
    "fig2_operations",
    "fig2_optimizers",
    "fig3_embeddings",
    "fig6_outliers",
    "fig7_sharpness",
    "variant_of",
]
