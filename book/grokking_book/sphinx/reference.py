"""Sphinx: the rooms of a package, module by module, by autodoc; docstrings are prose, not markup.

`{room} grokking_core.data` describes the public names of each module of that room. In the docstrings, names
in backticks lead to where they are described, an indented paragraph is a formula or code and stays as it
is, and no other character means anything.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

UNDERLINE = re.compile(r"-{3,}$")  # of a section, such as Parameters
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
    """`{room} grokking_core.data`: what its docstring says, and a section for each of its modules."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the docstring's nodes and the sections."""
        package = self.arguments[0]
        named = {name.removeprefix(f"{package}."): name for name in modules(package)}
        if [*named.values()] == [package]:
            return self.described(package)
        about = self.described(package, ":no-members:")
        return about + [self.section(title, self.described(name)) for title, name in named.items()]

    def described(self, module: str, *options: str) -> list[nodes.Node]:
        """Return what autodoc says of a module."""
        lines = ["```{eval-rst}", f".. automodule:: {module}", *(f"   {option}" for option in options), "```"]
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


def setup(app: Sphinx) -> dict[str, Any]:
    """Be an extension of Sphinx."""
    app.add_directive("room", Room)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
