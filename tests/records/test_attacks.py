"""What damage, forgery and other processes do to records: they cost a row or a file, and it is named."""

import json
import multiprocessing
import random
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grokking_core import Run, data
from grokking_core.records import files, shipped
from grokking_core.records.contents import record_parts
from grokking_core.records.files import RecordWarning
from grokking_core.records.store import Store
from grokking_core.runs.keys import NUMERICS, canonical, key_of
from grokking_core.runs.record import COLUMNS, Record, curve_frame, utc_now

pytestmark = pytest.mark.usefixtures("own_folders")

MANY = [200, pytest.param(3000, marks=pytest.mark.slow)]


def made_up(seed: int = 0, rows: int = 12) -> Record:
    draw = random.Random(seed)
    curve = curve_frame([(i * 10, *(draw.random() for _ in COLUMNS[1:])) for i in range(rows)])
    run = Run(operation="x+y", p=7, seed=seed)
    kept = {"answers": {"right": np.arange(5, dtype=np.uint8) + seed}}
    return Record(run=run, curve=curve, provenance={"date": utc_now(), "seconds": 1.0}, kept=kept)


def same(one: Record | None, other: Record) -> bool:
    return one is not None and one.run == other.run and one.curve.equals(other.curve)


@pytest.fixture
def packed(tmp_path) -> Store:
    """A store with ten shipped records, what was kept of their ends, and none of the user's own."""
    store = Store(tmp_path / "own", tmp_path / "shipped")
    parts, ends = [], []
    for record in map(made_up, range(10)):
        store.write(record)
        parts.append((key_of(record.run), *record_parts(record)))
        meta, arrays = store.kept(record, "answers") or ({}, {})
        ends.append((f"{key_of(record.run)}.answers-{record.last_step}", meta, arrays))
    shipped.write(store.shipped / "some.parquet", parts)
    shipped.write_kept(store.shipped / "some.kept.safetensors", ends)
    for entry in store.entries():
        entry.path.unlink()
    return store


def flipped(path: Path, count: int, attack) -> None:
    """Have `attack` look at a file with one byte flipped, again and again, each at another place."""
    content, draw = path.read_bytes(), random.Random(count)
    for _ in range(count):
        place, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RecordWarning)
            attack()
    path.write_bytes(content)


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize("name", ["some.parquet", "some.kept.safetensors"])
def test_flipped_byte_of_a_pack_costs_what_verify_names(packed, name, count):
    records = [made_up(seed) for seed in range(10)]

    def attack() -> None:
        store = Store(packed.folder, packed.shipped)
        troubles = [entry for entry in store.verify() if entry.trouble]
        found = [store.answer(record.run, record.last_step) for record in records]
        ends = [store.kept(record, "answers") for record in records]
        lost = found.count(None) + ends.count(None)
        assert all(same(one, other) for one, other in zip(found, records, strict=True) if one)
        for record, end in zip(records, ends, strict=True):
            assert end is None or (end[1]["right"] == record.kept["answers"]["right"]).all()
        assert not lost or [entry.path.name for entry in troubles], "lost without a word"
        assert {entry.path.name for entry in troubles} <= {name}

    flipped(packed.shipped / name, count, attack)


@pytest.mark.parametrize("count", MANY)
def test_flipped_byte_of_a_record_is_never_served(tmp_path, count):
    store, record = Store(tmp_path / "own", tmp_path / "none"), replace(made_up(), kept={})
    store.write(record)
    path = store.path(record.run, "record")

    def attack() -> None:
        troubled = [entry for entry in store.verify() if entry.trouble]
        found = store.answer(record.run, record.last_step)
        assert same(found, record) if found else troubled
        for entry in store.entries():
            if entry.kind == "set aside":
                entry.path.unlink()

    flipped(path, count, attack)


def rewritten(path: Path, change) -> None:
    """Write the rows of a pack anew, each with a right checksum, after a change of (key, meta, arrays)."""
    pack = shipped.Pack(path)
    rows = [(key, *pack.checked(key)) for key in pack.rows]
    shipped.write(path, change(rows))


