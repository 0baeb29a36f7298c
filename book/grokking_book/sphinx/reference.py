"""Sphinx: the reference of `grokking_core`, each name linked to its lines, and what its commands print.

`.. reference:: sweep` describes a module's public names, in an ``{eval-rst}`` block of a page;
`{command-line}` shows the help of every command. Names in backticks, in types and in the roles of the
Python domain lead to where the name is described, by whatever path it is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

from grokking_book.sphinx import sources
from grokking_book.sphinx.sources import PACKAGE, Item, Module, Name

WIDE = 60  # characters of a value that has a block of its own

# -------------------------------------------------------------------------------------------------
# From docstrings to reStructuredText


def paragraphs(text: str, module: str, owner: str = "") -> list[str]:
    """Return prose as lines of reStructuredText; what is indented in it stays as it is."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if block.startswith(" "):
            lines += ["::", "", *indented(block.splitlines()), ""]
        else:
            lines += [*inline(block, module, owner).splitlines(), ""]
    return lines


def inline(text: str, module: str, owner: str = "") -> str:
    """Return prose with its names in backticks as links, or as code; nothing else in it is markup."""

    def write(found: re.Match[str]) -> str:
        if found["code"] is None:
            return f"\\{found[0]}"
        name = " ".join(found["code"].split())
        return link(name, module, owner) or rf"\ ``{name}``\ "

    return re.sub(r"`(?P<code>[^`]+)`|[*|\\\"]|_\b", write, text)  # "text" keeps its straight quotes


def link(name: str, module: str, owner: str = "", role: str = "obj") -> str | None:
    """Return a link to what a name stands for; None if the reference does not describe it."""
    full = sources.full_name(name.removesuffix(".py").removesuffix("()"), module, owner)
    return rf"\ :py:{role}:`{name} <{full}>`\ " if full in sources.documented() else None


def items(title: str, entries: list[Item], module: str, owner: str) -> list[str]:
    """Return a docstring's section as a field whose body is a definition list."""
    lines = []
    for entry in entries:
        # In terms, only what is written like a class is a name: "run" may be a word.
        term = re.sub(r"[\w.]*\b[A-Z]\w+", lambda name: link(name[0], module) or name[0], entry.term)
        lines += [term.replace("*", r"\*"), *indented(paragraphs(entry.says, module, owner) or [".."])]
    return [f":{title}:", *indented(lines), ""]


def indented(lines: list[str], by: int = 4) -> list[str]:
    """Return the lines further to the right."""
    return [" " * by + line if line else "" for line in lines]


def described(name: Name, module: str, owner: str = "") -> list[str]:
    """Return a name, and what a class has, as directives of Sphinx's Python domain."""
    short = "\n" not in name.value and len(name.value) < WIDE
    options = {"type": name.type, "value": name.value if short else ""}
    inside = owner or (name.name if name.members else "")
    head, parts = sources.sections(name.says)
    body = made(name, module) + (paragraphs(head, module, inside) if head else [])
    if not short:
        body += [".. code-block:: python", "", *indented(f"{name.name} = {name.value}".splitlines()), ""]
    if name.prose_type:
        body += [f":Type: {inline(name.prose_type, module)}", ""]
    for title, entries in parts:
        if title != "Attributes":  # each is a member
            body += items(title, entries, module, inside)
    for member in name.members:
        body += described(member, module, owner=name.name)
    told = [f":{key}: {value}" for key, value in options.items() if value]
    return [f".. py:{name.kind}:: {name.name}{name.signature}", *indented([*told, "", *body]), ""]


def made(name: Name, module: str) -> list[str]:
    """Return the line that says how a class is made: its decorators, and what it derives from."""
    marks = [f"``{mark}``" for mark in name.made if mark.startswith("@")]
    bases = [link(base, module) or f"``{base}``" for base in name.made if not base.startswith("@")]
    told = [*marks, *(f"derived from {base}" for base in bases)]
    return [", ".join(told), ""] if told else []


# -------------------------------------------------------------------------------------------------
# Directives


