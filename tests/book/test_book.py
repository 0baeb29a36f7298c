import ast
import json
import re
import shlex
import shutil
import time
from inspect import signature
from pathlib import Path

import pytest
import yaml

from grokking_book.make import build, render, settings, status
from grokking_book.sources import notebooks, parameters
from grokking_book.sources.parameters import WrongUse
from grokking_core.paper import experiments, profiles
from grokking_core.paper.experiments import EXPERIMENTS, READING, plan
from grokking_core.paper.plans import Plan, merged
from grokking_core.records.store import Store
from grokking_core.runs.record import utc_now

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


@pytest.fixture(autouse=True)
def _no_variables_from_make(monkeypatch):
    for name in ("PROFILE", "ONLY", "P", "FRESH", "JOBS", "MINUTES"):
        monkeypatch.delenv(name, raising=False)


def write_notebook(path: Path, *sources: str, tags=("parameters",), prose="", **metadata) -> None:
    cells = [nbformat.v4.new_markdown_cell(f"# {path.stem}\n\n{prose}")]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    cells[1].metadata["tags"] = list(tags)
    for number, cell in enumerate(cells):
        cell["id"] = str(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


@pytest.fixture
def small(tmp_path):
    """A book of one page and two notebooks, in the project's shape."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    for folder in ("book/profiles", "grokking_core"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "grokking_core" / "core.py").write_text("VALUE = 1\n")
    shutil.copytree(ROOT / "book" / "static", tmp_path / "book" / "static")
    shutil.copy(ROOT / "book" / "references.bib", tmp_path / "book")
    (tmp_path / "book" / "intro.md").write_text("# A small book\n")
    toc = {"format": "jb-book", "root": "intro"}
    toc["chapters"] = [{"file": "figures/one"}, {"file": "figures/two"}, {"file": "status"}]
    (tmp_path / "book" / "_toc.yml").write_text(yaml.safe_dump(toc))
    (tmp_path / "book" / "profiles" / "smoke.yml").write_text("one: {fraction: 0.25}\n")
    write_notebook(tmp_path / "book" / "figures" / "one.ipynb", PARAMETERS, PROVENANCE)
    write_notebook(tmp_path / "book" / "figures" / "two.ipynb", "p = 97  # modulus", "p + 1")
    return build.Places(tmp_path)


@pytest.fixture
def claims(small):
    """A third notebook, which reads what the other two have trained."""
    path = small.book / "claims.ipynb"
    source = "from pathlib import Path\nfound = Path('../build/executed').rglob('*.ipynb')\n"
    source += "print(*sorted(path.name for path in found))"
    write_notebook(path, "# none", source, grokking={"after": "figures"})
    return path


@pytest.fixture
def no_site(monkeypatch):
    """Rendering left out: the pages are staged, the site is one empty page."""

    def render(places, pages, strict):
        places.site.mkdir(parents=True, exist_ok=True)
        (places.site / "index.html").write_text("rendered")

    monkeypatch.setattr(build, "render", render)


def make_book(places, *arguments):
    return build.main(["--root", str(places.root), "--profile", "smoke", *arguments])


def rows_of(text):
    lines = [line.split("  ") for line in text.splitlines()]
    lines = [[word.strip() for word in line if word.strip()] for line in lines]
    return {line[0]: line[1:] for line in lines if len(line) == 6}


# Parameters: what a notebook says of itself.


def test_parameters_have_default_type_and_help(small):
    known = parameters.read_parameters(small.notebooks()["one"])
    assert {name: known[name].kind for name in known} == {
        "fraction": "float",
        "seeds": "list[int]",
        "operation": "str",
        "stop_at": "float | None",
    }
    assert known["seeds"].default == [0, 1]
    assert known["fraction"].help == "share of the table"


def test_parameters_cell_must_be_there(tmp_path):
    write_notebook(tmp_path / "bare.ipynb", "p = 97", tags=())
    with pytest.raises(WrongUse, match="no cell tagged 'parameters'"):
        parameters.read_parameters(tmp_path / "bare.ipynb")


@pytest.mark.parametrize("source", ["import os", "p = 90 + 7", "a = b = 1", "p: int"])
def test_parameters_cell_holds_literals_only(tmp_path, source):
    write_notebook(tmp_path / "odd.ipynb", source)
    with pytest.raises(WrongUse, match=r"odd\.ipynb, parameters cell"):
        parameters.read_parameters(tmp_path / "odd.ipynb")


# Parameters: what P says.


def test_assignments_are_read_as_literals():
    text = "train_fraction=0.6 seeds=[0, 1,2] operation='x+y' lr=1e-3 stop_at=none full=true q=x/y|x-y"
    assert parameters.parse_assignments(text) == {
        "train_fraction": 0.6,
        "seeds": [0, 1, 2],
        "operation": "x+y",
        "lr": 0.001,
        "stop_at": None,
        "full": True,
        "q": "x/y|x-y",
    }
    assert parameters.parse_assignments('words="two words"') == {"words": "two words"}
    assert parameters.parse_assignments("""f={'x+y': [0.3, 0.4], "x/y": [1]} g={0: [0.3]}""") == {
        "f": {"x+y": [0.3, 0.4], "x/y": [1]},
        "g": {0: [0.3]},
    }
    assert parameters.parse_assignments("  ") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fraction", "is not name=value"),
        ("=3", "is not name=value"),
        ("seeds=[0, 1", "cannot be read"),
        ("word='open", "cannot be read"),
        ("name=", "cannot be read"),
        ("call=open('x')", "cannot be read"),
        ("p=3 p=5", "given twice"),
    ],
)
def test_assignment_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(WrongUse, match=message):
        parameters.parse_assignments(text)


def test_assignment_goes_to_the_notebooks_that_know_it(small):
    one, two = build.plan(small, "smoke", "p=5")
    assert (one.values, two.values) == ({"fraction": 0.25}, {"p": 5})


def test_assignment_goes_over_the_profile(small):
    one, _ = build.plan(small, "smoke", "fraction=0.75")
    assert one.values == {"fraction": 0.75}


# Parameters: what stops the book before anything runs.


def test_unknown_parameter_lists_the_known_ones(small, capsys):
    assert make_book(small, "-p", "fractoin=0.6") == 2
    told = capsys.readouterr().err
    for words in (
        "'fractoin'",
        "fraction: float = 0.5",
        "seeds: list[int] = [0, 1]",
        "p: int = 97",
    ):
        assert words in told
    assert not small.build.exists()


def test_unknown_parameter_of_one_notebook_is_not_sought_in_others(small, capsys):
    assert make_book(small, "--only", "one", "-p", "p=5") == 2
    told = capsys.readouterr().err
    assert "'p'" in told
    assert "fraction: float" in told
    assert not small.build.exists()


def test_wrong_type_names_parameter_value_and_type(small, capsys):
    assert make_book(small, "-p", "seeds=3") == 2
    assert "seeds=3 must be list[int]" in capsys.readouterr().err
    assert not small.build.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("fractions={'x+y': 0.3}", "must be dict[str, list[float]]; 0.3 is not list[float]"),
        ("fractions={0: [0.3]}", "must be dict[str, list[float]]; 0 is not str"),
        ("fractions=0.3", "fractions=0.3 must be dict[str, list[float]]"),
        ("fractions={}", "P: grid: fractions={} is empty; at least one value is needed"),
        ("fractions={'x+y': []}", "P: grid: fractions['x+y']=[] is empty; at least one value"),
        ("seeds=[]", "P: grid: seeds=[] is empty; at least one value is needed"),
        ("seeds=[0, 0, 0]", "P: grid: seeds=[0, 0, 0] has 0 twice; name each value once"),
        ("fractions={'x+y': [0.3, 0.30]}", "P: grid: fractions['x+y']=[0.3, 0.3] has 0.3 twice"),
        ("lr=nan", "P: grid: lr='nan' must be float; it must be a finite number"),
        ("lr=1e999", "P: grid: lr=inf must be float; it must be a finite number"),
        ("lr=-inf", "P: grid: lr='-inf' must be float; it must be a finite number"),
    ],
)
def test_wrong_or_empty_collection_is_named(tmp_path, given, message):
    write_notebook(tmp_path / "grid.ipynb", 'fractions = {"x+y": [0.3], "x/y": [1]}\nseeds = [0]\nlr = 1e-3')
    known = {"grid": parameters.read_parameters(tmp_path / "grid.ipynb")}
    with pytest.raises(WrongUse, match=re.escape(message)):
        parameters.assign({"grid": {}}, parameters.parse_assignments(given), known)


def test_unknown_notebook_lists_the_known_ones(small, capsys):
    assert make_book(small, "--only", "three") == 2
    assert "ONLY=three is unknown; the notebooks are: one, two" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["many", "0.5", "-1", "0", "٣"])
def test_jobs_must_be_a_number(small, capsys, jobs):
    assert make_book(small, f"--jobs={jobs}") == 2
    assert f"JOBS={jobs}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("three: {p: 5}", r"smoke\.yml: no notebook 'three'; the keys are: one, two"),
        ("two: {q: 5}", r"smoke\.yml: two: unknown parameter 'q'(.|\n)*p: int = 97"),
        ("two: {p: five}", r"smoke\.yml: two: p='five' must be int"),
        ("one: {fraction: 1e-3}", r"must be float; in YAML write 0\.001"),
        ("one: {seeds: []}", r"smoke\.yml: one: seeds=\[\] is empty; at least one value is needed"),
        ("two: 5", r"smoke\.yml: two must map parameters to values"),
        ("[two]", r"smoke\.yml must map notebooks to parameters"),
        ("one: {", r"smoke\.yml is not YAML"),
    ],
)
def test_profile_error_names_file_and_key(small, profile, message):
    (small.book / "profiles" / "smoke.yml").write_text(profile)
    with pytest.raises(WrongUse, match=message):
        build.plan(small, "smoke", "")


def test_profile_that_is_a_file_of_ones_own_is_told_where_to_go(small):
    with pytest.raises(WrongUse, match=r"PROFILE=.*/mine.yml is a file: copy it into book/profiles"):
        build.plan(small, "/some/where/mine.yml", "")


def test_profile_that_is_no_text_is_refused(small):
    (small.book / "profiles" / "smoke.yml").write_bytes(b"two: {p: 5}  # caf\xe9")
    with pytest.raises(WrongUse, match=r"smoke.yml is not UTF-8 text: byte 0xe9 at 18"):
        build.plan(small, "smoke", "")


def test_unknown_profile_lists_the_known_ones(small):
    with pytest.raises(WrongUse, match="PROFILE=large is unknown; the profiles are: smoke"):
        build.plan(small, "large", "")


def test_empty_profile_leaves_the_defaults(small):
    (small.book / "profiles" / "smoke.yml").write_text("# nothing\n")
    assert [job.values for job in build.plan(small, "smoke", "")] == [{}, {}]


@pytest.mark.parametrize(("card", "profile"), [(False, "laptop"), (True, "paper")])
def test_default_profile_follows_the_device_of_a_sweep(small, monkeypatch, card, profile):
    monkeypatch.setattr(settings, "has_card", lambda: card)
    assert settings.default_profile(small, trains=True) == profile


@pytest.fixture
def no_card(monkeypatch):
    monkeypatch.setattr(settings, "has_card", lambda: False)


@pytest.mark.parametrize("name", ["overnight", "paper"])
def test_default_profile_is_the_largest_whose_records_are_complete(small, no_card, name):
    records = small.book / "records"
    records.mkdir()
    (records / f"{name}.parquet").touch()
    assert settings.default_profile(small, trains=False) == "laptop"  # shipped in part
    (records / "complete.yml").write_text(f"- laptop\n- {name}\n")
    assert settings.default_profile(small, trains=False) == name
    assert settings.default_profile(small, trains=True) == "laptop"
    (records / f"{name}.parquet").unlink()
    assert settings.default_profile(small, trains=False) == "laptop"


@pytest.mark.parametrize(
    ("arguments", "profile"),
    [([], "paper"), (["-p", "fraction=0.6"], "laptop"), (["--fresh"], "laptop")],
    ids=["nothing asked", "P", "FRESH"],
)
def test_default_profile_with_shipped_records_trains_no_paper(
    small, no_card, monkeypatch, arguments, profile
):
    (small.book / "records").mkdir()
    (small.book / "records" / "paper.parquet").touch()
    (small.book / "records" / "complete.yml").write_text("- paper\n")
    for name in ("laptop", "paper"):
        (small.book / "profiles" / f"{name}.yml").touch()
    asked = []
    monkeypatch.setattr(build, "execute_all", lambda jobs, places, workers, env: asked.append(env) or [])
    monkeypatch.setattr(build, "render_if_changed", lambda places, jobs: build.Row("the site", "rendered"))
    build.build(small, settings.read(["--root", str(small.root), *arguments]))
    assert {env["GROKKING_PROFILE"] for env in asked} == {profile}


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


# What a page says of how it was made.


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ("", "make book ONLY=one PROFILE=smoke"),
        ("fraction=0.25", "make book ONLY=one PROFILE=smoke"),  # as the profile has it
        ("fraction=0.5", 'make book ONLY=one PROFILE=smoke P="fraction=0.5"'),  # as the notebook has it
        ("seeds=[2,3] stop_at=1", 'make book ONLY=one PROFILE=smoke P="seeds=[2, 3] stop_at=1.0"'),
        ("operation='x/y|x-y'", """make book ONLY=one PROFILE=smoke P="operation='x/y|x-y'\""""),
        (
            """operation='a"$b' stop_at=none""",
            """make book ONLY=one PROFILE=smoke P='operation='"'"'a"$b'"'"''""",
        ),
    ],
)
def test_command_of_a_notebook_asks_for_the_same_again(small, given, command):
    job = build.plan(small, "smoke", given)[0]
    assert job.command == command
    words = dict(word.split("=", 1) for word in shlex.split(command)[2:])
    again = build.plan(small, words["PROFILE"], words.get("P", ""), words["ONLY"])[0]
    assert again == job


