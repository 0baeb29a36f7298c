import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch

from grokking_core import Run
from grokking_core.paper import export
from grokking_core.records import files
from grokking_core.records import shipped as packs
from grokking_core.records import store as stores
from grokking_core.records.contents import record_parts
from grokking_core.records.files import RecordWarning, StoreError
from grokking_core.records.store import Store
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import COLUMNS, EVALUATION, Record, origin
from grokking_core.runs.schedule import evaluation_steps
from grokking_core.runs.trajectory import Trajectory


def run(seed: int = 0, **fields) -> Run:
    return Run(**{"operation": "x+y", "p": 7, "d_model": 16, "seed": seed} | fields)


def record(a_run: Run, steps: int = 100, weights: bool = False) -> Record:
    """A made-up record; validation accuracy rises by a hundredth an evaluation."""
    step = np.array(evaluation_steps(steps))
    noise = np.random.default_rng(a_run.seed).random((len(COLUMNS), len(step)))
    curve = pd.DataFrame({"step": step} | dict(zip(COLUMNS[1:], noise, strict=False)))
    curve["validation_accuracy"] = np.arange(len(step)) / 100
    curve["unmirrored_accuracy"] = np.nan
    kept = {"weights": {"parameters": noise[:, -1].copy()}} if weights else {}
    return Record(run=a_run, curve=curve, provenance=origin("cpu", "fp32", 1.5), kept=kept)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "own", tmp_path / "shipped")


def kept(store: Store, *names: str):
    """What is kept of the first run at step 100: weights, if no names are given."""
    found = store.answer(run(), 100, keep=names or ("weights",))
    return found and found.kept


def same(one: Record | None, other: Record) -> bool:
    assert one is not None
    pd.testing.assert_frame_equal(one.curve, other.curve, check_exact=True)
    return (one.run, one.diverged_at, one.provenance) == (other.run, other.diverged_at, other.provenance)


# The key


def test_key_is_of_what_decides_the_run():
    keys = [key_of(r) for r in (run(), run(1), run(p=11), run(weight_decay=0.5), run(betas=(0.9, 0.99)))]
    assert len(set(keys)) == len(keys)


def test_key_does_not_depend_on_how_a_number_is_written():
    assert key_of(run(weight_decay=2)) == key_of(run(weight_decay=2.0))
    assert key_of(run(train_fraction=np.float64(0.25))) == key_of(run(train_fraction=0.25))
    assert key_of(run(n=4)) == key_of(run(n=5)), "S_n's size says nothing about residues"


def test_key_leaves_out_fields_at_their_default_so_that_a_new_field_keeps_records():
    identity = run().identity()
    assert key_of(identity) == key_of({k: identity[k] for k in ("operation", "p", "d_model")})


def test_key_moves_with_the_numerics():
    assert key_of(run(), numerics=stores.NUMERICS + 1) != key_of(run())


# Records


def test_record_is_read_as_it_was_written(store):
    written = replace(record(run()), diverged_at=100)
    store.write(written)
    assert same(store.answer(run(), 100), written)
    assert [entry.path.name for entry in store.entries()] == [f"{key_of(run())}.record.safetensors"]


def test_record_on_file_answers_shorter_questions_exactly(store):
    whole = record(run(), 1000)
    store.write(whole)
    assert same(store.answer(run(), 100), whole.until(100))
    assert store.answer(run(), 1000, stop_at=0.05).curve["validation_accuracy"].iloc[-1] == 0.05
    assert store.answer(run(), 2000) is None
    assert store.answer(run(1), 100) is None


def test_longer_record_is_not_replaced_by_a_shorter_one(store):
    store.write(record(run(), 1000))
    store.write(record(run(), 100))
    assert store.answer(run(), 1000)
    store.write(record(run(), 2000))
    assert store.answer(run(), 2000)