class Reference(SphinxDirective):
    """`.. reference:: sweep`: its docstring and public names in the order of the source, constants last."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the names, each with a link to its lines."""
        module = sources.read(self.arguments[0])
        for file in (module.file, Path(__file__), Path(sources.__file__)):
            self.env.note_dependency(str(file))
        lines = [f".. py:module:: {module.name}", "", *paragraphs(module.says, module.name)]
        for name in sorted(module.names, key=lambda name: name.kind == "data"):
            lines += described(name, module.name)
        whole = nodes.Element()
        self.state.nested_parse(StringList(lines, str(module.file)), self.content_offset, whole)
        for signature in whole.findall(addnodes.desc_signature):
            name = sources.documented()[signature["ids"][0]]
            assert name is not None
            signature += self.source_link(module, name.line)
        return whole.children

    def source_link(self, module: Module, line: int) -> nodes.reference:
        """Return a link to a line of a module's source."""
        place, page = map(self.env.app.builder.get_target_uri, (self.env.docname, source_page(module.name)))
        uri = f"{relative_uri(place, page)}#line-{line}"
        text = nodes.inline("", "[source]", classes=["viewcode-link"])
        return nodes.reference("", "", text, internal=True, refuri=uri)


class CommandLine(SphinxDirective):
    """`{command-line}`: a section for each command, with what its --help prints."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        from grokking_core.__main__ import parser  # imports PyTorch: only where this page is read anew

        for module in ("__main__", "bench", "run"):
            self.env.note_dependency(str(sources.read(module).file))
        told = {"grokking": help_text([])}
        for command in commands(parser()):
            told[f"grokking {command}"] = help_text([command])
        return [self.section(title, text) for title, text in told.items()]

    def section(self, title: str, text: str) -> nodes.section:
        """Return a command's section."""
        section = nodes.section(ids=[nodes.make_id(title)], names=[title])
        section += nodes.title("", "", nodes.literal(text=title))
        section += nodes.literal_block(text, text, language="text")
        return section


def commands(parser: Any) -> list[str]:
    """Return the names of a parser's commands."""
    return [name for action in parser._actions for name in action.choices or () if not action.option_strings]


def help_text(arguments: list[str]) -> str:
    """Return what the command line prints when asked for help."""
    from grokking_core.__main__ import main

    printed = StringIO()
    with mock.patch.dict(os.environ, COLUMNS="78"), redirect_stdout(printed), suppress(SystemExit):
        main([*arguments, "--help"])
    return printed.getvalue()


# -------------------------------------------------------------------------------------------------
# The pages of the sources, and names in other pages


def source_page(module: str) -> str:
    """Return the name of the page that shows a module's source."""
    return f"_modules/{module.replace('.', '/')}"


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each module of the reference whose last is older: its source, with line numbers."""
    builder: Any = app.builder
    for file in sorted(sources.FOLDER.glob("*.py")):
        module = f"{PACKAGE}.{file.stem}"
        place, page = app.env.domains["py"].objects.get(module), source_page(module)
        written = Path(app.outdir) / builder.get_target_uri(page)
        if not place or (written.exists() and written.stat().st_mtime >= file.stat().st_mtime):
            continue
        numbered = {"linenos": "inline", "lineanchors": "line", "anchorlinenos": True}
        code = builder.highlighter.highlight_block(file.read_text(encoding="utf-8"), "python", **numbered)
        described = f"{builder.get_relative_uri(page, place.docname)}#{place.node_id}"
        back = f'<p>In the reference: <a href="{described}">{module}</a></p>'
        context = {"title": file.name, "body": f"<h1>{file.name}</h1>{back}{code}", "parents": []}
        yield page, context, "page.html"


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.Element | None:
    """Return what a name of the Python domain leads to: its text alone, where it is not this package's."""
    if node.get("refdomain") != "py":
        return None
    module, name = node.get("py:module") or PACKAGE, node["reftarget"]
    full = sources.full_name(name, module, node.get("py:class") or "")
    if full is None or full in sources.documented():
        if full is None or full not in env.domains["py"].objects:
            return None  # nothing of this name: Sphinx warns
        return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, text)
    return text


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives, the pages of the sources and the names to Sphinx."""
    sources.forget()
    app.add_directive("reference", Reference)
    app.add_directive("command-line", CommandLine)
    app.connect("html-collect-pages", source_pages)
    app.connect("missing-reference", resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
