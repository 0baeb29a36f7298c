"""What `make book` is asked for, checked, and the environment that it hands on to all it starts.

Both are decided here and nowhere else: the sweep, the notebooks and the rendering see the same folders of
records, whatever folder they run in, and none of the reader's own settings of Python, Jupyter or matplotlib.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from grokking_book.sources.jobs import Places
from grokking_book.sources.parameters import WrongUse

YES, NO = {"1", "yes", "true", "on"}, {"", "0", "no", "false", "off"}
MINE = re.compile(r"(PYTHON|JUPYTER|IPYTHON|MPL|MATPLOTLIB|PAPERMILL|COVERAGE_PROCESS|TEXINPUTS)")
OURS = ("GROKKING_PROFILE", "GROKKING_NOTEBOOK", "GROKKING_TRAINED_SINCE", "GROKKING_FRESH")
# A kernel without the settings of this machine's IPython, nor of a matplotlibrc beside the notebook, which no
# variable keeps it from. Where it draws is said before matplotlib is there, as ipykernel says it later.
KERNEL = """
import os
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
beside = os.getcwd()
os.chdir(os.environ["MPLCONFIGDIR"])
import matplotlib
os.chdir(beside)
from IPython.core import application
application.SYSTEM_CONFIG_DIRS.clear()
application.ENV_CONFIG_DIRS.clear()
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""
FOLDERS = ("GROKKING_RECORDS", "GROKKING_SHIPPED", "XDG_CACHE_HOME")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a build is asked for."""

    profile: str | None = None  #: None: chosen by `default_profile`
    only: str | None = None  #: the one notebook to execute
    parameters: str = ""  #: name=value ...
    jobs: int | None = None  #: notebooks at a time
    minutes: float | None = None  #: time limit of the training
    fresh: bool = False  #: train everything again
    root: Path = Path()  #: the clone

    @property
    def trains(self) -> bool:
        """Whether runs are asked for that are not shipped."""
        return bool(self.parameters.strip() or self.fresh)


def read(argv: list[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of a command line; what `make` put into the environment is their default.

    Raises
    ------
    WrongUse
        Naming the variable, its value and what is allowed.
    """
    parser = argparse.ArgumentParser(prog="python -m grokking_book.make", description="Execute and render.")
    said = environ.get
    parser.add_argument("--profile", default=said("PROFILE"), help="smoke, laptop, overnight or paper")
    parser.add_argument("--only", default=said("ONLY"), help="execute this notebook alone")
    parser.add_argument("-p", "--parameters", default=said("P", ""), help="name=value ...")
    parser.add_argument("--jobs", default=said("JOBS", ""), help="notebooks at a time")
    parser.add_argument("--minutes", default=said("MINUTES", ""), help="time limit of the training")
    parser.add_argument("--fresh", action="store_const", const="1", default=said("FRESH", ""))
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if said("GROKKING_FRESH", "") not in ("", "0"):
        raise WrongUse("GROKKING_FRESH is set; make book takes FRESH=1, which trains everything again")
    if (shipped := said("GROKKING_SHIPPED")) and not Path(shipped).expanduser().is_dir():
        raise WrongUse(f"GROKKING_SHIPPED={shipped} must be a folder with packs of records")
    return Settings(
        profile=(args.profile or "").strip() or None,
        only=(args.only or "").strip() or None,
        parameters=args.parameters,
        jobs=_jobs(args.jobs.strip()),
        minutes=_minutes(args.minutes.strip()),
        fresh=_flag("FRESH", args.fresh.strip().lower()),
        root=args.root.absolute(),
    )


def _jobs(text: str) -> int | None:
    if text and not re.fullmatch(r"0*[1-9][0-9]{0,3}", text):
        raise WrongUse(f"JOBS={text} must be a number of notebooks, 1 or more")
    return int(text) if text else None


def _minutes(text: str) -> float | None:
    try:
        minutes = float(text) if text else None
    except ValueError:
        minutes = math.nan
    if minutes is not None and not 0 < minutes < math.inf:
        raise WrongUse(f"MINUTES={text} must be a number above 0")
    return minutes


