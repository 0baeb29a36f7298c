import os
import random
import shutil
import signal
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from runs_by_hand import TINY, assert_same, assert_shared, runs

from grokking_core import Records, Run, Stopped, sweep
from grokking_core.paper import export
from grokking_core.plans import Part, Plan
from grokking_core.records import files
from grokking_core.records.files import RecordWarning, StoreError
from grokking_core.records.store import Store
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import utc_now
from grokking_core.runs.trajectory import Trajectory
from grokking_core.sweeps import estimate, question, workers
from grokking_core.sweeps.question import Question
from grokking_core.sweeps.reading import Reading
from grokking_core.sweeps.trainer import Trainer, device_name, groups

pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")

sweeping = import_module("grokking_core.sweeps.sweeping")
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["grokking_core.sweeps.workers"])


def assert_same_kept(some: Records, others: Records) -> None:
    assert_same(some, others)
    for one, other in zip(some, others, strict=True):
        assert set(one.kept) == set(other.kept)
        for name, arrays in one.kept.items():
            for array in arrays:
                np.testing.assert_array_equal(arrays[array], other.kept[name][array])


def weights(record) -> np.ndarray:
    return record.kept["weights"]["parameters"]


@pytest.fixture
def kinds():
    """Counts the files of the user's folder by kind."""
    return lambda: {kind: count for kind, (count, _) in Store().usage().items()}


# Reading and training


def test_second_sweep_trains_nothing_and_gives_the_same(begun):
    first = sweep(runs(), 100)
    second = sweep(runs(), 100)
    assert (first.n_read, first.n_trained, second.n_read, second.n_trained) == (0, 3, 3, 0)
    assert begun == [(0, 0), (1, 0), (2, 0)]
    assert_same(first, second)


def test_records_come_in_the_order_asked_for_and_twice_is_trained_once(begun):
    zero, one = runs(2)
    records = sweep([one, zero, one], 50)
    assert [r.run.seed for r in records] == [1, 0, 1]
    assert (records.n_trained, len(begun)) == (2, 2)


def test_only_what_is_new_is_trained(begun):
    sweep(runs(2), 100)
    records = sweep(runs(4), 100)
    assert (records.n_read, records.n_trained) == (2, 2)
    assert sorted(begun) == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_steps_are_rounded_up_to_an_evaluation():
    records = sweep(runs(1), 101)
    assert records[0].last_step == 110
    assert records.asked == ((110, None),)


def test_longer_record_answers_shorter_questions(begun):
    whole = sweep(runs(1), 300)[0]
    short = sweep(runs(1), 100)[0]
    early = sweep(runs(1), 300, stop_at=0.01)[0]
    assert len(begun) == 1
    assert short.curve.equals(whole.until(100).curve)
    assert early.curve["validation_accuracy"].iloc[-1] >= 0.01
    assert (early.curve["validation_accuracy"].iloc[:-1] < 0.01).all()


def test_shorter_record_goes_on_from_its_checkpoint_bit_for_bit(begun, alone):
    sweep(runs(2), 100, keep_checkpoints=True)
    longer = sweep(runs(2), 300, keep=("weights",))
    assert begun[2:] == [(0, 100), (1, 100)]
    assert_same_kept(longer, alone(runs(2), 300, keep=("weights",)))
    assert "checkpoint" not in Store().usage(), "removed once the run has ended"


def test_finished_run_is_followed_further_from_its_end_bit_for_bit(begun, alone):
    sweep(runs(2), 100)
    longer = sweep(runs(2), 300, keep=("weights",))
    assert begun == [(0, 0), (1, 0), (0, 100), (1, 100)]
    assert_same_kept(longer, alone(runs(2), 300, keep=("weights",)))


def test_finished_runs_take_no_more_of_the_disk_than_the_limit_the_oldest_going_first(begun, monkeypatch):
    sweep(runs(1), 100)
    size = Store().usage()["finished"][1]
    monkeypatch.setenv("GROKKING_CHECKPOINTS_GB", str(2.5 * size / 1e9))
    sweep(runs(5), 100, width=1)
    assert Store().usage()["finished"][0] == 2
    assert Store().checkpoint_step(runs(1)[0]) == 0, "the oldest"
    monkeypatch.setenv("GROKKING_CHECKPOINTS_GB", "half")
    with pytest.raises(ValueError, match="GROKKING_CHECKPOINTS_GB=half must be a number of at least 0"):
        sweep(runs(6), 100)