def swapped(rows):
    (first, *one), (second, *other), *rest = rows
    return [(second, *one), (first, *other), *rest]


def without_a_column(rows):
    (key, meta, arrays), *rest = rows
    return [(key, meta, arrays | {"weight_norm": arrays["weight_norm"][:0]}), *rest]


def of_no_run(rows):
    (key, meta, arrays), *rest = rows
    return [(key, meta | {"run": None}, arrays), *rest]


def going_back(rows):
    (key, meta, arrays), *rest = rows
    return [(key, meta, arrays | {"step": arrays["step"][::-1].copy()}), *rest]


@pytest.mark.parametrize("forge", [swapped, without_a_column, of_no_run, going_back])
def test_forged_row_is_not_served_and_verify_names_it(packed, forge):
    path = packed.shipped / "some.parquet"
    first = sorted(key_of(made_up(seed).run) for seed in range(10))[:2]
    rewritten(path, forge)
    store = Store(packed.folder, packed.shipped)
    assert {entry.path for entry in store.verify() if entry.trouble} == {path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordWarning)
        for record in map(made_up, range(10)):
            found = store.answer(record.run, record.last_step)
            assert same(found, record) or (found is None and key_of(record.run) in first)


def test_what_was_kept_of_another_run_is_not_served_and_verify_names_it(packed):
    path = packed.shipped / "some.kept.safetensors"
    held = shipped.KeptPack(path)
    (first, *one), (second, *other), *rest = [(name, *held.checked(name)) for name in held.rows]
    shipped.write_kept(path, [(second, *one), (first, *other), *rest])
    store = Store(packed.folder, packed.shipped)
    assert [entry.trouble.count("another run") for entry in store.verify() if entry.trouble] == [1, 1]
    for record in map(made_up, range(10)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RecordWarning)
            end = store.kept(record, "answers")
        name = f"{key_of(record.run)}.answers-{record.last_step}"
        assert (end is None) == (name in (first, second))


def test_rows_of_earlier_versions_are_read_and_their_keys_checked(packed, monkeypatch):
    """Their checksum does not cover the key."""
    path, checksum = packed.shipped / "some.parquet", files.checksum
    pack = shipped.Pack(path)
    rows = [(key, *pack.checked(key)) for key in pack.rows]

    def without_the_key(text, arrays):
        return checksum(text[text.index("{") :], arrays)

    for some, trouble in ((rows, []), (swapped(rows), ["not under the key of its run"] * 2)):
        with monkeypatch.context() as earlier:
            earlier.setattr(shipped, "checksum", without_the_key)
            shipped.write(path, some)
        store = Store(packed.folder, packed.shipped)
        troubles = [entry.trouble for entry in store.verify() if entry.trouble]
        assert [text.partition(" is ")[2] for text in troubles if text.startswith("row")] == trouble
        assert bool(troubles) == bool(trouble)


