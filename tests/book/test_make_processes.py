"""One build at a time, which ends what it has started."""

import os
import signal
import subprocess
import sys
import time

import pytest

from grokking_book.make import processes
from grokking_book.sources.jobs import Places

BUILD = """
import sys
from pathlib import Path
from grokking_book.make import processes
from grokking_book.sources.jobs import Places
places = Places(Path(sys.argv[1]))
child = "import os, pathlib, time; pathlib.Path('child').write_text(str(os.getpid())); time.sleep(600)"
try:
    with processes.only_build(places), processes.ended_by_signals():
        processes.run([sys.executable, "-c", child], places.build / "log", {})
except processes.Ended as end:
    sys.exit(128 + end.args[0])
"""


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def under_way(tmp_path):
    """A build that waits for a child; and the child's number."""
    build = subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path)], cwd=tmp_path)
    file = tmp_path / "child"
    while not (file.is_file() and file.read_text()):
        assert build.poll() is None
        time.sleep(0.05)
    yield build, int(file.read_text())
    build.kill()
    build.wait()


def test_second_build_is_told_who_builds(under_way, tmp_path):
    build, child = under_way
    with (
        pytest.raises(processes.Busy, match=f"another build is at work in this clone: process {build.pid}, "),
        processes.only_build(Places(tmp_path)),
    ):
        pass
    build.kill()
    build.wait()
    with processes.only_build(Places(tmp_path)):
        pass  # a build that was killed holds nothing
    if sys.platform != "linux":
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child), "it is told that it is alone"


@pytest.mark.parametrize("sign", processes.ENDING)
def test_build_that_is_ended_ends_what_it_has_started(under_way, tmp_path, sign):
    build, child = under_way
    build.send_signal(sign)
    assert build.wait(60) == 128 + sign
    assert not is_alive(child)
    with processes.only_build(Places(tmp_path)):
        pass


def test_log_has_what_a_process_says_and_its_status_comes_back(tmp_path):
    command = [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"]
    assert processes.run(command, tmp_path / "logs" / "log", {}) == 7
    assert sorted((tmp_path / "logs" / "log").read_text().split()) == ["err", "out"]
