import re
from xml.etree import ElementTree

import pytest
import yaml

from grokking_book.pages import literature as pages
from grokking_core import literature
from grokking_core.literature import LEDGER
from grokking_core.runs.records import Records

#: Every preprint that touches grokking or small tables, and those that such claims must be judged by.
CITED = """2210.01117 2301.05217 2405.20233 2501.04697 2504.16041 2602.02859 2602.16746 2604.04655 2604.06256
    2604.13123 2604.16431 2604.20923 2604.25143 2605.01172 2605.04396 2605.06152 2605.06352 2605.08119
    2605.08237
    2605.09724 2605.12394 2605.18845 2605.20441 2606.18465 2607.06639 2607.20512"""


@pytest.fixture
def table():
    nothing = {name: Records(asked=[]) for row in LEDGER.values() for name in row.experiments}
    return literature.verdicts(nothing)


def test_every_paper_has_a_row_or_says_what_a_test_would_take():
    wheres = [row.where for row in LEDGER.values()] + [entry["where"] for entry in pages.untested()]
    assert {*re.findall(r"\d{4}\.\d{5}", " ".join(wheres))} == {*CITED.split()}


def test_table_has_both_settings_and_links_to_paper_page_and_rule(table):
    rows = ElementTree.fromstring(pages.to_html(table)).findall("./tbody/tr")
    for row, entry in zip(rows, LEDGER.values(), strict=True):
        text = " ".join(row.itertext())
        assert entry.says in text
        assert entry.setting in text
        links = [link.get("href") for link in row.iter("a")]
        anchor = f"decides-{entry.decide.__name__}".replace("_", "-")
        assert links[:2] == [f"{entry.page}.html", f"literature_code.html#{anchor}"]
        numbers = re.findall(r"arXiv:(\d{4}\.\d{5})", entry.where)
        assert links[2:] == [f"https://arxiv.org/abs/{number}" for number in numbers]


def test_paper_without_a_rule_is_a_row_of_four_cells():
    entries = [{"where": "arXiv:2605.01172 & more", "says": "a < b", "setting": "any", "lacks": "c"}]
    tree = ElementTree.fromstring(pages.untested_to_html(entries))
    cells = ["".join(cell.itertext()) for cell in tree.findall("./tbody/tr/td")]
    assert cells == ["arXiv:2605.01172 & more", "a < b", "any", "c"]
    assert [link.get("href") for link in tree.iter("a")] == ["https://arxiv.org/abs/2605.01172"]


@pytest.mark.parametrize(
    "entry",
    [
        {"where": "a", "says": "b", "setting": "c"},
        {"where": "a", "says": "b", "setting": "c", "lacks": "d", "verdict": "agrees"},
        {"where": 1, "says": "b", "setting": "c", "lacks": "d"},
    ],
)
def test_entry_without_its_four_texts_is_refused(tmp_path, entry):
    path = tmp_path / "some.yml"
    path.write_text(yaml.safe_dump([entry]))
    with pytest.raises(ValueError, match=r"some.yml: entry 1 must have a text for each of where, says, "):
        pages.untested(path)


def test_page_runs_with_nothing_on_record(own_folders, monkeypatch, run_notebook):
    monkeypatch.setenv("GROKKING_PROFILE", "smoke")
    names = run_notebook("../literature", lambda run: None)
    assert names["counts"].to_dict()["not reached"] == len(LEDGER)
    assert f"Of {len(LEDGER)} rows of " in names["text"]
    assert "runs that the pages ask for are not on record." in names["text"]
