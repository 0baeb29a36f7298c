"""What makes a notebook run again, and what leaves it alone."""

import json

import pytest
from small_book import PARAMETERS, PROVENANCE, nbformat, pretend_executed, write_notebook

from grokking_book.make import build
from grokking_book.sources import notebooks
from grokking_book.sources.parameters import WrongUse

# Stamps: what makes a notebook run again.


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "grokking_core" / "core.py").write_text("VALUE = 2\n"),
        lambda root: write_notebook(root / "book/figures/one.ipynb", PARAMETERS, "1"),
        lambda root: (root / "book/profiles/smoke.yml").write_text("one: {fraction: 0.5}\n"),
        lambda root: (root / "build/executed/figures/one.ipynb").write_text("{}"),
        lambda root: (root / "build/executed/figures/one.ipynb").unlink(),
    ],
    ids=["package", "source", "profile", "output edited", "output gone"],
)
def test_notebook_is_stale_after_a_change_of(small, change):
    job = build.plan(small, "smoke", "")[0]
    assert not job.is_current()
    pretend_executed(job)
    assert build.plan(small, "smoke", "")[0].is_current()
    change(small.root)
    assert not build.plan(small, "smoke", "")[0].is_current()


def test_notebook_is_stale_while_it_lacks_runs(small):
    job = build.plan(small, "smoke", "")[0]
    pretend_executed(job, missing=0)
    assert job.is_current()
    pretend_executed(job, missing=2)
    assert not job.is_current()


def test_notebook_that_reads_the_others_is_stale_after_a_change_of_theirs(small, claims):
    one, two, last = build.plan(small, "smoke", "")
    assert last.source == claims
    assert last.reads == (one.output, two.output)
    for job in (one, two, last):
        pretend_executed(job, missing=1)
    assert last.is_current()  # it trains nothing: no reason to try again
    two.output.write_text("executed again")
    assert not last.is_current()
    pretend_executed(last)
    assert last.is_current()
    two.output.unlink()
    assert not last.is_current()


def test_notebook_comes_after_figures_or_nothing(small):
    path = small.book / "figures" / "two.ipynb"
    write_notebook(path, "p = 97", grokking={"after": "one"})
    with pytest.raises(WrongUse, match=r"two\.ipynb: metadata 'grokking' is .*'after': 'figures'"):
        build.plan(small, "smoke", "")


def test_notebook_is_stale_with_other_parameters_only_if_it_knows_them(small):
    for job in build.plan(small, "smoke", ""):
        pretend_executed(job)
    one, two = build.plan(small, "smoke", "p=5")
    assert one.is_current()
    assert not two.is_current()


def test_notebook_is_current_after_a_change_of_its_prose_and_captions(small):
    job = build.plan(small, "smoke", "")[0]
    pretend_executed(job)
    write_notebook(job.source, PARAMETERS, PROVENANCE, prose="Another sentence.")
    notebook = json.loads(job.source.read_text())
    notebook["cells"][2]["metadata"]["mystnb"] = {"figure": {"caption": "Another caption."}}
    notebook["cells"].append(nbformat.v4.new_markdown_cell("The end.", id="end"))
    job.source.write_text(json.dumps(notebook))
    assert build.plan(small, "smoke", "")[0].is_current()
    told = notebooks.merged(notebook, notebooks.read(job.output))["cells"]
    assert [cell["source"] for cell in told] == [cell["source"] for cell in notebook["cells"]]
    assert [cell["metadata"] for cell in told] == [cell["metadata"] for cell in notebook["cells"]]
    assert [len(cell["outputs"]) for cell in told if cell["cell_type"] == "code"] == [1, 1]


def test_prose_is_not_laid_over_outputs_of_other_code(small):
    job = build.plan(small, "smoke", "")[0]
    pretend_executed(job)
    write_notebook(job.source, PARAMETERS, "1 + 1", prose="Of the new code.")
    executed = notebooks.read(job.output)
    assert notebooks.merged(notebooks.read(job.source), executed) == executed


def test_injected_parameters_stay_where_they_were(small):
    job = build.plan(small, "smoke", "")[0]
    executed = build.with_parameters(job)
    told = notebooks.merged(notebooks.read(job.source), executed)
    assert [cell["id"] for cell in told["cells"]] == ["0", "1", "injected-parameters", "2"]
    assert told["cells"] == executed["cells"]
