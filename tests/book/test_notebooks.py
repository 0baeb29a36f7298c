"""The notebooks of the project."""

import ast
import json
from inspect import signature
from pathlib import Path

import pytest
import yaml
from small_book import NOTEBOOKS, ROOT, nbformat

from grokking_book.make import build, settings
from grokking_book.sources import parameters
from grokking_core.paper import experiments, profiles
from grokking_core.paper.experiments import EXPERIMENTS, READING, plan
from grokking_core.plans import Plan, merged
from grokking_core.records.store import Store

# The notebooks of the project.


@pytest.mark.parametrize("profile", ["smoke", "laptop", "overnight", "paper"])
def test_profile_fits_the_notebooks(profile):
    assert {job.name for job in build.plan(build.Places(ROOT), profile, "")} == set(NOTEBOOKS)


@pytest.mark.parametrize("profile", settings.complete_profiles(build.Places(ROOT)))
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_profile_called_complete_has_all_its_records(profile, name, tmp_path):
    shipped = Store(tmp_path, ROOT / "book" / "records")
    assert plan(name, profile).read(shipped).missing == []


@pytest.mark.parametrize("profile", settings.complete_profiles(build.Places(ROOT)))
def test_profile_called_complete_trains_nothing_in_one_sweep(profile, tmp_path):
    """The sweep asks one question for several figures, which may ask for more than each of them."""
    shipped = Store(tmp_path, ROOT / "book" / "records")
    parts = merged(plan(name, profile) for name in EXPERIMENTS)
    assert [part for part in parts if Plan((part,)).read(shipped).missing] == []


def test_table_of_contents_has_every_notebook_the_figures_in_the_papers_order():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    assert {str(path.relative_to(ROOT / "book").with_suffix("")) for path in NOTEBOOKS.values()} <= {*files}
    to_play = {"film", "trainer"}
    figures = [Path(file).name for file in files if Path(file).name in {*EXPERIMENTS} - to_play]
    assert figures == [name for name in EXPERIMENTS if name in NOTEBOOKS and name not in to_play]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_short_and_has_no_outputs(name):
    nbformat.validate(nbformat.read(NOTEBOOKS[name], as_version=nbformat.NO_CONVERT))
    cells = build.code_cells(NOTEBOOKS[name])
    assert len(cells) <= 12
    for cell in cells:
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 15, source
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert cell["id"]  # notebook format 4.5, as that of the cell that is injected
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 5, node.name


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_parameters_of_a_notebook_fit_into_a_pages_column(name):
    source = "".join(build.code_cells(NOTEBOOKS[name])[0]["source"])
    assert max(map(len, source.splitlines())) <= 88


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_keeps_the_order_title_parameters_sweep_provenance(name):
    cells = json.loads(NOTEBOOKS[name].read_text())["cells"]
    assert "".join(cells[0]["source"]).startswith("# ")
    code = build.code_cells(NOTEBOOKS[name])
    tags = [cell["metadata"].get("tags", []) for cell in code]
    assert [("parameters" in tag) for tag in tags] == [True] + [False] * (len(code) - 1)
    sources = ["".join(cell["source"]) for cell in code]
    trains = name in EXPERIMENTS  # the others read
    assert sum("sweep(" in source for source in sources) == trains
    assert "provenance" in sources[-1]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_explains_every_parameter_or_why_it_has_none(name):
    known = parameters.read_parameters(NOTEBOOKS[name])
    assert [p.name for p in known.values() if not p.help] == []
    assert known or "".join(build.code_cells(NOTEBOOKS[name])[0]["source"]).startswith("# ")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_has_parameters_of_its_experiment(name):
    cell = parameters.read_parameters(NOTEBOOKS[name])
    if name not in EXPERIMENTS:
        assert set(cell) <= set(READING)
        return
    asked = experiments.parameters(name)
    assert {key: cell[key].kind for key in cell} == {key: asked[key].kind for key in cell}
    own = {key for key in signature(EXPERIMENTS[name]).parameters if key in asked}
    assert own <= set(cell)


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name in EXPERIMENTS])
def test_notebook_has_the_values_of_the_laptop_profile(name):
    cell = parameters.read_parameters(NOTEBOOKS[name])
    asked = {key: parameter.default for key, parameter in experiments.parameters(name).items()}
    asked |= experiments.load_profile("laptop")[name]
    for key in set(cell) - set(READING):
        assert cell[key].default == profiles.fit(asked[key], cell[key].kind), key
