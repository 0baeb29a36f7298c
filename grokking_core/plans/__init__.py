"""What is asked of runs: parts of a plan, grids, and what came after the paper as plans. No pictures.

`parts` says what a figure asks of its runs, `grids` how runs are laid out; `followups` and `watched` have the
chapters after the paper, whose own figures are in `paper.experiments`.
"""

from grokking_core.plans.parts import Part, Plan, merged

__all__ = ["Part", "Plan", "merged"]
