import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from grokking_core import __main__ as command
from grokking_core.devices import cards
from grokking_core.paper import experiments
from grokking_core.records import shipped as packs
from grokking_core.records.store import Store
from grokking_core.runs.run import Run
from grokking_core.sweeps import cluster

pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")

TINY = ["--operation", "x+y", "--p", "7", "--train-fraction", "0.7"]
TINY += ["--architecture", "mlp", "--d-model", "16", "--n-layers", "1"]


@pytest.fixture
def profile(tmp_path):
    """A profile of one small run for every seed."""

    def write(**values) -> str:
        path = tmp_path / "tiny.yml"
        small = {"operation": "x+y", "p": 7, "train_fraction": 0.7, "d_model": 8, "n_heads": 2}
        path.write_text(
            yaml.safe_dump({"fig1_grokking_curves": small | {"seeds": [0, 1], "steps": 30} | values})
        )
        return str(path)

    return write


def grokking(*arguments: str) -> int:
    return command.main(arguments)


def test_sweep_leaves_out_what_the_device_would_have_to_train_and_cannot(capsys, tmp_path):
    task = {"operation": "x+y", "p": 7, "train_fraction": 0.7, "d_model": 8, "n_heads": 2, "seeds": [0, 1]}
    path = tmp_path / "tiny.yml"
    path.write_text(yaml.safe_dump({"rounding": task | {"precisions": ["fp32", "tf32"], "steps": 30}}))
    asked = ("rounding", "--profile", str(path), "--device", "cpu")
    assert grokking("sweep", *asked) == 0
    told = capsys.readouterr().out
    assert "2 runs left out: cpu does not compute in their precision" in told
    assert "rounding: 2 of 4 runs on record" in told
    assert told.splitlines()[-1].startswith("0 read, 2 trained, 0 missing, 2 left out, ")
    assert grokking("status", *asked) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("rounding")]
    assert line.split()[2:] == ["4", "2", "0", "2", "-"]
    for run in experiments.plan("rounding", str(path)).read().missing:  # as if a graphics card had been here
        twin = Store().answer(replace(run, precision="fp32"), 30)
        Store().write(replace(twin, run=run))
    assert grokking("sweep", *asked) == 0
    told = capsys.readouterr().out
    assert "left out" not in told
    assert "rounding: 4 of 4 runs on record" in told


def test_sweep_of_nothing_that_the_device_computes_is_wrong_use(capsys, profile):
    asked = ("fig1_grokking_curves", "--profile", profile(precision="tf32"), "--device", "cpu")
    assert grokking("sweep", *asked) == 2
    assert "precision='tf32' is not to be had on device='cpu'" in capsys.readouterr().err
    assert grokking("train", *TINY, "--precision", "tf32", "--device", "cpu") == 2
    assert "precision='tf32' is not to be had on device='cpu'" in capsys.readouterr().err


# train