def test_shorter_record_without_checkpoint_is_trained_again(begun, monkeypatch):
    monkeypatch.setenv("GROKKING_CHECKPOINTS_GB", "0")
    sweep(runs(1), 100)
    assert sweep(runs(1), 200)[0].last_step == 200
    assert begun == [(0, 0), (0, 0)]


def test_checkpoint_beyond_the_question_answers_it_and_stays(begun, alone):
    sweep(runs(1), 300, keep_checkpoints=True)
    Store().path(runs(1)[0], "record").unlink()
    records = sweep(runs(1), 100)
    assert (records.n_read, len(begun)) == (1, 1)
    assert_same(records, alone(runs(1), 100))
    assert sweep(runs(1), 400).n_trained == 1
    assert begun[-1] == (0, 300)


def test_weights_are_kept_when_asked_for(begun):
    assert sweep(runs(1), 100)[0].kept == {}
    first = sweep(runs(1), 100, keep=("weights",))
    second = sweep(runs(1), 100, keep=["weights", "weights"])
    assert len(begun) == 2
    assert (first[0].parameters, set(second[0].kept)) == (None, {"weights"})
    np.testing.assert_array_equal(*(weights(records[0]) for records in (first, second)))
    assert sweep(runs(1), 200, keep=("weights",)).n_trained == 1
    assert sweep(runs(1), 100, keep=("weights",)).n_trained == 0


def test_weights_on_record_answer_what_is_computed_from_them(begun, alone, kinds):
    sweep(runs(2), 100, keep=("weights",))
    records = sweep(runs(2), 100, keep=("answers", "output_rows", "sharpness"))
    assert (records.n_read, records.n_trained, len(begun)) == (2, 0, 2)
    assert_same_kept(records, alone(runs(2), 100, keep=("answers", "output_rows", "sharpness")))
    del begun[:]
    ends = {"weights": 2, "answers": 2, "output_rows": 2, "sharpness": 2}
    assert kinds() == {"record": 2, "finished": 2} | ends
    for path in Store().folder.glob("*.weights-*"):
        path.unlink()
    again = sweep(runs(2), 100, keep=("sharpness", "answers"))
    assert begun == []
    assert [set(record.kept) for record in again] == [{"sharpness", "answers"}] * 2
    assert sweep(runs(2), 100, keep=("weights",)).n_read == 2, "from the last checkpoint"


def test_only_what_is_asked_for_is_kept(kinds):
    (record,) = sweep(runs(1), 100, keep=("output_rows",))
    assert set(record.kept) == {"output_rows"}
    assert kinds() == {"record": 1, "output_rows": 1, "finished": 1}


def test_what_is_kept_is_of_the_step_asked_for(begun):
    whole = sweep(runs(1), 300, keep=("output_rows",))
    early = sweep(runs(1), 100, keep=("output_rows",))
    assert len(begun) == 2
    assert not np.array_equal(*(records[0].kept["output_rows"]["rows"] for records in (whole, early)))
    assert sweep(runs(1), 100, keep=("output_rows",)).n_read == 1
    assert sweep(runs(1), 300, keep=("output_rows",)).n_read == 1


def test_stop_rule_ends_at_the_weights_that_are_kept(begun):
    rising = [Run(**TINY | {"operation": "x*y", "train_fraction": 0.9, "lr": 0.01, "seed": 1})]
    (whole,) = sweep(rising, 300, keep=("answers",))
    asked = {"stop_at": whole.curve["validation_accuracy"].max(), "keep": ("answers",)}
    (record,) = sweep(rising, 300, **asked)
    assert 0 < record.last_step == whole.steps_to(asked["stop_at"], "validation") < 300
    assert not np.array_equal(*(r.kept["answers"]["answer"] for r in (record, whole)))
    assert len(begun) == 2
    assert sweep(rising, 300, **asked).n_read == 1


def test_checkpoint_beyond_the_end_does_not_give_its_weights(begun, alone):
    sweep(runs(1), 300, keep_checkpoints=True)
    records = sweep(runs(1), 100, keep=("weights",))
    assert begun[1:] == [(0, 0)]
    assert_same_kept(records, alone(runs(1), 100, keep=("weights",)))


def test_checkpoint_at_the_end_gives_what_is_kept(begun, alone):
    sweep(runs(1), 100, keep_checkpoints=True)
    records = sweep(runs(1), 100, keep=("weights", "answers"))
    assert (records.n_read, begun[1:]) == (1, [(0, 100)]), "no step is left"
    assert_same_kept(records, alone(runs(1), 100, keep=("weights", "answers")))


