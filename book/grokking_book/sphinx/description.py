"""Sphinx: the first paragraph of a page is its description, which search engines and link previews show."""

from __future__ import annotations

import textwrap
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LONGEST = 200  #: characters; what is longer ends after a word


def description(page: nodes.document) -> str:
    """Return the first paragraph of a page as plain text, or nothing where a page has none."""
    paragraphs = (node.astext() for node in page.findall(nodes.paragraph))
    return textwrap.shorten(next(paragraphs, ""), LONGEST, placeholder=" …")


def describe(
    app: Sphinx, name: str, template: str, context: dict[str, Any], page: nodes.document | None
) -> None:
    """Put the description into the head of a page that was written, and of no list that Sphinx makes."""
    if page is not None and (text := description(page)):
        context["metatags"] = (
            context.get("metatags", "") + f'<meta name="description" content="{escape(text)}">'
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Be an extension of Sphinx."""
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
