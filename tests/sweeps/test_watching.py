"""What probes see is asked like what is kept: it changes no bit, and is trained again only where missing."""

import random
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from grokking_core import Run, __main__, sweep, training
from grokking_core.paper import export
from grokking_core.plans import Part, Plan, merged
from grokking_core.probes import PROBES
from grokking_core.records.files import RecordWarning
from grokking_core.records.store import Store
from grokking_core.runs.record import utc_now
from grokking_core.sweeps import workers

pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")

SMALL = {
    "operation": "x+y",
    "p": 31,
    "train_fraction": 0.4,
    "architecture": "mlp",
    "d_model": 8,
    "n_layers": 1,
}
RUN, OTHER = (Run(**SMALL, seed=seed) for seed in (0, 1))
EVERYTHING = tuple(PROBES)
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["grokking_core.sweeps.workers"])


def assert_same(one, other):
    pd.testing.assert_frame_equal(one.curve, other.curve, check_exact=True)
    assert one.watched.keys() == other.watched.keys()
    for name, frame in one.watched.items():
        pd.testing.assert_frame_equal(frame, other.watched[name], check_exact=True)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"architecture": "transformer", "n_heads": 2},
        {"dropout": 0.1, "weight_noise": 0.01},
        {"optimizer": "adam"},
    ],
)
def test_a_run_has_the_same_bits_with_and_without_watching(fields, tmp_path):
    run = replace(RUN, **fields)
    kinds = [{}, {"watch": EVERYTHING}, {"watch": EVERYTHING, "watch_every": 7}, {"watch": ("spikes",)}]
    found = [
        sweep([run], 150, keep=("weights",), store=tmp_path / str(i), **of)[0] for i, of in enumerate(kinds)
    ]
    for record in found[1:]:
        pd.testing.assert_frame_equal(record.curve, found[0].curve, check_exact=True)
        assert np.array_equal(*(r.kept["weights"]["parameters"] for r in (record, found[0])))
    assert [tuple(record.watched) for record in found] == [(), EVERYTHING, EVERYTHING, ("spikes",)]
    often = found[2].watched["spikes"]["step"]
    assert set(often) == {*found[0].curve["step"], *range(0, 151, 7)}
    for name, frame in found[1].watched.items():  # the same rows, whatever else is watched, and how often
        of_often = found[2].watched[name]
        of_often = of_often[of_often["step"].isin(frame["step"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(frame, of_often, check_exact=True)
        assert np.array_equal(frame["weight_norm"], found[0].curve["weight_norm"])
    pd.testing.assert_frame_equal(found[3].watched["spikes"], found[1].watched["spikes"], check_exact=True)


def test_runs_in_one_ensemble_are_watched_as_alone():
    from grokking_core.runs.trajectory import Trajectory, Watched
    from grokking_core.training.ensemble import Ensemble

    runs = [
        replace(RUN, precision="fp64", batch_size=99, operation=op, seed=s)
        for s, op in enumerate(("x+y", "x*y", "x/y") * 4)
    ]
    rows = []
    for some in (runs, *([run] for run in runs)):
        e = Ensemble(some, len(some), training.ensemble.torch.device("cpu"), watch=EVERYTHING)
        for slot, run in enumerate(some):
            e.load(slot, Trajectory(run, watched={name: Watched() for name in EVERYTHING}))
        for _ in range(6):
            e.advance(lambda: False)
        rows.append([[seen.rows for seen in t.watched.values()] for t in e.slots])
    together, alone = rows[0], [of[0] for of in rows[1:]]
    for run, one, other in zip(runs, together, alone, strict=True):
        for name, mine, theirs in zip(EVERYTHING, one, other, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-9, err_msg=f"{name} of {run}")


def test_what_was_watched_is_read_and_only_what_is_missing_is_trained(begun):
    first = sweep([RUN, OTHER], 60, watch=("early_warnings", "fourier"))
    assert begun == [(0, 0), (1, 0)]
    again = sweep([RUN, OTHER], 60, watch=("fourier", "early_warnings"))
    for one, other in zip(first, again, strict=True):
        assert_same(one, other)
    assert (again.n_read, len(begun)) == (2, 2)
    assert sweep([RUN], 60)[0].watched == {}  # not asked for
    assert sweep([RUN], 60, watch=("spikes",)).n_trained == 1
    assert begun[2:] == [(0, 0)]
    assert sweep([RUN], 60, watch=("spikes", "fourier")).n_read == 1  # each has a file of its own


def test_a_plain_record_answers_plain_questions_and_no_other(begun):
    plain = sweep([RUN], 60)[0]
    watched = sweep([RUN], 60, watch=("topology",))
    pd.testing.assert_frame_equal(watched[0].curve, plain.curve, check_exact=True)
    assert begun == [(0, 0), (0, 0)]  # its checkpoint has seen nothing


def test_a_longer_watched_run_answers_shorter_questions(begun, tmp_path):
    long = sweep([RUN], 200, watch=("spikes", "early_warnings"))[0]
    short = sweep([RUN], 100, watch=("spikes",))[0]
    assert len(begun) == 1
    alone = sweep([RUN], 100, watch=("spikes",), store=tmp_path / "alone")[0]
    assert_same(short, alone)
    sweep([RUN], 50, watch=("spikes",), fresh=True)
    assert_same(
        sweep([RUN], 200, watch=("early_warnings",))[0],
        replace(long, watched={"early_warnings": long.watched["early_warnings"]}),
    )


def test_a_watched_run_is_followed_further_from_its_checkpoint(begun, tmp_path):
    sweep([RUN], 100, watch=EVERYTHING, watch_every=30)
    further = sweep([RUN], 300, watch=EVERYTHING, watch_every=30)[0]
    assert begun == [(0, 0), (0, 100)]
    assert_same(further, sweep([RUN], 300, watch=EVERYTHING, watch_every=30, store=tmp_path / "alone")[0])


def test_rows_at_every_tenth_update_have_those_at_every_twentieth(begun, tmp_path):
    sweep([RUN], 100, watch=("early_warnings",), watch_every=10)
    for every in (10, 20, None):
        found = sweep([RUN], 100, watch=("early_warnings",), watch_every=every)[0]
        alone = sweep([RUN], 100, watch=("early_warnings",), watch_every=every, store=tmp_path / str(every))[
            0
        ]
        assert_same(found, alone)
    assert len(begun) == 4
    sweep([RUN], 100, watch=("early_warnings",), watch_every=15)
    assert len(begun) == 5


def test_fresh_runs_are_watched_anew_and_then_read(begun, monkeypatch):
    sweep([RUN], 100, watch=("spikes",))
    time.sleep(0.01)
    monkeypatch.setenv("GROKKING_FRESH", utc_now())
    assert sweep([RUN], 60, watch=("spikes",)).n_trained == 1
    assert sweep([RUN], 60, watch=("spikes",)).n_read == 1


def test_what_another_machine_has_watched_is_not_taken_for_this_runs(begun, monkeypatch):
    monkeypatch.setenv("GROKKING_CHECKPOINTS_GB", "0")
    record = sweep([RUN], 60, watch=("spikes",))[0]
    frame = record.watched["spikes"].copy()
    frame.loc[frame.index[-1], "weight_norm"] *= 1 + 1e-9
    Store().path(RUN, "watched-spikes").unlink()
    Store().write_watched(replace(record, watched={"spikes": frame}))
    assert Store().watched(record, "spikes") is None
    assert sweep([RUN], 60, watch=("spikes",)).n_trained == 1


def test_a_diverged_run_is_watched_to_its_end():
    run = replace(RUN, optimizer="sgd", lr=1e6, warmup_steps=0)
    record = sweep([run], 100, watch=EVERYTHING)[0]
    assert record.diverged_at == record.watched["spikes"]["step"].iloc[-1]
    assert sweep([run], 100, watch=EVERYTHING).n_read == 1


@pytest.mark.parametrize("damage", ["cut", "renamed"])
def test_a_damaged_file_is_set_aside_and_the_run_watched_again(damage, monkeypatch):
    monkeypatch.setenv("GROKKING_CHECKPOINTS_GB", "0")
    sweep([RUN], 60, watch=("spikes", "topology"))
    path, other = (Store().path(RUN, f"watched-{name}") for name in ("spikes", "topology"))
    path.write_bytes(path.read_bytes()[:-5] if damage == "cut" else other.read_bytes())
    assert [entry.path for entry in Store().verify() if entry.trouble] == [path]
    with pytest.warns(RecordWarning, match="set aside"):
        again = sweep([RUN], 60, watch=("spikes", "topology"))
    assert again.n_trained == 1
    assert not [entry for entry in Store().verify() if entry.trouble]


def test_what_was_watched_is_packed_and_shipped(tmp_path, begun):
    plan = Plan((Part(runs=(RUN, OTHER), steps=60, watch=EVERYTHING),))
    trained = plan.sweep()
    own = Store(tmp_path / "own2", tmp_path / "packs")
    assert export.pack(Store(), tmp_path / "packs" / "some.parquet", [plan])[0] == 2
    for one, other in zip(plan.read(own), trained, strict=True):
        assert_same(one, other)
    assert not plan.read(own).missing
    assert {entry.kind for entry in own.verify()} == {"pack", "kept pack"}
    assert not [entry for entry in own.verify() if entry.trouble]
    more = Plan((Part(runs=(RUN,), steps=60, watch=EVERYTHING, watch_every=7),))
    assert more.read(own).missing == [RUN]


def test_merged_plans_watch_a_run_for_all_of_its_questions():
    parts = [
        Part(runs=(RUN,), steps=100, watch=("spikes",), watch_every=20),
        Part(
            runs=(RUN, OTHER), steps=50, stop_at=0.9, keep=("answers",), watch=("topology",), watch_every=30
        ),
        Part(runs=(OTHER,), steps=100),
    ]
    both, one = ("spikes", "topology"), ("topology",)
    expected = [
        Part(runs=(RUN,), steps=100, watch=both, watch_every=10),
        Part(runs=(OTHER,), steps=100, watch=one, watch_every=30),
        Part(runs=(RUN,), steps=50, stop_at=0.9, keep=("answers",), watch=both, watch_every=10),
        Part(runs=(OTHER,), steps=50, stop_at=0.9, keep=("answers",), watch=one, watch_every=30),
    ]
    assert merged([Plan((part,)) for part in parts]) == expected


def test_watching_stops_before_training_where_a_probe_cannot_look(begun):
    with pytest.raises(ValueError, match="no frequencies for operation='s5:xy'"):
        sweep([RUN, Run(operation="s5:xy")], 100, watch=("fourier",))
    with pytest.raises(ValueError, match="watch_every=0"):
        sweep([RUN], 100, watch=("spikes",), watch_every=0)
    assert begun == []


def test_the_command_line_watches(capsys, begun):
    options = ["--operation", "x+y", "--p", "31", "--train-fraction", "0.4", "--architecture", "mlp"]
    options += ["--d-model", "8", "--n-layers", "1", "--steps", "60"]
    assert __main__.main(["train", *options, "--watch", "spikes", "topology", "--watch-every", "7"]) == 0
    assert sweep([RUN], 60, watch=("spikes", "topology"), watch_every=7).n_read == 1
    assert __main__.main(["train", *options, "--watch", "fouriers"]) == 2
    assert "out of early_warnings, fourier" in capsys.readouterr().err
    assert __main__.main(["train", *options, "--watch", "spikes", "--watch-every", "0"]) == 2
    assert "watch_every=0 must be" in capsys.readouterr().err


def test_workers_watch(tmp_path):
    with workers.LocalWorkers(2) as executor:
        found = sweep([RUN, OTHER], 60, watch=("early_warnings", "spikes"), executor=executor, device="cpu")
    for one, other in zip(
        found,
        sweep([RUN, OTHER], 60, watch=("early_warnings", "spikes"), store=tmp_path / "alone"),
        strict=True,
    ):
        assert_same(one, other)


def _sweep_watched(folder: Path, steps: int) -> None:
    """In a process to be killed."""
    sweep(
        [RUN, OTHER],
        steps,
        watch=EVERYTHING,
        watch_every=30,
        store=folder,
        checkpoint_seconds=0.05,
        progress=False,
    )


@pytest.mark.slow
def test_a_watched_run_killed_at_random_moments_ends_with_the_same_rows(tmp_path):
    folder, draw, steps = tmp_path / "killed", random.Random(0), 3000
    for kill in range(10):
        process = CONTEXT.Process(target=_sweep_watched, args=(folder, steps))
        process.start()
        while process.is_alive() and not list(folder.glob("*.checkpoint.*")):
            time.sleep(0.01)
        process.join(draw.uniform(0, 0.8) + (2 if kill else 0))  # to begin takes about two seconds
        process.kill()
        process.join()
    records = sweep([RUN, OTHER], steps, watch=EVERYTHING, watch_every=30, store=folder)
    alone = sweep([RUN, OTHER], steps, watch=EVERYTHING, watch_every=30, store=tmp_path / "alone")
    for one, other in zip(records, alone, strict=True):
        assert_same(one, other)
    assert not [entry for entry in Store(folder).verify() if entry.trouble]
