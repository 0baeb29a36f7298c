"""The whole of it, on notebooks of two cells, and training: one sweep for all, before they are executed."""

import json
import re
from pathlib import Path

import pytest
import yaml
from small_book import NOTEBOOKS, PARAMETERS, ROOT, make_book, pretend_executed, rows_of, write_notebook

from grokking_book.make import build, render, settings
from grokking_book.sources import notebooks
from grokking_core.paper.experiments import EXPERIMENTS
from grokking_core.runs.record import utc_now

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
