from dataclasses import fields
from inspect import signature
from typing import Any

import pandas as pd
import pytest

from grokking_book.pages.settings import (
    CURVE,
    FIELD,
    KEY,
    NONE,
    SETTINGS,
    by_label,
    names,
    settings,
    table,
    to_html,
)
from grokking_core import data
from grokking_core.paper import experiments
from grokking_core.paper.experiments import EXPERIMENTS
from grokking_core.plans import Part, Plan
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import COLUMNS, KEPT, Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run
from grokking_core.sweeps.sweeping import sweep
from grokking_core.weights import sharpness

pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")

TINY: dict[str, Any] = {"operation": "x+y", "p": 7, "train_fraction": 0.7, "d_model": 8, "n_heads": 2}


def tiny(**fields: Any) -> Run:
    return Run(**TINY | fields)


def plan_of(*runs: Run, steps: int = 20, stop_at: float | None = None) -> Plan:
    return Plan((Part(runs=runs, steps=steps, stop_at=stop_at),))


def row_of(*runs: Run, **how: Any):
    """The one row of a table, by the lower level of its columns."""
    return table({"this": plan_of(*runs, **how)}).loc["this"].droplevel(0)


# What was run


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_table_says_of_every_experiment_what_its_runs_have(profile):
    plans = {name: experiments.plan(name, profile) for name in EXPERIMENTS}
    found = table(plans)
    assert list(found.index) == list(EXPERIMENTS)
    for name, plan in plans.items():
        row = found.loc[name]
        assert {*row["task"]["operation"].split(", ")} == {run.operation for run in plan.runs}
        assert {*row["optimizer"]["learning rate"].split(", ")} == {f"{run.lr:g}" for run in plan.runs}
        assert {*row["followed"]["steps"].split(", ")} <= {f"{k:,}" for p in plan.parts for k in (p.steps,)}
        assert row["followed"]["runs"] == f"{len({*plan.runs}):,}"
        assert "" not in row.tolist()


def test_values_of_runs_are_one_or_listed_or_a_range():
    row = row_of(*(tiny(train_fraction=f, seed=s) for f in (0.5, 0.29) for s in range(7)))
    assert row["operation"] == "x+y"
    assert row["training set"] == "29, 50\N{NO-BREAK SPACE}%"
    assert row["seeds"] == "0 to 6 (7 values)"
    assert row["betas"] == "(0.9, 0.98)"


def test_domain_tells_residues_from_permutations():
    assert row_of(tiny(), Run(operation="s5:xy", n=3))["domain"] == "mod 7, S3"


def test_columns_say_nothing_of_networks_that_lack_the_thing():
    mlp = tiny(n_heads=4, architecture="mlp", weight_decay=0.0)
    row = row_of(mlp)
    assert [row[name] for name in ("heads", "layer norm", "decay toward")] == [NONE] * 3
    row = row_of(mlp, tiny(decay_toward="init"))
    assert [row[name] for name in ("heads", "layer norm", "decay toward")] == ["2", "post", "init"]
    assert row["architecture"] == "mlp, transformer"
    assert row["decay"] == "0, 1"


def test_column_of_later_papers_says_what_a_run_has_of_them():
    assert row_of(tiny())["of later papers"] == NONE
    row = row_of(tiny(), tiny(loss="stablemax", decay_to=50), tiny(slow_gradient="ema"))
    assert row["of later papers"] == "loss stablemax; decay_to 50, slow_gradient ema"


def test_batch_is_what_a_run_used():
    run = tiny()
    assert row_of(run, tiny(batch_size="full"))["batch"] == "17, all"  # half of 34
    assert row_of(Run(operation="x+y"))["batch"] == "512"


def test_steps_are_those_of_the_evaluation_grid():
    row = row_of(tiny(), steps=101, stop_at=0.99)
    assert (row["steps"], row["stop rule"]) == ("110", "validation 99\N{NO-BREAK SPACE}%")
    assert row_of(tiny())["stop rule"] == "none"


def test_table_counts_what_is_on_record():
    asked, other = (plan_of(*(tiny(seed=seed) for seed in seeds)) for seeds in ((0, 1), (2,)))
    plan_of(tiny(seed=1)).sweep(progress=False)
    plans = {"asked": asked, "other": other}
    followed = table(plans, {name: plan.read() for name, plan in plans.items()})["followed"]
    assert followed["on record"].tolist() == ["1 of 2", "0 of 1"]
    devices = followed["device"].tolist()
    assert devices[0].startswith("cpu: ")
    assert devices[1] == NONE
    assert "on record" not in table(plans)["followed"]


