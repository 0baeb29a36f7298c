"""The paper: its figures as grids of runs, profiles, and what counts as evidence. No pictures.

`experiments` has the figures and the profiles, and by name what came after, from `plans`; `evidence` needs
SciPy, and is imported by name.
"""

from grokking_core.paper.experiments import (
    EXPERIMENTS,
    VARIANTS,
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
from grokking_core.plans import Part, Plan, merged
from grokking_core.plans.followups import norm_clock, retention

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
    "merged",
    "norm_clock",
    "retention",
    "variant_of",
]
