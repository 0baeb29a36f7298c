"""`make print`: the page with the whole book, as a PDF where a Chromium is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from grokking_book.make import whole
from grokking_book.sources.jobs import Places

PDF = "grokking-companion.pdf"  #: in the site
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--no-pdf-header-footer",
)
TYPESET = 120_000  #: milliseconds of the page's own time, which pass quickly, until mathematics must be drawn
SECONDS = 300


def write(site: Path) -> str:
    """Lay the whole book out on paper; return a line that says where it is, or what it lacks.

    Raises
    ------
    RuntimeError
        If a browser is there and writes none; with its last words.
    """
    page, path = (site / whole.PAGE).absolute(), (site / PDF).absolute()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"{page} (for a PDF, print it in a browser; no {BROWSERS[0]} was found to do it)"
    partial = path.with_suffix(".partial.pdf")
    command = [browser, *OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    command += [f"--virtual-time-budget={TYPESET}", f"--print-to-pdf={partial}", page.as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode or not partial.is_file():
            said = [f"it ended with {done.returncode}", *done.stderr.strip().splitlines()][-1]
            raise RuntimeError(f"{browser} wrote no PDF: {said}")
        os.replace(partial, path)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{browser} wrote no PDF within {SECONDS} seconds") from None
    finally:
        partial.unlink(missing_ok=True)
    return f"{page}\n{path} ({path.stat().st_size / 1e6:.0f} MB)"


def main() -> int:
    """Write the PDF of the site of this folder; return 0, 1 where that failed."""
    try:
        print(write(Places(Path().absolute()).site), flush=True)
    except RuntimeError as error:
        print(f"make print: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
