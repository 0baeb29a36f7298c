"""The tables that a page offers for download."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from grokking_book.make import numbers
from grokking_book.sources.jobs import Job
from grokking_core.paper import experiments
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run

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


def test_no_records_make_empty_tables():
    assert all(table.empty for table in numbers.tables([]).values())


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


def test_page_links_to_the_tables_that_are_there(job):
    assert numbers.links(job, Path("figures/film.ipynb")) == ""
    numbers.write([job])
    told = numbers.links(job, Path("figures/film.ipynb"))
    assert 'href="../_static/numbers/film.runs.csv" download' in told
    assert 'href="../_static/numbers/film.curves.csv" download' in told
    assert 'href="./_static/numbers/film.runs.csv"' in numbers.links(job, Path("film.ipynb"))
