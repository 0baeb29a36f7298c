"""Sphinx: a figure of a notebook that holds a table is one: "Table 3", not "Picture 3".

A cell names its table as it would name its picture: `mystnb: {figure: {caption, name}}` in its metadata.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.writers.html5 import HTML5Translator


class TableFigure(nodes.figure):
    """A table with a caption, counted with the tables."""


class Tables(SphinxTransform):
    """Makes figures with an HTML table and no image `TableFigure`s, before anything is numbered."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Replace the figures of a page."""
        for figure in [*self.document.findall(nodes.figure)]:
            if holds_table(figure):
                table = TableFigure("", *figure.children, **figure.attributes)
                table["classes"] = [*figure["classes"], "table-figure"]
                table.source, table.line = figure.source, figure.line
                figure.replace_self(table)
                self.document.ids |= dict.fromkeys(table["ids"], table)


def holds_table(figure: nodes.figure) -> bool:
    """Return whether a figure shows a table of HTML; one that can be drawn as a picture is a picture."""
    kinds = {node.get("mime_type", "") for node in figure.findall(nodes.container)}
    drawn = any(kind.startswith("image/") for kind in kinds)
    return not drawn and any("<table" in node.astext() for node in figure.findall(nodes.raw))


def visit(self: HTML5Translator, node: TableFigure) -> None:
    """Open a table's figure."""
    self.visit_figure(node)


def depart(self: HTML5Translator, node: TableFigure) -> None:
    """Close a table's figure."""
    self.depart_figure(node)


def setup(app: Sphinx) -> dict[str, Any]:
    """Be an extension of Sphinx."""
    app.add_enumerable_node(TableFigure, "table", html=(visit, depart))
    app.add_transform(Tables)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
