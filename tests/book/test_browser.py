"""The built site as a browser shows it, served on localhost: every page, in both themes, on a phone too.

Each page is opened once; what was seen of it is kept, and every test holds all pages to one rule.
"""

import contextlib
import functools
import re
import threading
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from grokking_book.make import whole

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright, of the extra test")

pytestmark = [pytest.mark.site, pytest.mark.slow]

DESK, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
FACTS = Path(__file__).with_name("page_facts.js").read_text(encoding="utf-8")
TIMEOUT = 60_000  # milliseconds; of a machine that is busy with other things

# Opens what is folded, so that it is looked at too, and waits until the page has drawn itself.
SETTLE = """async () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  for (const hidden of document.querySelectorAll(".toggle-hidden")) hidden.classList.remove("toggle-hidden");
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
}"""
READY = """() => !document.querySelector("[data-companion]:not([data-ready=yes])")"""
THEME = """async (theme) => {
  document.documentElement.dataset.mode = document.documentElement.dataset.theme = theme;
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  for (const change of document.getAnimations()) change.finish();
}"""


@dataclass
class Visit:
    """What was seen of one page: facts as page_facts.js tells them, by theme and on a phone."""

    asked: list[str] = field(default_factory=list)  # addresses
    errors: list[str] = field(default_factory=list)  # of the console, the scripts and the server
    light: dict = field(default_factory=dict)
    dark: dict = field(default_factory=dict)
    phone: dict = field(default_factory=dict)


class Quiet(SimpleHTTPRequestHandler):
    """A file server that keeps no log."""

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served: http://127.0.0.1:PORT/."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tab(browser):
    """An empty page of a reader who has never been here, whose errors fail the test."""
    context = browser.new_context(viewport=DESK)
    page, visit = context.new_page(), Visit()
    page.set_default_timeout(TIMEOUT)
    listen(page, visit)
    yield page
    context.close()
    assert visit.errors == []


def listen(page, visit):
    """Write down what a page asks for, and what goes wrong in it."""

    def answered(response):
        if response.status >= 400:
            visit.errors.append(f"{response.status} {response.url}")

    def told(message):
        if message.type in ("error", "warning"):
            visit.errors.append(message.text)

    page.on("request", lambda request: visit.asked.append(request.url))
    page.on("requestfailed", lambda request: visit.errors.append(f"{request.failure} {request.url}"))
    page.on("response", answered)
    page.on("console", told)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))


def settle(page):
    """Wait until all of a page is drawn; a part that is never ready is told by the page's facts."""
    page.evaluate(SETTLE)
    with contextlib.suppress(playwright.TimeoutError):
        page.wait_for_function(READY, timeout=TIMEOUT / 3)


def look(context, url):
    """Open a page as a reader does, in both themes, then on a phone; return what was seen."""
    page, visit = context.new_page(), Visit()
    page.set_default_timeout(TIMEOUT)
    page.set_viewport_size(DESK)
    listen(page, visit)
    page.goto(url)
    settle(page)
    for theme in ("light", "dark"):
        page.evaluate(THEME, theme)
        setattr(visit, theme, page.evaluate(FACTS))
    page.set_viewport_size(PHONE)
    page.evaluate(THEME, "light")
    visit.phone = page.evaluate(FACTS)
    page.close()
    return visit


@pytest.fixture(scope="module")
def visits(browser, address, pages):
    """What was seen of every page, by its name."""
    with browser.new_context() as context:
        return {name: look(context, address + name) for name in pages}


def where(visits, told):
    """What `told` finds wrong, by page; no entry where nothing is."""
    return {name: wrong for name, visit in visits.items() if (wrong := told(visit))}