def test_what_another_machine_kept_is_not_taken_for_this_records(begun):
    """Its numbers differ by rounding at least; the longer record stays, and both questions have answers."""
    sweep(runs(1), 100, keep=("output_rows",))
    (other,) = sweep(runs(1), 300)
    moved = other.curve.assign(weight_norm=other.curve["weight_norm"] * (1 + 1e-15))
    Store().write(replace(other, curve=moved))
    (record,) = sweep(runs(1), 100, keep=("output_rows",))
    assert len(begun) == 3
    assert record.curve["weight_norm"].iloc[-1] == other.until(100).curve["weight_norm"].iloc[-1]
    assert sweep(runs(1), 100, keep=("output_rows",)).n_read == 1
    assert sweep(runs(1), 300)[0].curve.equals(moved)


def test_shipped_records_answer_what_was_kept_without_training(begun, tmp_path):
    plan = Plan((Part(runs=tuple(runs(2)), steps=100, keep=("output_rows", "weights")),))
    first = sweep(plan.runs, 100, keep=("output_rows", "weights"))
    export.pack(Store(), tmp_path / "shipped" / "some.parquet", [plan])
    shutil.rmtree(tmp_path / "own")
    records = sweep(plan.runs, 100, keep=("output_rows",))
    assert (records.n_read, len(begun)) == (2, 2)
    for one, other in zip(first, records, strict=True):
        np.testing.assert_array_equal(one.kept["output_rows"]["rows"], other.kept["output_rows"]["rows"])
    assert sweep(plan.runs, 100, keep=("weights",)).n_trained == 2


def test_shipped_weights_answer_what_is_computed_from_them(begun, tmp_path):
    sweep(runs(1), 100, keep=("weights",))
    export.pack(Store(), tmp_path / "shipped" / "some.parquet", [], weights=True)
    shutil.rmtree(tmp_path / "own")
    assert sweep(runs(1), 100, keep=("answers",)).n_read == 1
    assert len(begun) == 1
    assert Store().usage()["answers"][0] == 1


def test_workers_compute_what_is_kept(alone):
    keep = ("weights", "answers")
    executor = Lossy(1, workers.BrokenExecutor)
    assert_same_kept(sweep(runs(2), 50, keep=keep, executor=executor), alone(runs(2), 50, keep=keep))
    keep = ("output_rows",)
    records = sweep(runs(2), 50, keep=keep, executor=executor)
    assert (records.n_read, records.n_trained) == (2, 0)
    assert_same_kept(records, alone(runs(2), 50, keep=keep))


def test_fresh_trains_everything_again_but_nothing_twice(begun, monkeypatch):
    sweep(runs(1), 100)
    assert sweep(runs(1), 100, fresh=True).n_trained == 1
    start = utc_now()
    monkeypatch.setattr(question, "PROCESS_STARTED", start)
    for fresh, trained in (("1", 1), ("1", 0), ("0", 0), (start, 0), (start[:10], 0)):
        monkeypatch.setenv("GROKKING_FRESH", fresh)
        assert sweep(runs(1), 100).n_trained == trained
    assert sweep(runs(1), 100, fresh=False).n_trained == 0


@pytest.mark.parametrize(
    ("fresh", "said"),
    [
        ("false", "GROKKING_FRESH=false must be 1, 0 or a date such as 20"),
        ("yesterday", "GROKKING_FRESH=yesterday must be"),
        ("2999-01-01", "GROKKING_FRESH=2999-01-01 lies in the future"),
    ],
)
def test_fresh_that_is_no_date_is_refused_before_anything_is_trained(begun, monkeypatch, fresh, said):
    monkeypatch.setenv("GROKKING_FRESH", fresh)
    with pytest.raises(ValueError, match=said):
        sweep(runs(1), 100)
    assert begun == []


def test_dates_with_other_time_zones_are_the_same_moment(monkeypatch):
    for date in ("2026-01-01T02:00+02:00", "2026-01-01", "2026-01-01T00:00:00Z"):
        monkeypatch.setenv("GROKKING_FRESH", date)
        assert Question.of(100).since == "2026-01-01T00:00:00.000+00:00"


def test_fresh_record_is_found_beside_a_longer_older_one(monkeypatch):
    sweep(runs(1), 300)
    since = utc_now()
    for trained in (1, 0):
        monkeypatch.setenv("GROKKING_FRESH", since)
        assert sweep(runs(1), 100, stop_at=0.9).n_trained == trained
        monkeypatch.delenv("GROKKING_FRESH")
    assert sweep(runs(1), 300).n_read == 1
    assert [r.last_step for r in Store().records()] == [300]


