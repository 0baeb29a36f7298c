"""The tables that a page offers for download."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from pandas.testing import assert_frame_equal

from grokking_book.sources import numbers
from grokking_book.sources.jobs import Job
from grokking_core import plots
from grokking_core.data import operation_table
from grokking_core.paper import experiments
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run
from grokking_core.weights.structure import structure_of

RUN = Run(operation="x+y", p=7, d_model=8, n_heads=2)


def record(run, last, **kept):
    steps = [0, 1, last]
    curve = pd.DataFrame(0.5, index=range(3), columns=pd.Index(COLUMNS)).assign(step=steps)
    return Record(run=run, curve=curve.assign(train_accuracy=[0.1, 0.2, 1.0]), kept=kept)


def test_tables_have_each_run_once_as_far_as_it_was_followed():
    other = Run(operation="x+y", p=7, d_model=8, n_heads=2, seed=1)
    found = numbers.tables([record(RUN, 10), record(RUN, 20), record(other, 10), record(RUN, 10)])
    assert found["runs"]["seed"].tolist() == [0, 1]
    assert found["runs"]["last_step"].tolist() == [20, 10]
    assert found["runs"]["train_99_first"].tolist() == [20, 10]
    assert found["curves"]["step"].tolist() == [0, 1, 20, 0, 1, 10]
    assert list(found["curves"]) == ["key", *COLUMNS]
    assert set(found["curves"]["key"]) == set(found["runs"]["key"])


def test_sharpness_is_among_the_numbers_of_a_run():
    sharp = {"phi": np.array([1.0, 3.0]), "released": np.array([0.0, 0.0])}
    found = numbers.tables([record(RUN, 10, sharpness=sharp)])["runs"]
    assert found["sharpness_phi"].tolist() == [2.0]


def test_traps_watched_numbers_and_answers_are_there_where_they_were_kept():
    true = operation_table("x+y", 7).answer
    answer = np.where(np.arange(len(true)) == 3, 9, true)
    traps = {"count": np.array([1.0, 0.0, 2.0])}
    seen = pd.DataFrame({"step": [0, 100], "weight_norm": [1.0, 2.0], "ildr": [0.5, 0.7]})
    full = replace(record(RUN, 10, answers={"answer": answer}, traps=traps), watched={"early_warnings": seen})
    found = numbers.tables([full, record(replace(RUN, seed=1), 10)])
    assert found["runs"]["traps"].iloc[0] == 3.0
    assert found["runs"]["traps"].isna().tolist() == [False, True]
    assert found["watched"][["step", "ildr", "probe"]].to_numpy().tolist() == [
        [0, 0.5, "early_warnings"], [100, 0.7, "early_warnings"]
    ]  # fmt: skip
    wrong = found["cells"][~found["cells"]["right"]]
    assert wrong[["x", "y", "given"]].to_numpy().tolist() == [[0, 3, 9]]
    for name in ("watched", "cells"):
        assert set(found[name]["key"]) == {found["runs"]["key"].iloc[0]}
    assert "watched" not in numbers.tables([record(RUN, 10)])


def test_points_and_tests_are_those_that_the_pictures_draw():
    rows = np.random.default_rng(0).normal(size=(9, 8)).astype("float32")
    full = record(RUN, 10, output_rows={"rows": rows})
    network, found = structure_of(full), numbers.tables_of_rows([full, record(replace(RUN, seed=1), 10)])
    ax = plots.embedding(network.points(), network.labels())
    drawn = [point for line in ax.lines for point in zip(*line.get_data(), strict=True)]
    plt.close("all")
    assert sorted(drawn) == sorted(zip(found["points"]["x"], found["points"]["y"], strict=True))
    assert found["points"]["element"].tolist() == [*range(7)]
    assert found["points"]["label"].tolist() == network.labels().tolist()
    assert_frame_equal(found["tests"].drop(columns="key"), network.test)
    assert set(found["points"]["key"]) == set(found["tests"]["key"])


def test_no_records_make_empty_tables():
    assert all(table.empty for table in numbers.tables([]).values())
    assert all(table.empty for table in numbers.tables_of_rows([]).values())


@pytest.fixture
def job(tmp_path, monkeypatch):
    """The notebook of the film, executed just now, whose plan reads two made-up records."""
    output = tmp_path / "figures" / "film.ipynb"
    output.parent.mkdir()
    output.write_text("executed")
    source = Path(experiments.__file__).parents[2] / "book" / "figures" / "film.ipynb"
    monkeypatch.setattr(Job, "is_current", lambda self: True)
    monkeypatch.setattr(experiments.Plan, "read", lambda self: [record(RUN, 10), record(RUN, 20)])
    return Job("film", source, {}, output, "")


def test_tables_are_written_once_for_each_execution(job):
    numbers.write([job])
    paths = numbers.files_of(job)
    assert len(pd.read_csv(paths["runs"])) == 1
    assert pd.read_csv(paths["curves"])["step"].tolist() == [0, 1, 20]
    paths["runs"].write_text("untouched")
    numbers.write([job])
    assert paths["runs"].read_text() == "untouched"
    later = paths["runs"].stat().st_mtime + 5
    os.utime(job.output, (later, later))
    numbers.write([job])
    assert paths["runs"].read_text() != "untouched"


def test_table_that_a_page_has_no_more_is_taken_away(job, monkeypatch):
    numbers.write([job])
    old = numbers.files_of(job)["points"]
    old.write_text("of an earlier page")
    later = old.stat().st_mtime + 5
    os.utime(job.output, (later, later))
    numbers.write([job])
    assert not old.exists()
    assert numbers.files_of(job)["curves"].is_file()


def test_page_links_to_the_tables_that_are_there(job):
    assert numbers.links(job, Path("figures/film.ipynb")) == ""
    numbers.write([job])
    told = numbers.links(job, Path("figures/film.ipynb"))
    assert 'href="../_static/numbers/film.runs.csv" download' in told
    assert 'href="../_static/numbers/film.curves.csv" download' in told
    assert 'href="./_static/numbers/film.runs.csv"' in numbers.links(job, Path("film.ipynb"))


@pytest.mark.site
def test_site_has_the_numbers_behind_its_pictures(site):
    folder = site / "_static" / "numbers"
    for page, name in (
        ("fig3_embeddings", "points"), ("fig3_embeddings", "tests"), ("fig1_operation_table", "cells"),
        ("early_warnings", "watched"), ("fourier", "watched"), ("topology", "watched"),
    ):  # fmt: skip
        told, runs = (pd.read_csv(folder / f"{page}.{kind}.csv") for kind in (name, "runs"))
        assert set(told["key"]) == set(runs["key"]), (page, name)
        assert f"numbers/{page}.{name}.csv" in (site / "figures" / f"{page}.html").read_text()