def test_train_prints_milestones_and_draws(capsys, tmp_path):
    plot = tmp_path / "curves.png"
    assert grokking("train", *TINY, "--seeds", "0", "1", "--steps", "400", "--plot", str(plot)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["seed", "followed", "train", "95%"]
    assert [line.split()[:2] for line in lines[1:3]] == [["0", "400"], ["1", "400"]]
    assert re.search(r"\d+ / \d+ +\d+ / \d+ +- / -", lines[1]), "training learned, validation did not"
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_train_takes_every_field_of_a_run(monkeypatch):
    asked = []
    monkeypatch.setattr(
        command, "sweep", lambda runs, *_, **__: asked.extend(runs) or (_ for _ in ()).throw(OSError)
    )
    options = ["--operation", "s5:xy", "--n", "4", "--betas", "0.8", "0.9", "--batch-size", "full"]
    options += ["--split-seed", "3", "--d-ff", "64", "--lr", "1e-4"]
    assert grokking("train", *options, "--seeds", "7") == 1
    fields = {"n": 4, "betas": (0.8, 0.9), "batch_size": "full", "split_seed": 3, "d_ff": 64, "lr": 1e-4}
    assert asked == [Run(operation="s5:xy", **fields, seed=7)]
    grokking("train", "--operation", "x+y", "--batch-size", "32", "--split-seed", "none")
    assert asked[1] == Run(operation="x+y", batch_size=32)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--operation", "x^y"], "operation='x^y' is unknown; choose from x+y"),
        ([*TINY, "--train-fraction", "50"], "train_fraction=50.0 must lie in (0, 1)"),
        ([*TINY, "--weight-decay", "-1"], "weight_decay=-1.0 must be"),
        ([*TINY, "--seeds", "-1"], "seed=-1 must be"),
        ([*TINY, "--batch-size", "half"], "batch_size='half' must be"),
        ([*TINY, "--steps", "0"], "steps=0 must be"),
        ([*TINY, "--stop-at", "99"], "stop_at=99.0 must lie in (0, 1]"),
        ([*TINY, "--minutes", "0"], "minutes=0.0 must be above 0"),
        ([*TINY, "--precision", "tf32", "--device", "cpu"], "precision='tf32'"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(capsys, arguments, said):
    assert grokking("train", *arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"grokking: {said}")
    assert told.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["train", *TINY, "--p", "many"]])
def test_wrong_options_are_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as status:
        grokking(*arguments)
    assert status.value.code == 2
    assert "usage: grokking" in capsys.readouterr().err


def test_records_folder_that_is_a_file_is_status_2(capsys, tmp_path):
    (tmp_path / "own").write_text("mine")
    assert grokking("train", *TINY) == 2
    assert f"{tmp_path / 'own'} is a file" in capsys.readouterr().err


def test_time_limit_is_status_3():
    assert grokking("train", *TINY, "--steps", "9000", "--minutes", "0.005") == 3


def test_ctrl_c_is_status_3_and_says_what_is_kept(capsys):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert grokking("train", *TINY, "--steps", "9000") == 3
    assert "stopped; 0 of 1 runs are on record" in capsys.readouterr().err
    assert Store().usage()["checkpoint"][0] == 1
    assert grokking("clean") == 0
    assert Store().usage() == {}


# sweep, status, verify, export, pack


def test_sweep_reads_what_is_on_record(capsys, profile):
    assert grokking("sweep", "fig1_grokking_curves", "--profile", profile()) == 0
    assert grokking("sweep", "fig1_grokking_curves", "--profile", profile(seeds=[1, 2])) == 0
    out = capsys.readouterr().out
    assert "fig1_grokking_curves: 2 of 2 runs on record\n0 read, 2 trained, 0 missing" in out
    assert "1 read, 1 trained, 0 missing" in out


@pytest.mark.parametrize("words", ["sweep", "status", "pack mine.parquet", "bench --plan"])
def test_profile_of_another_encoding_is_wrong_use_of_every_command(capsys, tmp_path, words):
    path = tmp_path / "latin.yml"
    path.write_bytes("film: {}  # caf\xe9\n".encode("latin-1"))
    asked = [str(path)] if words.startswith("bench") else ["--profile", str(path)]
    assert grokking(*words.split(), *asked) == 2
    assert capsys.readouterr().err == f"grokking: {path} is not UTF-8 text: byte 0xe9 at 15\n"