def test_records_of_other_plans_are_an_error():
    plans = {"a": plan_of(tiny())}
    with pytest.raises(ValueError, match="found must have the names of plans; not in both: a, b"):
        table(plans, {"b": plans["a"].read()})


def test_pieces_of_a_plan_hold_its_runs_and_how_far_to_follow_them():
    plan = experiments.plan("fig2_optimizers")
    pieces = by_label(plan, experiments.variant_of)
    assert {*pieces} == {experiments.variant_of(run) for run in plan.runs}
    assert sorted(map(str, plan.runs)) == sorted(str(run) for piece in pieces.values() for run in piece.runs)
    steps = table(pieces)["followed", "steps"].to_dict()
    assert steps["full batch, Adam"] == "1,000"
    assert steps["minibatch, Adam"] == "4,000"


# What the paper says


def test_settings_differ_from_the_defaults_only_where_the_table_says_so():
    by_field = settings().loc[[s.what for s in SETTINGS if s.field and not s.here]]
    assert by_field.index[by_field["stated"] != by_field["ours"]].tolist() == ["seed of the split"]
    assert len(by_field) > 15


def test_settings_name_every_field_of_a_run_once_and_who_says_so():
    named = [setting.field for setting in SETTINGS if setting.field]
    assert sorted(named) == sorted(field.name for field in fields(Run))
    assert all(setting.source.startswith(("paper", "code", "ours")) for setting in SETTINGS)
    assert "" not in settings()[["stated", "ours"]].to_numpy()
    assert settings().index.is_unique


def test_names_are_there_for_every_field_operation_and_column():
    by_place: dict[str, list[str]] = names().groupby("where")["ours"].agg(list).to_dict()
    assert sorted(by_place[FIELD]) == sorted(field.name for field in fields(Run))
    assert sorted(by_place[KEY]) == sorted(data.OPERATIONS)
    assert sorted(by_place[CURVE]) == sorted(COLUMNS)
    assert by_place["method of Record"] == [name for name in dir(Record) if name == "steps_to"]
    assert {*by_place["argument of sweep"]} <= {*signature(sweep).parameters}
    assert {*by_place["what sweep may keep"]} <= {*KEPT}
    assert {*by_place["column of sharpness.table"]} <= {*sharpness.table([])}
    assert len(names()) == sum(map(len, by_place.values()))


def test_names_are_unique_on_every_side_and_never_empty():
    told = names().reset_index()
    for side in ("in the paper", "in their code", "ours"):
        named = [name for name in told[side] if name != NONE]
        assert len(named) == len({*named}), side
    assert "" not in told.to_numpy()


def test_html_of_a_table_is_whole_and_escaped():
    told = to_html(settings())
    assert told.count("<tr") == len(SETTINGS) + 1
    assert "setting</th>" in told
    assert max(SETTINGS, key=lambda setting: len(setting.stated)).stated in told
    assert "x/y|x-y, a &lt; b" in to_html(settings().assign(ours="x/y|x-y, a < b"))
    assert "<td>" not in told


# The page


def test_page_runs_on_what_is_on_record(monkeypatch, run_notebook):
    def shown() -> dict[str, Any]:
        return run_notebook("hyperparameters", lambda run: None)

    monkeypatch.setenv("GROKKING_PROFILE", "smoke")
    names = shown()
    asked = {key_of(run) for name in EXPERIMENTS for run in experiments.plan(name, "smoke").runs}
    assert names["missing"] == names["runs"] == asked
    (run,) = experiments.plan("fig1_operation_table", "smoke").runs
    monkeypatch.setattr(Plan, "read", lambda plan: recorded(plan, run))
    names = shown()
    assert len(names["runs"] - names["missing"]) == 1
    assert names["rows"]["fig1_operation_table"]["runs", "overfitted"] == 1
    assert names["rows"]["fig1_operation_table"]["training", "lost again"] == 1
    assert names["rows"]["fig7_sharpness"]["runs", "on record"] == 0


def recorded(plan: Plan, run: Run) -> Records:
    """A made-up record of one run: training is fitted at step 1, lost, and fitted again with the rest."""
    curve = pd.DataFrame(1.0, index=range(4), columns=pd.Index(COLUMNS))
    curve = curve.assign(step=[0, 1, 2, 5], train_accuracy=[0, 1, 0.5, 1], validation_accuracy=[0, 0, 0, 1])
    asked = {key_of(each): each for each in plan.runs}
    found = Records([Record(run=run, curve=curve)] if asked.pop(key_of(run), None) else [], asked=[(5, None)])
    found.missing = list(asked.values())
    return found
