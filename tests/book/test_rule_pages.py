"""The two pages of rules show the very functions that decide."""

import os
import re
from pathlib import Path

import pytest

from grokking_core.claims import CLAIMS
from grokking_core.literature import LEDGER

ROOT = Path(__file__).resolve().parents[2]
ROWS = {"claims": CLAIMS, "literature": LEDGER}
PAGES = {name: (ROOT / "book" / f"{name}_code.md").read_text() for name in ROWS}
DECIDES = [(page, row.decide) for page, rows in ROWS.items() for row in rows.values()]


@pytest.mark.parametrize(("page", "decide"), DECIDES, ids=lambda given: getattr(given, "__name__", given))
def test_section_of_a_row_shows_the_function_that_decides(page, decide):
    name = decide.__name__
    sections = re.findall(rf"\n\(decides-{name}\)=\n## ((?:.|\n)+?)(?=\n\(decides-|\Z)", PAGES[page])
    assert [section.count(f":pyobject: {name}\n") for section in sections] == [1]
    assert f"{page}/{Path(decide.__code__.co_filename).name}\n:pyobject: {name}\n```" in sections[0]


@pytest.mark.parametrize("page", ROWS)
def test_page_names_files_from_where_pages_are_staged(page):
    staged = ROOT / "build" / "book"
    for path, options in re.findall(r"```{literalinclude} (\S+)\n((?::.+\n)+)```", PAGES[page]):
        source = Path(os.path.normpath(staged / path)).read_text()
        for option, value in re.findall(r":(\S+): (.+)\n", options):
            assert (f"def {value}(" if option == "pyobject" else f"\n{value}") in source
    assert len(re.findall(r"\(decides-\w+\)=", PAGES[page])) == len(ROWS[page])
