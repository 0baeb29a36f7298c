"""A book of one page and two notebooks of two cells, and a project's folder, for tests of the build."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from grokking_book.make import build
from grokking_book.sources import notebooks

nbformat = pytest.importorskip("nbformat", reason="needs Jupyter, which training does without")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = build.Places(ROOT).notebooks()
PARAMETERS = """\
fraction = 0.5  # share of the table
seeds = [0, 1]  # one run each
operation = "x+y"  # the table
stop_at: float | None = None  # accuracy that ends a run
"""
PROVENANCE = """\
class Provenance:
    def _repr_mimebundle_(self, include=None, exclude=None):
        told = {"read": 1, "trained": len(seeds), "missing": 0, "fraction": fraction}
        return {"text/html": "told", "application/vnd.grokking.provenance+json": told}
Provenance()
"""


def write_notebook(path: Path, *sources: str, tags=("parameters",), prose="", **metadata) -> None:
    cells = [nbformat.v4.new_markdown_cell(f"# {path.stem}\n\n{prose}")]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    cells[1].metadata["tags"] = list(tags)
    for number, cell in enumerate(cells):
        cell["id"] = str(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


def write_book(folder: Path) -> build.Places:
    """A book of one page and two notebooks, in the project's shape."""
    shutil.copy(ROOT / "_config.yml", folder)
    for name in ("book/profiles", "grokking_core"):
        (folder / name).mkdir(parents=True)
    (folder / "grokking_core" / "core.py").write_text("VALUE = 1\n")
    shutil.copytree(ROOT / "book" / "static", folder / "book" / "static")
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    (folder / "book" / "intro.md").write_text("# A small book\n")
    toc = {"format": "jb-book", "root": "intro"}
    toc["chapters"] = [{"file": "figures/one"}, {"file": "figures/two"}, {"file": "status"}]
    (folder / "book" / "_toc.yml").write_text(yaml.safe_dump(toc))
    (folder / "book" / "profiles" / "smoke.yml").write_text("one: {fraction: 0.25}\n")
    write_notebook(folder / "book" / "figures" / "one.ipynb", PARAMETERS, PROVENANCE)
    write_notebook(folder / "book" / "figures" / "two.ipynb", "p = 97  # modulus", "p + 1")
    return build.Places(folder)


def make_book(places, *arguments):
    return build.main(["--root", str(places.root), "--profile", "smoke", *arguments])


def rows_of(text):
    lines = [line.split("  ") for line in text.splitlines()]
    lines = [[word.strip() for word in line if word.strip()] for line in lines]
    return {line[0]: line[1:] for line in lines if len(line) == 6}


def pretend_executed(job, **provenance):
    """The notebook with provenance as its only output, stamped as up to date."""
    job.output.parent.mkdir(parents=True, exist_ok=True)
    notebook = json.loads(job.source.read_text())
    notebook["metadata"]["papermill"] = {"start_time": "2026-01-02T03:04:05+00:00", "duration": 6.7}
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.11.9"}
    data = {notebooks.PROVENANCE: provenance}
    output = {"output_type": "display_data", "data": data, "metadata": {}}
    [cell["outputs"].append(output) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    job.output.write_text(json.dumps(notebook))
    job.stamp.write_text(build.stamp_of(job))
