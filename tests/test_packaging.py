import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import grokking_core

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]
OF_EXTRAS = [Requirement(line) for extra in EXTRAS.values() for line in extra]
WANTED = {
    str(requirement): requirement
    for requirement in [*map(Requirement, PROJECT["dependencies"]), *OF_EXTRAS]
    if requirement.name != PROJECT["name"]
}
TARGETS = ["book", "print", "test", "env", "check", "lab", "serve", "bench", "clean"]


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
def test_dependency_is_pinned_to_a_version_it_allows(wanted):
    pins = [pin for pin in PINS if pin.name.lower() == wanted.name.lower()]
    assert pins, f"{wanted.name} is missing in constraints.txt"
    for pin in pins:
        (version,) = pin.specifier
        assert wanted.specifier.contains(version.version, prereleases=True)


def test_every_constraint_is_one_exact_version():
    for pin in PINS:
        assert [s.operator for s in pin.specifier] == ["=="], str(pin)
        assert not pin.extras, f"{pin}: pip takes no extras in constraints"


def test_constraints_say_how_they_are_made():
    head = (ROOT / "constraints.txt").read_text().split("\n\n")[0]
    assert re.search(r"#\s+uv pip compile .*--universal.*pyproject\.toml", head)


def test_extras_named_by_extras_exist():
    for requirement in OF_EXTRAS:
        if requirement.name == PROJECT["name"]:
            assert requirement.extras <= set(EXTRAS)


def test_environment_installs_the_project_with_its_pins_and_adds_nothing():
    wanted = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python, pip, installs = wanted
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    constraint, project = installs["pip"]
    assert constraint == "-c constraints.txt"
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", project)
    assert extras, project
    assert set(extras[1].split(",")) <= set(EXTRAS)


def test_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == grokking_core.__version__
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert "2201.02177" in paper["url"]
    assert paper["authors"][0]["family-names"] == "Power"


def test_version_has_one_source():
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT


def test_package_imports_without_what_draws_or_builds_the_book():
    code = "import sys, grokking_core; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()).isdisjoint(
        {"matplotlib", "seaborn", "scipy", "sklearn", "papermill", "IPython", "jupyter_core", "nbformat"}
    )


@pytest.mark.parametrize("target", TARGETS)
def test_make_target_is_phony_and_in_the_help(target):
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)
    assert target in phony[1].split()
    assert f"make {target} " in makefile


def test_make_without_a_fitting_python_says_what_is_needed(tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("pyproject.toml", "setup.py", "constraints.txt"):
        (tmp_path / name).touch()
    command = ["make", "-C", str(tmp_path), "env", "PYTHON=false"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "No Python 3.11, 3.12 or 3.13" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_text_files_have_the_same_line_ends_on_every_machine():
    lines = (ROOT / ".gitattributes").read_text().splitlines()
    assert lines[0] == "* text=auto eol=lf"
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--eol"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no clone of git")
    wrong = [line for line in listed.stdout.splitlines() if "i/crlf" in line or "i/mixed" in line]
    assert wrong == []
    packs = [
        line for line in listed.stdout.splitlines() if line.endswith((".parquet", ".safetensors", ".png"))
    ]
    assert packs
    assert [line for line in packs if "attr/-text" not in line] == []


@pytest.mark.slow
def test_environment_is_of_its_folder_and_its_python(tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("pyproject.toml", "setup.py", "constraints.txt"):
        (clone / name).touch()
    makefile = (ROOT / "Makefile").read_text()
    install = re.search(r"@\$\(PY\) -m pip install.*?\n.*?\n", makefile)
    (clone / "Makefile").write_text(makefile.replace(install[0], "@echo INSTALLED\n"))

    def make_env(folder):
        return subprocess.run(
            ["make", "-C", str(folder), "env"], capture_output=True, text=True, check=True
        ).stdout

    assert "INSTALLED" in make_env(clone)
    assert "INSTALLED" not in make_env(clone)
    copy = shutil.copytree(clone, tmp_path / "copy", symlinks=True)
    said = make_env(copy)
    assert f"was made in {clone}: the project is installed anew" in said
    assert "INSTALLED" in said
    assert "INSTALLED" not in make_env(copy)
    (library,) = (copy / ".venv" / "lib").glob("python3*")
    library.rename(library.with_name("python3.0"))
    said = make_env(copy)
    assert "was made with another Python: it is made anew" in said
    assert "INSTALLED" in said
    assert "INSTALLED" not in make_env(copy)


@pytest.mark.parametrize(("process", "status"), [("own", 2), (2**22 + 1, 0), (None, 0)])
def test_clean_leaves_a_build_at_work_alone(tmp_path, process, status):
    process = os.getpid() if process == "own" else process
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "build").mkdir()
    if process:
        (tmp_path / "build" / "building").write_text(f"process {process}, since 2026-01-01T00:00:00 UTC\n")
    done = subprocess.run(["make", "-C", str(tmp_path), "clean"], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert (tmp_path / "build").exists() == bool(status)
    told = f"make clean: a build is at work in this clone: process {process}, since"
    assert (told in done.stderr) == bool(status)


SHIPPED = ("profiles", "records")


def files_that_ship(name: str) -> list[Path]:
    """Files of one of these folders that are not left in the clone: checkpoints, the overnight records."""
    left = (".checkpoint.", "overnight.parquet", "overnight.kept.")
    return [path for path in (ROOT / "book" / name).iterdir() if not any(part in path.name for part in left)]


def test_what_ships_with_the_package_is_small():
    assert sum(file.stat().st_size for name in SHIPPED for file in files_that_ship(name)) < 5e6


@pytest.mark.slow
def test_wheel_holds_every_room_and_works_without_the_clone(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ("grokking_core", "book/grokking_book", *(f"book/{name}" for name in SHIPPED)):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(wheel, check=True)
    (made,) = tmp_path.glob("*.whl")
    assert made.stat().st_size < 5e6
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(made)], check=True)
    for folder in ("grokking_core", "book/grokking_book"):
        rooms = {path.relative_to((ROOT / folder).parent) for path in (ROOT / folder).rglob("*.py")}
        assert sorted(str(path) for path in rooms if not (site / path).is_file()) == []
    for name in SHIPPED:
        for file in files_that_ship(name):
            assert (site / "grokking_core" / "shipped" / name / file.name).read_bytes() == file.read_bytes()
    assert not [*(site / "grokking_core" / "shipped" / "records").glob("overnight.*")]
    env = {"PYTHONPATH": str(site), "GROKKING_RECORDS": str(tmp_path / "own"), "PATH": os.environ["PATH"]}

    def grokking(*arguments):
        command = [sys.executable, "-m", "grokking_core", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=tmp_path)
        return done.stdout

    read = grokking("sweep", "fig1_grokking_curves", "fig2_optimizers", "--profile", "laptop")
    assert re.search(r"^[1-9]\d* read, 0 trained, 0 missing", read, re.MULTILINE)
    trained = ("--operation", "x+y", "--p", "7", "--d-model", "8", "--n-heads", "2", "--steps", "20")
    assert re.search(r"^0 +20 ", grokking("train", *trained), re.MULTILINE)
    assert str(site / "grokking_core" / "shipped" / "records") in grokking("status", "--profile", "smoke")
