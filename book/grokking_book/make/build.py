"""`make book`: execute the notebooks with papermill, render the site, say what was done.

What the notebooks ask for is trained first, in one sweep, so that no run is trained for two of them; they
then read it. A notebook whose code, parameters, package and output are unchanged, and which lacks no run,
is not executed again: its prose is rendered anew. A site whose pages are unchanged is not rendered again.
Whatever fails leaves the last good notebook and the last good site where they were.
"""

from __future__ import annotations

import os
import re
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

import yaml

from grokking_book.make import processes, settings
from grokking_book.make.processes import Busy, Ended
from grokking_book.make.render import STAMP, basis_of, render, repair, stage
from grokking_book.make.settings import Settings, now
from grokking_book.make.status import made
from grokking_book.sources import notebooks, numbers
from grokking_book.sources.jobs import Job, Places, all_values, asks_for_runs, digest, plan, stamp_of
from grokking_book.sources.notebooks import INJECTED, code_cells, provenance, tags, without_picture
from grokking_book.sources.parameters import WrongUse
from grokking_core._streams import forgiven

REPORT_SECONDS = 15  #: between two lines about the notebooks under way
LOST_PORT = ("Address already in use", "Kernel died before replying to kernel_info")


@dataclass(frozen=True)
class Row:
    """One line of the closing table."""

    name: str
    state: str  #: executed, FAILED, unchanged, kept, not executed
    seconds: float | None = None
    read: int | None = None  #: runs read from records
    trained: int | None = None  #: runs trained
    missing: int | None = None  #: runs without an answer


def execute_stale(jobs: list[Job], places: Places, args: Settings, profile: str) -> list[Row]:
    """Execute what is not current, those that read the others' runs after them; return all rows."""
    env, rows = settings.environment(places, profile), []
    settings.make_jupyter(places)
    if args.fresh:
        # A date: what one notebook of this build has trained, the others read.
        env["GROKKING_FRESH"] = now()
    stale = [job for job in jobs if args.fresh or not job.is_current()]
    if any(asks_for_runs(job) for job in stale):
        env["GROKKING_TRAINED_SINCE"] = now()
        asking = [job for job in stale if asks_for_runs(job)]
        rows.append(broken_promise(asking, places, env, args) or train(asking, places, env, args))
    for late in (False, True):
        due = [job for job in jobs if bool(job.reads) == late]
        if any(row.state == "FAILED" for row in rows):
            done = {row.name for row in rows}
            return rows + [Row(job.name, "not executed") for job in jobs if job.name not in done]
        stale = [job for job in due if args.fresh or not job.is_current()]
        if stale:
            print(f"profile {profile}: executing {', '.join(job.name for job in stale)}", flush=True)
        # Two even on one core: while one trains, the other may only read and draw.
        workers = args.jobs or min(max(os.cpu_count() or 1, 2), 4)
        rows += execute_all(stale, places, min(workers, max(1, len(stale))), env)
        rows += [Row(job.name, "unchanged") for job in due if job not in stale]
    return rows


def broken_promise(jobs: list[Job], places: Places, env: dict[str, str], args: Settings) -> Row | None:
    """Return the row of a training that nobody asked for: runs are missing that are said to be shipped."""
    profile = jobs[0].profile
    if args.profile or args.trains or profile not in settings.complete_profiles(places):
        return None
    lacking = forecast("promised", profile, jobs, places, env)
    if not lacking:
        return None
    print(
        f"book/records/complete.yml says that all runs of {profile} are shipped, but {lacking}.\n"
        f"They are not trained now; this trains them: make book PROFILE={profile}",
        file=sys.stderr,
        flush=True,
    )
    return Row("training", "not asked for")


def forecast(kind: str, profile: str, jobs: list[Job], places: Places, env: dict[str, str]) -> str:
    """Return what `forecast` prints."""
    log = places.build / "logs" / "forecast.log"
    command = [sys.executable, "-m", "grokking_book.make.forecast", kind, profile]
    status = processes.run([*command, *(job.name for job in jobs)], log, env)
    return log.read_text().strip() if status == 0 else f"cannot be told: {last_line(log)}"


