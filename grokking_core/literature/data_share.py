"""How the wait depends on the share of the table."""

from __future__ import annotations

from grokking_core.claims.deciding import LATE, TOGETHER, Verdict, kind_of
from grokking_core.literature.rows import judged, row
from grokking_core.paper import evidence
from grokking_core.runs import words
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run

LITTLE_DATA, MUCH_DATA = (
    0.2,
    0.6,
)  #: shares of the table up to which nothing, from which all is learned at once


@row(
    "arXiv:2301.05217",
    "Of x+y 60 % of the table and more is learned at once, about 30 % after a long wait, 10 to 20 % never.",
    "x+y mod 113; 1-layer transformer without layer norm; full batches, AdamW, decay 1, 40,000 updates",
)
def share_decides_the_wait(fig2_optimizers: Records, fig2_operations: Records) -> Verdict:
    """Decided by runs of x+y with AdamW and decay 1, by their share of the table; see `evidence.outcomes`.

    Three parts: with MUCH_DATA and more the median gap is TOGETHER or less; with LITTLE_DATA and less no
    run learned; of the shares between, one has a median gap of LATE or more. A part without runs is open.
    agrees: all three. partly: one or two. differs: none, of two or three. not reached: fewer than two have
    runs.
    """
    asked = evidence.distinct([fig2_optimizers, fig2_operations]).where(_is_default)
    table = evidence.outcomes(asked)
    much = evidence.gap(record for record in asked if record.run.train_fraction >= MUCH_DATA)
    little = table.loc[table["train_fraction"] <= LITTLE_DATA, "enough"]
    between = sorted(f for f in set(table["train_fraction"]) if LITTLE_DATA < f < MUCH_DATA)
    gaps = {f: evidence.gap(record for record in asked if record.run.train_fraction == f) for f in between}
    parts = [
        much.value <= TOGETHER if much.n else None,
        not little.any() if len(little) else None,
        any(gap.value >= LATE for gap in gaps.values()) if gaps else None,
    ]
    kind = kind_of(parts) if sum(part is not None for part in parts) > 1 else "not reached"
    text = f"Median gap with {words.percent(MUCH_DATA)} and more: {much}. "
    text += "".join(f"With {words.percent(f)}: {gap}. " for f, gap in gaps.items())
    text += f"With {words.percent(LITTLE_DATA)} and less {little.sum()} of {len(little)} runs learned."
    return judged(kind, len(asked), text, asked)


def _is_default(run: Run) -> bool:
    """Whether it is of x+y, by AdamW with decay 1 to the origin, and not the twin of C22."""
    trained = (run.optimizer, run.weight_decay, run.decay_toward, run.batch_size)
    return run.operation == "x+y" and run.p % 2 == 1 and trained == ("adamw", 1.0, "origin", None)
