"""`make book`: execute the notebooks with papermill, render the site, say what was done.

What the notebooks ask for is trained first, in one sweep, so that no run is trained for two of them; they
then read it. A notebook whose code, parameters, package and output are unchanged, and which lacks no run,
is not executed again: its prose is rendered anew. A site whose pages are unchanged is not rendered again.
Whatever fails leaves the last good notebook and the last good site where they were.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from pprint import pformat
from typing import Any

import yaml

from grokking_book.make import notebooks
from grokking_book.make.jobs import Job, Places, all_values, asks_for_runs, digest, plan, stamp_of
from grokking_book.make.notebooks import INJECTED, code_cells, provenance, tags
from grokking_book.make.parameters import WrongUse
from grokking_book.make.render import STAMP, basis_of, render, stage
from grokking_book.make.status import made

REPORT_SECONDS = 15  # between two lines about the notebooks under way
LOST_PORT = ("Address already in use", "Kernel died before replying to kernel_info")


@dataclass(frozen=True)
class Row:
    """One line of the closing table."""

    name: str
    state: str  # executed, FAILED, unchanged, kept, not executed
    seconds: float | None = None
    read: int | None = None  # runs read from records
    trained: int | None = None  # runs trained
    missing: int | None = None  # runs without an answer


def execute_stale(jobs: list[Job], places: Places, args: argparse.Namespace, profile: str) -> list[Row]:
    """Execute what is not current, those that read the others' runs after them; return all rows."""
    env, rows = environment(args.fresh, profile), []
    stale = [job for job in jobs if args.fresh or not job.is_current()]
    if any(asks_for_runs(job) for job in stale):
        env["GROKKING_TRAINED_SINCE"] = now()
        rows.append(train([job for job in stale if asks_for_runs(job)], places, env, args.minutes))
    for late in (False, True):
        due = [job for job in jobs if bool(job.reads) == late]
        if any(row.state == "FAILED" for row in rows):
            done = {row.name for row in rows}
            return rows + [Row(job.name, "not executed") for job in jobs if job.name not in done]
        stale = [job for job in due if args.fresh or not job.is_current()]
        if stale:
            print(f"profile {profile}: executing {', '.join(job.name for job in stale)}", flush=True)
        # Two even on one core: while one trains, the other may only read and draw.
        workers = int(args.jobs) or min(max(os.cpu_count() or 1, 2), 4)
        rows += execute_all(stale, places, min(workers, max(1, len(stale))), env)
        rows += [Row(job.name, "unchanged") for job in due if job not in stale]
    return rows


def train(jobs: list[Job], places: Places, env: dict[str, str], minutes: str) -> Row:
    """Train what the notebooks ask for and what is not on record, until a time limit; return its row."""
    running, logs = places.build / "running", places.build / "logs"
    for folder in (running, logs):
        folder.mkdir(parents=True, exist_ok=True)
    asked, log = running / "asked.yml", logs / "training.log"
    asked.write_text(yaml.safe_dump({job.name: all_values(job) for job in jobs}, sort_keys=False))
    command = [sys.executable, "-m", "grokking_core", "sweep", *(job.name for job in jobs)]
    command += ["--profile", str(asked), *(["--minutes", minutes] if minutes else [])]
    start = time.monotonic()
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, env=env) as process:
        while process.poll() is None:
            try:
                process.wait(REPORT_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"training: {last_line(log)}", flush=True)
    states = {0: "done", 3: "time limit"}
    state = states.get(process.returncode, "FAILED")
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
            pool.shutdown(cancel_futures=True)
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
    for folder in (log.parent, partial.parent, job.output.parent):
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
        with log.open("w") as out:
            status = subprocess.run(command, stdout=out, stderr=out, env=env).returncode
        if status == 0 or not any(words in log.read_text() for words in LOST_PORT):
            break
    seconds = time.monotonic() - start
    if status != 0:
        print(failure(partial, log), file=sys.stderr, flush=True)
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
    inputs = digest(files, places.root, basis_of(places, pages))
    stamp = places.site / STAMP
    if stamp.is_file() and stamp.read_text() == inputs:
        return Row("the site", "unchanged")
    start = time.monotonic()
    # Without their outputs, notebooks lack the figures that other pages refer to.
    error = render(places, pages, strict=all(job.output.is_file() for job in jobs))
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


