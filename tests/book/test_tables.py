"""Tables of notebooks have a caption and a number, as pictures have."""

import ast
import re
from pathlib import Path

import pytest

from grokking_book.sources import notebooks
from grokking_book.sources.jobs import Places

nodes = pytest.importorskip("docutils.nodes", reason="needs Sphinx, of the extra book")
utils = pytest.importorskip("docutils.utils")

from grokking_book.sphinx.tables import TableFigure, Tables, holds_table  # noqa: E402

NOTEBOOKS = Places(Path(__file__).resolve().parents[2]).notebooks()
#: What a cell may end with that shows no table: prose, a picture, a part to play with, provenance.
NO_TABLE = re.compile(r"Markdown\(|plt\.show\(\)|.*\.provenance\(\)|\w+\.widget\(|HTML\(mine\.|page$")
#: Tables that are told of where they stand: provenance, what one finds in the trainer, a solved puzzle.
OWN_WORDS = ".provenance *, .trainer-found *, .puzzle-solution *"


def figure(*kinds, html="<table></table>", name="numbers"):
    """A figure as a notebook's cell makes it, with an output of each kind."""
    held = [nodes.container("", nodes.raw("", html, format="html"), mime_type=kind) for kind in kinds]
    return nodes.figure("", *held, nodes.caption("", "Said."), names=[name], ids=[name])


def shown(cell):
    """The expression that a cell ends with, or nothing where it ends with none."""
    last = ast.parse("".join(cell["source"])).body[-1:]
    return ast.unparse(last[0]) if last and isinstance(last[0], ast.Expr) else ""


def test_figure_that_holds_a_table_becomes_one_and_keeps_its_name():
    document = utils.new_document("page")
    before = figure("text/html", "text/plain")
    document += before
    document.ids["numbers"] = before
    Tables(document).apply()
    (table,) = document.findall(TableFigure)
    assert document.ids["numbers"] is table
    assert (table["names"], table["ids"], table["classes"]) == (["numbers"], ["numbers"], ["table-figure"])
    assert [child.astext() for child in table.findall(nodes.caption)] == ["Said."]


def test_picture_stays_a_picture():
    assert not holds_table(figure("image/png", "text/html"))
    assert not holds_table(figure("text/html", html="<svg></svg>"))
    document = utils.new_document("page")
    document += figure("image/png", html="")
    Tables(document).apply()
    assert [type(node) for node in document.findall(nodes.figure)] == [nodes.figure]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cell_that_shows_a_table_has_a_caption(name):
    cells = notebooks.code_cells(NOTEBOOKS[name])
    tables = [cell for cell in cells if (text := shown(cell)) and not NO_TABLE.match(text)]
    found = [cell["metadata"].get("mystnb", {}).get("figure", {}) for cell in tables]
    bare = [shown(cell) for cell, entry in zip(tables, found, strict=True) if not entry.get("name")]
    assert bare == []
    assert all(entry["caption"].endswith(".") for entry in found)


def test_names_of_tables_and_pictures_are_their_own():
    cells = [cell for path in NOTEBOOKS.values() for cell in notebooks.code_cells(path)]
    entries = [cell["metadata"].get("mystnb", {}).get("figure") for cell in cells]
    names = [entry["name"] for entry in entries if entry]
    assert sorted(names) == sorted(set(names))


@pytest.mark.site
def test_every_table_of_a_notebook_has_a_number_on_the_site(pages):
    bare, numbers = [], []
    for page in pages.values():
        for table in page.soup.select(f"main .cell_output table:not({OWN_WORDS})"):
            around = table.find_parent("figure", class_="table-figure")
            number = around and around.select_one("figcaption .caption-number")
            bare += [] if number else [f"{page.name}: {table.text[:40]}"]
        captions = page.soup.select("figure.table-figure figcaption .caption-number")
        numbers += [caption.text.strip() for caption in captions]
    assert bare == []
    assert all(re.fullmatch(r"Table \d+", number) for number in numbers)
    assert len(numbers) == len(set(numbers)) > len(NOTEBOOKS) / 2
