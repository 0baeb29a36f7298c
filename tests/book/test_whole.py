"""The whole book on one page, and as a PDF."""

import json
import re
import sys

import pytest

bs4 = pytest.importorskip("bs4", reason="needs Beautiful Soup, of the extra book")

from grokking_book.make import pdf, render, whole  # noqa: E402
from grokking_book.sources.jobs import Places  # noqa: E402

TOC = """\
format: jb-book
root: index
parts:
  - caption: The figures & more
    chapters:
      - file: figures/one
        sections:
          - file: two
      - file: figures/not_rendered
  - caption: The package
    chapters:
      - file: reference/index
"""
PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>A book</title>
<link rel="stylesheet" href="{up}_static/companion.css"><link rel="search" href="{up}search.html">
<script>window.MathJax = {{}}</script><script src="{up}_static/search.js"></script></head>
<body><nav>menu</nav><article class="bd-article"><section id="here">
<h1>Title of {name}<a class="headerlink" href="#here">#</a></h1>{text}</section></article></body></html>"""


@pytest.fixture
def book(tmp_path):
    """The pages of a book of three, one of them a notebook, and the site of it."""
    pages, site = tmp_path / "pages", tmp_path / "site"
    (pages / "figures").mkdir(parents=True)
    (site / "figures").mkdir(parents=True)
    (site / "reference").mkdir()
    (pages / "_toc.yml").write_text(TOC)
    executed = {"cells": [], "metadata": {"make_book": {"profile": "smoke"}}}
    (pages / "figures" / "one.ipynb").write_text(json.dumps(executed))
    texts = {
        "index": '<a href="figures/one.html#here">one</a> <a href="https://example.org/a">far</a>',
        "figures/one": """<img src="../_images/a.png"> <a href="../two.html">two</a> <a href="#here">up</a>
            <a href="../reference/index.html#names">names</a> <a href="../_static/numbers/one.csv">CSV</a>
            <details class="hide"><pre>code</pre></details> <details class="toggle"><p>answer</p></details>
            <div class="companion" data-companion="film"><p class="companion-note">Words.</p>
            <script type="application/json">{"many": "frames"}</script><button>Start</button></div>""",
        "two": "<p>end</p>",
        "reference/index": "<p>names</p>",
    }
    for name, text in texts.items():
        up = "../" * name.count("/")
        (site / f"{name}.html").write_text(PAGE.format(name=name, text=text, up=up))
    return pages, site


def soup_of(book):
    whole.write(*book)
    return bs4.BeautifulSoup((book[1] / whole.PAGE).read_text(), "html.parser")


def test_whole_has_the_pages_in_order_but_for_the_reference(book):
    chapters = soup_of(book).select("section.chapter")
    assert [chapter["id"] for chapter in chapters] == ["index", "figures-one", "two"]
    assert [chapter.h1.text for chapter in chapters] == [
        "Title of index", "Title of figures/one", "Title of two",
    ]  # fmt: skip


def test_whole_leads_to_its_own_places_to_files_of_the_site_and_elsewhere(book):
    found = soup_of(book)
    first, one, _ = found.select("section.chapter")
    assert [link["href"] for link in first.find_all("a")] == ["#figures-one--here", "https://example.org/a"]
    assert [link["href"] for link in one.find_all("a")] == [
        "#two", "#figures-one--here", "reference/index.html#names", "_static/numbers/one.csv",
    ]  # fmt: skip
    assert one.img["src"] == "_images/a.png"
    places = [tag["id"] for tag in found.find_all(id=True)]
    assert len(places) == len(set(places))


def test_whole_opens_what_is_folded_and_leaves_out_what_needs_a_screen(book):
    one = soup_of(book).select_one("#figures-one")
    assert [fold["class"] for fold in one.find_all("details", open=True)] == [["toggle"]]
    assert one.select_one(".companion").text.split() == ["Words."]
    assert one.select("script, button, pre, .headerlink") == []


def test_whole_says_its_profile_and_has_contents_and_mathematics(book):
    found = soup_of(book)
    assert "made with the smoke profile," in found.article.p.text
    assert [link.text for link in found.nav.find_all("a")] == [
        "Title of index", "Title of figures/one", "Title of two",
    ]  # fmt: skip
    assert "The figures & more" in found.nav.text
    assert "The package" not in found.nav.text
    assert [script.text for script in found.head.find_all("script")] == ["window.MathJax = {}"]
    assert [link["href"] for link in found.head.find_all("link")] == ["_static/companion.css"]


