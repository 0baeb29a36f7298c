"""Builds that run at the same time in one clone, and builds that are killed while they swap the site.

    pytest tests/attack -m slow -s

says how many of each there were. A build is the whole command but for Jupyter Book, in whose place a page is
written: its lock, its pages and its two renames are those of `make book`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grokking_book.make import render
from grokking_book.sources.jobs import Places

pytestmark = pytest.mark.slow

BUILD = """
import os, signal, sys, time
from pathlib import Path
from grokking_book.make import build, render

root, text, kill_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
replace, swaps = os.replace, 0

def page(places, pages, work, strict):
    html = render.html_of(work)
    html.mkdir(parents=True, exist_ok=True)
    time.sleep(0.3)
    for number in range(20):
        (html / f"page{number}.html").write_text(text)
    (html / "index.html").write_text(text)

def counted(old, new):
    global swaps
    if str(old).startswith(str(root / "build")):
        swaps += 1
        if swaps == kill_at:
            os.kill(os.getpid(), 9)
    replace(old, new)

render.run_sphinx, os.replace = page, counted
sys.exit(build.main(["--root", str(root), "--profile", "smoke"]))
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    for name, text in (("_config.yml", ""), ("book/index.md", "# One"), ("book/profiles/smoke.yml", "")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def start(clone: Path, text: str, kill_at: int = 0) -> subprocess.Popen:
    (clone / "book" / "index.md").write_text(f"# {text}")  # a page has changed
    command = [sys.executable, "-c", BUILD, str(clone), text, str(kill_at)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def pages(clone: Path) -> set[str]:
    """What the pages of the site say; they are all of one build."""
    found = [path.read_text() for path in sorted((clone / "build" / "site").glob("*.html"))]
    assert len(found) == 21
    return set(found)


def test_two_builds_at_once_leave_a_whole_site_and_one_is_told_of_the_other(clone, capsys):
    ends = []
    for round_ in range(8):
        builds = [start(clone, f"round {round_}") for _ in range(2)]
        said = [build.communicate(timeout=120)[0] for build in builds]
        ends.append(sorted(build.returncode for build in builds))
        assert "Traceback" not in "".join(said)
        assert ends[-1] == [0, 0] or "another build is at work in this clone: process" in "".join(said)
        assert pages(clone) == {f"round {round_}"}
        assert not (clone / "build" / "building").exists()
    with capsys.disabled():
        print(f"\n8 times two builds at once: {ends.count([0, 1])} times one was refused, 8 whole sites")
    assert all(end in ([0, 0], [0, 1]) for end in ends)


def test_site_survives_40_kills_around_its_renames(clone, capsys):
    """Each time the last good site, or the new one, is there afterwards."""
    first = start(clone, "first")
    first.communicate(timeout=120)
    assert first.returncode == 0
    lost = 0
    for kill in range(40):
        build = start(
            clone, f"kill {kill}", kill_at=1 + kill % 3
        )  # of the site, of the new one, of what is gone on from
        build.communicate(timeout=120)
        assert build.returncode == -signal.SIGKILL
        lost += not (clone / "build" / "site").exists()
        render.repair(Places(clone))  # as `make book` and `make serve` begin
        good = pages(clone)
        assert good <= {"first", *(f"kill {number}" for number in range(kill + 1))}
        assert len(good) == 1
    last = start(clone, "last")
    last.communicate(timeout=120)
    assert (last.returncode, pages(clone)) == (0, {"last"})
    with capsys.disabled():
        print(f"\n40 kills around renames: {lost} took the site away, and the next command put it back")
    assert lost == 13
