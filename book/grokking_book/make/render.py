"""From pages and executed notebooks to the site: what Jupyter Book reads is laid out, and rendered.

Rendering goes on from where the last good one ended, with the pages it has read and written, so that an
edit costs the pages it changes; `sphinx_incremental` sees to it that the site is the one that a rendering
from nothing gives. It works on copies, which take the place of the last good site only if all went well.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from grokking_book.make import pdf, processes, settings, status, whole
from grokking_book.sources import notebooks, numbers
from grokking_book.sources.jobs import Job, Places, digest

NO_PAGES = {"profiles", "records"}  #: folders of the book with nothing to show
PAGES = {".md", ".ipynb"}
#: What the command of this name does, quicker: it looks more rarely for garbage among what is all kept, and
#: goes without a grammar of addresses that JupyterLab brings, which takes a second to load.
JUPYTER_BOOK = """
import gc, sys
gc.set_threshold(200_000, 50, 100)
sys.modules["rfc3987_syntax"] = None
from jupyter_book.cli.main import main
main()
"""
PICTURES = Path("pictures")  #: of notebooks, for the pages that show them again
STAMP = ".stamp"  #: in the site, once it is complete: what it was made from


def stage(places: Places, jobs: Sequence[Job]) -> Path:
    """Lay out what Jupyter Book reads and return its folder; what has not changed keeps its date."""
    wanted = contents(places, jobs)
    for path in [path for path in places.pages.rglob("*") if path.is_file()]:
        if path.relative_to(places.pages) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        path = places.pages / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return places.pages


def contents(places: Places, jobs: Sequence[Job]) -> dict[Path, bytes]:
    """Return what Jupyter Book reads, by path: the pages, each notebook as last executed, their status."""
    files = [path for path in places.book.rglob("*") if path.is_file() and path.suffix != ".py"]
    found = {path.relative_to(places.book): path for path in files}
    wanted = {name: path.read_bytes() for name, path in found.items() if is_shown(name)}
    pages = {job.name: job.source.relative_to(places.book) for job in jobs}
    executed = {job.name: notebooks.read(job.output) for job in jobs if job.output.is_file()}
    for job in jobs:
        notebook, page = notebooks.read(job.source), pages[job.name]
        if job.name in executed:
            pictures = notebooks.pictures(executed[job.name])
            wanted |= {PICTURES / f"{name}.png": picture for name, picture in pictures.items()}
            notebook = notebooks.merged(notebook, executed[job.name])
        notebook["cells"].append(status.footer(job, page, executed.get(job.name)))
        wanted[page] = notebooks.write(notebook).encode()
        tables = (path for path in numbers.files_of(job).values() if path.is_file())
        wanted |= {numbers.FOLDER / path.name: path.read_bytes() for path in tables}
    wanted[Path("status.md")] = status.page(jobs, executed, pages).encode()
    return wanted


def is_shown(name: Path) -> bool:
    """Return whether a file of the book is for readers, by its path below the book's folder."""
    return name.parts[0] not in NO_PAGES and not any(part.startswith((".", "__")) for part in name.parts)


def render(places: Places, pages: Path, strict: bool) -> str | None:
    """Render the site beside the last good one and swap them; return what went wrong, or None.

    `strict`: what Sphinx warns of is an error, and the next rendering goes on from this one.
    """
    work, last = places.build / "rendering", places.build / "rendered"
    origin, basis = last / "origin", basis_of(places, pages)
    shutil.rmtree(work, ignore_errors=True)
    if origin.is_file() and origin.read_text() == basis and (places.site / STAMP).is_file() and strict:
        shutil.copytree(last, work, ignore=shutil.ignore_patterns(origin.name))
        # Scripts and styles are copied anew by each rendering, some of them after the pages are written.
        made_anew = shutil.ignore_patterns("_static", STAMP, pdf.PDF)
        shutil.copytree(places.site, html_of(work), ignore=made_anew)
    error = run_sphinx(places, pages, work, strict)
    if error:
        return error
    origin.unlink(missing_ok=True)  # until both are there again
    swap(html_of(work), places.site)
    swap(work, last)
    if strict:
        origin.write_text(basis)
    return None


def html_of(work: Path) -> Path:
    """Return where Jupyter Book puts the site."""
    return work / "_build" / "html"


def basis_of(places: Places, pages: Path) -> str:
    """Return a hash of all that more than one page is made from: where it changes, all begins anew."""
    files = [path for path in pages.rglob("*") if path.is_file()]
    names = sorted(str(path) for path in files if path.suffix in PAGES)
    own = (pages / numbers.FOLDER, pages / PICTURES)  # what is there is of one page
    shared = [path for path in files if path.suffix not in PAGES and path.parent not in own]
    shared += [places.root / "_config.yml", *places.book.glob("grokking_book/**/*.py"), *places.package()]
    # Its date changes when a package is installed, upgraded or removed.
    installed = os.stat(sysconfig.get_path("purelib")).st_mtime_ns
    return digest(shared, places.root, sys.version, installed, names)


def run_sphinx(places: Places, pages: Path, work: Path, strict: bool) -> str | None:
    """Have Jupyter Book render the pages below `work`, and all on one; return what went wrong, or None."""
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", str(pages)]
    command += ["--config", str(places.root / "_config.yml"), "--path-output", str(work)]
    command += ["-W", "-n", "--keep-going"] if strict else []
    log = places.build / "logs" / "render.log"
    if processes.run(command, log, settings.environment(places)) == 0:
        whole.write(pages, html_of(work))
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-25:])


def swap(new: Path, old: Path) -> None:
    """Put a folder in the place of another; `repair` puts that one back if this is cut off halfway."""
    gone = gone_of(old)
    shutil.rmtree(gone, ignore_errors=True)
    if old.exists():
        os.replace(old, gone)
    os.replace(new, old)
    shutil.rmtree(gone, ignore_errors=True)


def gone_of(folder: Path) -> Path:
    """Return where a folder lies while another takes its place."""
    return folder.with_name(f"{folder.name}.old")


def repair(places: Places) -> None:
    """Put the last good site back where a build was killed between taking it away and the new one."""
    if gone_of(places.site).is_dir() and not places.site.exists():
        os.replace(gone_of(places.site), places.site)