def default_profile(places: Places, trains: bool) -> str:
    """Return `paper` with a CUDA device, or with its records where nothing `trains`; else `laptop`."""
    tool = shutil.which("nvidia-smi")
    devices = tool and subprocess.run([tool, "-L"], capture_output=True).stdout
    shipped = "paper" in complete_profiles(places) and not trains
    return "paper" if devices or shipped else "laptop"


def complete_profiles(places: Places) -> list[str]:
    """Return the profiles all of whose runs are shipped: those that records/complete.yml lists.

    A test holds the list to the records, which takes longer than a build may.
    """
    listed = places.book / "records" / "complete.yml"
    names = yaml.safe_load(listed.read_text()) if listed.is_file() else None
    return [name for name in names or [] if listed.with_name(f"{name}.parquet").is_file()]


def environment(fresh: bool, profile: str) -> dict[str, str]:
    """Return the notebooks' environment: this interpreter's own kernel, and what the package asks for."""
    env = dict(os.environ, JUPYTER_PREFER_ENV_PATH="1", GROKKING_PROFILE=profile)
    if fresh:
        # A date: what one notebook of this build has trained, the others read.
        env["GROKKING_FRESH"] = now()
    return env


def now() -> str:
    """Return the date and time as records have it: UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the arguments; what `make` put into the environment is their default."""
    said = os.environ.get
    parser = argparse.ArgumentParser(prog="python -m grokking_book.make", description=__doc__)
    parser.add_argument("--profile", default=said("PROFILE"), help="smoke, laptop or paper")
    parser.add_argument("--only", default=said("ONLY"), help="execute this notebook alone")
    parser.add_argument("-p", "--parameters", default=said("P") or "", help="name=value ...")
    parser.add_argument("--jobs", default=said("JOBS") or "0", help="notebooks at a time")
    parser.add_argument("--minutes", default=said("MINUTES") or "", help="time limit of the training")
    parser.add_argument("--fresh", action="store_true", default=said("FRESH", "") not in ("", "0"))
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def is_above_0(text: str) -> bool:
    """Return whether a text is a finite number above 0."""
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def build(places: Places, args: argparse.Namespace) -> list[Row]:
    """Execute what changed and render it if nothing failed; return the closing table's rows."""
    if not args.jobs.isdecimal():
        raise WrongUse(f"JOBS={args.jobs} must be a number of notebooks, 1 or more")
    if args.minutes and not is_above_0(args.minutes):
        raise WrongUse(f"MINUTES={args.minutes} must be a number above 0")
    profile = args.profile or default_profile(places, trains=bool(args.parameters or args.fresh))
    jobs = plan(places, profile, args.parameters, args.only)
    asked = [job for job in jobs if job.name == args.only or not args.only]
    rows = execute_stale(asked, places, args, profile)
    others = [job for job in jobs if job not in asked]
    rows += [Row(job.name, "kept" if job.output.is_file() else "not executed") for job in others]
    names = ["training", *(job.name for job in jobs)]
    rows.sort(key=lambda row: names.index(row.name))
    if any(row.state == "FAILED" for row in rows):
        return rows
    return [*rows, render_if_changed(places, jobs)]


def main(argv: list[str] | None = None) -> int:
    """Run `make book`; return 0, 1 where a notebook or the site failed, 2 for wrong use."""
    args = parse(argv)
    places = Places(args.root)
    try:
        rows = build(places, args)
    except WrongUse as error:
        print(f"make book: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmake book: stopped", file=sys.stderr)
        return 1
    failed = any(row.state == "FAILED" for row in rows)
    print(f"\n{table(rows)}\n")
    index = (places.site / "index.html").resolve()
    print(f"{'the last good site: ' if failed and index.exists() else ''}{index}")
    return 1 if failed else 0
