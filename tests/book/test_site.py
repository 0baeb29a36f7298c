"""The built site, read without a browser: what it refers to is there, and what a page owes its reader."""

import re
from urllib.parse import urljoin, urlsplit

import pytest

from grokking_book.make import build

pytest.importorskip("bs4", reason="needs Beautiful Soup, of the extra test")

from site_pages import ROOT, target

pytestmark = pytest.mark.site

HEAVIEST = 1_500_000  # bytes of a page and its images, besides the scripts and styles that pages share
URL_IN_CSS = re.compile(r"""(?:url\(|@import\s+)\s*["']?([^"')]+)""")
NOTEBOOKS = {
    name: str(path.relative_to(ROOT / "book").with_suffix(".html"))
    for name, path in build.Places(ROOT).notebooks().items()
}


@pytest.fixture(params=NOTEBOOKS.values(), ids=NOTEBOOKS.keys())
def notebook_page(request, pages):
    """The page of a notebook."""
    return pages[request.param].soup


def is_outside(address):
    return urlsplit(address).scheme not in ("file", "data", "")


def test_every_link_leads_to_a_file_of_the_site_and_an_anchor_in_it(site, pages):
    lost = []
    for page in pages.values():
        for _, address in page.references:
            if is_outside(address) or address.startswith("data:"):
                continue
            file, anchor = target(address)
            there = file.is_file() and file.is_relative_to(site)
            other = pages.get(str(file.relative_to(site))) if there else None
            if not there or (other and anchor not in other.anchors):
                lost.append(f"{page.name}: {address}")
    assert lost == []


def test_every_file_that_a_style_names_is_in_the_site(site):
    lost = []
    for style in site.rglob("*.css"):
        for address in URL_IN_CSS.findall(style.read_text(encoding="utf-8")):
            whole = urljoin(style.as_uri(), address)
            if is_outside(whole) or not (whole.startswith("data:") or target(whole)[0].is_file()):
                lost.append(f"{style.relative_to(site)}: {address}")
    assert lost == []


def test_no_page_takes_a_script_a_style_or_an_image_from_elsewhere(pages):
    taken = [
        f"{page.name}: {address}"
        for page in pages.values()
        for tag, address in page.references
        if tag != "a" and is_outside(address)
    ]
    assert taken == []


def test_every_picture_has_words_for_those_who_do_not_see_it(pages):
    silent = [
        f"{page.name}: {image.get('src', '')[:80]}"
        for page in pages.values()
        for image in page.soup.select("main img")
        if not re.search(r"\w+ \w+", image.get("alt", ""))  # neither empty nor a file's name
    ]
    assert silent == []


def test_no_page_weighs_more_than_a_page_may(pages):
    heavy = {}
    for page in pages.values():
        images = {target(address)[0] for tag, address in page.references if tag in ("img", "source")}
        weight = sum(path.stat().st_size for path in {page.path, *images} if path.is_file())
        if weight > HEAVIEST:
            heavy[page.name] = weight
    assert heavy == {}


def test_every_page_is_reached_by_links_from_the_first(site, pages):
    reached, due = set(), ["index.html"]
    while due:
        name = due.pop()
        reached.add(name)
        files = [target(address)[0] for tag, address in pages[name].references if tag in ("a", "form")]
        inside = {str(file.relative_to(site)) for file in files if file.is_relative_to(site)}
        due += inside & set(pages) - reached - set(due)
    assert sorted(set(pages) - reached) == []


def test_every_picture_has_a_caption_and_a_number_of_its_own(pages):
    bare, numbers = [], []
    for page in pages.values():
        figures = page.soup.select("main figure")
        captions = [figure.select_one("figcaption .caption-number") for figure in figures]
        numbers += [caption.text.strip() for caption in captions if caption]
        bare += [
            f"{page.name}: {figure.get('id')}" for figure in figures if not figure.select(".caption-text")
        ]
        bare += [page.name for image in page.soup.select("main img") if not image.find_parent("figure")]
    assert bare == []
    assert len(numbers) >= len(NOTEBOOKS) / 2
    assert len(numbers) == len(set(numbers))


def test_notebook_says_where_its_numbers_come_from(notebook_page):
    tables = notebook_page.select(".provenance table")
    assert tables
    told = {row.th.text.strip(): row.td.text.strip() for row in tables[-1].select("tr")}
    assert all(told[name] for name in ("profile", "runs", "device", "precision", "package", "torch"))


def test_notebook_gives_the_command_that_remakes_it_to_copy(notebook_page, request):
    (block,) = notebook_page.select(".provenance-command")
    name = request.node.callspec.id
    assert re.search(rf"make book ONLY={name}\b", block.text)
    assert "PROFILE=" in block.text


def test_notebook_can_be_downloaded_as_it_was_executed(notebook_page, request, site):
    (link,) = notebook_page.select("a.download-notebook")
    page = site / NOTEBOOKS[request.node.callspec.id]
    file, _ = target(urljoin(page.as_uri(), link["href"]))
    cells = build.code_cells(file)
    assert cells
    assert any(cell["outputs"] for cell in cells)


def test_search_index_holds_every_page(site, pages):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    named = set(re.findall(r'"([^"]+)"', re.search(r'"?docnames"?:\s*\[(.*?)\]', index)[1]))
    told = {name.removesuffix(".html") for name in pages if not name.startswith("_modules/")}
    assert told - named <= {"genindex", "py-modindex", "search"}
