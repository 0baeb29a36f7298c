"""The ledger of the literature as tables of the site."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from grokking_book.pages import verdicts

FILE = Path(__file__).parents[2] / "literature.yml"
FIELDS = ("where", "says", "setting", "lacks")  #: of an entry of the file
HEADS = ("source", "it says", "its setting", "what a test would take")  #: of the table, in their order
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{5})")


def untested(path: Path = FILE) -> list[dict[str, str]]:
    """The papers without a rule, in the order of the file.

    Raises
    ------
    ValueError
        If an entry lacks one of `FIELDS`, has another, or one that is not text: names the entry.
    """
    entries: list[Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for number, entry in enumerate(entries, start=1):
        if sorted(entry) != sorted(FIELDS) or not all(isinstance(text, str) for text in entry.values()):
            raise ValueError(f"{path}: entry {number} must have a text for each of {', '.join(FIELDS)}")
    return entries


def to_html(table: pd.DataFrame) -> str:
    """`literature.verdicts` as a table for the book."""
    where = [f"{row['where']}; {row['setting']}" for row in table.to_dict("records")]
    shown = verdicts.to_html(
        table.assign(where=where), "literature_code.html", "the paper says, and its setting"
    )
    return linked(shown)


def untested_to_html(entries: list[dict[str, str]]) -> str:
    """The papers without a rule as a table for the book."""
    head = "".join(f"<th>{name}</th>" for name in HEADS)
    rows = (
        "".join(
            f'<td data-head="{head}">{html.escape(entry[name])}</td>'
            for name, head in zip(FIELDS, HEADS, strict=True)
        )
        for entry in entries
    )
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    return linked(f'<table class="stacked"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def linked(text: str) -> str:
    """The text with a link where it names a preprint of arXiv."""
    return _ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', text)
