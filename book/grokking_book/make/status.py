"""What a page says of how its notebook was made, and the page that says it of all notebooks.

Both are made from the notebooks as they were last executed, whatever this build was asked to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grokking_book.sources import notebooks, numbers
from grokking_book.sources.jobs import Job
from grokking_book.sources.notebooks import Cell, Notebook

HEADINGS = (
    "notebook",
    "state",
    "profile",
    "parameters changed",
    "runs read",
    "trained",
    "executed on",
    "seconds",
    "hours of training",
    "run-steps",
    "device",
    "package",
    "torch",
)


def made(job: Job) -> dict[str, str]:
    """Return what an executed notebook keeps of how it was asked for."""
    changed = " ".join(f"{name}={value!r}" for name, value in job.changed.items())
    return {"profile": job.profile, "changed": changed, "command": job.command}


def footer(job: Job, page: Path, executed: Notebook | None) -> Cell:
    """Return the cell that closes a notebook's page: when it was made, the command, the download.

    `page` is the source's path below the book's folder.
    """
    told, link = "This notebook is not executed yet. This command does it:", ""
    if executed:
        date, seconds = when(executed)
        python = executed["metadata"]["language_info"]["version"]
        told = f"Executed on {date} in {seconds} seconds by Python {python}. This command makes the page:"
        copy = "/".join([*[".."] * (len(page.parts) - 1), "_sources", page.as_posix()])
        link = f'<a class="download-notebook" href="{copy}" download>Download the executed notebook</a>'
        link = "\n\n".join(filter(None, [link, numbers.links(job, page)]))
    command = said(job, executed)["command"]
    source = f'{told}\n\n<div class="provenance-command">\n\n```bash\n{command}\n```\n\n</div>\n\n{link}\n'
    return {"cell_type": "markdown", "id": "made-by", "metadata": {}, "source": source}


def said(job: Job, executed: Notebook | None) -> dict[str, str]:
    """Return how the executed notebook was asked for; what this build would ask, where it does not say."""
    return (executed or {"metadata": {}})["metadata"].get("make_book") or made(job)


def when(executed: Notebook) -> tuple[str, str]:
    """Return the date on which a notebook was executed, and the seconds it took."""
    papermill = executed["metadata"]["papermill"]
    return papermill["start_time"][:10], f"{papermill['duration']:.0f}"


def page(jobs: Sequence[Job], executed: dict[str, Notebook], pages: dict[str, Path]) -> str:
    """Return the status page, MyST Markdown: a line for every notebook."""
    rows = [row(job, executed.get(job.name), pages[job.name]) for job in jobs]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADINGS, ["---"] * len(HEADINGS), *rows))
    n_complete = sum(cells[1] == "complete" for cells in rows)
    return (
        "# Status of the notebooks\n\n"
        f"Complete: {n_complete} of {len(rows)} notebooks. One that lacks runs says so on its page, and the\n"
        "next `make book` goes on with them; where a notebook fails, the last good site stays.\n"
        "One is out of date if its code, its parameters or the package have changed since.\n"
        "*Parameters changed* are those that `P` laid over the profile's. *Hours of training* are those of\n"
        "the runs it shows, run by run, on the device named; what several notebooks show counts in each.\n\n"
        "## Notebook by notebook\n\n"  # a page without sections has no margin for what is full-width
        "````{div} full-width\n"
        "```{table} Every notebook as it was last executed: from which runs, with what, when.\n"
        f":name: status-of-notebooks\n\n{table}\n```\n````\n"
    )


def row(job: Job, executed: Notebook | None, page: Path) -> list[str]:
    """Return a notebook's line of the status page, a dash where there is nothing to say."""
    link = f"{{doc}}`{job.name} <{page.with_suffix('').as_posix()}>`"
    if not executed:
        return [link, "not executed", *["–"] * (len(HEADINGS) - 2)]
    asked, found = said(job, executed), notebooks.provenance_of(executed)
    changed = f"`{asked['changed']}`" if asked["changed"] else ""
    read, trained, *made_with = (
        text(found.get(name)) for name in ("read", "trained", "device", "package", "torch")
    )
    cost = effort(found)
    cells = [state(job, found), asked["profile"], changed, read, trained, *when(executed), *cost, *made_with]
    return [link, *(cell.replace("|", "\\|") or "–" for cell in cells)]


def effort(found: dict[str, Any]) -> tuple[str, str]:
    """Return what training a notebook's runs took, wherever that was: hours, and updates of all runs."""
    seconds, steps = found.get("training_seconds"), found.get("training_steps")
    return "" if seconds is None else f"{seconds / 3600:.2f}", "" if steps is None else f"{steps:,}"


def state(job: Job, found: dict[str, Any]) -> str:
    """Return whether an executed notebook has all its runs, and whether this build would make it so."""
    missing = found.get("missing")
    if missing:
        return f"{missing} run{'s' if missing > 1 else ''} missing"
    return "complete" if job.is_current() else "complete, out of date"


def text(value: Any) -> str:
    """Return a value of the provenance as text."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
