"""Parts of a page that a reader can play with: data in the page, a script of the site beside it."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Widget:
    """A part of a page that `book/static/NAME.js` draws from its data; a note stands where it cannot run.

    Attributes
    ----------
    name : str
        Of the script, and of the function in it: `companion.NAME(element, data)`.
    data : dict
        Plain values, handed to that function.
    note : str
        Shown without scripts, in print and in JupyterLab: what one would see, in words.
    """

    name: str
    data: dict[str, Any]
    note: str

    def __str__(self) -> str:
        return self.note

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        data = json.dumps(self.data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
        note = f'<p class="companion-note">{html.escape(self.note)}</p>'
        script = f'<script type="application/json">{data}</script>'
        page = f'<div class="companion" data-companion="{html.escape(self.name)}">{note}{script}</div>'
        return {"text/plain": self.note, "text/html": page}
