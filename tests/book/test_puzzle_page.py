"""The puzzle as a reader plays it: a page from a folder, no server, in Chromium."""

import shutil
from itertools import chain
from pathlib import Path

import pytest

from grokking_book.play import puzzle

STATIC = Path(__file__).resolve().parents[2] / "book" / "static"
HEAD = '<!doctype html><meta charset="utf-8"><title>Puzzle</title><link rel="icon" href="data:,">'
HEAD += '<link rel="stylesheet" href="companion.css"><script src="companion.js"></script>'
FIRST = puzzle.PUZZLES[0]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page with the widget and nothing else, beside the scripts it needs."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("companion.js", "companion.css", "puzzle.js"):
        shutil.copy(STATIC / name, folder)
    page = folder / "page.html"
    page.write_text(HEAD + puzzle.widget()._repr_mimebundle_()["text/html"], encoding="utf-8")
    return page.as_uri()


@pytest.fixture
def page(browser, address):
    """The page once it is drawn; it may neither fail nor ask for anything that is not beside it."""
    tab, wrong = browser.new_page(viewport={"width": 360, "height": 740}), []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url),
    )
    tab.goto(address)
    tab.wait_for_selector("[data-companion=puzzle][data-ready=yes]")
    yield tab
    tab.close()
    assert wrong == []


def hole(page, number):
    row, column = FIRST.steps[number].cell
    return page.locator(f'.puzzle input[data-row="{row}"][data-column="{column}"]')


def answer(number):
    return FIRST.names[FIRST.steps[number].letter]


def told(page):
    return page.inner_text(".puzzle-told")


def test_check_marks_and_counts(page):
    assert told(page) == "25 open"
    hole(page, 0).press_sequentially(answer(0))
    wrong = next(name for name in FIRST.names if name != answer(1))
    hole(page, 1).press_sequentially(wrong.upper())  # capitals are as good
    page.click("button[name=check]")
    assert told(page) == "1 right, 1 wrong, 23 open"
    assert page.locator(".puzzle-sign").all_inner_texts().count("✓") == 1
    assert hole(page, 1).get_attribute("aria-invalid") == "true"
    assert hole(page, 1).get_attribute("aria-label").endswith(", wrong")
    hole(page, 1).press_sequentially(answer(1))
    assert told(page) == "23 open"
    assert hole(page, 1).get_attribute("aria-invalid") == "false"


def test_other_letters_are_refused(page):
    hole(page, 0).press_sequentially("a")
    hole(page, 0).press_sequentially("h")
    assert hole(page, 0).input_value() == "a"
    assert page.inner_text(".puzzle-why") == "“h” is none of the letters a to g."
    hole(page, 0).press("Backspace")
    assert told(page) == "25 open"


def test_letters_can_be_tapped(page):
    hole(page, 2).click()
    page.click(f".puzzle-letters >> text={answer(2)}")
    assert hole(page, 2).input_value() == answer(2)
    page.click('button[aria-label="empty the cell"]')
    assert hole(page, 2).input_value() == ""


def test_arrows_lead_through_every_hole(page):
    place = "() => [document.activeElement.dataset.row, document.activeElement.dataset.column].join()"
    hole(page, 0).focus()
    for arrow, back in (("ArrowRight", "ArrowLeft"), ("ArrowDown", "ArrowUp")):
        seen = [page.evaluate(place)]
        for _ in range(25):
            page.keyboard.press(arrow)
            seen.append(page.evaluate(place))
        assert len(set(seen)) == 25
        assert seen[25] == seen[0]
        page.keyboard.press(back)
        assert page.evaluate(place) == seen[24]
        page.keyboard.press(arrow)


def test_hint_goes_past_what_is_right_and_tells_what_is_wrong(page):
    hole(page, 0).press_sequentially(answer(0))
    hole(page, 5).press_sequentially(next(name for name in FIRST.names if name != answer(5)))
    page.click("button[name=hint]")
    assert hole(page, 1).input_value() == answer(1)
    why = page.inner_text(".puzzle-why")
    assert FIRST.steps[1].reason in why
    assert why.endswith("Letters of yours that are wrong: 1.")
    assert page.locator(".puzzle-because").count() == len(FIRST.steps[1].because)


def test_hints_alone_solve_every_puzzle(page):
    for number, each in enumerate(puzzle.PUZZLES):
        title = f"Puzzle {number + 1} of 5: {len(each.names)} letters, {len(each.steps)} holes"
        assert page.inner_text(".puzzle-title >> nth=0") == title
        for _ in each.steps:
            assert page.locator(".puzzle-solved button").count() == 0
            page.click("button[name=hint]")
        assert told(page) == f"{len(each.steps)} right, 0 wrong, 0 open"
        assert page.inner_text(".puzzle-solved p") == f"Solved. {each.told}"
        page.click("button[name=order]")
        assert page.locator(".puzzle-table tbody th").all_inner_texts() == list(each.letters)
        assert page.locator(".puzzle-table thead th").all_inner_texts() == list(each.letters)
        page.click("button[name=another]")
    assert page.inner_text(".puzzle-title >> nth=0").startswith("Puzzle 1 of ")


def test_start_again_empties_the_holes(page):
    page.click("button[name=hint]")
    assert told(page) == "24 open"
    page.click("button[name=restart]")
    assert told(page) == "25 open"
    assert page.inner_text(".puzzle-why") == ""
    assert page.evaluate("() => document.activeElement.name") == "restart"


def rows(page, part):
    lines = page.locator(f".puzzle-network {part} tr").all()
    return [line.locator("td").all_inner_texts() for line in lines]


def test_network_view_shows_the_batches_of_the_run(page):
    tokens = FIRST.tokens()
    for batch in FIRST.batches()[:2]:
        assert rows(page, "tbody >> nth=0 >>") == [[str(id) for id in tokens[i][j]] for i, j in batch]
        page.click("button[name=batch]")


def test_network_view_asks_for_the_hole_one_is_at(page):
    hole(page, 3).focus()
    row, column = FIRST.steps[3].cell
    asked = [*map(str, FIRST.tokens()[row][column][:4]), "?"]
    assert rows(page, ".puzzle-question") == [asked]


def test_new_numbers_rename_every_symbol_alike(page):
    before = rows(page, "tbody >> nth=0 >>")
    page.click("button[name=numbers]")
    after = rows(page, "tbody >> nth=0 >>")
    names = {}
    for old, new in zip(chain(*before), chain(*after), strict=True):
        assert names.setdefault(old, new) == new
    assert len(set(names.values())) == len(names)


def test_page_is_no_wider_than_a_phone(page):
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
