"""Seconds to read shipped records, and their size: 2,000 made-up runs of 100,000 steps, no luck in them.

python benchmarks/read_records.py [number of records]
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from grokking_core import Run
from grokking_core.records import shipped as packs
from grokking_core.records.contents import record_parts
from grokking_core.records.store import Store
from grokking_core.runs import schedule
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import COLUMNS, Record, origin

STEPS = 100_000


def made_up(run: Run, rng: np.random.Generator) -> Record:
    """A record of the size of a real one: every loss and norm is noisy, so nothing compresses well."""
    step = np.array(schedule.evaluation_steps(STEPS))
    climbs = {
        side: 1 / (1 + (rng.integers(300, 30_000) / (step + 1)) ** 4) for side in ("train", "validation")
    }
    columns = {"step": step}
    for side, climb in climbs.items():
        n = run.n_train
        columns[f"{side}_accuracy"] = np.floor(n * climb * rng.uniform(0.99, 1, len(step))) / n
        columns[f"{side}_loss"] = 5 * (1 - climb) + rng.random(len(step)) * 1e-3
    columns["unmirrored_accuracy"] = columns["validation_accuracy"]
    columns["weight_norm"] = 60 - 30 * climbs["train"] + rng.random(len(step))
    curve = pd.DataFrame({name: columns[name] for name in COLUMNS})
    return Record(run=run, curve=curve, provenance=origin("cpu", run.precision, 1000.0))


def main(n: int) -> None:
    """Pack made-up records, read them in a new store, print size and seconds."""
    rng = np.random.default_rng(0)
    runs = [Run(operation="s5:xy", train_fraction=0.2 + 0.05 * (s % 16), seed=s // 16) for s in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shipped" / "made-up.parquet"
        size = packs.write(path, ((key_of(run), *record_parts(made_up(run, rng))) for run in runs))
        started = time.perf_counter()
        store = Store(Path(folder) / "own", path.parent)
        found = [store.answer(run, STEPS) for run in runs]
        seconds = time.perf_counter() - started
    rows = sum(len(record.curve) for record in found if record)
    print(
        f"{len(found)} records, {rows:,} rows of {len(COLUMNS)} columns: {size / 1e6:.1f} MB, {seconds:.2f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 2000)