def test_records_of_another_machines_precision_are_read_here():
    run = runs(1, precision="tf32")[0]
    (like,) = sweep(runs(1), 50)
    Store().write(replace(like, run=run))
    assert sweep([run], 50, device="cpu").n_read == 1


def test_groups_come_cheapest_first():
    small, large = runs(2), runs(2, architecture="transformer", d_model=64)
    assert groups([*large, *small]) == [small, large]


def test_diverged_run_is_on_record_as_such(begun):
    (record,) = sweep(runs(1, lr=1e30, weight_decay=1e10), 1000)
    assert record.diverged_at == record.last_step < 1000
    assert sweep(runs(1, lr=1e30, weight_decay=1e10), 1000)[0].diverged_at == record.diverged_at
    assert len(begun) == 1


def test_diverged_run_has_what_is_kept(begun):
    keep = ("weights", "output_rows", "answers", "sharpness")
    for _ in range(2):
        (record,) = sweep(runs(1, lr=1e30, weight_decay=1e10), 1000, keep=keep)
        assert record.diverged_at == record.last_step
        assert not np.isfinite(weights(record)).all()
        assert (record.kept["answers"]["answer"] == -1).all()
        assert np.isnan(record.kept["sharpness"]["phi"]).all()
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"steps": 0}, "steps=0 must be"),
        ({"stop_at": 99}, r"stop_at=99 must lie in \(0, 1\]"),
        ({"stop_at": 0}, "stop_at=0 must"),
        ({"minutes": 0}, "minutes=0 must be above 0"),
        ({"keep": ["weight"]}, r"keep=\['weight'\] must be.* weights, output_rows, answers, frame"),
        ({"keep": "weights"}, "keep='weights' must be a sequence of names"),
        ({"runs": ["x+y"]}, "runs holds 'x\\+y'"),
        ({"runs": runs(1, precision="tf32"), "device": "cpu"}, "precision='tf32'"),
        ({"device": "cuda:99"}, "device='cuda:99' is not here; choose from cpu"),
    ],
)
def test_wrong_questions_name_the_argument(how, said):
    with pytest.raises(ValueError, match=said):
        sweep(**{"runs": runs(1), "steps": 10} | how)


# What it says


def test_provenance_is_data_and_a_table():
    bundle = sweep(runs(2), 100).provenance()._repr_mimebundle_()
    data = bundle["application/vnd.grokking.provenance+json"]
    assert (data["read"], data["trained"], data["runs"], data["missing"]) == (0, 2, 2, 0)
    assert data["asked"] == [{"steps": 100, "stop_at": None}]
    assert {"device", "precision", "package", "source", "torch", "seconds", "date"} <= set(data)
    assert "2 trained" in bundle["text/plain"]
    assert "<table>" in bundle["text/html"]
    assert sweep([], 10).provenance().data["runs"] == 0


def test_joined_parts_keep_their_order_and_count_a_run_once():
    zero, one, two = runs(3)
    sweep([zero], 300)
    parts = [sweep([zero, one], 50), sweep([two, one], 100, stop_at=0.99), sweep([zero], 10)]
    parts[1].missing, parts[1].unwritten = [zero], [parts[1][0]]
    joined = Records.joined(parts)
    assert [(r.run.seed, r.last_step) for r in joined] == [(0, 50), (1, 50), (2, 100), (1, 100), (0, 10)]
    assert (joined.n_read, joined.n_trained, joined.missing) == (0, 2, [zero])
    assert joined.unwritten == [parts[1][0]]
    assert joined.seconds == sum(part.seconds for part in parts)
    assert joined.asked == ((50, None), (100, 0.99), (10, None))
    table = str(joined.provenance())
    assert "50 steps; 100 steps, or until 99 % of the validation set is right; 10 steps" in table
    assert "2: 0 read from records, 2 trained, 1 missing" in table
    spent = sum(max(r.provenance["seconds"] for r in joined if r.run == run) for run in (zero, one, two))
    assert joined.provenance().data["training_seconds"] == round(spent, 1)
    assert (len(Records.joined([])), Records.joined([]).asked) == (0, ())


def test_provenance_says_how_to_get_what_is_missing(monkeypatch):
    records = sweep(runs(1), 50)
    for name in ("PROFILE", "NOTEBOOK"):
        monkeypatch.delenv(f"GROKKING_{name}", raising=False)
    assert "to get the rest" not in str(records.provenance())
    records.missing = runs(2)[1:]
    assert "to get the rest  call sweep again without a time limit" in str(records.provenance())
    monkeypatch.setenv("GROKKING_PROFILE", "laptop")
    monkeypatch.setenv("GROKKING_NOTEBOOK", "fig2_optimizers")
    told = "make book PROFILE=laptop, or first: grokking sweep --profile laptop"
    assert f"to get the rest  {told}" in str(records.provenance())


