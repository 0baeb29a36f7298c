"""Runs under way travel with a pack: any machine that has its folder goes on with them."""

from pathlib import Path

import pytest
from runs_by_hand import assert_same, runs

from grokking_core.paper import export
from grokking_core.plans import Part, Plan
from grokking_core.records.store import Store
from grokking_core.sweeps import sweep

pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")

RUNS = runs(2)
PLAN = Plan((Part(runs=tuple(RUNS), steps=300),))


def under_way(folder: Path, step: int) -> Store:
    """A store with checkpoints of both runs at a step, and no record."""
    store = Store(folder)
    sweep(RUNS, step, store=store, keep_checkpoints=True, progress=False)
    for run in RUNS:
        store.path(run, "record").unlink()
    return store


def checkpoints(folder: Path) -> list[int]:
    there = Store(folder.parent / "none", folder)
    return [there.checkpoint_step(run) for run in RUNS]


def test_begun_run_goes_on_elsewhere_bit_for_bit(tmp_path, begun):
    file = tmp_path / "packed" / "some.parquet"
    export.pack(under_way(tmp_path / "here", 100), file, [PLAN], begun=True)
    assert checkpoints(file.parent) == [100, 100]
    elsewhere = Store(tmp_path / "elsewhere", file.parent)
    assert [entry.kind for entry in elsewhere.verify()] == ["checkpoint", "checkpoint", "pack"]
    begun.clear()
    went_on = sweep(RUNS, 300, store=elsewhere, progress=False)
    assert begun == [(0, 100), (1, 100)]
    assert_same(went_on, sweep(RUNS, 300, store=tmp_path / "whole", progress=False))
    export.pack(elsewhere, file, [PLAN], begun=True)
    assert [path.name for path in file.parent.iterdir()] == ["some.parquet"], (
        "the records have overtaken them"
    )


def test_furthest_checkpoint_counts_and_stays(tmp_path, begun):
    file = tmp_path / "packed" / "some.parquet"
    far, near = under_way(tmp_path / "far", 200), under_way(tmp_path / "near", 100)
    for store in (far, near):
        export.pack(store, file, [], begun=True)
    assert checkpoints(file.parent) == [200, 200]
    begun.clear()
    sweep(RUNS, 300, store=Store(near.folder, file.parent), progress=False)
    sweep(RUNS[:1], 300, store=Store(far.folder, tmp_path / "none"), progress=False)
    assert begun == [(0, 200), (1, 200), (0, 200)]


def test_only_what_is_asked_for_is_packed(tmp_path):
    file = tmp_path / "packed" / "some.parquet"
    store = under_way(tmp_path / "here", 100)
    export.pack(store, file, [PLAN])
    assert checkpoints(file.parent) == [0, 0]
    export.pack(store, file, [Plan((Part(runs=(RUNS[1],), steps=300),))], begun=True)
    assert checkpoints(file.parent) == [0, 100]


def test_damaged_shipped_checkpoint_is_done_without(tmp_path, begun):
    file = tmp_path / "packed" / "some.parquet"
    export.pack(under_way(tmp_path / "here", 100), file, [PLAN], begun=True)
    path = file.parent / Store().path(RUNS[0], "checkpoint").name
    path.write_bytes(path.read_bytes()[:-3])
    begun.clear()
    with pytest.warns(UserWarning, match="cut short"):
        sweep(RUNS, 150, store=Store(tmp_path / "elsewhere", file.parent), progress=False)
    assert begun == [(0, 0), (1, 100)]
