"""Sphinx: `{command-line}` shows what each command prints when asked for `--help`."""

from __future__ import annotations

import os
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Any
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from grokking_core.__main__ import main, parser


class CommandLine(SphinxDirective):
    """A section for each command, with its help."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        choices = [action.choices for action in parser()._actions if isinstance(action.choices, dict)]
        commands = [[], *([name] for name in choices[0])]
        return [self.section(" ".join(["grokking", *command]), help_text(command)) for command in commands]

    def section(self, title: str, text: str) -> nodes.section:
        """Return a command's section."""
        section = nodes.section(ids=[nodes.make_id(title)], names=[title])
        section += nodes.title("", "", nodes.literal(text=title))
        section += nodes.literal_block(text, text, language="text")
        return section


def help_text(command: list[str]) -> str:
    """Return what a command prints when asked for help, 78 characters wide."""
    printed = StringIO()
    with mock.patch.dict(os.environ, COLUMNS="78"), redirect_stdout(printed), suppress(SystemExit):
        main([*command, "--help"])
    return printed.getvalue()


def setup(app: Sphinx) -> dict[str, Any]:
    """Be an extension of Sphinx."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