def test_bar_counts_runs_and_leaves_nothing_behind(capsys):
    sweep(runs(2), 50)
    sweep(runs(3), 50)
    assert "read 2, trained 0, left 1" in capsys.readouterr().err
    sweep(runs(3), 50)
    sweep(runs(4), 50, progress=False)
    assert capsys.readouterr().err == ""


def test_long_sweep_says_beforehand_what_it_takes(capsys, monkeypatch):
    reading = Reading(Question.of(100), Store())
    reading.read(runs(2))
    estimate.announce(reading, "cpu")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(estimate, "LONG", 1e-9)
    estimate.announce(reading, "cpu")
    told = capsys.readouterr().err
    assert "2 runs" in told
    assert "200 run-steps" in told
    assert "PROFILE=laptop" in told


def test_fresh_sweep_says_what_it_takes_to_train_all_again(capsys, monkeypatch):
    sweep(runs(2), 100, keep_checkpoints=True, progress=False)
    monkeypatch.setattr(estimate, "LONG", 1e-9)
    for fresh, left, told in ((False, 0, ""), (True, 2, "2 runs are to be trained, 200 run-steps on")):
        reading = Reading(Question.of(100, fresh=fresh), Store())
        reading.read(runs(2))
        assert len(reading.left) == left
        capsys.readouterr()
        estimate.announce(reading, "cpu")
        assert capsys.readouterr().err.startswith(told)


def test_expectation_is_of_the_record_nearest_in_cost_whoever_trained_it(monkeypatch):
    small, large = runs(1)[0], Run(operation="x+y", p=7, d_model=64)
    paces = {True: [(small, 10.0)], False: [(large, 400.0)]}  # seconds that 1,000 updates took

    def newest(self, n=100, *, own=True):
        for run, seconds in paces[own]:
            record = sweep([run], 1, store=self.folder / "made-up", progress=False)[0]
            curve = record.curve.assign(step=[999, 1000])
            yield replace(record, curve=curve, provenance=record.provenance | {"seconds": seconds})

    monkeypatch.setattr(Store, "newest", newest)
    asked = {replace(large, seed=1): 1000}
    found = estimate.expected(asked, Store(), "cpu")
    assert found.seconds == pytest.approx(400.0), "one run has one core, however many there are"
    assert found.basis.startswith("by the best speeds of 1 own and 1 shipped records (cpu")
    assert estimate.expected({replace(small, seed=1): 500}, Store(), "cpu").seconds == pytest.approx(5.0)


def test_expectation_on_a_card_is_of_its_launches_where_runs_are_few(monkeypatch):
    """Groups come one after the other; a processor's are spread over its cores."""
    wide, few = (Run(operation="x+y", p=7, d_model=d) for d in (32, 64))
    monkeypatch.setattr(estimate, "_pace", lambda *_: (lambda run: 1e-5, "made up"))
    many = {replace(wide, seed=seed): 1000 for seed in range(100)}
    assert estimate.expected(many, Store(), "cuda").seconds == pytest.approx(100 * 1000 * 1e-5)
    lone = {few: 10**6}
    assert estimate.expected(lone, Store(), "cuda").seconds == pytest.approx(10**6 * estimate.UPDATE_SECONDS)
    both = estimate.expected(many | lone, Store(), "cuda", n_devices=2)
    assert both.seconds == pytest.approx((1.0 + 10**6 * estimate.UPDATE_SECONDS) / 2)


def test_card_without_records_is_timed_with_runs_as_many_as_are_alike(monkeypatch):
    asked = {replace(run, d_model=d): 10 for run in runs(5) for d in (16, 32)}
    timed = []
    monkeypatch.setattr(
        estimate,
        "seconds_a_run_step",
        lambda run, n, device: (timed.append((run.d_model, n, str(device))), 1.0)[1],
    )
    monkeypatch.setattr(Store, "newest", lambda self, n=100, *, own=True: iter(()))
    monkeypatch.setattr(estimate.records, "origin", lambda *_: {"device": "a card"})
    found = estimate.expected(asked, Store(), "cuda:1")
    assert timed == [(32, 5, "cuda:1")]
    assert found.basis == "measured here for a second"