def test_record_has_weights_only_where_they_were_kept(store):
    whole = record(run(), 1000)
    early = replace(whole.until(100), kept={"weights": {"parameters": np.arange(5.0)}})
    store.write(early)
    store.write(whole)
    assert store.answer(run(), 100).kept == {}
    assert (kept(store)["weights"]["parameters"] == np.arange(5.0)).all()
    assert store.answer(run(), 1000, keep=("weights",)) is None
    assert store.answer(run(), 100, keep=("weights", "answers")) is None


def test_what_was_kept_of_another_trajectory_is_not_this_records(store):
    one, other = record(run(), weights=True), record(run())
    store.write(one)
    moved = other.curve.assign(weight_norm=other.curve["weight_norm"] + 1e-15)
    store.write(replace(other, curve=moved))
    assert store.answer(run(), 100)
    assert store.answer(run(), 100, keep=("weights",)) is None
    store.write(one)
    assert kept(store) is not None


def test_weights_of_earlier_versions_are_read(store):
    """They say neither the norm nor the date."""
    store.write(record(run(), weights=True))
    path = store.path(run(), "weights-100")
    meta, arrays = files.from_bytes(path.read_bytes())
    files.write(path, files.to_bytes({name: meta[name] for name in ("kind", "numerics", "run")}, arrays))
    assert set(kept(store)) == {"weights"}


def test_what_was_kept_before_a_date_does_not_count(store):
    store.write(record(run(), weights=True))
    between = record(run()).provenance["date"]
    store.write(record(run()))
    assert store.answer(run(), 100, since=between)
    assert store.answer(run(), 100, keep=("weights",), since=between) is None
    assert kept(store)


def test_records_before_a_date_do_not_count(store):
    store.write(record(run()))
    assert store.answer(run(), 100, since="2000-01-01")
    assert store.answer(run(), 100, since="2999-01-01") is None


def test_checkpoint_is_read_as_it_was_kept(store):
    assert store.checkpoint(run()) is None
    names = ("parameters", "first_moment", "second_moment")
    tensors = {name: torch.randn(7, dtype=torch.float64) for name in names}
    kept = Trajectory(run(), 12, [(10, *np.random.default_rng(0).random(6).tolist())], 3.5, tensors)
    store.write_checkpoint(kept)
    found = store.checkpoint(run())
    assert (found.run, found.step, found.rows, found.seconds) == (kept.run, 12, kept.rows, 3.5)
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in names)
    assert store.checkpoint(run(), since="2999") is None
    store.forget(run())
    store.forget(run())
    assert store.checkpoint(run()) is None


# Files that are not what they should be