def test_shorter_record_of_another_process_does_not_overwrite_a_longer_one(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_lengths, args=(tmp_path / "own", n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    store = Store(tmp_path / "own", tmp_path / "none")
    assert [store.answer(made_up(seed).run, 390).last_step for seed in range(5)] == [390] * 5  # pyright: ignore
    assert {entry.kind for entry in store.entries()} == {"record"}


def _write_lengths(folder: Path, seed: int) -> None:
    store, lengths = Store(folder, folder / "none"), [(s, n) for s in range(5) for n in range(2, 41)]
    random.Random(seed).shuffle(lengths)
    for run_seed, rows in lengths:
        store.write(replace(made_up(run_seed, rows), kept={}))


def test_good_file_that_comes_in_the_place_of_a_damaged_one_stays(tmp_path, monkeypatch):
    """The damaged file is replaced between the last look at it and its renaming."""
    store, record = Store(tmp_path / "own", tmp_path / "none"), replace(made_up(), kept={})
    store.write(record)
    path = store.path(record.run, "record")
    good = path.read_bytes()
    path.write_bytes(good[:-3])
    rename = files.os.rename

    def replaced_just_before(source, target):
        files.write(path, good)
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", replaced_just_before)
    assert store.answer(record.run, record.last_step) is None
    monkeypatch.undo()
    assert same(store.answer(record.run, record.last_step), record)
    assert {entry.kind for entry in store.entries()} == {"record"}


def test_verify_and_clean_survive_files_that_vanish(tmp_path, monkeypatch):
    from grokking_core import __main__ as command

    store = Store()
    for seed in range(3):
        store.write(replace(made_up(seed), kept={}))
    trouble = Store.verify

    def vanishing(self):
        entries = list(self.entries())
        entries[0].path.unlink()
        monkeypatch.setattr(Store, "entries", lambda self: iter(entries))
        return trouble(self)

    monkeypatch.setattr(Store, "verify", vanishing)
    assert command.main(["verify"]) == 0
    assert command.main(["clean"]) == 0


WORDS = {"latex": "$x$", "symmetric": False, "n_operations": 1}


@pytest.fixture
def registered(monkeypatch):
    """Registers an operation for the test."""

    def register(name: str, answer) -> None:
        monkeypatch.setitem(data.OPERATIONS, name, data.Operation(answer=answer, **WORDS))

    return register


def test_changed_rule_of_a_registered_operation_is_not_answered_from_an_old_record(tmp_path, registered):
    registered("mine", lambda x, y, p: (2 * x + y) % p)
    store, run = Store(tmp_path / "own", tmp_path / "none"), Run(operation="mine", p=7)
    old = key_of(run)
    store.write(replace(made_up(), run=run, kept={}))
    assert store.answer(run, 110) is not None
    registered("mine", lambda x, y, p: (2 * x + y) % p)
    assert key_of(run) == old, "the same table"
    registered("mine", lambda x, y, p: (3 * x + y) % p)
    assert key_of(run) != old
    assert (
        data.operation_table("mine", 7).answer == [(3 * x + y) % 7 for x in range(7) for y in range(7)]
    ).all()
    assert store.answer(run, 110) is None
    assert not [entry for entry in store.verify() if entry.trouble]
    with pytest.warns(RecordWarning, match="operation='mine' has another rule here"):
        assert list(store.records()) == []


def test_keys_of_the_papers_operations_have_no_rule_in_them(registered):
    run = Run(operation="x+y", p=7)
    plain = key_of(run.identity())
    assert key_of(run) == plain
    registered("x+y", lambda x, y, p: (x + y) % p)
    assert key_of(run) != plain, "somebody else's x+y"


def test_record_of_another_machine_says_where_they_part(packed, tmp_path):
    record = made_up(3)
    curve = record.curve.copy()
    curve.loc[7:, "validation_accuracy"] = 0.5
    packed.write(replace(record, curve=curve, kept={}))
    packed.write(replace(made_up(4), kept={}))
    noted = {entry.path: entry.note for entry in packed.verify() if entry.note}
    told = "parts at step 70 from some.parquet (followed to 110, there to 110)"
    assert noted == {packed.path(record.run, "record"): told}


def test_longer_record_of_two_machines_wins(packed):
    packed.write(replace(made_up(3, rows=6), kept={}))
    assert next(r for r in packed.records() if r.run.seed == 3).last_step == 110
    packed.write(replace(made_up(3, rows=30), kept={}))
    assert next(r for r in packed.records() if r.run.seed == 3).last_step == 290


def test_text_of_a_row_is_checked_whole(packed):
    pack = shipped.Pack(packed.shipped / "some.parquet")
    key = next(iter(pack.rows))
    pack.meta[pack.rows[key]] = canonical(json.loads(pack.meta[pack.rows[key]]) | {"numerics": NUMERICS + 1})
    with pytest.warns(RecordWarning, match=f"the record {key[:12]} does not match its checksum"):
        assert pack.get(key) is None
