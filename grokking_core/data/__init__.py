"""What there is to learn: operation tables, tokens, splits, outliers; and streams of random numbers.

Nothing here knows of runs, networks or files.
"""

from grokking_core.data.operations import (
    OPERATIONS,
    Dataset,
    Operation,
    Table,
    check_operation,
    compose,
    dataset,
    inverse,
    inverses,
    n_elements,
    n_training_equations,
    operation_table,
    rule,
    symmetric_group,
    tokens,
)

__all__ = [
    "OPERATIONS",
    "Dataset",
    "Operation",
    "Table",
    "check_operation",
    "compose",
    "dataset",
    "inverse",
    "inverses",
    "n_elements",
    "n_training_equations",
    "operation_table",
    "rule",
    "symmetric_group",
    "tokens",
]