def test_sweep_with_local_workers(capsys, profile):
    assert grokking("sweep", "fig1_grokking_curves", "--profile", profile(), "--workers", "2") == 0
    assert "0 read, 2 trained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fig9"], "experiment 'fig9' is unknown; choose from fig1_grokking_curves"),
        (["--profile", "huge"], "profile='huge' is unknown"),
        (["--profile", "smoke", "--minutes", "0"], "minutes=0.0 must be above 0"),
        (["--profile", "smoke", "--workers", "0"], "workers=0 must be at least 1"),
    ],
)
def test_wrong_sweep_is_status_2(capsys, arguments, said):
    assert grokking("sweep", *arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cuda:7", "cuda", "gpu"])
@pytest.mark.parametrize(
    "words", ["train --operation x+y", "sweep --profile smoke", "status", "bench --rounds 1", "check"]
)
def test_device_that_is_not_here_is_named_with_those_that_are(capsys, monkeypatch, words, name):
    """`check` goes on, and says what the processor would take."""
    monkeypatch.setattr(cards, "listed_card", lambda: None)
    monkeypatch.setattr(command, "_say_profiles", lambda store, device: print("profiles on", device))
    printed = f"device='{name}' is not here; choose from cpu\n"
    is_described = words == "check" and name != "gpu"
    assert grokking(*words.split(), "--device", name) == (1 if is_described else 2)
    out, err = capsys.readouterr()
    if is_described:
        assert printed + "profiles on cpu\n" in out
    else:
        assert err == f"grokking: {printed}"


def test_check_says_what_each_profile_has_and_takes(capsys, monkeypatch, profile):
    file = profile()
    monkeypatch.setattr(command, "PROFILES", (file,))
    grokking("sweep", "fig1_grokking_curves", "--profile", file)
    capsys.readouterr()
    assert grokking("check") == 0
    out = capsys.readouterr().out
    assert re.search(r"^device +cpu$", out, re.M)
    assert "2 runs, 2 on record\n" in out
    assert "expected" not in out
    profile(seeds=[1, 2, 3])
    assert grokking("check") == 0
    out = capsys.readouterr().out
    assert re.search(r"3 runs, 1 on record, the others take about \d+ seconds\n", out)
    assert re.search(r"expected on cpu (by the best speeds of|measured here)", out)


def test_scheduler_that_does_not_answer_is_status_1(capsys, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    assert (
        grokking("sweep", "fig1_grokking_curves", "--profile", "smoke", "--scheduler", "tcp://127.0.0.1:1")
        == 1
    )
    assert "no scheduler answers at 'tcp://127.0.0.1:1'" in capsys.readouterr().err


def test_status_counts_what_is_recorded_and_missing(capsys, profile):
    grokking("sweep", "fig1_grokking_curves", "--profile", profile())
    assert grokking("status", "fig1_grokking_curves", "--profile", profile(seeds=[1, 2, 3])) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "tiny.yml" in line)
    assert line.split()[2:6] == ["3", "1", "0", "2"]
    assert line.endswith("seconds")


def test_status_counts_a_run_of_many_parts_once(capsys, tmp_path):
    small = {"p": 7, "n": 3, "d_model": 8, "n_heads": 2, "addition_steps": 30, "product_steps": 20}
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump({"film": small | {"n_frames": 4}}))
    assert grokking("status", "film", "--profile", str(tmp_path / "tiny.yml")) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "tiny.yml" in line)
    assert line.split()[2:6] == ["2", "0", "0", "2"]
    assert line.endswith("seconds")


def test_status_without_an_estimate_says_so_and_what_else_it_knows(capsys, profile, monkeypatch):
    def fails(*_):
        raise RuntimeError("no clock")

    monkeypatch.setattr(command, "expected", fails)
    assert grokking("status", "fig1_grokking_curves", "--profile", profile()) == 0
    told = capsys.readouterr()
    assert "how long 2 runs take is not known: no clock" in told.err
    line = next(line for line in told.out.splitlines() if "tiny.yml" in line)
    assert line.split()[2:] == ["2", "0", "0", "2", "-"]


