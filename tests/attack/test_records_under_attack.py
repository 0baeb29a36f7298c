"""Sweeps that are killed at every call that touches a file, or in which that call fails.

    pytest tests/attack -m slow -s

says how many of each there were. Whatever happened, nothing wrong is on record, and the same sweep once more
ends with the same bits.
"""

import errno
import json
import os
import shutil
import signal
import sys
import traceback
import warnings
from multiprocessing import get_context
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "sweeps"))  # what tests share, for processes too
from calls import Calls, die, fail
from runs_by_hand import assert_same, runs

from grokking_core import sweep
from grokking_core.records.store import Store

pytestmark = [pytest.mark.usefixtures("own_folders"), pytest.mark.slow]
CONTEXT = get_context("forkserver")
STEPS = (4, 8)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)


def asked(folder: Path, **how):
    """Two runs, followed in two steps, each evaluation of them a checkpoint; answers are kept."""
    for steps in STEPS:
        how = {"keep": ("answers",), "checkpoint_seconds": 0, "progress": False, "store": folder} | how
        records = sweep(runs(2), steps, **how)
    return records


def damaged(folder: Path) -> None:
    """A folder with a record that is cut short and a checkpoint of another run."""
    sweep(runs(1), 20, store=folder, keep_checkpoints=True, progress=False)
    record, checkpoint = (Store(folder).path(runs(1)[0], kind) for kind in ("record", "checkpoint"))
    record.write_bytes(record.read_bytes()[:-3])
    shutil.copy(checkpoint, Store(folder).path(runs(2)[1], "checkpoint"))


SITUATIONS = {"empty": lambda folder: None, "damaged": damaged}


def in_a_child(folder: Path, calls: Calls) -> int:
    """Sweep in a child process with these calls; its status, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            warnings.simplefilter("ignore")
            calls.install()
            asked(folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            if not calls.k:
                folder.with_name("count").write_text(str(calls.count))
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def attack(root: Path, situation: str, kind: str) -> None:
    """Attack every call in turn, in children of this process; write the counts into a file."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    expected = asked(root / "alone")
    (root / "before").mkdir()
    SITUATIONS[situation](root / "before")

    def attacked(k: int, act) -> int:
        folder = root / f"{k}"
        shutil.copytree(root / "before", folder)
        status = in_a_child(folder, Calls(folder, k, act))
        if k:
            troubled = [entry for entry in Store(folder).verify() if entry.trouble]
            names = {entry.path.name.split(".")[0] for entry in troubled}
            assert not troubled or situation == "damaged", (k, troubled)
            assert len(names) <= 2
            assert_same(asked(folder, checkpoint_seconds=60), expected)
            assert not [entry for entry in Store(folder).verify() if entry.trouble]
            shutil.rmtree(folder)
        return status

    assert attacked(0, None) == 0
    n = int((root / "count").read_text())
    found = [attacked(k, die if kind == "kills" else fail(ERRORS[k % 3])) for k in range(1, n + 1)]
    (root / "found.json").write_text(json.dumps({"calls": n, "statuses": found}))


@pytest.mark.parametrize(
    ("situation", "kind"), [("empty", "kills"), ("empty", "failures"), ("damaged", "kills")]
)
def test_sweep_that_is_attacked_at_each_call_loses_nothing(tmp_path, situation, kind, capsys):
    process = CONTEXT.Process(target=attack, args=(tmp_path, situation, kind))
    process.start()
    process.join()
    assert process.exitcode == 0
    found = json.loads((tmp_path / "found.json").read_text())
    ends = {status: found["statuses"].count(status) for status in sorted(set(found["statuses"]))}
    with capsys.disabled():
        print(f"\n{situation}: {kind} at each of {found['calls']} calls, no bit lost; exit statuses {ends}")
    assert found["calls"] > 250
    assert ends == {-signal.SIGKILL if kind == "kills" else 0: found["calls"]}, "a failure ends no sweep"