def test_estimate_that_fails_stops_nothing(capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError("no clock")

    monkeypatch.setattr(estimate, "LONG", 1e-9)
    monkeypatch.setattr(estimate, "expected", fails)
    assert sweep(runs(2), 50).n_trained == 2
    assert capsys.readouterr().err.count("how long it takes is not known: no clock\n") == 1


def test_card_without_a_uuid_has_a_name(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: object())
    assert device_name("cuda:1").endswith("-cuda-cuda-1")


@pytest.mark.parametrize(("seconds", "said"), [(3, "3 seconds"), (1800, "30 minutes"), (9000, "2.5 hours")])
def test_duration_in_words(seconds, said):
    assert estimate.duration(seconds) == said


# Interruption


def test_time_limit_keeps_everything_and_says_what_is_missing(begun, alone):
    first = sweep(runs(2), 9000, minutes=0.5 / 60, width=2)
    assert len(first) == 0
    assert first.missing == runs(2)
    kept = [Store().checkpoint(run) for run in runs(2)]
    assert all(t.step > 0 for t in kept)
    last = kept[0].step + 100
    again = sweep(runs(2), last)
    assert begun[2:] == [(t.run.seed, t.step) for t in kept if t.step < again[0].last_step]
    assert_same(again, alone(runs(2), last))


POLITE = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("number", POLITE)
def test_signal_ends_it_with_everything_kept(number, begun, request):
    sweep(runs(1), 50)
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, usual)))  # nohup ignores one
    before = signal.getsignal(number)
    ends = [Run(**TINY), Run(**TINY | {"seed": 1})]
    threading.Timer(0.7, os.kill, (os.getpid(), number)).start()
    with pytest.raises(Stopped, match="0 of 2 runs are on record") as stopped:
        sweep(ends, 9000)
    assert signal.getsignal(number) is before
    assert stopped.value.records.missing == ends
    step = Store().checkpoint(ends[1]).step
    sweep(ends, step + 50)
    assert (1, step) in begun


def test_sweep_in_a_thread_leaves_signals_alone():
    found: list[Records] = []
    thread = threading.Thread(target=lambda: found.append(sweep(runs(1), 50)))
    thread.start()
    thread.join()
    assert found[0].n_trained == 1


def _sweep_and_log(folder: Path, log: Path, steps: int) -> None:
    """In a process to be killed: sweep, and write down where runs begin and what is kept."""

    def tell(what: str, seed: int, step: int) -> None:
        with log.open("a") as file:
            file.write(f"{what} {seed} {step}\n")

    start, keep = Trainer.start, Store.write_checkpoint

    def started(self: Trainer, *some) -> list[Trajectory]:
        found = start(self, *some)
        for trajectory in found:
            tell("from", trajectory.run.seed, trajectory.step)
        return found

    def kept(self: Store, trajectory: Trajectory) -> None:
        keep(self, trajectory)
        tell("kept", trajectory.run.seed, trajectory.step)

    Trainer.start, Store.write_checkpoint = started, kept
    sweep(runs(3), steps, store=folder, checkpoint_seconds=0.05, progress=False, width=2)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_sweep_ends_with_the_same_records(kills, tmp_path, alone):
    folder, log, draw, steps = tmp_path / "killed", tmp_path / "log", random.Random(kills), 500 * kills
    log.touch()
    for _ in range(kills):
        size = log.stat().st_size
        process = CONTEXT.Process(target=_sweep_and_log, args=(folder, log, steps))
        process.start()
        while process.is_alive() and log.stat().st_size == size:
            time.sleep(0.01)
        process.join(draw.uniform(0, 0.8))
        process.kill()
        process.join()
    records = sweep(runs(3), steps, store=folder)
    assert_same(records, alone(runs(3), steps))
    kept: dict[str, int] = {}
    for what, seed, step in (line.split() for line in log.read_text().splitlines()):
        if what == "kept":
            kept[seed] = int(step)
        else:
            assert int(step) >= kept.get(seed, 0), "began before what was kept"
    assert not [entry for entry in Store(folder).verify() if entry.trouble]


@pytest.mark.parametrize(
    "fields",
    [{"slow_gradient": "ema", "loss": "stablemax"}, {"slow_gradient": "ma"}, {"optimizer": "muon"}],
    ids=["ema", "ma", "muon"],
)
def test_run_with_more_state_ends_with_the_same_bits_when_stopped(fields, tmp_path):
    """Memories of gradients are in its checkpoint: it goes on after 150 updates as if never stopped."""
    asked = [replace(run, **fields) for run in runs(2)]
    whole = sweep(asked, 300, store=tmp_path / "whole", keep=("weights",))
    sweep(asked, 150, store=tmp_path / "parts", keep_checkpoints=True)
    parts = sweep(asked, 300, store=tmp_path / "parts", keep=("weights",))
    assert parts.n_trained == 2
    for one, other in zip(whole, parts, strict=True):
        assert one.curve.equals(other.curve)
        assert np.array_equal(*(r.kept["weights"]["parameters"] for r in (one, other)))