def test_facts_tell_of_text_too_faint_boxes_too_wide_and_images_that_are_broken(tab):
    tab.set_content("""
        <p style="color: #777">faint</p> <p style="color: #767676">just dark enough</p>
        <p style="color: #949494; font: 24px serif">large</p> <p style="color: #0006">clear, half seen</p>
        <div style="background: #000"><b style="color: #fff8; background: #fff8">grey on grey</b></div>
        <button disabled style="color: #ccc">switched off</button>
        <div class="far" style="width: 3000px">wide</div> <img src="data:image/png,none">
        <div style="overflow: auto"><div style="width: 4000px">in a box that scrolls</div></div>""")
    tab.evaluate(SETTLE)
    facts = tab.evaluate(FACTS)
    faint = [place.rpartition(": ")[2] for place in facts["faint"]]
    assert faint == ["faint", "clear, half seen", "grey on grey"]
    assert facts["wide"][1:] == ["html > body > div.far"]
    assert facts["broken"] == ["data:image/png,none"]


def test_facts_tell_of_pictures_too_small_to_read(tab):
    drawn = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='700' height='70'/>"
    tab.set_content(f"""<div class="bd-content"><figure><img src="{drawn}"></figure>
        <figure><img src="{drawn}" width="350"></figure> <img src="{drawn}" width="35"></div>""")
    tab.evaluate(SETTLE)
    assert tab.evaluate(FACTS)["small"] == [drawn]


def test_address_of_the_site_is_that_of_the_first_page(tab, address):
    tab.goto(address)
    assert "The Grokking Companion" in tab.inner_text("article h1")
    assert tab.url == address


def test_no_page_asks_another_server(visits, address):
    def others(visit):
        return [url for url in visit.asked if not url.startswith((address, "data:", "blob:"))]

    assert where(visits, others) == {}


def test_no_page_reports_an_error(visits):
    assert where(visits, lambda visit: visit.errors) == {}


def test_all_mathematics_is_rendered(visits):
    assert where(visits, lambda visit: visit.light["raw"]) == {}
    assert sum(visit.light["formulas"] for visit in visits.values()) > 0


def test_every_image_is_loaded(visits):
    assert where(visits, lambda visit: visit.light["broken"]) == {}


def test_every_part_to_play_with_draws_itself(visits):
    assert where(visits, lambda visit: visit.light["waiting"]) == {}


def test_text_stands_out_from_its_background_in_the_light_theme(visits):
    assert where(visits, lambda visit: visit.light["faint"]) == {}


def test_text_stands_out_from_its_background_in_the_dark_theme(visits):
    assert where(visits, lambda visit: visit.dark["faint"]) == {}


def test_no_page_scrolls_sideways_on_a_phone(visits):
    assert where(visits, lambda visit: visit.phone["wide"]) == {}


def test_pictures_can_be_read_on_a_phone(visits):
    assert where(visits, lambda visit: visit.phone["small"]) == {}


def test_button_changes_the_theme_and_the_next_page_keeps_it(tab, address):
    tab.goto(address)
    button = tab.locator(".theme-switch-button:visible").first
    seen = set()
    while "dark" not in seen and len(seen) < 3:
        button.click()
        seen.add(tab.evaluate("document.documentElement.dataset.mode"))
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.goto(address + "how_to_use.html")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"


def test_print_leaves_out_what_only_a_screen_can_use(tab, address):
    tab.goto(address + "figures/fig1_grokking_curves.html")
    tab.emulate_media(media="print")
    assert tab.locator("article p").first.is_visible()
    for selector in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer", ".copybtn"):
        shown = [found for found in tab.locator(selector).all() if found.is_visible()]
        assert shown == [], selector


def test_whole_book_on_one_page_is_drawn_and_asks_no_other_server(tab, address):
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(address + whole.PAGE)
    tab.evaluate(SETTLE)
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    formulas = tab.locator(".math")
    assert formulas.count() == tab.locator(".math:has(mjx-container)").count() > 30
    assert tab.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    for size in (DESK, PHONE):
        tab.set_viewport_size(size)
        assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]


@pytest.mark.parametrize("words", ["weight decay", "grokking", "dropout", "sweep", "batches"])
def test_search_finds_pages_that_have_the_words(tab, address, pages, words):
    tab.goto(f"{address}search.html?q={words.replace(' ', '+')}")
    tab.locator("#search-results .search-summary:has-text('found')").wait_for()
    found = tab.locator("#search-results ul.search a").evaluate_all("links => links.map((link) => link.href)")
    names = {urlsplit(url).path.strip("/") for url in found}
    assert names <= set(pages)
    assert any(words in " ".join(pages[name].soup.text.lower().split()) for name in names)