def test_verify_names_the_damaged(capsys, profile):
    grokking("sweep", "fig1_grokking_curves", "--profile", profile())
    assert grokking("verify") == 0
    path = next(Store().folder.glob("*.record.*"))
    path.write_bytes(path.read_bytes()[:-3])
    (path.parent / "notes.txt").write_text("mine")
    assert grokking("verify") == 1
    out = capsys.readouterr().out
    assert f"{path}: cut short" in out
    assert f"{path.parent / 'notes.txt'}: not one of our files" in out
    assert "something is wrong with 2" in out
    assert path.exists(), "verify only looks"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_export_is_tidy(profile, tmp_path, kind):
    grokking("sweep", "fig1_grokking_curves", "--profile", profile())
    assert grokking("export", str(tmp_path / "tables"), "--format", kind) == 0
    read = pd.read_csv if kind == "csv" else pd.read_parquet
    curves, milestones = (read(tmp_path / "tables" / f"{name}.{kind}") for name in ("curves", "milestones"))
    assert len(milestones) == 2
    assert set(curves["key"]) == set(milestones["key"])
    assert set(curves["seed"]) == {0, 1}
    assert milestones["validation_99_first"].isna().all()
    assert (curves.groupby("key")["step"].max() == 30).all()


def test_export_without_records_is_empty_tables(tmp_path):
    assert grokking("export", str(tmp_path / "tables")) == 0


def test_pack_grows_and_is_read_as_shipped(capsys, profile, tmp_path):
    file = tmp_path / "shipped" / "some.parquet"
    grokking("sweep", "fig1_grokking_curves", "--profile", profile())
    assert grokking("pack", str(file)) == 0
    grokking("sweep", "fig1_grokking_curves", "--profile", profile(seeds=[2]))
    assert grokking("pack", str(file), "--profile", profile(seeds=[2]), "--begun") == 0
    assert len(packs.Pack(file).rows) == 3
    for path in Store().folder.iterdir():
        path.unlink()
    capsys.readouterr()
    assert grokking("sweep", "fig1_grokking_curves", "--profile", profile(seeds=[0, 1, 2])) == 0
    assert "3 read, 0 trained" in capsys.readouterr().out


def test_pack_that_cannot_be_read_is_not_overwritten(capsys, tmp_path):
    file = tmp_path / "some.parquet"
    file.write_text("mine")
    assert grokking("pack", str(file)) == 1
    assert str(file) in capsys.readouterr().err
    assert file.read_text() == "mine"


# standard output and error that cannot be written; signals; repeated values


@pytest.mark.parametrize(
    ("redirected", "status", "told"),
    [
        ("2>/dev/full", 0, ""),
        ("2>&-", 0, ""),
        (">/dev/full", 1, "standard output cannot be written"),
        (">&-", 0, ""),
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
    ],
)
def test_streams_that_cannot_be_written_end_no_sweep(tmp_path, profile, redirected, status, told):
    line = f"{sys.executable} -m grokking_core sweep --profile {profile()} {redirected}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr
    assert "Broken pipe" not in ended.stderr
    assert told in ended.stderr
    assert Store().usage()["record"][0] == 2


def test_seed_named_twice_is_refused(capsys):
    assert grokking("train", *TINY, "--seeds", "0", "1", "0") == 2
    assert "seeds has 0 twice" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["curves.xyz", "no/such/folder/curves.png"])
def test_plot_that_cannot_be_written_is_refused_before_training(capsys, tmp_path, name):
    assert grokking("train", *TINY, "--plot", str(tmp_path / name)) == 2
    assert "curves." in capsys.readouterr().err
    assert Store().usage() == {}


@pytest.mark.parametrize("redirected", ["2>&-", ">&-", "2>/dev/full", "| true; exit ${PIPESTATUS[0]}"])
def test_build_ends_as_it_would_where_nobody_reads_what_it_says(tmp_path, redirected):
    for name in ("_config.yml", "book/index.md", "book/profiles/smoke.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    code = "import sys; from grokking_book.make import build;"
    code += "build.render_if_changed = lambda *_: build.Row('the site', 'drawn');"
    code += "sys.exit(build.main(sys.argv[1:]))"
    line = f'{sys.executable} -c "{code}" --root {tmp_path} --profile smoke {redirected}'
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
