import numpy as np
import pandas as pd
import pytest

from grokking_core import plots
from grokking_core.paper import experiments
from grokking_core.paper.experiments import variant_of
from grokking_core.runs.record import COLUMNS, Record

NAMES = ("fig3_embeddings", "fig7_sharpness")


def record(run, train=1.0, validation=1.0, unmirrored=1.0, **kept):
    curve = pd.DataFrame(0.0, index=range(2), columns=pd.Index(COLUMNS)).assign(step=[0, 100])
    ends = {"train": train, "validation": validation, "unmirrored": unmirrored}
    for side, accuracy in ends.items():
        curve.loc[1, f"{side}_accuracy"] = accuracy
    return Record(run=run, curve=curve, kept=kept)


@pytest.mark.parametrize("name", NAMES)
def test_page_runs_with_nothing_on_record(run_notebook, name):
    names = run_notebook(name, lambda run: None)
    plan = experiments.plan(name)
    assert names["records"].missing == list(plan.runs)
    told = names["told"].values() if "told" in names else [names["verdict"]]
    assert {verdict.kind for verdict in told} == {"not reached"}
    assert "nan" not in names["text"]


def circle(run):
    """Addition with decay of seed 0 on a circle of frequency 12, seed 1 missing; noise without decay."""
    if (run.seed and run.weight_decay) or run.operation != "x+y":
        return None
    angle = 2 * np.pi * 12 * np.arange(97) / 97
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    noise = np.random.default_rng(run.seed).normal(size=rows.shape)
    known = {} if run.weight_decay else {"validation": 0.95, "unmirrored": 0.5}
    return record(run, **known, output_rows={"rows": rows if run.weight_decay else noise})


def test_page_of_figure_3_tells_lines_from_noise_and_what_is_missing(run_notebook, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "structures", lambda *chosen: drawn.append(chosen))
    names = run_notebook("fig3_embeddings", circle)
    assert "3 of 8 networks are on record, 1 of which know their task" in names["text"]
    assert "5 networks are missing" in names["text"]
    (none, of_product), (known, of_addition) = drawn
    assert none == []
    assert [(run.weight_decay, run.seed) for run in of_product] == [(1, 0), (1, 1), (0, 0)]
    assert [(f.record.run.weight_decay, f.record.run.seed) for f in known] == [(1, 0), (0, 0)]
    assert [(run.weight_decay, run.seed) for run in of_addition] == [(1, 1)]
    lines = names["shown"]("x+y")
    assert lines[1.0, 0].loc[["most", "its place", "frequencies"]].tolist() == ["+8", 1, 1]
    assert lines[1.0, 1].loc[["most", "z"]].tolist() == ["not on record", ""]
    assert names["pairs"]["knows_without"].tolist() == [False]
    assert names["told"]["C18"].kind == "not reached", "half of the networks with decay are missing"


def test_page_of_figure_3_draws_what_it_is_given(run_notebook):
    names = run_notebook("fig3_embeddings", circle, weight_decays=[1.0], seeds=[0])
    assert names["told"]["C18"].kind == "agrees"
    assert names["pairs"].empty


def sharp(run):
    """Sharper networks generalize worse, but those with decay do not fit; the full batch is missing."""
    if run.batch_size == "full":
        return None
    phi = np.array([1.0, 3.0]) * 1000 ** (1 - run.train_fraction)
    kept = {"phi": phi, "released": np.zeros(2)}
    train = 0.9 if variant_of(run) == "AdamW, decay 1" else 1.0
    return record(run, train=train, validation=run.train_fraction, sharpness=kept)


def test_page_of_figure_7_correlates_what_fits_its_training_set(run_notebook):
    names = run_notebook("fig7_sharpness", sharp)
    assert len(names["table"]) == 14
    assert len(names["fitted"]) == 10
    assert names["found"][:2] == (-1, -1)
    assert names["found"].n == 10
    assert "over the networks that fit: -1 [-1, -1] (n = 10); the paper has -0.795" in names["text"]
    assert "outside the interval" in names["text"]
    assert "exactly 0 for 10 of them" in names["text"]
    assert names["rows"]["as defined", "all"][0].endswith("(n = 14)")
    assert names["rows"]["as in the authors' code", "all"][0] == "no estimate (n = 14)"
    assert names["verdict"].n == 10
