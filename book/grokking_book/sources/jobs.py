"""What is to be executed: each notebook with its parameters, and whether its last execution still holds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grokking_book.sources import notebooks, parameters
from grokking_book.sources.parameters import WrongUse


@dataclass(frozen=True)
class Places:
    """Where things are, from the repository's root."""

    root: Path

    @property
    def book(self) -> Path:
        """The sources: pages, notebooks, profiles."""
        return self.root / "book"

    @property
    def build(self) -> Path:
        """All that is built; deleting it loses no result."""
        return self.root / "build"

    @property
    def executed(self) -> Path:
        """The notebooks as last executed."""
        return self.build / "executed"

    @property
    def pages(self) -> Path:
        """What the site is rendered from."""
        return self.build / "book"

    @property
    def site(self) -> Path:
        """The last good site."""
        return self.build / "site"

    def notebooks(self) -> dict[str, Path]:
        """Return the notebooks' sources by name, in the order of their paths."""
        found = sorted(self.book.rglob("*.ipynb"))
        return {path.stem: path for path in found if path.parent.name != ".ipynb_checkpoints"}

    def package(self) -> list[Path]:
        """Return the sources that notebooks import, and read: the package, what a page plays with or says."""
        of_book = (self.book / "grokking_book" / room for room in ("play", "pages"))
        folders = [self.root / "grokking_core", *of_book]
        words = (self.book / f"{name}.yml" for name in ("exercises", "settings"))
        sources = (path for folder in folders for path in folder.rglob("*.py"))
        return sorted([*sources, *(path for path in words if path.is_file())])


@dataclass(frozen=True)
class Job:
    """One notebook to have executed, with these parameters."""

    name: str
    source: Path
    values: dict[str, Any]  #: the parameters that differ from the notebook's own
    output: Path  #: the executed notebook
    inputs: str  #: hash of all that decides the output, but for what it reads
    reads: tuple[Path, ...] = ()  #: executed notebooks whose runs it reads: it comes after them
    profile: str = ""
    changed: dict[str, Any] = field(default_factory=dict)  #: the parameters that differ from the profile's

    @property
    def stamp(self) -> Path:
        """The file that says what the output was made from."""
        return self.output.with_suffix(".stamp")

    @property
    def command(self) -> str:
        """The command that executes this notebook so, and renders its page."""
        given = parameters.write_assignments(self.changed)
        return f"make book ONLY={self.name} PROFILE={self.profile}" + (f" P={given}" if given else "")

    def is_current(self) -> bool:
        """Return whether the output is there, untouched, made from these inputs, and lacks no run."""
        if not (self.output.is_file() and self.stamp.is_file()):
            return False
        if self.stamp.read_text() != stamp_of(self):
            return False
        # What a time limit left out is gone on with; one that only reads has nothing to go on with.
        return bool(self.reads) or not notebooks.provenance(self.output).get("missing")


def digest(files: Iterable[Path], root: Path, *more: object) -> str:
    """Return a hash of the files (names below `root`, contents) and of what else is given."""
    total = hashlib.sha256(repr(more).encode())
    for file in sorted(files):
        total.update(f"\0{file.relative_to(root)}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def stamp_of(job: Job) -> str:
    """Return what the stamp of an up-to-date output says."""
    files = [job.output, *(path for path in job.reads if path.is_file())]
    return "\n".join([job.inputs, *(digest([file], file.parent) for file in files), ""])


def plan(
    places: Places, profile: str, given: str, only: str | None = None, records: Sequence[object] = ()
) -> list[Job]:
    """Return a job for every notebook, all parameters checked; `given` holds for `only`, or all.

    `records` says which records the notebooks read: others make other pages. Those that read what the
    others have trained come last.

    Raises
    ------
    WrongUse
        For an unknown profile, notebook or parameter, or a value of the wrong type.
    """
    sources = places.notebooks()
    known = {name: parameters.read_parameters(source) for name, source in sources.items()}
    if only and only not in known:
        raise WrongUse(f"ONLY={only} is unknown; the notebooks are: {', '.join(known)}")
    usual = parameters.load_profile(places.book / "profiles" / f"{profile}.yml", known)
    asked = {only: known[only]} if only else known
    values = usual | parameters.assign(usual, parameters.parse_assignments(given), asked)
    outputs = {name: places.executed / path.relative_to(places.book) for name, path in sources.items()}
    late = {name for name, source in sources.items() if comes_after_figures(source)}
    figures = tuple(output for name, output in outputs.items() if name not in late)
    package, jobs = digest(places.package(), places.root), []
    for name, source in sources.items():
        own = {key: parameter.default for key, parameter in known[name].items()}
        # What is the notebook's own value needs no cell of its own.
        differing = _differing(values[name], own)
        # Prose decides no output: a sentence is edited without executing anything.
        inputs = digest([], places.root, package, profile, differing, notebooks.code(source), *records)
        reads = figures if name in late else ()
        changed = _differing(values[name], own | usual[name])
        jobs.append(Job(name, source, differing, outputs[name], inputs, reads, profile, changed))
    return sorted(jobs, key=lambda job: bool(job.reads))


def _differing(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """The values that are not the usual ones."""
    return {name: value for name, value in values.items() if value != usual[name]}


def comes_after_figures(notebook: Path) -> bool:
    """Return whether a notebook's metadata has `"grokking": {"after": "figures"}`.

    Raises
    ------
    WrongUse
        If it is to come after anything else.
    """
    said = notebooks.read(notebook)["metadata"].get("grokking", {})
    if said not in ({}, {"after": "figures"}):
        raise WrongUse(f"{notebook}: metadata 'grokking' is {said}, must be {{'after': 'figures'}}")
    return bool(said)


def asks_for_runs(job: Job) -> bool:
    """Return whether a notebook calls the experiment of its own name, which `grokking sweep` can train."""
    # No other name that ends like it, and no method; of the module is as good.
    calls = re.compile(rf"(?<![\w.])(experiments\.)?{re.escape(job.name)}\(")
    return any(calls.search(source) for source, _ in notebooks.code(job.source))


def all_values(job: Job) -> dict[str, Any]:
    """Return the values of all parameters of a notebook, its own where the job has no other."""
    own = parameters.read_parameters(job.source)
    return {name: parameter.default for name, parameter in own.items()} | job.values