# What cannot be written


def test_results_that_cannot_be_written_are_returned_with_one_warning(monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise StoreError(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(files, "write", full)
    with pytest.warns(RecordWarning, match="No space left.*in memory only") as told:
        records = sweep(runs(3), 50)
    assert len(told) == 1
    assert [r.last_step for r in records] == [50] * 3
    assert records.unwritten == list(records)
    with pytest.raises(StoreError, match="No space left"):
        sweep(runs(1), 50, unwritten="raise")


def test_results_are_written_once_there_is_space_again(monkeypatch):
    write, fails = files.write, iter([False, True, True])

    def sometimes(path: Path, content: bytes) -> None:
        if next(fails, False):
            raise StoreError(f"{path} cannot be written: No space left on device")
        write(path, content)

    monkeypatch.setattr(files, "write", sometimes)
    with pytest.warns(RecordWarning, match="No space left"):
        records = sweep(runs(3), 50)
    assert records.unwritten == []
    assert sweep(runs(3), 50).n_read == 3


def test_folder_that_vanishes_meanwhile_is_made_again(monkeypatch, tmp_path):
    ended = Trainer.ended

    def vanish(self: Trainer, trajectory: Trajectory) -> None:
        shutil.rmtree(tmp_path / "own", ignore_errors=True)
        ended(self, trajectory)

    monkeypatch.setattr(Trainer, "ended", vanish)
    assert len(sweep(runs(2), 50)) == 2
    assert Store().usage()["record"][0] == 1


# Turns of several processes


def _sweep_in_a_process(folder: Path, steps: int) -> None:
    sweep(runs(2), steps, store=folder, checkpoint_seconds=0.05, progress=False)


def _hold(path: Path, seconds: float) -> None:
    with files.locked(path, lambda: False, lambda: None):
        path.with_name("held").touch()
        time.sleep(seconds)


@pytest.fixture
def other(tmp_path):
    """Starts another process, and comes back once it has made a file."""
    started = []

    def start(target, *arguments, until: str):
        (tmp_path / "own").mkdir(exist_ok=True)
        process = CONTEXT.Process(target=target, args=arguments)
        process.start()
        started.append(process)
        deadline = time.monotonic() + 60
        while not list((tmp_path / "own").glob(until)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def lock() -> Path:
    return Store().folder / f".training-{device_name('cpu')}.lock"


def test_what_another_process_trains_is_waited_for_and_read(begun, other, capfd):
    process = other(_sweep_in_a_process, Store().folder, 1500, until="*.checkpoint.*")
    records = sweep(runs(3), 1500)
    process.join()
    assert process.exitcode == 0
    assert (records.n_read, records.n_trained) == (2, 1)
    assert begun == [(2, 0)]
    assert capfd.readouterr().err.count(f"another process trains on cpu for {Store().folder}: waiting") == 1
    assert set(Store().usage()) == {"record", "finished"}
    assert not [entry for entry in Store().verify() if entry.trouble]


def test_turn_of_a_killed_process_is_free(other, alone, capfd):
    process = other(_sweep_in_a_process, Store().folder, 10**5, until="*.checkpoint.*")
    killer = threading.Timer(1.0, process.kill)
    killer.start()
    waited = sweep(runs(2), 10, minutes=1)
    killer.join()
    assert "waiting" in capfd.readouterr().err
    assert_same(waited, alone(runs(2), 10))


@pytest.mark.parametrize("number", [None, signal.SIGINT])
def test_waiting_for_a_turn_ends_with_the_time_and_with_signals(begun, other, number):
    other(_hold, lock(), 60.0, until="held")
    if number is None:
        assert sweep(runs(2), 50, minutes=0.5 / 60).missing == runs(2)
    else:
        threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
        with pytest.raises(Stopped, match="0 of 2 runs are on record"):
            sweep(runs(2), 50)
    assert begun == []


def test_records_are_read_and_computed_without_a_turn(other, capfd):
    sweep(runs(1), 50, keep=("weights",))
    other(_hold, lock(), 60.0, until="held")
    assert sweep(runs(1), 50, keep=("answers",)).n_read == 1
    assert "waiting" not in capfd.readouterr().err


def test_other_folders_and_workers_do_not_wait(other, tmp_path):
    other(_hold, lock(), 60.0, until="held")
    assert sweep(runs(1), 50, store=tmp_path / "elsewhere").n_trained == 1
    with ProcessPoolExecutor(1, CONTEXT) as executor:
        assert sweep(runs(1), 50, executor=executor).n_trained == 1


def _refuse(*_: object) -> None:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("lacking", ["flock", "file"])
def test_training_goes_on_where_there_are_no_locks(monkeypatch, lacking):
    if lacking == "flock":
        monkeypatch.setattr("fcntl.flock", _refuse)
    else:
        lock().mkdir(parents=True)
    assert sweep(runs(1), 50).n_trained == 1


# Other processes


def test_any_executor_trains(alone):
    with ProcessPoolExecutor(2, CONTEXT) as executor:
        assert_shared(executor, alone)


class Lossy(Executor):
    """Does in this process what it is given, and says of the first calls that their worker died."""

    def __init__(self, deaths: int, error: type[Exception]):
        self.deaths, self.error, self.calls = deaths, error, 0
        self.tasks: list[workers.Task] = []

    def submit(self, fn, /, *args, **kwargs):
        self.calls += 1
        self.tasks.extend(args)
        future: Future = Future()
        if self.calls <= self.deaths:
            future.set_exception(self.error("gone"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_task_of_a_dead_worker_is_given_out_again(alone):
    executor = Lossy(3, workers.BrokenExecutor)
    assert_same(sweep(runs(1), 50, executor=executor), alone(runs(1), 50))
    assert executor.calls == 4


def test_task_whose_workers_die_again_and_again_is_given_up():
    with pytest.raises(RuntimeError, match="workers died 4 times at 1 runs, the first Run"):
        sweep(runs(1), 50, executor=Lossy(99, workers.BrokenExecutor))


def test_workers_train_on_the_device_asked_for_or_on_their_best():
    executor = Lossy(0, MemoryError)
    sweep(runs(1), 50, executor=executor, device="cpu")
    sweep(runs(1, lr=1e-2), 50, executor=executor)
    assert [task.options.device for task in executor.tasks] == ["cpu", None]


def test_error_in_a_worker_is_not_tried_again():
    executor = Lossy(99, MemoryError)
    with pytest.raises(MemoryError, match="gone"):
        sweep(runs(1), 50, executor=executor)
    assert executor.calls == 1


def test_dead_local_worker_is_replaced_and_its_runs_go_on(tmp_path, alone):
    def kill_one(executor: workers.LocalWorkers) -> None:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "own").glob("*.checkpoint.*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(next(iter(executor.pool._processes)), signal.SIGKILL)

    with workers.LocalWorkers(2) as executor:
        killer = threading.Thread(target=kill_one, args=(executor,))
        killer.start()
        records = sweep(runs(2), 2000, executor=executor, checkpoint_seconds=0.05)
        killer.join()
    assert_same(records, alone(runs(2), 2000))


def test_time_limit_stops_workers_with_everything_kept():
    with workers.LocalWorkers(2) as executor:
        sweep(runs(2), 10, executor=executor)
        records = sweep(runs(2), 10**6, executor=executor, minutes=2 / 60)
    assert records.missing == runs(2)
    assert all(Store().checkpoint(run).step > 0 for run in runs(2))


def test_number_of_local_workers_is_checked(monkeypatch):
    with pytest.raises(ValueError, match="workers=0 must be at least 1"):
        workers.LocalWorkers(0)
    monkeypatch.setattr(workers, "visible_gpus", lambda: ["0", "1"])
    with pytest.raises(ValueError, match="workers=3 must not exceed the 2 GPUs"):
        workers.LocalWorkers(3)


def test_keys_of_the_same_run_are_one():
    assert key_of(runs(1)[0]) == key_of(Run(**TINY | {"weight_decay": 1, "n": 3}))


@pytest.mark.parametrize(
    ("n_runs", "width", "n_cards", "sizes"),
    [(48, None, 2, [24, 24]), (5, None, 2, [3, 2]), (700, None, 1, [512, 188]), (48, 10, 2, [10] * 4 + [8])],
)
def test_group_is_cut_into_a_task_a_card(n_runs, width, n_cards, sizes):
    group = [Run(operation="x+y", p=7, seed=seed) for seed in range(n_runs)]
    tasks = workers.chunked(group, width, n_cards)
    assert [len(task) for task in tasks] == sizes
    assert [run for task in tasks for run in task] == group


def test_group_is_cut_into_eight_tasks_for_processors():
    group = [Run(operation="x+y", p=7, seed=seed) for seed in range(16)]
    assert [len(task) for task in workers.chunked(group, 128)] == [2] * 8
