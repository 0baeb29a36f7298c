"""The built site as its tests see it: where it is, whether it is of these sources, and its pages."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from bs4 import BeautifulSoup

from grokking_book.make import whole
from grokking_book.make.render import STAMP
from grokking_book.sources import notebooks
from grokking_book.sources.jobs import Places

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
REFERENCES = {"a": "href", "link": "href", "form": "action", "img": "src", "script": "src", "source": "src"}


def site_folder() -> Path:
    """Return the folder of the site: $GROKKING_SITE, or what `make book` builds."""
    return Path(os.environ.get("GROKKING_SITE") or ROOT / "build" / "site").resolve()


def not_executed(site: Path) -> str:
    """Return the notebooks that a site was rendered without; none of a site that does not say."""
    lines = (site / STAMP).read_text().splitlines() if (site / STAMP).is_file() else []
    return lines[1] if len(lines) > 1 else ""


def changed_since(site: Path) -> list[str]:
    """Return the sources that are other or absent in the site; none of a site that $GROKKING_SITE names."""
    if os.environ.get("GROKKING_SITE"):
        return []
    copies = {path: site / "_sources" / path.relative_to(BOOK) for path in BOOK.rglob("*.md")}
    copies |= {path: site / "_static" / path.name for path in (BOOK / "static").iterdir()}
    found = [
        source
        for source, copy in copies.items()
        if not copy.is_file() or source.read_bytes() != copy.read_bytes()
    ]
    executed = {
        path: site / "_sources" / path.relative_to(BOOK) for path in Places(ROOT).notebooks().values()
    }
    found += [path for path, copy in executed.items() if not copy.is_file() or code_of(copy) != code_of(path)]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def code_of(notebook: Path) -> list[str]:
    """Return the code of a notebook, without the values that were laid over its own."""
    return [source for source, tags in notebooks.code(notebook) if notebooks.INJECTED not in tags]


@dataclass(frozen=True)
class Page:
    """One page of the site."""

    site: Path
    name: str  # its path below the site, e.g. figures/fig2_operations.html

    @property
    def path(self) -> Path:
        return self.site / self.name

    @cached_property
    def soup(self) -> BeautifulSoup:
        return BeautifulSoup(self.path.read_text(encoding="utf-8"), "html.parser")

    @cached_property
    def anchors(self) -> set[str]:
        """What an address may name after its #."""
        tags = self.soup.find_all(lambda tag: tag.has_attr("id") or tag.has_attr("name"))
        return {"", "top"} | {tag.get(key) for tag in tags for key in ("id", "name") if tag.get(key)}

    @cached_property
    def references(self) -> list[tuple[str, str]]:
        """What the page refers to: tag and address, relative ones made whole."""
        base = self.path.as_uri()
        named = [(tag, tag.get(REFERENCES[tag.name])) for tag in self.soup.find_all(list(REFERENCES))]
        found = [(tag.name, urljoin(base, address)) for tag, address in named if address]
        for tag in self.soup.find_all("meta", attrs={"http-equiv": re.compile("refresh", re.IGNORECASE)}):
            found.append(("a", urljoin(base, tag["content"].partition("=")[2])))
        return found


def target(address: str) -> tuple[Path, str]:
    """Return the file and the anchor that a file:// address means."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)), unquote(parts.fragment)


def pages_of(site: Path) -> dict[str, Page]:
    """Return the pages by name, but for the one that has all others once more."""
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    own = [name for name in names if not name.startswith("_static/") and name != whole.PAGE]
    return {name: Page(site, name) for name in own}