def _flag(name: str, text: str) -> bool:
    if text not in YES | NO:
        raise WrongUse(f"{name}={text} must be 1 or 0")
    return text in YES


def default_profile(places: Places, trains: bool) -> str:
    """Return the largest profile that can be shown at once, or trained in reasonable time.

    `paper` with a usable graphics card; else the largest whose records are all shipped, unless the
    build `trains` (then they are no help); else `laptop`.
    """
    complete = [] if trains else complete_profiles(places)
    if "paper" in complete or has_card():
        return "paper"
    return "overnight" if "overnight" in complete else "laptop"


def has_card() -> bool:
    """Return whether a sweep that names no device would train on a graphics card; say why one is not used."""
    from grokking_core.devices import usable_device  # imports PyTorch

    device, reason = usable_device()
    if device != "cuda" and reason:
        print(reason, flush=True)
    return device == "cuda"


def complete_profiles(places: Places) -> list[str]:
    """Return the profiles all of whose runs are shipped: those that records/complete.yml lists.

    A test holds the list to the records, which takes longer than a build may.
    """
    listed = places.book / "records" / "complete.yml"
    names = yaml.safe_load(listed.read_text(encoding="utf-8")) if listed.is_file() else None
    return [name for name in names or [] if listed.with_name(f"{name}.parquet").is_file()]


def environment(places: Places, profile: str = "", environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of all that a build starts, folders absolute.

    Kernel, import path and settings are the build's own: those of a reader's home would decide the figures.
    """
    own = (places.build / "jupyter").absolute()
    env = {name: value for name, value in environ.items() if not MINE.match(name) and name not in OURS}
    env |= {name: absolute(environ[name]) for name in FOLDERS if environ.get(name)}
    if (places.book / "records").is_dir():
        env.setdefault("GROKKING_SHIPPED", absolute(places.book / "records"))
    return env | {
        "GROKKING_PROFILE": profile,
        "PYTHONPATH": os.pathsep.join(import_path()),
        "PYTHONNOUSERSITE": "1",
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        "JUPYTER_PATH": str(own / "data"),  # goes before all others
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "IPYTHONDIR": str(own / "ipython"),
        "MPLCONFIGDIR": str(own / "matplotlib"),
        "MATPLOTLIBRC": str(own / "matplotlib" / "matplotlibrc"),
    }


def make_jupyter(places: Places) -> None:
    """Lay out what `environment` names: a kernel that is this interpreter, and settings that say nothing."""
    own = places.build / "jupyter"
    kernel, rc = own / "data" / "kernels" / "python3" / "kernel.json", own / "matplotlib" / "matplotlibrc"
    for file in (kernel, rc):
        file.parent.mkdir(parents=True, exist_ok=True)
    start = [sys.executable, "-P", "-c", KERNEL, "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": start, "display_name": "Python 3", "language": "python"}))
    rc.touch()


def import_path() -> list[str]:
    """Return the folders that this process's packages come from, first those of the project."""
    book = Path(__file__).resolve().parents[2]
    return [str(book.parent), str(book)] if (book.parent / "grokking_core").is_dir() else [str(book)]


def absolute(path: str | Path) -> str:
    """Return a path from the root of the file system."""
    return str(Path(path).expanduser().absolute())


def records_of(places: Places, environ: Mapping[str, str] = os.environ) -> list[object]:
    """Return what says which records the pages are made from: the folder named, and what is shipped."""
    shipped = Path(environ.get("GROKKING_SHIPPED") or places.book / "records").expanduser()
    packs = sorted((file.name, file.stat().st_size) for file in shipped.glob("*.*") if file.is_file())
    named = environ.get("GROKKING_RECORDS") or environ.get("XDG_CACHE_HOME")
    return [absolute(named) if named else "", packs]


def now() -> str:
    """Return the date and time as records have it: UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
