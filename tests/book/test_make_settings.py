"""What `make book` is asked for, and the environment it hands on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grokking_book.make import settings
from grokking_book.sources.jobs import Places
from grokking_book.sources.parameters import WrongUse


@pytest.mark.parametrize(
    ("text", "fresh"),
    [("", False), ("0", False), ("no", False), ("False", False), ("off", False), ("1", True), ("YES", True)],
)
def test_fresh_means_what_it_says(text, fresh):
    assert settings.read([], {"FRESH": text}).fresh is fresh


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"FRESH": "maybe"}, "FRESH=maybe must be 1 or 0"),
        ({"FRESH": "2099-01-01"}, "FRESH=2099-01-01 must be 1 or 0"),
        ({"GROKKING_FRESH": "false"}, "GROKKING_FRESH is set; make book takes FRESH=1"),
        ({"GROKKING_FRESH": "2099-01-01"}, "GROKKING_FRESH is set"),
        ({"GROKKING_SHIPPED": "/nowhere"}, "GROKKING_SHIPPED=/nowhere must be a folder with packs"),
        ({"JOBS": "0"}, "JOBS=0 must be a number of notebooks, 1 or more"),
        ({"JOBS": "1e2"}, "JOBS=1e2"),
        ({"MINUTES": "nan"}, "MINUTES=nan must be a number above 0"),
        ({"MINUTES": "-1"}, "MINUTES=-1"),
    ],
)
def test_variable_that_says_nothing_is_refused(environ, message):
    with pytest.raises(WrongUse, match=message):
        settings.read([], environ)


def test_blanks_around_a_value_are_none_of_it():
    read = settings.read([], {"PROFILE": " smoke ", "ONLY": " ", "JOBS": " 2 ", "MINUTES": "0.5 "})
    assert (read.profile, read.only, read.jobs, read.minutes) == ("smoke", None, 2, 0.5)


@pytest.mark.parametrize(("given", "trains"), [({}, False), ({"P": "p=7"}, True), ({"FRESH": "1"}, True)])
def test_what_trains_is_parameters_and_fresh(given, trains):
    assert settings.read([], given).trains is trains


def test_relative_folders_are_the_same_wherever_a_process_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book" / "records").mkdir(parents=True)
    env = settings.environment(Places(tmp_path), environ={"GROKKING_RECORDS": "mine", "XDG_CACHE_HOME": "c"})
    assert env["GROKKING_RECORDS"] == str(tmp_path / "mine")
    assert env["XDG_CACHE_HOME"] == str(tmp_path / "c")
    assert env["GROKKING_SHIPPED"] == str(tmp_path / "book" / "records")


def test_readers_own_settings_are_not_handed_on(tmp_path):
    names = ("PYTHONSTARTUP", "PYTHONPATH", "MPLBACKEND", "MATPLOTLIBRC", "IPYTHONDIR", "JUPYTER_PATH")
    own = dict.fromkeys(names, "theirs")
    own |= {"GROKKING_TRAINED_SINCE": "2099", "HOME": "/home/reader"}
    env = settings.environment(Places(tmp_path), "smoke", own)
    assert "theirs" not in env.values()
    assert "GROKKING_TRAINED_SINCE" not in env
    assert (env["HOME"], env["GROKKING_PROFILE"]) == ("/home/reader", "smoke")


def test_reader_with_settings_of_matplotlib_and_ipython_sees_the_same_figures(tmp_path):
    home = tmp_path / "home"
    for file, text in (
        (".config/matplotlib/matplotlibrc", "text.usetex: True\nfont.size: 30\n"),
        (".ipython/profile_default/startup/00.py", "raise SystemExit\n"),
    ):
        (home / file).parent.mkdir(parents=True)
        (home / file).write_text(text)
    places = Places(tmp_path / "clone")
    settings.make_jupyter(places)
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", "MATPLOTLIBRC": str(home)}
    code = "import matplotlib as m; print(m.rcParams['text.usetex'], m.rcParams['font.size'])"
    code += "\nfrom IPython.paths import get_ipython_dir as d; print(d())"
    code += "\nfrom jupyter_client.kernelspec import KernelSpecManager as k"
    code += "\nprint(k().get_kernel_spec('python3').argv[0])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=settings.environment(places, environ=environ),
        capture_output=True,
        text=True,
        check=True,
    )
    drawn, ipython, python = done.stdout.splitlines()
    assert drawn == "False 10.0"
    assert Path(ipython).is_relative_to(places.build)
    assert python == sys.executable


@pytest.mark.parametrize("ours", [True, False])
def test_kernel_has_no_settings_of_the_machines_ipython(tmp_path, ours):
    """Such as those of /etc/ipython, which another launcher would read."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ipython_config.py").write_text(f"open({str(tmp_path / 'read')!r}, 'w')")
    (tmp_path / "sitecustomize.py").write_text(
        "from IPython.core import application\n"
        f"application.SYSTEM_CONFIG_DIRS[:] = application.ENV_CONFIG_DIRS[:] = [{str(tmp_path / 'etc')!r}]\n"
    )
    places = Places(tmp_path)
    settings.make_jupyter(places)
    kernel = json.loads((places.build / "jupyter/data/kernels/python3/kernel.json").read_text())
    start = kernel["argv"][:-2] if ours else [sys.executable, "-m", "ipykernel_launcher"]
    env = settings.environment(places)
    env["PYTHONPATH"] += os.pathsep + str(tmp_path)
    subprocess.run([*start, "--show-config-json"], env=env, capture_output=True, check=True)
    assert (tmp_path / "read").exists() is not ours


def test_kernel_draws_without_the_settings_of_the_folder_it_works_in(tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 30\n")
    places = Places(tmp_path / "clone")
    settings.make_jupyter(places)
    starts = settings.KERNEL.partition("from ipykernel")[0]
    for code, size in (("import matplotlib", "30.0"), (starts, "10.0")):
        told = subprocess.run(
            [
                sys.executable,
                "-c",
                f"{code}\nimport os; print(matplotlib.rcParams['font.size'], os.getcwd())",
            ],
            env=settings.environment(places),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert told.split() == [size, str(tmp_path)]


def test_kernel_draws_into_the_notebook(tmp_path):
    settings.make_jupyter(Places(tmp_path))
    code = settings.KERNEL.partition("from ipykernel")[0] + "print(matplotlib.get_backend())"
    env = settings.environment(Places(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("inline", "module://matplotlib_inline.backend_inline")


def test_records_that_pages_are_made_from_are_told_apart(tmp_path):
    places = Places(tmp_path)
    none = settings.records_of(places, {})
    assert settings.records_of(places, {"GROKKING_RECORDS": "/elsewhere"}) != none
    (tmp_path / "book" / "records").mkdir(parents=True)
    (tmp_path / "book" / "records" / "laptop.parquet").write_text("a pack")
    assert settings.records_of(places, {}) != none
