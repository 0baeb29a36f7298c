"""Sphinx: the rooms of a package, module by module, by autodoc; docstrings are prose, not markup.

`{room} grokking_core.data` describes the public names of each module of that room. In the docstrings, names
in backticks lead to where they are described, an indented paragraph is a formula or code and stays as it
is, and no other character means anything.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from operator import attrgetter
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

UNDERLINE = re.compile(r"-{3,}$")  #: of a section, such as Parameters
MARKUP = re.compile(r"(`[^`]+`)|([*|\\]|_\b)")


def modules(package: str) -> list[str]:
    """Return the full names of the public modules below a package; of a module, its own."""
    path = getattr(importlib.import_module(package), "__path__", None)
    if path is None:
        return [package]
    found = pkgutil.walk_packages(path, f"{package}.")
    return [
        info.name for info in found if not info.ispkg and not info.name.rpartition(".")[2].startswith("_")
    ]


class Room(SphinxDirective):
    """`{room} grokking_core.data`: what its `__init__` has, and a section for each of its modules."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of `__init__` and the sections."""
        package = self.arguments[0]
        named = {name.removeprefix(f"{package}."): name for name in modules(package)}
        if [*named.values()] == [package]:
            return self.described(package)
        return self.described(package) + [
            self.section(title, self.described(name)) for title, name in named.items()
        ]

    def described(self, module: str) -> list[nodes.Node]:
        """Return what autodoc says of a module."""
        lines = ["```{eval-rst}", f".. automodule:: {module}", "```"]
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, module), self.content_offset, parent)
        return parent.children

    def section(self, title: str, content: list[nodes.Node]) -> nodes.section:
        """Return a module's section."""
        section = nodes.section(ids=[nodes.make_id(title)], names=[title])
        section += nodes.title("", "", nodes.literal(text=title))
        section += content
        return section


def plain(app: Sphinx, what: str, name: str, described: object, options: object, lines: list[str]) -> None:
    """Rewrite a docstring, in place, so that only its names in backticks and its sections are markup."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()  # what Python says of a named tuple's fields
    written: list[str] = []
    in_head = True  # before the first section, whose entries are indented too
    for number, line in enumerate(lines):
        in_head = in_head and not any(map(UNDERLINE.match, lines[number : number + 2]))
        literal = in_head and line.startswith(" ")
        if literal and not lines[number - 1].strip():
            written += ["::", ""]
        written.append(line if literal or UNDERLINE.match(line) else MARKUP.sub(_escaped, line))
    if written and what in ("attribute", "data", "property"):
        written[0] = f": {written[0]}"  # else napoleon takes what stands before a colon for a type
    lines[:] = written


def _escaped(found: re.Match[str]) -> str:
    return found[1] or f"\\{found[2]}"


def full_name(module: str, name: str) -> str:
    """Return where what a name stands for in a module is defined; of what is not public, the name."""
    try:
        found = attrgetter(name)(sys.modules[module])
        full = f"{found.__module__}.{found.__qualname__}"
    except (AttributeError, KeyError):
        return name
    return name if "._" in full or "<" in full else full


def lead_to_definitions(app: Sphinx, page: nodes.document) -> None:
    """Have names of a page lead to what they stand for where they are written, not to a namesake."""
    for node in page.findall(addnodes.pending_xref):
        if node.get("refdomain") == "py" and node.get("py:module"):
            node["reftarget"] = full_name(node["py:module"], node["reftarget"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Be an extension of Sphinx."""
    app.add_directive("room", Room)
    app.connect("doctree-read", lead_to_definitions)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
