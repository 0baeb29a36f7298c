"""Sphinx: pages without the scripts of Thebe, which Jupyter Book puts into all of them.

They would run cells on a server elsewhere, with a program from another one: no page of ours does. And
they come twice, which is an error in every reader's console.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def leave_out_thebe(
    app: Sphinx, name: str, template: str, context: dict[str, Any], page: nodes.document | None
) -> None:
    """Take Thebe's scripts from the list that a page is written with."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in f"{script.filename}{script.attributes.get('body')}"
    ]


def setup(app: Sphinx) -> dict[str, Any]:
    """Be an extension of Sphinx."""
    app.connect("html-page-context", leave_out_thebe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