def test_page_of_a_notebook_ends_with_date_command_and_download(small):
    one = build.plan(small, "smoke", "")[0]
    page = Path("figures/one.ipynb")
    assert "not executed yet" in status.footer(one, page, None)["source"]
    assert "download" not in status.footer(one, page, None)["source"]
    pretend_executed(one)
    told = status.footer(one, page, notebooks.read(one.output))["source"]
    assert "Executed on 2026-01-02 in 7 seconds by Python 3.11.9." in told
    assert "```bash\nmake book ONLY=one PROFILE=smoke\n```" in told
    assert 'class="download-notebook" href="../_sources/figures/one.ipynb"' in told
    assert (
        'href="_sources/claims.ipynb"'
        in status.footer(one, Path("claims.ipynb"), {"metadata": notebooks.read(one.output)["metadata"]})[
            "source"
        ]
    )


def test_page_tells_the_command_of_its_execution_not_of_this_build(small):
    one = build.plan(small, "smoke", "fraction=0.75")[0]
    executed = {"metadata": {"make_book": status.made(one)}}
    assert status.said(build.plan(small, "smoke", "")[0], executed)["command"] == one.command


def test_status_page_has_a_line_for_every_notebook(small, claims):
    jobs = build.plan(small, "smoke", "")
    cost = {"training_seconds": 5400.0, "training_steps": 12_000}
    pretend_executed(
        jobs[0], read=3, trained=0, missing=0, device=["cpu: a", "cuda: b"], torch="2.13.0", **cost
    )
    pretend_executed(jobs[1], read=3, trained=2, missing=1, package="0.1.0")
    page = render.contents(small, jobs)[Path("status.md")].decode()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "|" in line]
    assert lines[0] == list(status.HEADINGS)
    rows = {row[0]: row[1:] for row in lines[2:]}
    one = [
        "complete",
        "smoke",
        "–",
        "3",
        "0",
        "2026-01-02",
        "7",
        "1.50",
        "12,000",
        "cpu: a, cuda: b",
        "–",
        "2.13.0",
    ]
    two = ["1 run missing", "smoke", "–", "3", "2", "2026-01-02", "7", "–", "–", "–", "0.1.0", "–"]
    none = ["not executed", *["–"] * 11]
    assert rows == {
        "{doc}`one <figures/one>`": one,
        "{doc}`two <figures/two>`": two,
        "{doc}`claims <claims>`": none,
    }
    assert "Complete: 1 of 3 notebooks." in page
    write_notebook(jobs[0].source, PARAMETERS, "other = 'code'")
    assert (
        "| complete, out of date |"
        in render.contents(small, build.plan(small, "smoke", ""))[Path("status.md")].decode()
    )


