"""A Dask cluster: what is said where its scheduler or its workers are not there."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor
from types import SimpleNamespace

import pytest
import yaml
from runs_by_hand import assert_same, assert_shared, runs

from grokking_core import sweep
from grokking_core.records.store import Store
from grokking_core.sweeps import cluster

pytest.importorskip("distributed", reason="needs the extra distributed")
pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")

SIX = {"operation": "x+y", "p": 7, "train_fraction": 0.7, "d_model": 8, "n_heads": 2, "seeds": [0, 1]}


def test_scheduler_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    with (
        pytest.raises(ConnectionError, match=r"no scheduler answers at .*127"),
        cluster.dask_executor("tcp://127.0.0.1:1"),
    ):
        pass


class FakeClient:
    """A client of which a test says how it is and which workers it has."""

    def __init__(self):
        self.status, self.workers = "running", {}
        self.scheduler = SimpleNamespace(address="tcp://host:8786", identity=None)

    def sync(self, asked, callback_timeout):
        assert callback_timeout == cluster.ANSWER_SECONDS
        if self.workers is None:
            raise TimeoutError
        return {"workers": self.workers}


@pytest.fixture
def fake():
    executor = type("ClientExecutor", (Executor,), {"__module__": "distributed.cfexecutor"})()
    executor._client = FakeClient()
    return executor._client, cluster.Cluster(executor)


def test_it_is_said_once_what_is_waited_for_and_how_to_end_it(fake, capsys):
    client, watched = fake
    for _ in range(3):
        watched.look(now=True)
    start = "no worker is there; one is started with: dask worker tcp://host:8786 --nthreads 1"
    waiting = "waiting; Ctrl-C ends it, and so does a time limit, with everything kept"
    assert capsys.readouterr().err == f"{start}: {waiting}\n"
    client.workers = {"tcp://host:1": {}}
    watched.look(now=True)
    assert (capsys.readouterr().err, watched.lacks) == ("", "")
    client.workers = None
    watched.look(now=True)
    assert capsys.readouterr().err == f"the scheduler at tcp://host:8786 does not answer: {waiting}\n"


@pytest.mark.parametrize("status", ["closing", "closed"])
def test_scheduler_that_is_gone_is_an_error(fake, status):
    client, watched = fake
    client.status = "connecting"
    watched.look(now=True)
    client.status = status
    with pytest.raises(ConnectionError, match="the scheduler at tcp://host:8786 is gone; what was"):
        watched.look(now=True)


def test_other_executors_lack_nothing():
    watched = cluster.Cluster(Executor())
    watched.look(now=True)
    assert watched.lacks == ""
    assert not cluster.closing()()


@pytest.mark.slow
def test_cluster_trains_and_replaces_a_dead_worker(alone):
    import distributed

    local = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**local) as made, distributed.Client(made) as client:
        executor = client.get_executor()
        assert_shared(executor, alone)
        pids = list(client.run(os.getpid).values())
        threading.Timer(2.0, os.kill, (pids[0], signal.SIGKILL)).start()
        some = runs(4, lr=5e-4)
        records = sweep(some, 1000, executor=executor, checkpoint_seconds=0.1)
        assert_same(records, alone(some, 1000))


# Processes of a cluster, and the command


@pytest.fixture
def started(tmp_path):
    """Starts commands of Python; waits until their output, in a file of that name, has some words."""
    processes = []

    def start(name, *arguments, until):
        log = tmp_path / f"{name}.log"
        with log.open("w") as out:
            processes.append(subprocess.Popen([sys.executable, "-m", *arguments], stdout=out, stderr=out))
        wait_for(lambda: until(log), 90)
        return processes[-1], log

    yield start
    for process in processes:
        process.kill()
        process.wait()


def wait_for(says, seconds):
    deadline = time.monotonic() + seconds
    while not says() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert says()


@pytest.fixture
def scheduler(started):
    """A scheduler's process and address."""
    quiet = ("--port", "0", "--host", "127.0.0.1", "--no-dashboard")
    process, log = started(
        "scheduler",
        "distributed.cli.dask_scheduler",
        *quiet,
        until=lambda log: "Scheduler at" in log.read_text(),
    )
    return process, log.read_text().partition("Scheduler at:")[2].split()[0]


@pytest.fixture
def sweeps(started, tmp_path, scheduler):
    """Starts a long sweep on the scheduler's workers."""
    profile = tmp_path / "long.yml"
    profile.write_text(yaml.safe_dump({"fig1_grokking_curves": SIX | {"steps": 10**8}}))

    def start(*options, until):
        asked = ("sweep", "--profile", str(profile), "--scheduler", scheduler[1], *options)
        return started("sweep", "grokking_core", *asked, until=until)

    return start


@pytest.mark.slow
def test_scheduler_that_dies_ends_the_sweep_with_everything_kept(started, scheduler, sweeps):
    process, address = scheduler
    asked = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard")
    started("worker", *asked, until=lambda log: "Registered to" in log.read_text())
    command, log = sweeps(until=lambda log: list(Store().folder.glob(".*.going")))
    time.sleep(25)  # the worker imports and trains; checkpoints come each minute
    assert not list(Store().folder.glob("*.checkpoint.*"))
    process.kill()
    assert command.wait(60) == 1
    said = log.read_text()
    assert said.count(f"grokking: the scheduler at {address} is gone; what was trained is on record") == 1
    assert "Traceback" not in said
    (_,) = Store().folder.glob("*.checkpoint.*")  # of the task under way
    assert not [entry for entry in Store().verify() if entry.trouble]
    assert not list(Store().folder.glob(".*.going"))


@pytest.mark.slow
@pytest.mark.parametrize(("options", "status"), [((), 3), (("--minutes", "0.2"), 3)])
def test_sweep_without_workers_says_what_it_waits_for_and_ends(sweeps, options, status):
    process, log = sweeps(*options, until=lambda log: "no worker is there" in log.read_text())
    if not options:
        process.send_signal(signal.SIGINT)
    assert process.wait(40) == status
    said = log.read_text()
    assert said.count("no worker is there; one is started with: dask worker tcp://127.0.0.1:") == 1
    assert "Traceback" not in said
