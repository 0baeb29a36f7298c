"""The verdicts on the paper's claims as a table of the site."""

from __future__ import annotations

import html
import re

import pandas as pd

from grokking_core.claims import Kind

MANY = 4  #: fractions needed, to put them in a table
_ENTRY = re.compile(r"(.+?) (unknown|(?:above|at most) .+|[\d.]+ to .+)")  # of `evidence.brackets`
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
    head = "".join(f"<th>{name}</th>" for name in ("claim", says, "measured", "n"))
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
            measured(row["measured"]),
            f"{row['n']}",
        )
        inside = "".join(f'<td style="{style}">{cell}</td>' for cell in cells)
        rows.append(f'<tr id="{row["decided by"]}">{inside}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def measured(text: str) -> str:
    """What was measured, in HTML; where many fractions needed are listed they stand in a small table."""
    before, found, after = text.partition("Fraction needed: ")
    listed, _, rest = after.partition(". ")
    entries = [_ENTRY.fullmatch(entry) for entry in listed.rstrip(".").split("; ")]
    if not found or len(entries) < MANY or not all(entries):
        return html.escape(text)
    rows = "".join(
        f"<tr><td>{html.escape(entry[1])}</td><td>{entry[2]}</td></tr>" for entry in entries if entry
    )
    table = f"<table><caption>Fraction needed</caption><tbody>{rows}</tbody></table>"
    return f"{html.escape(before)}{table}{html.escape(rest)}"