# What Jupyter Book reads, and renders.


def test_stage_touches_only_what_has_changed(small):
    jobs = build.plan(small, "smoke", "")
    pages = render.stage(small, jobs)
    (small.book / "gone.md").write_text("# Gone\n")
    render.stage(small, jobs)
    dates = {path: path.stat().st_mtime_ns for path in pages.rglob("*") if path.is_file()}
    assert pages / "status.md" in dates
    assert not {"profiles", "records", ".hidden"} & {path.name for path in pages.iterdir()}
    (small.book / "gone.md").unlink()
    (small.book / "intro.md").write_text("# Another sentence\n")
    render.stage(small, jobs)
    now = {path: path.stat().st_mtime_ns for path in pages.rglob("*") if path.is_file()}
    assert dates.keys() - now.keys() == {pages / "gone.md"}
    assert {path for path in now if now[path] != dates[path]} == {pages / "intro.md"}


def files_of(site):
    return {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}


def rendered(places, anew=False):
    """The site's files, and the pages that were written; `anew`: from nothing."""
    if anew:
        shutil.rmtree(places.build / "rendered")
    jobs = build.plan(places, "smoke", "")
    for job in jobs:
        pretend_executed(job)
    pages, start = render.stage(places, jobs), time.time_ns()
    assert render.render(places, pages, strict=True) is None
    written = {path.stem for path in places.site.rglob("*.html") if path.stat().st_mtime_ns > start}
    files = files_of(places.site)
    (places.site / render.STAMP).write_text("complete")
    return files, written


