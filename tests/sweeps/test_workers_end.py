"""Signals to all processes of a sweep with workers, and the sudden death of the one that leads them."""

import os
import signal
import subprocess
import sys
import time

import pytest
from runs_by_hand import runs

from grokking_core.records.store import Store

pytestmark = [pytest.mark.usefixtures("own_folders"), pytest.mark.slow]

SWEEP = """
import signal
import sys
for ignored in (signal.SIGHUP, signal.SIGQUIT):  # by nohup, and in what a shell starts with &
    signal.signal(ignored, signal.SIG_DFL)
from grokking_core import Stopped, sweep
from grokking_core.sweeps import workers
from runs_by_hand import runs

if __name__ == "__main__":
    with workers.LocalWorkers(2) as executor:
        sweep(runs(2, lr=2e-3), 10, executor=executor, progress=False)  # they have imported what they need
        print("begun", flush=True)
        try:
            sweep(runs(2), 10**8, executor=executor, checkpoint_seconds=3600, progress=False)
        except Stopped:
            sys.exit(3)
"""


@pytest.fixture
def swept(tmp_path):
    """A sweep under way with two workers, all of them a group of processes."""
    (tmp_path / "swept.py").write_text(SWEEP)
    path = os.pathsep.join([*sys.path, os.path.dirname(__file__)])
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "swept.py")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        time.sleep(5)  # of training
        yield process
        if is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


POLITE = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1]


@pytest.mark.parametrize("number", POLITE)
def test_signal_to_all_processes_keeps_all_steps_and_ends_them(swept, number):
    os.killpg(swept.pid, number)
    assert swept.wait(60) == 3
    assert_all_is_kept(swept.pid)


def test_signal_to_the_workers_alone_keeps_all_steps_and_others_go_on(swept):
    listed = subprocess.run(["ps", "-o", "pid=,args=", "-g", str(swept.pid)], capture_output=True, text=True)
    pids = [int(line.split()[0]) for line in listed.stdout.splitlines() if "forkserver" in line]
    assert len(pids) == 3, "a server and two workers"
    for pid in pids[1:]:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while len(steps := [Store().checkpoint_step(run) for run in runs(2)]) and 0 in steps:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(swept.pid, signal.SIGTERM)
    assert swept.wait(60) == 3
    assert all(Store().checkpoint_step(run) >= step for run, step in zip(runs(2), steps, strict=True))


def test_workers_of_a_killed_process_keep_all_steps_and_end(swept):
    swept.kill()
    swept.wait()
    assert_all_is_kept(swept.pid)


def assert_all_is_kept(group: int) -> None:
    deadline = time.monotonic() + 60
    while is_alive(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(group)
    assert [Store().checkpoint_step(run) > 0 for run in runs(2)] == [True, True]
    assert not [entry for entry in Store().verify() if entry.trouble]
