"""The whole book on one page, `print.html` of the site: its pages below one another, to print or to keep.

It is made of the site's own pages whenever these are rendered. What only a screen can use is left out, what
is folded is open, and what leads to another page leads to its place on this one.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from grokking_book.sources import notebooks

PAGE = "print.html"
LEFT_OUT = "reference/"  #: pages of the package's reference, which is for following links
ON_SCREEN = "script, style, details.hide, .headerlink, .toctree-wrapper, .companion > :not(.companion-note)"
SITE = "https://site.invalid/"  #: stands for the site's folder while addresses are made whole


def write(pages: Path, site: Path) -> None:
    """Write the page into a site, from the pages that this was rendered from and into."""
    toc = yaml.safe_load((pages / "_toc.yml").read_text(encoding="utf-8"))
    parts = [(caption, [name for name in part if is_in(site, name)]) for caption, part in parts_of(toc)]
    names = [name for _, part in parts for name in part]
    articles = {name: article(site, name, names) for name in names}
    titles = {name: found.h1.get_text() if found.h1 else name for name, found in articles.items()}
    chapters = (
        f'<section class="chapter" id="{anchor(name)}">{found.decode_contents()}</section>'
        for name, found in articles.items()
    )
    first = f"<h1>{titles[names[0]]}</h1>\n<p>{made_of(pages)}</p>\n{contents(parts, titles)}"
    text = "\n".join([first, *chapters])
    (site / PAGE).write_text(
        '<!DOCTYPE html>\n<html lang="en" data-mode="light" data-theme="light">\n'
        f"<head>{head(site, names[0])}</head>\n"
        '<body><main class="bd-main"><div class="bd-content"><div class="bd-article-container whole">'
        f'<article class="bd-article">\n{text}\n</article></div></div></main></body></html>\n',
        encoding="utf-8",
    )


def contents(parts: Sequence[tuple[str, list[str]]], titles: Mapping[str, str]) -> str:
    """The table of contents in HTML: the titles of each part's pages, below its caption."""
    told = ""
    for caption, part in parts:
        entries = (f'<li><a href="#{anchor(name)}">{html.escape(titles[name])}</a></li>' for name in part)
        told += f"<p><strong>{html.escape(caption)}</strong></p><ul>{''.join(entries)}</ul>" * bool(part)
    return f"<nav>{told}</nav>"


def parts_of(toc: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The pages of a table of contents, part by part, each with its caption; the first page by itself."""
    yield "", [toc["root"]]
    for part in toc.get("parts", [toc]):
        yield part.get("caption", ""), list(_files(part.get("chapters", [])))


def _files(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        yield entry["file"]
        yield from _files(entry.get("sections", []))


def is_in(site: Path, name: str) -> bool:
    """Return whether a page was rendered, and belongs to what is printed."""
    return not name.startswith(LEFT_OUT) and (site / f"{name}.html").is_file()


def head(site: Path, name: str) -> str:
    """The head of a page beside this one: its styles, and the scripts that draw mathematics."""
    found = _soup(site / f"{name}.html").head
    kept = (
        [tag for tag in found.find_all(["meta", "link", "title", "script"]) if _is_kept(tag)] if found else []
    )
    return "\n".join(map(str, kept))


def _is_kept(tag: Tag) -> bool:
    if tag.name == "script":
        return "mathjax" in str(tag).lower()
    if tag.name == "link":
        return not {"stylesheet", "icon"}.isdisjoint(tag.get("rel") or [])
    return tag.name == "title" or tag.has_attr("charset") or tag.get("name") == "viewport"


def article(site: Path, name: str, names: Collection[str]) -> Tag:
    """The text of a page as a part of the whole: names of places and addresses are those on it."""
    found = _soup(site / f"{name}.html").select_one("article.bd-article")
    if found is None:
        raise ValueError(f"{site / name}.html has no article")
    for tag in found.select(ON_SCREEN):
        tag.decompose()
    for tag in found.find_all(True):
        if tag.get("id"):
            tag["id"] = anchor(name, str(tag["id"]))
        if tag.name == "details":
            tag["open"] = ""
        for key in ("href", "src"):
            if tag.get(key):
                tag[key] = address(str(tag[key]), name, names)
    return found


def address(link: str, name: str, names: Collection[str]) -> str:
    """Where a link of a page leads from the whole: to a place on it, to a file of the site, or elsewhere."""
    found = urljoin(f"{SITE}{name}.html", link)
    if not found.startswith(SITE):
        return link
    parts = urlsplit(found)
    target = parts.path.removeprefix("/").removesuffix(".html")
    if target in names:
        return f"#{anchor(target, parts.fragment)}"
    return found.removeprefix(SITE)


def anchor(name: str, place: str = "") -> str:
    """The name of a page's place on the whole, or of its beginning."""
    return "--".join(filter(None, [name.replace("/", "-"), place]))


def made_of(pages: Path) -> str:
    """A sentence on the profile, or profiles, of the notebooks; one that was not executed has none."""
    made = [notebooks.read(path)["metadata"].get("make_book", {}) for path in sorted(pages.rglob("*.ipynb"))]
    profiles = dict.fromkeys(entry["profile"] for entry in made if entry)
    named = " and ".join(f"<code>{name}</code>" for name in profiles)
    told = f"with the {named} profile{'s' * (len(profiles) > 1)}" if profiles else "of no executed notebook"
    return (
        f"The whole book as one page, made {told}, without the reference of the package and what only a "
        "screen can show."
    )


def _soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