@pytest.mark.slow
def test_rendering_goes_on_to_the_site_that_one_from_nothing_gives(small):
    intro = small.book / "intro.md"
    intro.write_text("# A small book\n\nUnheard sentence, see [](figures/one.ipynb).\n")
    cited = "{cite:p}`power2022grokking`\n\n```{bibliography}\n```\n"
    (small.book / "other.md").write_text(f"# Another\n\n{{index}}`an entry` {cited}")
    toc = yaml.safe_load((small.book / "_toc.yml").read_text())
    toc["chapters"].append({"file": "other"})
    (small.book / "_toc.yml").write_text(yaml.safe_dump(toc))
    rendered(small)

    intro.write_text("# A small book\n\nAnother sentence, see [](figures/one.ipynb).\n")
    site, written = rendered(small)
    assert "intro" in written
    assert "other" not in written
    assert b"an entry" in site[Path("searchindex.js")]
    assert b"unheard" not in site[Path("searchindex.js")]
    assert site == rendered(small, anew=True)[0]

    write_notebook(small.book / "figures" / "one.ipynb", PARAMETERS, PROVENANCE, prose="## New\n\nWords.")
    text = (small.book / "figures" / "one.ipynb").read_text().replace("# one", "# The first")
    (small.book / "figures" / "one.ipynb").write_text(text)
    site, written = rendered(small)
    assert "other" in written
    assert b"The first" in site[Path("intro.html")]
    assert site == rendered(small, anew=True)[0]

    toc["chapters"].pop()
    (small.book / "_toc.yml").write_text(yaml.safe_dump(toc))
    (small.book / "other.md").unlink()
    site, _ = rendered(small)
    assert Path("other.html") not in site
    assert b"an entry" not in site[Path("genindex.html")]