def test_whole_says_that_its_notebooks_differ_in_profile_or_were_not_executed(book):
    pages, _ = book
    other = {"cells": [], "metadata": {"make_book": {"profile": "laptop"}}}
    (pages / "claims.ipynb").write_text(json.dumps(other))
    assert "the <code>laptop</code> and <code>smoke</code> profiles," in whole.made_of(pages)
    for path in pages.rglob("*.ipynb"):
        path.write_text(json.dumps({"cells": [], "metadata": {}}))
    assert "made of no executed notebook," in whole.made_of(pages)


# As a PDF


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """Puts a program in the place of the browser."""

    def put(code):
        path = tmp_path / "bin" / pdf.BROWSERS[0]
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\nimport sys, time\n{code}")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return put


WRITES = """
to = next(word.partition("=")[2] for word in sys.argv if word.startswith("--print-to-pdf="))
open(to, "w").write(sys.argv[-1])
"""


def test_pdf_is_printed_from_the_page_by_the_browser(browser, tmp_path):
    browser(WRITES)
    told = pdf.write(tmp_path)
    assert (tmp_path / pdf.PDF).read_text() == (tmp_path / whole.PAGE).as_uri()
    assert str(tmp_path / pdf.PDF) in told


def test_without_a_browser_there_is_the_page_and_a_line(browser, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert pdf.main() == 0
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert re.search(r"build/site/print\.html .*print it in a browser; no chromium was found", told)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sys.exit('out of memory')", "wrote no PDF: out of memory"),
        ("", "wrote no PDF: it ended with 0"),
        ("time.sleep(60)", "wrote no PDF within 0.5 seconds"),
    ],
)
def test_browser_that_fails_is_named_and_the_last_pdf_stays(browser, tmp_path, monkeypatch, code, said):
    if "sleep" in code:
        monkeypatch.setattr(pdf, "SECONDS", 0.5)
    (tmp_path / pdf.PDF).write_text("the last")
    browser(code)
    with pytest.raises(RuntimeError, match=said):
        pdf.write(tmp_path)
    assert (tmp_path / pdf.PDF).read_text() == "the last"
    assert [path.name for path in tmp_path.glob("*.pdf")] == [pdf.PDF]


def test_failure_is_a_line_and_a_status(browser, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    browser("sys.exit('no display')")
    assert pdf.main() == 1
    assert capsys.readouterr().err.endswith("wrote no PDF: no display\n")


def test_pdf_does_not_outlive_the_site_that_it_shows(tmp_path, monkeypatch):
    places = Places(tmp_path)
    monkeypatch.setattr(render, "basis_of", lambda places, pages: "the same")
    monkeypatch.setattr(render, "run_sphinx", lambda places, pages, work, strict: None)
    for path in ("site/index.html", f"site/{pdf.PDF}", f"site/{render.STAMP}", "rendered/read"):
        (places.build / path).parent.mkdir(parents=True, exist_ok=True)
        (places.build / path).touch()
    (places.build / "rendered" / "origin").write_text("the same")
    assert render.render(places, tmp_path, strict=True) is None
    assert [path.name for path in places.site.iterdir()] == ["index.html"]


# Of the site


@pytest.mark.site
def test_whole_of_the_site_has_every_page_picture_and_place(site, pages):
    found = bs4.BeautifulSoup((site / whole.PAGE).read_text(), "html.parser")
    chapters = {chapter["id"] for chapter in found.select("section.chapter")}
    own = ("genindex", "search", "_modules/", whole.LEFT_OUT)
    names = [name.removesuffix(".html") for name in pages if not name.startswith(own)]
    assert chapters == {whole.anchor(name) for name in names}
    places = [tag["id"] for tag in found.find_all(id=True)]
    assert len(places) == len(set(places))
    lost = [link["href"] for link in found.find_all("a", href=True) if link["href"].startswith("#")
            and link["href"][1:] not in places]  # fmt: skip
    assert lost == []
    files = [tag["src"] for tag in found.find_all(["img", "script"], src=True)]
    files += [tag["href"].partition("#")[0] for tag in found.find_all(["a", "link"], href=True)]
    local = {name.partition("?")[0] for name in files if name and "://" not in name}
    assert [name for name in sorted(local) if not (site / name).is_file()] == []
    assert len(found.select("figure img")) >= 30
