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
}


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
            for name, table in tables(experiments.experiment(job.name)(**asked).read()).items():
                table.to_csv(files_of(job)[name], index=False, float_format="%.6g")


def _is_due(job: Job) -> bool:
    executed = job.output.stat().st_mtime_ns
    return any(not path.is_file() or path.stat().st_mtime_ns < executed for path in files_of(job).values())


def tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """The tables of some records, each run once, as far as it was followed; joined by the column `key`.

    Returns
    -------
    dict of DataFrame
        runs: `export.milestones`, and the means over subspaces of what was kept of the sharpness;
        curves: the key, and the columns of `Record.curve`.
    """
    import pandas as pd

    from grokking_core.paper import export
    from grokking_core.runs.keys import key_of

    longest: dict[str, Record] = {}
    for record in records:
        key = key_of(record.run)
        longest[key] = max(record, longest.get(key, record), key=lambda each: each.last_step)
    runs = export.milestones(list(longest.values()))
    kept = [record.kept.get("sharpness", {}) for record in longest.values()]
    for name in dict.fromkeys(name for arrays in kept for name in arrays):
        runs[f"sharpness_{name}"] = [arrays[name].mean() if name in arrays else None for arrays in kept]
    curves = [record.curve.assign(key=key[: export.KEY_LENGTH]) for key, record in longest.items()]
    curve = pd.concat(curves or [pd.DataFrame({"key": []})])
    curve.insert(0, "key", curve.pop("key"))
    return {"runs": runs, "curves": curve}


def links(job: Job, page: Path) -> str:
    """Return the links to the tables that are there, in HTML; `page` is its path below the book's folder."""
    up = "/".join([".."] * (len(page.parts) - 1) or ["."])
    found = [(name, path) for name, path in files_of(job).items() if path.is_file()]
    told = [f'<a href="{up}/_static/numbers/{path.name}" download>{TITLES[name]}</a>' for name, path in found]
    return f"The numbers as CSV: {'; '.join(told)}." if told else ""