# The whole of it, on notebooks of two cells.


@pytest.mark.slow
def test_book_is_executed_rendered_and_then_left_alone(small, claims, capsys):
    toc = yaml.safe_load((small.book / "_toc.yml").read_text())
    toc["chapters"].append({"file": "claims"})
    (small.book / "_toc.yml").write_text(yaml.safe_dump(toc))
    assert make_book(small) == 0
    said = capsys.readouterr().out
    rows = rows_of(said)
    assert rows["one"][0] == "executed"
    assert rows["one"][2:] == ["1", "2", "0"]  # read, trained, missing: as its provenance says
    assert rows["two"][2:] == ["-", "-", "-"]
    assert rows["the site"][0] == "rendered"
    assert str(small.site / "index.html") in said
    assert "0.25" in (small.site / "figures" / "one.html").read_text()
    assert "one.ipynb two.ipynb" in (small.site / "claims.html").read_text()

    assert make_book(small) == 0
    rows = rows_of(capsys.readouterr().out)
    assert {rows[name][0] for name in ("one", "two", "claims", "the site")} == {"unchanged"}

    intro = small.book / "intro.md"
    intro.write_text("# A small book\n\nOne more sentence.\n")
    assert make_book(small) == 0
    rows = rows_of(capsys.readouterr().out)
    assert (rows["one"][0], rows["the site"][0]) == ("unchanged", "rendered")
    assert "One more sentence." in (small.site / "intro.html").read_text()

    intro.write_text("# A small book\n\n{doc}`nowhere`\n")
    assert make_book(small) == 1
    told = capsys.readouterr()
    assert "nowhere" in told.err
    assert rows_of(told.out)["the site"][0] == "FAILED"
    assert "the last good site" in told.out
    assert "One more sentence." in (small.site / "intro.html").read_text()

    write_notebook(small.book / "figures" / "two.ipynb", "p = 97  # modulus", "p + 1", prose="More.")
    assert make_book(small) == 1, "a warning of a page that has not changed since is still an error"
    assert "nowhere" in capsys.readouterr().err
    intro.write_text("# A small book\n")
    assert make_book(small) == 0
    assert rows_of(capsys.readouterr().out)["two"][0] == "unchanged"
    assert "More." in (small.site / "figures" / "two.html").read_text()


def test_failing_notebook_leaves_the_last_good_output_and_site(small, no_site, capsys):
    assert make_book(small, "--only", "one") == 0
    output = small.build / "executed" / "figures" / "one.ipynb"
    good = output.read_bytes()
    (small.site / "index.html").write_text("the last good site")
    write_notebook(small.book / "figures" / "one.ipynb", PARAMETERS, "answer = 42", "answer / 0")
    capsys.readouterr()

    assert make_book(small, "--only", "one") == 1
    told = capsys.readouterr()
    assert "    answer / 0" in told.err
    assert "ZeroDivisionError" in told.err
    assert "answer = 42" not in told.err
    assert rows_of(told.out)["one"][0] == "FAILED"
    assert output.read_bytes() == good
    assert (small.site / "index.html").read_text() == "the last good site"