def train(jobs: list[Job], places: Places, env: dict[str, str], args: Settings) -> Row:
    """Train what the notebooks ask for and what is not on record, until a time limit; return its row."""
    asked, log = places.build / "running" / "asked.yml", places.build / "logs" / "training.log"
    asked.parent.mkdir(parents=True, exist_ok=True)
    asked.write_text(yaml.safe_dump({job.name: all_values(job) for job in jobs}, sort_keys=False))
    if args.fresh:
        print(f"training anew: {forecast('cost', str(asked), jobs, places, env)}", flush=True)
    command = [sys.executable, "-m", "grokking_core", "sweep", *(job.name for job in jobs)]
    command += ["--profile", str(asked), *(["--minutes", str(args.minutes)] if args.minutes else [])]
    start = time.monotonic()
    status = processes.run(command, log, env, lambda: print(f"training: {last_line(log)}", flush=True))
    state = {0: "done", 3: "time limit"}.get(status, "FAILED")
    if state == "FAILED":
        print(f"\ntraining failed\n\n{_indent(_tail(log))}\n", file=sys.stderr, flush=True)
    counts = re.findall(r"(\d+) read, (\d+) trained, (\d+) missing", log.read_text())
    return Row("training", state, time.monotonic() - start, *map(int, counts[-1] if counts else ()))