def _flip(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


def _older(content: bytes) -> bytes:
    meta, arrays = files.from_bytes(content)
    text = files.canonical(meta | {"format": 0})
    return safetensors.numpy.save(arrays, {"meta": text, "checksum": files.checksum(text, arrays)})


def _of_another_run(content: bytes) -> bytes:
    return files.to_bytes(*record_parts(record(run(5))))


def _checkpoint(content: bytes) -> bytes:
    meta, arrays = files.from_bytes(content)
    return files.to_bytes(meta | {"kind": "checkpoint"}, arrays)


DAMAGE = {
    "empty": lambda content: b"",
    "nothing but zeros": lambda content: b"\0" * len(content),
    "cut short": lambda content: content[: len(content) // 2],
    "cut short, or not": lambda content: content[:-1],
    "not one of our files": lambda content: b"step,accuracy\n1,0.5\n" * 100,
    "or not one of our": lambda content: safetensors.numpy.save({"curve": np.zeros(3)}),
    "or not one of": lambda content: pickle.dumps({"curve": [1, 2, 3]}),
    "its checksum does not match": _flip,
    "written in format 0": _older,
    "belongs to another run": _of_another_run,
    "a checkpoint under the name of a record": _checkpoint,
}


@pytest.mark.parametrize("said", DAMAGE)
def test_damaged_record_is_named_set_aside_and_stops_nothing(store, said):
    store.write(record(run(0)))
    store.write(record(run(1)))
    path = store.path(run(0), "record")
    bad = DAMAGE[said](path.read_bytes())
    path.write_bytes(bad)
    assert [entry.path for entry in store.verify() if entry.trouble] == [path]
    with pytest.warns(RecordWarning, match=f"{path}.*{said}.*set aside as {path.name}.damaged"):
        assert store.answer(run(0), 100) is None
    assert path.with_name(f"{path.name}.damaged").read_bytes() == bad
    assert store.answer(run(1), 100)
    store.write(record(run(0)))
    assert store.answer(run(0), 100)


def test_second_damaged_file_does_not_overwrite_the_first(store):
    path = store.path(run(), "record")
    path.parent.mkdir(parents=True)
    for content in (b"one", b"two"):
        path.write_bytes(content)
        with pytest.warns(RecordWarning):
            store.answer(run(), 100)
    assert path.with_name(f"{path.name}.damaged").read_bytes() == b"one"
    assert path.with_name(f"{path.name}.damaged2").read_bytes() == b"two"


def test_copies_of_a_record_under_other_names_are_foreign(store):
    store.write(record(run()))
    path = store.path(run(), "record")
    copy = shutil.copy(path, path.with_name(f"{path.stem} (copy).safetensors"))
    (troubled,) = (entry for entry in store.verify() if entry.trouble)
    assert (str(troubled.path), troubled.trouble) == (str(copy), "not one of our files")
    assert [r.run for r in store.records()] == [run()]


def test_folder_in_the_place_of_a_record_is_reported_and_left(store):
    store.path(run(), "record").mkdir(parents=True)
    with pytest.warns(RecordWarning, match="cannot be read"):
        assert store.answer(run(), 100) is None
    with pytest.raises(StoreError, match="cannot be read"):
        store.write(record(run()))


def test_checkpoint_says_how_its_losses_were_computed(store):
    """A curve that was begun before losses were right says so to its end."""
    began = replace(Trajectory(run(), 0, [(0,) + (1.0,) * 6]), evaluation=1)
    store.write_checkpoint(began)
    found = store.checkpoint(run())
    assert found.evaluation == found.record("cpu").provenance["evaluation"] == 1
    path = store.path(run(), "checkpoint")
    meta, arrays = files.read(path)
    path.write_bytes(files.to_bytes({k: v for k, v in meta.items() if k != "evaluation"}, arrays))
    assert store.checkpoint(run()).evaluation == 1  # as before there was a number
    assert Trajectory(run()).evaluation == EVALUATION == origin("cpu", "fp32", 1.0)["evaluation"]


def test_damaged_checkpoint_and_weights_are_set_aside(store):
    store.write(record(run(), weights=True))
    store.write_checkpoint(Trajectory(run(), 5, [], 0.0, {"parameters": torch.zeros(3)}))
    for kind in ("weights-100", "checkpoint"):
        store.path(run(), kind).write_bytes(b"\0" * 100)
    with pytest.warns(RecordWarning, match="checkpoint.*nothing but zeros"):
        assert store.checkpoint(run()) is None
    with pytest.warns(RecordWarning, match="weights.*nothing but zeros"):
        assert kept(store) is None


# Folders


def test_folder_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("GROKKING_RECORDS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Store().folder == tmp_path / "grokking-companion" / "records"
    monkeypatch.setenv("GROKKING_RECORDS", str(tmp_path / "mine"))
    assert Store().folder == tmp_path / "mine"
    monkeypatch.delenv("GROKKING_SHIPPED", raising=False)
    assert Store().shipped == Path(files.__file__).parents[2] / "book" / "records"
    for nothing in (tmp_path / "nothing", Path(__file__)):
        monkeypatch.setenv("GROKKING_SHIPPED", str(nothing))
        with pytest.raises(ValueError, match=f"GROKKING_SHIPPED={nothing} must be a folder with packs"):
            Store()


def test_home_folder_is_looked_up_only_where_it_is_needed(monkeypatch, tmp_path):
    def none(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    monkeypatch.setattr(Path, "expanduser", lambda path: none() if str(path).startswith("~") else path)
    monkeypatch.setenv("GROKKING_RECORDS", str(tmp_path / "mine"))
    assert Store().folder == tmp_path / "mine"
    monkeypatch.setenv("GROKKING_RECORDS", "~/mine")
    with pytest.raises(ValueError, match="~/mine: Could not determine home directory"):
        Store()
    monkeypatch.delenv("GROKKING_RECORDS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Store().folder == tmp_path / "grokking-companion" / "records"
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(ValueError, match=r"home directory[.]: name a folder for records in GROKKING_RECORDS"):
        Store()
    assert Store(tmp_path / "named").folder == tmp_path / "named"


@pytest.mark.parametrize("below", ["", "records"])
def test_folder_that_is_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=f"{tmp_path / 'file'} is a file"):
        Store(tmp_path / "file" / below)
    with pytest.raises(ValueError, match="/dev/null is a file"):
        Store("/dev/null")


@pytest.mark.parametrize("what", ["folder", "pack"])
def test_shipped_records_that_cannot_be_read_stop_nothing(store, monkeypatch, what):
    packs.write(store.shipped / "some.parquet", [])
    store.write(record(run()))
    refused = store.shipped if what == "folder" else store.shipped / "some.parquet"
    listdir, stat = os.listdir, Path.stat

    def denied(path):
        if Path(path) == refused:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", lambda path: denied(path) or listdir(path))
    monkeypatch.setattr(Path, "stat", lambda path, **how: denied(path) or stat(path, **how))
    with pytest.warns(RecordWarning, match=f"{refused} cannot be read: Permission denied"):
        assert store.packs == []
    assert store.answer(run(), 10) is not None


def test_file_that_cannot_be_looked_at_is_named(store, monkeypatch):
    store.write(record(run()))
    path, stat = store.path(run(), "record"), Path.stat

    def denied(looked, **how):
        if looked == path:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(looked, **how)

    monkeypatch.setattr(Path, "stat", denied)
    assert [entry.trouble for entry in store.entries()] == ["cannot be read: Permission denied"]
    assert store.usage() == {"record": (1, 0)}


def test_vanished_folder_is_made_again(store):
    store.write(record(run()))
    shutil.rmtree(store.folder)
    assert store.answer(run(), 100) is None
    store.write(record(run()))
    assert store.answer(run(), 100)


REAL_FOLDERS = """
import sys, warnings
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store import Store, StoreError, record, run
full, fixed = Store({full!r}, "none"), Store({fixed!r}, "none")
for store, said in ((full, "No space left"), (fixed, "Read-only")):
    try:
        for seed in range(1000):
            store.write(record(run(seed), 1000))
    except StoreError as error:
        assert str(store.folder) in str(error) and said in str(error), error
        print(said, seed)
    assert not list(store.folder.glob(".*.tmp"))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    assert all(full.answer(run(s), 1000) for s in range(3))  # the others are still served
    assert fixed.answer(run(), 100) is None
    (bad,) = {{str(w.message) for w in told}}
assert "empty; left there: Read-only" in bad, bad
"""


@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="mounting a tmpfs needs root")
def test_full_disk_and_read_only_folder(tmp_path):
    full, fixed = tmp_path / "full", tmp_path / "fixed"
    full.mkdir()
    fixed.mkdir()
    script = tmp_path / "script.py"
    paths = {"tests": str(Path(__file__).parent), "full": str(full), "fixed": str(fixed)}
    script.write_text(REAL_FOLDERS.format(**paths))
    mounts = f"mount -t tmpfs -o size=200k tmpfs {full} && mount -t tmpfs -o size=1m tmpfs {fixed}"
    mounts += f" && touch {fixed}/{key_of(run())}.record.safetensors && mount -o remount,ro {fixed}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mounts], capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    command = f"{mounts} && exec {sys.executable} {script}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "No space left" in done.stdout
    assert "Read-only 0" in done.stdout


def _write_many(folder: Path, process: int) -> None:
    own = Store(folder, folder / "none")
    for seed in range(500):
        if seed % 8 == process or seed % 50 == 0:  # every fiftieth by all of them
            own.write(record(run(seed), weights=seed % 100 == 0))


def test_eight_processes_write_500_records_into_one_folder(tmp_path):
    context = get_context("forkserver")
    context.set_forkserver_preload(["grokking_core.records.store"])
    processes = [context.Process(target=_write_many, args=(tmp_path / "own", i)) for i in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    own = Store(tmp_path / "own", tmp_path / "none")
    assert not [entry for entry in own.verify() if entry.trouble]
    assert all(same(own.answer(run(s), 100), replace(record(run(s)), provenance=r.provenance))
               for s in range(500) if (r := own.answer(run(s), 100)))  # fmt: skip
    assert own.usage()["record"][0] == 500
    assert set(own.usage()) == {"record", "weights"}


# Packs


def pack(store: Store, name: str, *some: Record) -> Path:
    path = store.shipped / name
    packs.write(path, ((key_of(r.run), *record_parts(r)) for r in some))
    return path


def test_packed_records_are_read_as_they_were_written(store):
    some = [record(run(seed), 10 ** (seed + 1)) for seed in range(3)]
    pack(store, "some.parquet", *some)
    assert all(same(store.answer(r.run, r.last_step), r) for r in some)
    assert not any(entry.trouble for entry in store.verify())


def test_the_users_record_wins_where_it_answers(store):
    shipped, own = record(run(), 1000), record(run(), 100)
    own = replace(own, provenance=own.provenance | {"device": "mine"})
    pack(store, "some.parquet", shipped)
    store.write(own)
    assert store.answer(run(), 100).provenance["device"] == "mine"
    assert same(store.answer(run(), 1000), shipped)
    assert [r.last_step for r in store.records()] == [1000]


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"PAR1 no", "half", "other"])
def test_damaged_pack_is_named_and_stops_nothing(store, content):
    path = pack(store, "bad.parquet", record(run(0)))
    pack(store, "good.parquet", record(run(1)))
    if content == "other":
        pd.DataFrame({"a": [1]}).to_parquet(path)
    else:
        path.write_bytes(path.read_bytes()[:500] if content == "half" else content)
    before = path.read_bytes()
    with pytest.warns(RecordWarning, match=f"{path}.*not used"):
        assert store.answer(run(0), 100) is None
    assert store.answer(run(1), 100)
    assert path.read_bytes() == before
    assert [entry.path for entry in store.verify() if entry.trouble] == [path]


def test_damaged_row_of_a_pack_is_named_and_the_others_are_served(store):
    good, bad = record(run(0)), record(run(1))
    path = pack(store, "some.parquet", good, bad)
    table = packs.pq.read_table(path).to_pylist()
    row = next(row for row in table if row["key"] == key_of(bad.run))
    row["train_loss"][3] += 1e-9
    packs.pq.write_table(packs.pa.Table.from_pylist(table, schema=packs.SCHEMA), path)
    with pytest.warns(RecordWarning, match=f"{path}.*{key_of(bad.run)[:12]}"):
        assert store.answer(bad.run, 100) is None
    assert same(store.answer(good.run, 100), good)


def test_shipped_weights_lie_beside_the_pack(store):
    packed = record(run(), weights=True)
    pack(store, "some.parquet", packed)
    shipped = Store(store.shipped, store.folder)
    shipped.write(packed)
    shipped.path(run(), "record").unlink()
    assert (kept(store)["weights"]["parameters"] == packed.kept["weights"]["parameters"]).all()


def with_answers(seed: int, steps: int = 100) -> Record:
    made_up = record(run(seed), steps, weights=True)
    answers = np.random.default_rng(seed).integers(7, size=49).astype(np.int16)
    return replace(made_up, kept=made_up.kept | {"answers": {"answer": answers}})


def ship(store: Store, *some: Record) -> Path:
    """Pack records from a folder of their own; the file of what was kept."""
    own = Store(store.folder / "other")
    for r in some:
        own.write(r)
    export.pack(own, store.shipped / "some.parquet", [])
    shutil.rmtree(own.folder)
    return store.shipped / "some.kept.safetensors"


def test_shipped_records_have_what_was_kept_but_for_weights(store):
    some = [with_answers(seed) for seed in range(3)]
    ship(store, *some)
    assert sorted(path.name for path in store.shipped.iterdir()) == ["some.kept.safetensors", "some.parquet"]
    for r in some:
        answers = store.answer(r.run, 100, keep=("answers",)).kept["answers"]
        assert answers["answer"].dtype == np.int16
        assert (answers["answer"] == r.kept["answers"]["answer"]).all()
        assert store.answer(r.run, 100, keep=("answers", "weights")) is None
    assert [e.kind for e in store.verify()] == ["pack", "kept pack"]
    assert not any(entry.trouble for entry in store.verify())


def test_shipped_file_of_what_was_kept_grows(store):
    ship(store, with_answers(0), with_answers(1))
    ship(store, with_answers(0, 1000), with_answers(2))
    found = Store(store.folder, store.shipped)
    for seed, steps in ((0, 1000), (1, 100), (2, 100)):
        assert found.answer(run(seed), steps, keep=("answers",))


def test_own_record_does_not_have_what_was_kept_of_a_shipped_one(store):
    ship(store, with_answers(0))
    own = record(run())
    store.write(replace(own, curve=own.curve.assign(weight_norm=0.5)))
    answered = store.answer(run(), 100, keep=("answers",))
    assert answered.curve["weight_norm"].iloc[-1] != 0.5
    assert store.answer(run(), 100).curve["weight_norm"].iloc[-1] == 0.5


def test_damaged_row_of_what_was_kept_is_named_and_the_others_are_served(store):
    path = ship(store, with_answers(0), with_answers(1))
    with safetensors.safe_open(path, "np") as file:
        header = file.metadata()
    arrays = safetensors.numpy.load_file(path)
    arrays[f"{key_of(run(1))}.answers-100"][-1] += 1
    safetensors.numpy.save_file(arrays, path, header)
    with pytest.warns(RecordWarning, match=f"{path}.*{key_of(run(1))[:12]}.answers-100 does not match"):
        assert store.answer(run(1), 100, keep=("answers",)) is None
    assert store.answer(run(0), 100, keep=("answers",))
    assert [entry.path for entry in store.verify() if entry.trouble] == [path]
    with pytest.raises(StoreError, match=f"{path}.*nothing was written"):
        ship(store, with_answers(2))


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, "half", "other"])
def test_damaged_file_of_what_was_kept_is_named_and_stops_nothing(store, content):
    path = ship(store, with_answers(0))
    if content == "other":
        safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    else:
        path.write_bytes(path.read_bytes()[:500] if content == "half" else content)
    with pytest.warns(RecordWarning, match=f"{path}.*cannot be read as a file of what was kept.*not used"):
        assert store.answer(run(0), 100, keep=("answers",)) is None
    assert store.answer(run(0), 100)
    assert [entry.path for entry in store.verify() if entry.trouble] == [path]


def test_numbers_in_a_file_are_data_only(store):
    store.write(record(run(), weights=True))
    for path in (entry.path for entry in store.entries()):
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        assert set(json.loads(content[8 : 8 + size])) - {"__metadata__"} <= {*COLUMNS, "parameters"}


def test_no_shipped_loss_is_an_artefact_of_float32(tmp_path):
    """Where a loss is small, the record has the evaluation that is right there.

    A loss of 0 is below all doubles, which end at 1e-308; those before it have left float32's behind, which
    end at 1e-45: logits of StableMax grow by hundreds from one evaluation to the next.
    """
    small = 0
    for found in Store(tmp_path).records():
        losses = found.curve[["train_loss", "validation_loss"]].to_numpy()
        assert losses.min() > 0 or losses[losses > 0].min() < 1e-100
        if losses.min() < 1e-5:
            small += 1
            assert found.provenance["evaluation"] == EVALUATION
    assert small  # there are such records: those without weight decay