def test_figure_without_its_picture_is_a_failure(small, no_site, capsys):
    path = small.book / "figures" / "two.ipynb"
    write_notebook(path, "p = 97", "print('a figure as PDF')")
    notebook = json.loads(path.read_text())
    notebook["cells"][2]["metadata"]["mystnb"] = {"figure": {"caption": "Drawn.", "name": "drawn"}}
    path.write_text(json.dumps(notebook))
    assert make_book(small, "--only", "two") == 1
    assert "no picture came of drawn" in capsys.readouterr().err
    assert not (small.build / "executed" / "figures" / "two.ipynb").exists()


@pytest.mark.parametrize(
    ("kinds", "bare"), [((), ["drawn"]), (("application/pdf",), ["drawn"]), (("image/png",), [])]
)
def test_picture_of_a_figure_is_one_that_a_page_shows(kinds, bare):
    output = {"output_type": "display_data", "data": dict.fromkeys(kinds, ""), "metadata": {}}
    cell = {"cell_type": "code", "metadata": {"mystnb": {"figure": {"name": "drawn"}}}, "outputs": [output]}
    assert notebooks.without_picture({"cells": [cell, {"cell_type": "markdown"}]}) == bare


def test_pictures_are_laid_out_for_pages_that_show_them_again(small):
    job = build.plan(small, "smoke", "")[0]
    pretend_executed(job)
    notebook = json.loads(job.output.read_text())
    cell = notebook["cells"][2]
    cell["metadata"]["mystnb"] = {"figure": {"name": "drawn"}}
    cell["outputs"] = [{"output_type": "display_data", "data": {"image/png": "cG5n"}, "metadata": {}}]
    job.output.write_text(json.dumps(notebook))
    assert render.contents(small, [job])[Path("pictures/drawn.png")] == b"png"


