from xml.etree import ElementTree

import pandas as pd
import pytest

from grokking_book.pages import verdicts
from grokking_core.claims import CLAIMS, KINDS
from grokking_core.measures import Needed
from grokking_core.paper import evidence


@pytest.fixture
def table():
    """A row a claim, the verdicts in turn."""
    rows = [
        {"id": claim.id, "where": claim.where, "claim": claim.says, "verdict": KINDS[i % len(KINDS)],
         "measured": f"{i} of 9.", "needed": {}, "n": i, "page": claim.page,
         "decided by": claim.decide.__name__}
        for i, claim in enumerate(CLAIMS.values())
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_html_has_word_colour_and_links_of_each_verdict(table):
    tree = ElementTree.fromstring(verdicts.to_html(table))
    rows = tree.findall("./tbody/tr")
    assert [row.get("id") for row in rows] == [name.lower() for name in CLAIMS]
    for row, (_, verdict) in zip(rows, table.iterrows(), strict=True):
        cells = row.findall("td")
        word = cells[0].find("span")
        assert word is not None
        assert word.text == verdict["verdict"]
        assert verdicts.COLOURS[verdict["verdict"]] in word.get("style", "")
        assert [cell.text for cell in cells[2:]] == [verdict["measured"], str(verdict["n"])]
        links = [link.get("href") for link in row.iter("a")]
        assert links == [f"{verdict['page']}.html", f"claims_code.html#decides-{row.get('id')}"]
    assert set(verdicts.COLOURS) == set(KINDS)


def test_html_escapes_what_is_said(table):
    odd = table.head(1).assign(claim="a < b & c", measured="<b>1</b>")
    cells = ElementTree.fromstring(verdicts.to_html(odd)).findall("./tbody/tr/td")
    assert "".join(cells[1].itertext()).startswith("a < b & c")
    assert "".join(cells[2].itertext()) == "<b>1</b>"


def test_fractions_needed_are_a_small_table_of_bars():
    needed = {
        "x+y": Needed(0.3, 0.4), "AdamW, decay 1": Needed(None, 0.3), "dropout 0.1": Needed(0.8, None),
        "x^2+xy+y^2": Needed(None, None),
    }  # fmt: skip
    text = f"Before <. {evidence.brackets(needed)} So a < b."
    tree = ElementTree.fromstring(f"<div>{verdicts.measured(text, needed)}</div>")
    rows = tree.findall("./table/tbody/tr")
    assert [(row[0].text, row[2].text) for row in rows] == [
        ("x+y", "30 to 40 %"), ("AdamW, decay 1", "at most 30 %"), ("dropout 0.1", "above 80 %"),
        ("x^2+xy+y^2", "unknown"),
    ]  # fmt: skip
    bars = [
        {rect.get("class"): (rect.get("x", "0"), rect.get("width")) for rect in row.iter("rect")}
        for row in rows
    ]
    assert bars == [
        {"bracket-failed": ("0", "30"), "bracket-reached": ("40", "60")},
        {"bracket-reached": ("30", "70")},
        {"bracket-failed": ("0", "80")},
        {},
    ]
    assert tree.text == "Before <. "
    assert "".join(tree.itertext()).endswith("So a < b.")


def test_one_fraction_needed_and_those_that_a_text_does_not_list_stay_words():
    one, two = {"x+y": Needed(0.3, 0.4)}, {"x+y": Needed(0.3, 0.4), "x-y": Needed(None, 0.5)}
    assert verdicts.measured(evidence.brackets(one), one) == evidence.brackets(one)
    assert verdicts.measured("Not asked for.", two) == "Not asked for."
