"""What a build's training will cost, and which runs that are promised as shipped are not there.

`python -m grokking_book.make.forecast cost|promised PROFILE EXPERIMENT ...` prints it: a process of its own,
so that a build with nothing to train does not import PyTorch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from grokking_core.devices import default_device
from grokking_core.paper.experiments import plan
from grokking_core.records.store import Store
from grokking_core.runs.run import Run
from grokking_core.sweeps import estimate


def cost(profile: str, names: Sequence[str]) -> str:
    """Return what training all runs of some experiments again takes, on this machine."""
    steps: dict[Run, int] = {}
    for part in (part for name in names for part in plan(name, profile).parts):
        steps |= {run: max(part.steps, steps.get(run, 0)) for run in part.runs}
    device = default_device()
    told = f"{len(steps)} runs, up to {sum(steps.values()):,} run-steps on {device}"
    return f"{told}: {estimate.expected(steps, Store(), device)}"


def promised(profile: str, names: Sequence[str], store: Store | None = None) -> list[str]:
    """Return the experiments of a profile that lack runs on record, each with their number."""
    lacking = {name: len(plan(name, profile).read(store).missing) for name in names}
    return [f"{name} lacks {n} run{'s' if n > 1 else ''}" for name, n in lacking.items() if n]


def main(argv: Sequence[str]) -> int:
    """Print one of the two."""
    kind, profile, *names = argv
    print(cost(profile, names) if kind == "cost" else "; ".join(promised(profile, names)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