def execute_all(jobs: list[Job], places: Places, workers: int, env: dict[str, str]) -> list[Row]:
    """Execute the jobs, `workers` at a time, each in processes of its own; return their rows."""
    rows = []
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        under_way = {pool.submit(execute, job, places, env): job for job in jobs}
        try:
            while under_way:
                done, _ = wait(under_way, timeout=REPORT_SECONDS, return_when="FIRST_COMPLETED")
                rows += [_finished(future, under_way.pop(future)) for future in done]
                if not done:
                    for future, job in under_way.items():
                        if future.running():
                            print(f"{job.name}: {last_line(log_of(job, places))}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end_all()
            raise
    return rows


def _finished(future: Future[Row], job: Job) -> Row:
    row = future.result()
    print(f"{job.name}: {row.state} in {row.seconds:.0f} s", flush=True)
    return row


def execute(job: Job, places: Places, env: dict[str, str]) -> Row:
    """Execute one notebook to a temporary name; rename it and stamp it if that succeeded."""
    log = log_of(job, places)
    partial = places.build / "running" / f"{job.name}.ipynb"
    source = partial.with_suffix(".source.ipynb")
    for folder in (partial.parent, job.output.parent):
        folder.mkdir(parents=True, exist_ok=True)
    notebook = with_parameters(job)
    notebook["metadata"]["make_book"] = made(job)
    source.write_text(notebooks.write(notebook), encoding="utf-8")
    partial.unlink(missing_ok=True)
    command = [sys.executable, "-m", "papermill", str(source), str(partial)]
    command += ["--cwd", str(job.source.parent)]
    command += ["--kernel", "python3", "--language", "python", "--log-output", "--no-progress-bar"]
    env = env | {"GROKKING_NOTEBOOK": job.name}
    start = time.monotonic()
    for _ in range(2):
        status = processes.run(command, log, env)
        if status == 0 or not any(words in log.read_text() for words in LOST_PORT):
            break
    seconds = time.monotonic() - start
    if status != 0:
        print(failure(partial, log), file=sys.stderr, flush=True)
        return Row(job.name, "FAILED", seconds)
    if bare := without_picture(notebooks.read(partial)):
        print(f"\n{partial}: no picture came of {', '.join(bare)}\n", file=sys.stderr, flush=True)
        return Row(job.name, "FAILED", seconds)
    os.replace(partial, job.output)
    job.stamp.write_text(stamp_of(job))
    counts = map(provenance(job.output).get, ("read", "trained", "missing"))
    return Row(job.name, "executed", seconds, *counts)


def with_parameters(job: Job) -> dict[str, Any]:
    """Return the notebook with a cell that lays the job's values over its parameters.

    The cell is the one that papermill would inject, which turns the keys of a dictionary into text.
    """
    notebook = notebooks.read(job.source)
    lines = [f"{name} = {pformat(value, width=90, sort_dicts=False)}" for name, value in job.values.items()]
    cell = {"cell_type": "code", "id": INJECTED, "metadata": {"tags": [INJECTED]}}
    cell |= {"execution_count": None, "outputs": [], "source": "\n".join(["# Parameters", *lines])}
    if job.values:
        tagged = ["parameters" in tags(cell) for cell in notebook["cells"]]
        notebook["cells"].insert(1 + tagged.index(True), cell)
    return notebook


def log_of(job: Job, places: Places) -> Path:
    """Return the file that takes what the notebook prints while it runs."""
    return places.build / "logs" / f"{job.name}.log"


def last_line(log: Path) -> str:
    """Return the last line of a log; a progress bar's carriage returns separate lines too."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return lines[-1] if lines else "starting"


def failure(partial: Path, log: Path) -> str:
    """Return the source and the error of the cell that failed, or of the one the kernel died in."""
    cells = code_cells(partial) if partial.is_file() else []
    begun = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    if not begun:
        return f"\n{partial}: failed\n\n{_indent(_tail(log))}\n"
    cell = begun[-1]  # a dead kernel leaves no error in it, and calls it completed
    errors = [out for out in cell["outputs"] if out["output_type"] == "error"]
    said = "\n".join(errors[0]["traceback"]) if errors else _tail(log)
    source = _indent("".join(cell["source"]))
    return f"\n{partial}: this cell failed\n\n{source}\n\n{_indent(said)}\n"


def _tail(log: Path, lines: int = 25) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _indent(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "\n".join(f"    {line}" for line in plain.splitlines())


def render_if_changed(places: Places, jobs: list[Job]) -> Row:
    """Render the site if a page, an output or the configuration is new; return its row."""
    pages = stage(places, jobs)
    files = [file for file in pages.rglob("*") if file.is_file()]
    absent = [job.name for job in jobs if not job.output.is_file()]
    # The second line says of a site whether it is whole.
    inputs = f"{digest(files, places.root, basis_of(places, pages))}\n{', '.join(absent)}\n"
    stamp = places.site / STAMP
    if stamp.is_file() and stamp.read_text() == inputs:
        return Row("the site", "unchanged")
    start = time.monotonic()
    # Without their outputs, notebooks lack the figures that other pages refer to.
    error = render(places, pages, strict=not absent)
    if error:
        print(f"\nThe site could not be rendered:\n{_indent(error)}\n", file=sys.stderr)
        return Row("the site", "FAILED", time.monotonic() - start)
    stamp.write_text(inputs)
    return Row("the site", "rendered", time.monotonic() - start)


def table(rows: list[Row]) -> str:
    """Return the rows as text, a dash where there is nothing to say."""
    lines = [["notebook", "state", "seconds", "runs read", "trained", "missing"]]
    for row in rows:
        seconds = None if row.seconds is None else f"{row.seconds:.1f}"
        numbers = [seconds, row.read, row.trained, row.missing]
        lines.append([row.name, row.state, *("-" if n is None else str(n) for n in numbers)])
    name, state, *numbers = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{line[0]:<{name}}  {line[1]:<{state}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[2:], numbers, strict=True))
        for line in lines
    )


def build(places: Places, args: Settings) -> list[Row]:
    """Execute what changed and render it if nothing failed; return the closing table's rows."""
    profile = args.profile or settings.default_profile(places, args.trains)
    jobs = plan(places, profile, args.parameters, args.only, settings.records_of(places))
    asked = [job for job in jobs if job.name == args.only or not args.only]
    with processes.only_build(places), processes.ended_by_signals():
        repair(places)
        rows = execute_stale(asked, places, args, profile)
        others = [job for job in jobs if job not in asked]
        rows += [Row(job.name, "kept" if job.output.is_file() else "not executed") for job in others]
        names = ["training", *(job.name for job in jobs)]
        rows.sort(key=lambda row: names.index(row.name))
        if any(row.state == "FAILED" for row in rows):
            return rows
        numbers.write(jobs)
        return [*rows, render_if_changed(places, jobs)]


def main(argv: list[str] | None = None) -> int:
    """Run `make book`; return 0, 1 where it failed, 2 for wrong use, 128 + n where a signal ended it."""
    return forgiven(lambda: _main(argv), "make book")


def _main(argv: list[str] | None) -> int:
    try:
        args = settings.read(argv)
        places = Places(args.root)
        rows = build(places, args)
    except WrongUse as error:
        print(f"make book: {error}", file=sys.stderr)
        return 2
    except (Busy, OSError) as error:
        print(f"make book: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake book: stopped", file=sys.stderr)
        return 1
    except Ended as end:
        print("\nmake book: ended by a signal; the next one goes on from here", file=sys.stderr)
        return 128 + end.args[0]
    failed = any(row.state == "FAILED" for row in rows)
    print(f"\n{table(rows)}\n")
    index = (places.site / "index.html").resolve()
    print(f"{'the last good site: ' if failed and index.exists() else ''}{index}")
    return 1 if failed else 0