def test_page_of_ten_pictures_shows_pictures_that_notebooks_draw():
    shown = re.findall(r"pictures/([\w-]+)\.png", (ROOT / "book" / "ten_minutes.md").read_text())
    cells = [cell for path in NOTEBOOKS.values() for cell in build.code_cells(path)]
    drawn = {cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") for cell in cells}
    assert len(shown) == len({*shown}) == 10
    assert {*shown} <= drawn


def test_build_folder_that_is_none_is_one_line(small, capsys):
    small.build.write_text("a file")
    assert make_book(small) == 1
    told = capsys.readouterr().err
    assert told.startswith("make book: ")
    assert len(told.splitlines()) == 1
    assert str(small.build) in told


def test_pages_of_other_records_are_made_again(small, monkeypatch):
    def jobs():
        return build.plan(small, "smoke", "", None, settings.records_of(small))

    for job in jobs():
        pretend_executed(job)
    assert all(job.is_current() for job in jobs())
    monkeypatch.setenv("GROKKING_RECORDS", str(small.root / "others"))
    assert not any(job.is_current() for job in jobs())


def test_site_of_one_notebook_says_what_it_lacks(small, monkeypatch, no_kernel):
    assert make_book(small, "--only", "one") == 0
    assert (small.site / render.STAMP).read_text().splitlines()[1] == "two"
    assert make_book(small) == 0
    assert (small.site / render.STAMP).read_text().splitlines()[1] == ""


@pytest.mark.parametrize(("given", "says"), [((), True), (("--profile", "laptop"), False)])
def test_promised_records_that_are_missing_are_trained_only_if_asked_for(
    small, no_kernel, no_card, monkeypatch, capsys, given, says
):
    monkeypatch.setattr(build, "asks_for_runs", lambda job: job.name == "one")
    monkeypatch.setattr(build, "forecast", lambda *_: "one lacks 3 runs")
    monkeypatch.setattr(build, "train", lambda *_: build.Row("training", "done"))
    (small.book / "records").mkdir()
    (small.book / "records" / "laptop.parquet").touch()
    (small.book / "records" / "complete.yml").write_text("- laptop\n")
    (small.book / "profiles" / "laptop.yml").write_text("one: {fraction: 0.25}\n")
    assert build.main(["--root", str(small.root), *given]) == 0
    told = capsys.readouterr()
    assert ("one lacks 3 runs" in told.err) is says
    assert rows_of(told.out)["training"][0] == ("not asked for" if says else "done")


def test_dead_kernel_is_a_failure(small, no_site, capsys):
    source = "import os\nos._exit(0)"
    write_notebook(small.book / "figures" / "two.ipynb", "p = 97", source)
    assert make_book(small, "--only", "two") == 1
    assert "    os._exit(0)" in capsys.readouterr().err
    assert not (small.build / "executed" / "figures" / "two.ipynb").exists()


def test_only_leaves_the_other_notebooks_as_they_were(small, no_site, capsys):
    assert make_book(small, "--only", "one", "-p", "fraction=0.75 seeds=[7]") == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["one"][0] == "executed"
    assert rows["two"][0] == "not executed"
    executed = small.build / "executed" / "figures" / "one.ipynb"
    told = {"read": 1, "trained": 1, "missing": 0, "fraction": 0.75}
    assert build.provenance(executed) == told
    staged = build.code_cells(small.build / "book" / "figures" / "one.ipynb")
    assert [cell["outputs"] for cell in staged] == [cell["outputs"] for cell in build.code_cells(executed)]
    command = 'make book ONLY=one PROFILE=smoke P="fraction=0.75 seeds=[7]"'
    made = {"profile": "smoke", "changed": "fraction=0.75 seeds=[7]", "command": command}
    assert notebooks.read(executed)["metadata"]["make_book"] == made


def test_fresh_executes_again_and_tells_the_notebook(small, no_site):
    source = "import os\nprint(os.environ.get('GROKKING_FRESH'))"
    write_notebook(small.book / "figures" / "two.ipynb", "p = 97", source)
    executed = small.build / "executed" / "figures" / "two.ipynb"
    printed, started = [], utc_now()
    for arguments in ([], ["--fresh"]):
        assert make_book(small, "--only", "two", *arguments) == 0
        printed.append("".join(build.code_cells(executed)[-1]["outputs"][0]["text"]).strip())
    assert printed[0] == "None"
    assert started < printed[1] < utc_now()  # records from this build on count


def test_notebook_is_told_its_name_and_takes_dictionaries_as_they_are(small, no_site):
    source = "import os\nprint(os.environ['GROKKING_NOTEBOOK'], fractions, minutes)"
    cell = "fractions = {0: [0.5]}\nminutes: float | None = 1.0"
    write_notebook(small.book / "figures" / "two.ipynb", cell, source)
    given = "fractions={100: [0.3, 1], 0: [0.25]} minutes=none"
    assert make_book(small, "--only", "two", "-p", given) == 0
    executed = small.build / "executed" / "figures" / "two.ipynb"
    printed = "".join(build.code_cells(executed)[-1]["outputs"][0]["text"]).strip()
    assert printed == "two {100: [0.3, 1.0], 0: [0.25]} None"
    injected = build.code_cells(executed)[1]
    assert injected["metadata"]["tags"] == ["injected-parameters"]


def test_notebook_without_other_values_is_executed_as_it_is(small):
    _, job = build.plan(small, "smoke", "")
    assert build.with_parameters(job) == json.loads(job.source.read_text())


def test_last_provenance_is_the_notebooks(small):
    job = build.plan(small, "smoke", "")[0]
    pretend_executed(job, missing=1)
    notebook = json.loads(job.output.read_text())
    for number, cell in enumerate(notebook["cells"][1:]):
        cell["outputs"][0]["data"][notebooks.PROVENANCE] = {"missing": number}
    job.output.write_text(json.dumps(notebook))
    assert len(notebook["cells"]) == 3
    assert build.provenance(job.output) == {"missing": 1}


@pytest.fixture
def no_kernel(monkeypatch, no_site):
    """Execution left out: a notebook that divides by zero fails; the others, in order, are returned."""
    executed = []

    def execute(job, places, env):
        executed.append(job.name)
        if "1 / 0" in job.source.read_text():
            return build.Row(job.name, "FAILED", 0.0)
        pretend_executed(job, number=len(executed))
        return build.Row(job.name, "executed", 0.0)

    monkeypatch.setattr(build, "execute", execute)
    return executed


def test_notebook_that_reads_the_others_is_executed_after_them(small, claims, no_kernel, capsys):
    assert make_book(small) == 0
    assert list(rows_of(capsys.readouterr().out))[1:4] == ["one", "two", "claims"]
    assert sorted(no_kernel[:2]) + no_kernel[2:] == ["one", "two", "claims"]

    assert make_book(small, "--only", "two", "-p", "p=5") == 0
    assert rows_of(capsys.readouterr().out)["claims"][0] == "kept"
    assert make_book(small) == 0
    assert no_kernel[3:] == ["two", "two", "claims"]
    assert make_book(small) == 0
    assert no_kernel[6:] == []


def test_notebook_that_reads_the_others_waits_until_none_fails(small, claims, no_kernel, capsys):
    write_notebook(small.book / "figures" / "two.ipynb", "p = 97", "1 / 0")
    assert make_book(small) == 1
    rows = rows_of(capsys.readouterr().out)
    assert {name: rows[name][0] for name in ("one", "two", "claims")} == {
        "one": "executed",
        "two": "FAILED",
        "claims": "not executed",
    }
    assert make_book(small, "--only", "claims") == 0  # on what is there
    rows = rows_of(capsys.readouterr().out)
    assert (rows["two"][0], rows["claims"][0]) == ("not executed", "executed")


def test_progress_is_the_last_line_of_the_log(tmp_path):
    log = tmp_path / "log"
    assert build.last_line(log) == "starting"
    log.write_text("one\ntwo 10 %\rtwo 20 %\r\n\n")
    assert build.last_line(log) == "two 20 %"


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


# Training: one sweep for all notebooks, before they are executed.


@pytest.fixture
def sharing(small, no_site, tmp_path, monkeypatch):
    """Two notebooks that ask for the same run: one follows it for 30 steps, the other until it learns."""
    monkeypatch.setenv("GROKKING_RECORDS", str(tmp_path / "records"))
    monkeypatch.setenv("GROKKING_SHIPPED", str(tmp_path))
    for path in small.notebooks().values():
        path.unlink()
    profile = {}
    for name, more in (
        ("fig1_grokking_curves", {"train_fraction": 0.5}),
        ("fig1_data_fraction", {"train_fractions": [0.5], "stop_at": 0.99}),
    ):
        values = {"operation": "x+y", "p": 7, "d_model": 8, "n_heads": 2, "seeds": [0], "steps": 40} | more
        source = f"from grokking_core.paper.experiments import {name}\n"
        source += f"records = {name}({', '.join(f'{key}={key}' for key in values)}).sweep()\n"
        cell = "\n".join(f"{key} = {value!r}" for key, value in values.items())
        write_notebook(small.book / "figures" / f"{name}.ipynb", cell, source + "records.provenance()")
        profile[name] = {"steps": 30}
    (small.book / "profiles" / "smoke.yml").write_text(yaml.safe_dump(profile))
    return small


def test_run_of_two_notebooks_is_trained_once_and_read_by_both(sharing, capsys):
    assert make_book(sharing) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["training"][0] == "done"
    assert rows["training"][2:] == ["0", "1", "0"]
    for name in ("fig1_grokking_curves", "fig1_data_fraction"):
        assert rows[name][0] == "executed"
        assert rows[name][2:] == ["0", "1", "0"], "trained for this build"
    assert make_book(sharing) == 0
    assert "training" not in rows_of(capsys.readouterr().out)


@pytest.mark.slow
def test_time_limit_leaves_runs_missing_and_the_next_build_trains_them(sharing, capsys):
    given = ["-p", "seeds=[0, 1, 2, 3] steps=4000"]
    assert make_book(sharing, *given, "--minutes", "0.0001") == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["training"][0] == "time limit"
    assert int(rows["training"][4]) == int(rows["fig1_grokking_curves"][4]) > 0
    assert make_book(sharing, "-p", "seeds=[0, 1, 2, 3] steps=20") == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["fig1_data_fraction"][4] == "0"


@pytest.mark.parametrize(
    ("source", "asks"),
    [
        ("plan = one(steps=3)", True),
        ("plan = experiments.one(steps=3)", True),
        ("everyone(1)", False),
        ("table.one(1)", False),
        ("one = 1", False),
    ],
)
def test_notebook_asks_for_runs_where_it_calls_the_experiment_of_its_name(small, source, asks):
    write_notebook(small.book / "figures" / "one.ipynb", "fraction = 0.5  # of the table", source)
    (job, _) = build.plan(small, "smoke", "")
    assert (job.name, build.asks_for_runs(job)) == ("one", asks)


def test_every_experiment_is_trained_before_its_notebook_is_executed():
    jobs = build.plan(build.Places(ROOT), "smoke", "")
    assert {job.name for job in jobs if build.asks_for_runs(job)} == set(EXPERIMENTS)


def test_training_that_fails_executes_nothing(sharing, capsys, tmp_path):
    (tmp_path / "records").write_text("not a folder")
    assert make_book(sharing) == 1
    told = capsys.readouterr()
    assert "the records folder" in told.err
    assert rows_of(told.out)["fig1_grokking_curves"][0] == "not executed"


def test_training_that_fails_leaves_a_row_for_every_notebook(small, claims, no_kernel, monkeypatch, capsys):
    monkeypatch.setattr(build, "asks_for_runs", lambda job: job.name == "one")
    monkeypatch.setattr(build, "train", lambda *_: build.Row("training", "FAILED", 0.0))
    assert make_book(small) == 1
    rows = rows_of(capsys.readouterr().out)
    assert {rows[name][0] for name in ("one", "two", "claims")} == {"not executed"}
    assert no_kernel == []


@pytest.mark.parametrize("minutes", ["0", "-1", "soon", "nan", "inf"])
def test_time_limit_is_a_number_above_0(small, capsys, minutes):
    assert make_book(small, f"--minutes={minutes}") == 2
    assert f"MINUTES={minutes} must be a number above 0" in capsys.readouterr().err
