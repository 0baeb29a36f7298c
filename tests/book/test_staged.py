"""What a page says of how it was made; what Jupyter Book reads, and renders."""

import shlex
import shutil
import time
from pathlib import Path

import pytest
import yaml
from small_book import PARAMETERS, PROVENANCE, pretend_executed, write_notebook

from grokking_book.make import build, render, status
from grokking_book.sources import notebooks

# What a page says of how it was made.


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ("", "make book ONLY=one PROFILE=smoke"),
        ("fraction=0.25", "make book ONLY=one PROFILE=smoke"),  # as the profile has it
        ("fraction=0.5", 'make book ONLY=one PROFILE=smoke P="fraction=0.5"'),  # as the notebook has it
        ("seeds=[2,3] stop_at=1", 'make book ONLY=one PROFILE=smoke P="seeds=[2, 3] stop_at=1.0"'),
        ("operation='x/y|x-y'", """make book ONLY=one PROFILE=smoke P="operation='x/y|x-y'\""""),
        (
            """operation='a"$b' stop_at=none""",
            """make book ONLY=one PROFILE=smoke P='operation='"'"'a"$b'"'"''""",
        ),
    ],
)
def test_command_of_a_notebook_asks_for_the_same_again(small, given, command):
    job = build.plan(small, "smoke", given)[0]
    assert job.command == command
    words = dict(word.split("=", 1) for word in shlex.split(command)[2:])
    again = build.plan(small, words["PROFILE"], words.get("P", ""), words["ONLY"])[0]
    assert again == job


def test_page_of_a_notebook_ends_with_date_command_and_download(small):
    one = build.plan(small, "smoke", "")[0]
    page = Path("figures/one.ipynb")
    assert "not executed yet" in status.footer(one, page, None)["source"]
    assert "download" not in status.footer(one, page, None)["source"]
    pretend_executed(one)
    told = status.footer(one, page, notebooks.read(one.output))["source"]
    assert "Executed on 2026-01-02 in 7 seconds by Python 3.11.9." in told
    assert "```bash\nmake book ONLY=one PROFILE=smoke\n```" in told
    assert 'class="download-notebook" href="../_sources/figures/one.ipynb"' in told
    assert (
        'href="_sources/claims.ipynb"'
        in status.footer(one, Path("claims.ipynb"), {"metadata": notebooks.read(one.output)["metadata"]})[
            "source"
        ]
    )


def test_page_tells_the_command_of_its_execution_not_of_this_build(small):
    one = build.plan(small, "smoke", "fraction=0.75")[0]
    executed = {"metadata": {"make_book": status.made(one)}}
    assert status.said(build.plan(small, "smoke", "")[0], executed)["command"] == one.command


def test_status_page_has_a_line_for_every_notebook(small, claims):
    jobs = build.plan(small, "smoke", "")
    cost = {"training_seconds": 5400.0, "training_steps": 12_000}
    pretend_executed(
        jobs[0], read=3, trained=0, missing=0, device=["cpu: a", "cuda: b"], torch="2.13.0", **cost
    )
    pretend_executed(jobs[1], read=3, trained=2, missing=1, package="0.1.0")
    page = render.contents(small, jobs)[Path("status.md")].decode()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "|" in line]
    assert lines[0] == list(status.HEADINGS)
    rows = {row[0]: row[1:] for row in lines[2:]}
    one = [
        "complete",
        "smoke",
        "–",
        "3",
        "0",
        "2026-01-02",
        "7",
        "1.50",
        "12,000",
        "cpu: a, cuda: b",
        "–",
        "2.13.0",
    ]
    two = ["1 run missing", "smoke", "–", "3", "2", "2026-01-02", "7", "–", "–", "–", "0.1.0", "–"]
    none = ["not executed", *["–"] * 11]
    assert rows == {
        "{doc}`one <figures/one>`": one,
        "{doc}`two <figures/two>`": two,
        "{doc}`claims <claims>`": none,
    }
    assert "Complete: 1 of 3 notebooks." in page
    write_notebook(jobs[0].source, PARAMETERS, "other = 'code'")
    assert (
        "| complete, out of date |"
        in render.contents(small, build.plan(small, "smoke", ""))[Path("status.md")].decode()
    )


# What Jupyter Book reads, and renders.


def test_stage_touches_only_what_has_changed(small):
    jobs = build.plan(small, "smoke", "")
    pages = render.stage(small, jobs)
    (small.book / "gone.md").write_text("# Gone\n")
    render.stage(small, jobs)
    dates = {path: path.stat().st_mtime_ns for path in pages.rglob("*") if path.is_file()}
    assert pages / "status.md" in dates
    assert not {"profiles", "records", ".hidden"} & {path.name for path in pages.iterdir()}
    (small.book / "gone.md").unlink()
    (small.book / "intro.md").write_text("# Another sentence\n")
    render.stage(small, jobs)
    now = {path: path.stat().st_mtime_ns for path in pages.rglob("*") if path.is_file()}
    assert dates.keys() - now.keys() == {pages / "gone.md"}
    assert {path for path in now if now[path] != dates[path]} == {pages / "intro.md"}


def files_of(site):
    return {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}


def rendered(places, anew=False):
    """The site's files, and the pages that were written; `anew`: from nothing."""
    if anew:
        shutil.rmtree(places.build / "rendered")
    jobs = build.plan(places, "smoke", "")
    for job in jobs:
        pretend_executed(job)
    pages, start = render.stage(places, jobs), time.time_ns()
    assert render.render(places, pages, strict=True) is None
    written = {path.stem for path in places.site.rglob("*.html") if path.stat().st_mtime_ns > start}
    files = files_of(places.site)
    (places.site / render.STAMP).write_text("complete")
    return files, written


@pytest.mark.slow
def test_rendering_goes_on_to_the_site_that_one_from_nothing_gives(small):
    intro = small.book / "intro.md"
    intro.write_text("# A small book\n\nUnheard sentence, see [](figures/one.ipynb).\n")
    cited = "{cite:p}`power2022grokking`\n\n```{bibliography}\n```\n"
    (small.book / "other.md").write_text(f"# Another\n\n{{index}}`an entry` {cited}")
    toc = yaml.safe_load((small.book / "_toc.yml").read_text())
    toc["chapters"].append({"file": "other"})
    (small.book / "_toc.yml").write_text(yaml.safe_dump(toc))
    rendered(small)

    intro.write_text("# A small book\n\nAnother sentence, see [](figures/one.ipynb).\n")
    site, written = rendered(small)
    assert "intro" in written
    assert "other" not in written
    assert b"an entry" in site[Path("searchindex.js")]
    assert b"unheard" not in site[Path("searchindex.js")]
    assert site == rendered(small, anew=True)[0]

    write_notebook(small.book / "figures" / "one.ipynb", PARAMETERS, PROVENANCE, prose="## New\n\nWords.")
    text = (small.book / "figures" / "one.ipynb").read_text().replace("# one", "# The first")
    (small.book / "figures" / "one.ipynb").write_text(text)
    site, written = rendered(small)
    assert "other" in written
    assert b"The first" in site[Path("intro.html")]
    assert site == rendered(small, anew=True)[0]

    toc["chapters"].pop()
    (small.book / "_toc.yml").write_text(yaml.safe_dump(toc))
    (small.book / "other.md").unlink()
    site, _ = rendered(small)
    assert Path("other.html") not in site
    assert b"an entry" not in site[Path("genindex.html")]
