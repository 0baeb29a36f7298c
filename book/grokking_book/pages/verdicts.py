"""The verdicts on the paper's claims as a table of the site."""

from __future__ import annotations

import html
from collections.abc import Mapping

import pandas as pd

from grokking_core.claims import Kind
from grokking_core.measures import Needed
from grokking_core.paper import evidence
from grokking_core.runs import words

MANY = 2  #: fractions needed, to put them in a table
QUOTE = "'"  #: around names with a comma, which a table needs not
#: Of the ground; the word on it is white.
COLOURS: dict[Kind, str] = {
    "agrees": "#1a6e3c",
    "partly": "#8a5a00",
    "differs": "#a12a2a",
    "not reached": "#5f6670",
}


def to_html(table: pd.DataFrame, code_page: str = "claims_code.html", says: str = "the paper says") -> str:
    """`verdicts` as a table for the book: the verdict by colour and word, links to figure and rule.

    Links are relative to the book's folder; that to the rule goes to an anchor, such as decides-c7, of
    `code_page`; `says` is the head of the column with the claims.
    """
    heads = ("claim", says, "measured", "n")
    head = "".join(f"<th>{name}</th>" for name in heads)
    badge = "color: white; padding: 0.1em 0.5em; white-space: nowrap; background: "
    style = "text-align: left; vertical-align: top; padding: 0.5em; border-top: 1px solid #8888"
    rows = []
    for row in table.to_dict("records"):
        word = f'<span style="{badge}{COLOURS[row["verdict"]]}">{row["verdict"]}</span>'
        links = f'<a href="{row["page"]}.html">figure</a>, '
        anchor = f"decides-{row['decided by']}".replace("_", "-")  # as docutils writes a target's name
        links += f'<a href="{code_page}#{anchor}">rule</a>'
        cells = (
            f"<strong>{row['id']}</strong><br/>{word}<br/>{links}",
            f"{html.escape(row['claim'])} <em>({html.escape(row['where'])})</em>",
            measured(row["measured"], row["needed"]),
            f"{row['n']}",
        )
        inside = "".join(
            f'<td data-head="{name}" style="{style}">{cell}</td>'
            for name, cell in zip(heads, cells, strict=True)
        )
        rows.append(f'<tr id="{row["decided by"]}">{inside}</tr>')
    return f'<table class="stacked"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def measured(text: str, needed: Mapping[str, Needed]) -> str:
    """What was measured, in HTML: fractions needed that the text lists stand in a small table instead."""
    listed = evidence.brackets(needed)
    if len(needed) < MANY or listed not in text:
        return html.escape(text)
    before, _, after = text.partition(listed)
    return f"{html.escape(before)}{brackets(needed)}{html.escape(after)}"


def brackets(needed: Mapping[str, Needed]) -> str:
    """Fractions needed as a table in HTML: the name, a bar from 0 to 100 % of the table, the words."""
    rows = (
        f"<tr><td>{html.escape(words.name(label).strip(QUOTE))}</td><td>{bar(found)}</td>"
        f"<td>{evidence.bracket(found)}</td></tr>"
        for label, found in needed.items()
    )
    head = "".join(f"<th>{name}</th>" for name in ("fraction needed of", "0 to 100 %", "in words"))
    return f'<table class="brackets"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def bar(needed: Needed) -> str:
    """One fraction needed as SVG: from the left what failed, to the right what sufficed."""
    failed, reached = (None if share is None else round(100 * share, 1) for share in needed[:2])
    parts = [f'<rect class="bracket-failed" width="{failed:g}" height="10"/>'] if failed is not None else []
    if reached is not None:
        parts.append(f'<rect class="bracket-reached" x="{reached:g}" width="{100 - reached:g}" height="10"/>')
    drawn = "".join(parts)
    return f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
