from typing import cast

import pytest

pytest.importorskip("sphinx", reason="needs Sphinx, which training does without")

from docutils.core import publish_doctree
from sphinx.application import Sphinx

from grokking_book.sphinx import description as sphinx_description
from grokking_book.sphinx.description import LONGEST, description


def page_of(text):
    return publish_doctree(f"Title\n=====\n\n{text}")


def head_of(page):
    context, app = {"metatags": "<meta>"}, cast(Sphinx, None)  # which is not looked at
    sphinx_description.describe(app, "page", "page.html", context, page)
    return context["metatags"]


def test_description_is_the_first_paragraph_as_plain_text():
    assert description(page_of("It is *late*\nand sudden.\n\nSecond.")) == "It is late and sudden."
    assert description(page_of("")) == ""


def test_long_description_ends_after_a_word():
    found = description(page_of("word " * 100))
    assert found.endswith("word …")
    assert LONGEST - 5 < len(found) <= LONGEST


def test_description_is_escaped_and_left_out_where_there_is_no_paragraph():
    assert head_of(page_of('Is x < y "true"?')) == (
        '<meta><meta name="description" content="Is x &lt; y &quot;true&quot;?">'
    )
    assert head_of(page_of("")) == head_of(None) == "<meta>"
