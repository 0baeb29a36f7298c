"""Notebooks as files: what a source decides, what an executed one says, and the two laid together."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]  #: as in the file
Cell = dict[str, Any]

PROVENANCE = "application/vnd.grokking.provenance+json"
INJECTED = "injected-parameters"  #: the tag of the cell that lays values over the notebook's own


def read(path: Path) -> Notebook:
    """Return a notebook."""
    return json.loads(path.read_text(encoding="utf-8"))


def write(notebook: Notebook) -> str:
    """Return a notebook as the text of a file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def code_cells(path: Path) -> list[Cell]:
    """Return the code cells of a notebook."""
    return _code_cells(read(path))


def _code_cells(notebook: Notebook) -> list[Cell]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def tags(cell: Cell) -> list[str]:
    """Return the tags of a cell."""
    return cell["metadata"].get("tags", [])


def code(path: Path) -> list[tuple[str, list[str]]]:
    """Return what of a source decides its outputs: the code and its tags, no prose and no captions."""
    return _code(code_cells(path))


def _code(cells: list[Cell]) -> list[tuple[str, list[str]]]:
    return [("".join(cell["source"]), tags(cell)) for cell in cells]


def provenance(path: Path) -> dict[str, Any]:
    """Return what the last provenance output of an executed notebook says; empty without one."""
    return provenance_of(read(path))


def provenance_of(notebook: Notebook) -> dict[str, Any]:
    """Return the same of a notebook that is read already."""
    bundles = [out.get("data", {}) for cell in _code_cells(notebook) for out in cell["outputs"]]
    found = [data[PROVENANCE] for data in bundles if PROVENANCE in data]
    return found[-1] if found else {}


def pictures(notebook: Notebook) -> dict[str, bytes]:
    """Return the pictures of an executed notebook as PNG, by the names of their figures."""
    found: dict[str, bytes] = {}
    for cell in _code_cells(notebook):
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        for data in (out.get("data", {}) for out in cell["outputs"]):
            if name and "image/png" in data:
                found[name] = b64decode("".join(data["image/png"]))
    return found


def without_picture(notebook: Notebook) -> list[str]:
    """Return the names of the figures of an executed notebook whose cells have left no picture."""
    figures = [(cell["metadata"].get("mystnb", {}).get("figure"), cell) for cell in _code_cells(notebook)]
    return [figure.get("name", "a figure") for figure, cell in figures if figure and not _has_picture(cell)]


def _has_picture(cell: Cell) -> bool:
    kinds = {kind for out in cell["outputs"] for kind in out.get("data", {})}
    return not kinds.isdisjoint(("image/png", "image/svg+xml", "text/html"))


def merged(source: Notebook, executed: Notebook) -> Notebook:
    """Return the executed notebook with the source's prose and captions, if it ran the source's code."""
    ran = _code_cells(executed)
    injected = [cell for cell in ran if INJECTED in tags(cell)]
    ran = [cell for cell in ran if cell not in injected]
    if _code(ran) != _code(_code_cells(source)):
        return executed
    outputs, cells = iter(ran), []
    for cell in source["cells"]:
        if cell["cell_type"] == "code":
            cell = next(outputs) | {"metadata": cell["metadata"]}
        cells.append(cell)
        cells += injected if "parameters" in tags(cell) else []
    return executed | {"cells": cells}