def test_pages_work_from_a_folder_without_a_server(browser, site, pages):
    """As on a memory stick: all that draws itself, and the search."""
    names = {name for name, page in pages.items() if page.soup.select("[data-companion], .math")}
    with browser.new_context() as context:
        seen = {name: look(context, (site / name).as_uri()) for name in sorted(names)}
    assert where(seen, lambda visit: visit.errors) == {}
    for fact in ("raw", "waiting", "broken"):
        assert where(seen, lambda visit, fact=fact: visit.light[fact]) == {}


def test_search_works_from_a_folder_without_a_server(tab, site):
    tab.goto(f"{(site / 'search.html').as_uri()}?q=weight+decay")
    tab.locator("#search-results .search-summary:has-text('found')").wait_for()
    assert tab.locator("#search-results ul.search a").count() > 1


def test_explorer_filters_its_runs_and_a_link_brings_the_choice_back(tab, browser, address):
    tab.goto(f"{address}explorer.html#x=log")
    settle(tab)
    shown = tab.locator(".explorer-count")
    before = int(shown.inner_text())
    box = tab.locator("input[name=operation]:not(:disabled)").first
    box.check()
    after = int(shown.inner_text())
    assert 0 < after < before
    lines = tab.locator(".explorer-plot").evaluate("plot => plot.data.length")
    with browser.new_page() as other:
        other.goto(tab.url)
        settle(other)
        assert int(other.locator(".explorer-count").inner_text()) == after
        assert other.locator("input[name=operation]:checked").input_value() == box.input_value()
        assert other.locator(".explorer-plot").evaluate("plot => plot.data.length") == lines


def test_explorer_weighs_less_than_five_megabytes_in_all(tab, address):
    tab.goto(f"{address}explorer.html")
    settle(tab)
    parts = "['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))"
    assert 0 < tab.evaluate(f"{parts}.reduce((sum, part) => sum + part.decodedBodySize, 0)") < 5_000_000


def test_film_shows_another_table_and_step_when_its_slider_moves(tab, address):
    tab.goto(f"{address}figures/film.html")
    settle(tab)
    slider = tab.locator("input[type=range].film-slider").first
    if not slider.count():
        pytest.skip("the records of the film are not there")
    picture = "canvas => canvas.toDataURL()"
    seen = []
    for end in ("Home", "End"):
        slider.press(end)
        table = tab.locator("canvas.film-table").first.evaluate(picture)
        seen.append((tab.locator(".film-step").first.inner_text(), table))
    (first, empty), (last, filled) = seen
    assert int(first.replace(",", "")) < int(last.replace(",", ""))
    assert empty != filled


def test_puzzle_checks_hints_and_starts_again(tab, address):
    tab.goto(f"{address}figures/fig1_operation_table.html")
    settle(tab)
    holes, told = tab.locator(".puzzle input[data-row][data-column]"), tab.locator(".puzzle .puzzle-told")
    check, hint = tab.locator("button[name=check]"), tab.locator("button[name=hint]")
    check.click()
    assert told.inner_text() == f"0 right, 0 wrong, {holes.count()} open"
    hint.click()
    check.click()
    assert told.inner_text() == f"1 right, 0 wrong, {holes.count() - 1} open"
    hinted = next(hole for hole in holes.all() if hole.input_value())
    letter = hinted.input_value()
    hinted.fill(next(other for other in "ab" if other != letter))
    check.click()
    assert told.inner_text() == f"0 right, 1 wrong, {holes.count() - 1} open"
    tab.locator("button[name=restart]").click()
    assert {hole.input_value() for hole in holes.all()} == {""}


def test_puzzle_is_solved_by_its_hints_alone(tab, address):
    tab.goto(f"{address}figures/fig1_operation_table.html")
    settle(tab)
    for _ in range(tab.locator(".puzzle input[data-row]").count()):
        tab.locator("button[name=hint]").click()
    assert re.search(r"\d+ right, 0 wrong, 0 open", tab.locator(".puzzle-told").inner_text())
