"""The numbers behind the pictures of a page, as tidy tables to download beside its notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grokking_book.sources.jobs import Job, all_values, asks_for_runs

if TYPE_CHECKING:  # loading torch takes seconds, and most builds have no table to write
    import pandas as pd

    from grokking_core.runs.record import Record

FOLDER = Path("static", "numbers")  #: below the pages; Sphinx copies it to _static/numbers
TITLES = {
    "runs": "every run with its settings and milestones",
    "curves": "every evaluation of every run",
    "watched": "what was measured beside the evaluations",
    "cells": "every cell of the table, with the network's answer",
    "points": "the points of the pictures",
    "tests": "every test of the output rows",
}
DRAWS_ROWS = ("fig3_embeddings",)  #: pages that draw output rows, which takes a second a network


def files_of(job: Job) -> dict[str, Path]:
    """Return where the tables of an executed notebook lie, by the keys of `TITLES`."""
    return {name: job.output.with_suffix(f".{name}.csv") for name in TITLES}


def write(jobs: Iterable[Job]) -> None:
    """Write the tables of notebooks that were executed since they were last written; nothing is trained."""
    due = [job for job in jobs if asks_for_runs(job) and job.is_current() and _is_due(job)]
    if not due:
        return
    from grokking_core.paper import experiments

    for job in due:
        if job.name in experiments.EXPERIMENTS:
            values = all_values(job)
            asked = {name: value for name, value in values.items() if name not in experiments.READING}
            records = experiments.experiment(job.name)(**asked).read()
            found = tables(records) | (tables_of_rows(records) if job.name in DRAWS_ROWS else {})
            for name, path in files_of(job).items():
                path.unlink(missing_ok=True)
                if name in found:
                    found[name].to_csv(path, index=False, float_format="%.6g")


def _is_due(job: Job) -> bool:
    executed = job.output.stat().st_mtime_ns
    written = [path.stat().st_mtime_ns for path in files_of(job).values() if path.is_file()]
    return min(written, default=0) < executed


def tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """The tables of some records, each run once, as far as it was followed; joined by the column `key`.

    Returns
    -------
    dict of DataFrame
        runs: `export.milestones`, the means over subspaces of what was kept of the sharpness, and the sum
        over weight matrices of the traps;
        curves: the columns of `Record.curve`;
        watched, where probes saw something: the probe, and the columns of `Record.watched`;
        cells, where answers were kept: the columns of `wrong_cells.graded`.
    """
    from grokking_core.measures import wrong_cells
    from grokking_core.paper import export

    found = _longest(records)
    runs = export.milestones(list(found.values()))
    kept = [record.kept.get("sharpness", {}) for record in found.values()]
    for name in dict.fromkeys(name for arrays in kept for name in arrays):
        runs[f"sharpness_{name}"] = [arrays[name].mean() if name in arrays else None for arrays in kept]
    traps = [record.kept.get("traps", {}).get("count") for record in found.values()]
    if any(counts is not None for counts in traps):
        runs["traps"] = [None if counts is None else counts.sum() for counts in traps]
    told = {"runs": runs, "curves": _joined({key: record.curve for key, record in found.items()})}
    seen = [
        {key: frame.assign(probe=probe)}
        for key, record in found.items()
        for probe, frame in record.watched.items()
    ]
    cells = {
        key: wrong_cells.graded(record.run, record.kept["answers"]["answer"])
        for key, record in found.items()
        if "answers" in record.kept
    }
    told |= {"watched": _joined(*seen)} if seen else {}
    return told | ({"cells": _joined(cells)} if cells else {})


def tables_of_rows(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """What the output rows of some records show, as figure 3 has it; joined to their runs by `key`.

    Returns
    -------
    dict of DataFrame
        points: element, its place x, y by t-SNE, and label, what the picture tells apart;
        tests: of `number_line.line_test` or `cosets.coset_test`.
    """
    import pandas as pd

    from grokking_core.weights import structure

    found = {key: record for key, record in _longest(records).items() if "output_rows" in record.kept}
    shown = {key: structure.structure_of(record) for key, record in found.items()}
    points = {
        key: pd.DataFrame(each.points(), columns=pd.Index(["x", "y"])).assign(label=each.labels())
        for key, each in shown.items()
    }
    elements = {key: table.rename_axis("element").reset_index() for key, table in points.items()}
    return {"points": _joined(elements), "tests": _joined({key: each.test for key, each in shown.items()})}


def _longest(records: Sequence[Record]) -> dict[str, Record]:
    """Each run once, as far as it was followed, by its key."""
    from grokking_core.paper import export
    from grokking_core.runs.keys import key_of

    found: dict[str, Record] = {}
    for record in records:
        key = key_of(record.run)[: export.KEY_LENGTH]
        found[key] = max(record, found.get(key, record), key=lambda each: each.last_step)
    return found


def _joined(*tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """All tables below one another, each with its key in front."""
    import pandas as pd

    found = [table.assign(key=key) for group in tables for key, table in group.items()]
    joined = pd.concat(found or [pd.DataFrame({"key": []})])
    return joined.reindex(columns=["key", *joined.columns.drop("key")])


def links(job: Job, page: Path) -> str:
    """Return the links to the tables that are there, in HTML; `page` is its path below the book's folder."""
    up = "/".join([".."] * (len(page.parts) - 1) or ["."])
    found = [(name, path) for name, path in files_of(job).items() if path.is_file()]
    told = [f'<a href="{up}/_static/numbers/{path.name}" download>{TITLES[name]}</a>' for name, path in found]
    return f"The numbers as CSV: {'; '.join(told)}." if told else ""
