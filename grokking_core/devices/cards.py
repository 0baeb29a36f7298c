"""Which graphics card can be used, and how: what torch says of it, and what its self-check has shown."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from grokking_core import kernels
from grokking_core.devices import limits
from grokking_core.devices.kinds import KINDS, PAPER, kinds_of
from grokking_core.devices.launch import PATHS
from grokking_core.records.store import default_folder
from grokking_core.runs.record import source_hash
from grokking_core.runs.run import Run

LIMIT_SECONDS = 600.0  #: for the self-check of a path; compiling takes most of them
DRIVER = Path("/proc/driver/nvidia/version")
#: What an error says, and what to do about it; the first that fits is told.
REMEDIES = {
    "Python\\.h": "Python's headers are missing: install python3-dev",
    "C compiler|cc1: |No such file or directory: '(?:gcc|cc|clang)'": "no C compiler: install gcc",
    "libcuda\\.so": "the driver's libcuda.so.1 is not found: install the driver, or run ldconfig",
    "Permission denied|Read-only file system|No space left": "nowhere to write compiled code: set "
    "TORCHINDUCTOR_CACHE_DIR and TRITON_CACHE_DIR to a folder that can be written",
    "out of memory": "too little free memory on the card: close what else uses it",
    "no kernel image": "torch has no code for this card: install a torch built for an older CUDA",
    "CUDA driver version is insufficient": "the driver is too old for this torch: update it",
}


class Verdict(NamedTuple):
    """What can be used."""

    value: str | None  #: a path of `launch.PATHS`, or a device; None: nothing
    reason: str  #: in a line, or nothing


def default_device() -> str:
    """The device that trains where none is named: CUDA if it can be used, else the CPU."""
    return usable_device().value or "cpu"


@lru_cache
def usable_device() -> Verdict:
    """The device that trains where none is named, and why it is not a card where this machine has one."""
    if not torch.cuda.is_available():
        return Verdict("cpu", _why_torch_sees_no_card())
    device = torch.device("cuda")
    if reason := _too_full(device):
        return Verdict(None, reason)
    checked = check_paths(device, PAPER)
    return checked if checked.value is None else Verdict("cuda", checked.reason)


def check_device(name: str) -> None:
    """Raise `ValueError` if no device of this machine is called so; says why where a card is not used."""
    if reason := _not_here(name):
        raise ValueError(reason)


def _not_here(name: str) -> str:
    """Why no device of this machine is called so, or nothing."""
    known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name in known or (name == "cuda" and known[1:]):
        return ""
    why = _why_torch_sees_no_card() if name.startswith("cuda") and not known[1:] else ""
    return f"device={name!r} is not here; choose from {', '.join(known)}" + (f". {why}" if why else "")


def path_of(device: torch.device, runs: Iterable[Run] = ()) -> str:
    """The best path of `launch.PATHS` that passes its self-check on a card, for all kinds of these runs.

    Raises
    ------
    ValueError
        If none does; says why.
    """
    paths, runs = [], list(runs)
    for kind in kinds_of(runs):
        path, reason = check_paths(device, kind)
        if path is None:
            instead = "another precision" if "precision" in KINDS[kind] else "'cpu'"
            raise ValueError(f"device={str(device)!r} cannot be used: {reason}; use {instead}")
        paths.append(path)
    best = max(paths, key=PATHS.index)
    own = best == "compiled" and any(kernels.fit(run) for run in runs)
    return check_kernels(device).value or best if own else best


@lru_cache
def check_paths(device: torch.device, kind: str) -> Verdict:
    """The best path that passes its self-check on a card, of `kinds.KINDS`; what it says is remembered."""
    paths, name = PATHS[PATHS.index("compiled") :], torch.cuda.get_device_name(device)
    if kind != PAPER:
        best = check_paths(device, PAPER)
        if best.value is None:
            return best
        paths, name = PATHS[PATHS.index(best.value) :], f"{name}, {kind} runs"
    remembered, key = default_folder() / ".cards.json", _key(device, kind)
    if found := _read(remembered).get(key):
        return Verdict(*found)
    if reason := _too_old(device):
        return Verdict(None, f"{name}: {reason}")
    print(f"{device}: {name} is checked before its first training, in minutes", file=sys.stderr, flush=True)
    failures = []
    verdict = None
    for path in paths:
        failure = check_elsewhere(device, path, kind)
        if failure is None:
            verdict = Verdict(path, "; ".join([f"{name}: updates by the path {path!r}", *failures]))
            break
        failures.append(f"{path!r} failed ({failure})")
    verdict = verdict or Verdict(None, f"{name}: no path passes its self-check: {'; '.join(failures)}")
    print(f"{device}: {verdict.reason}", file=sys.stderr, flush=True)
    if verdict.value:  # what failed may be mended by then
        _remember(remembered, key, verdict)
    return verdict


@lru_cache
def check_kernels(device: torch.device) -> Verdict:
    """The path "kernels" if our own compute the same as their twins and are faster than "compiled", or that.

    Asked where "compiled" has passed its self-check. Either answer is remembered: nothing is broken.
    """
    name = torch.cuda.get_device_name(device)
    if not kernels.are_there() or "tf32" not in limits.precisions(device):
        return Verdict("compiled", f"{name}: own kernels need Triton and tf32")
    remembered, key = default_folder() / ".cards.json", _key(device, "kernels")
    if found := _read(remembered).get(key):
        return Verdict(*found)
    print(f"{device}: {name} is checked before its first training in tf32", file=sys.stderr, flush=True)
    failure = check_elsewhere(device, "kernels")
    reason = (
        "updates in tf32 by the path 'kernels'" if failure is None else f"'kernels' not taken ({failure})"
    )
    verdict = Verdict("compiled" if failure else "kernels", f"{name}: {reason}")
    print(f"{device}: {verdict.reason}", file=sys.stderr, flush=True)
    _remember(remembered, key, verdict)
    return verdict


def check_elsewhere(
    device: torch.device, path: str, kind: str = PAPER, limit: float = LIMIT_SECONDS
) -> str | None:
    """Why a path fails its self-check in a process of its own, which may crash or hang; None if it passes."""
    command = [sys.executable, "-m", "grokking_core.training.selfcheck", str(device), path, kind]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"it took more than {limit:.0f} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"it was ended by signal {-done.returncode}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    remedy = next((f"{what}; " for said, what in REMEDIES.items() if re.search(said, done.stderr)), "")
    return remedy + (lines[-1][:300] if lines else f"exit status {done.returncode}")


def describe(device: torch.device) -> list[tuple[str, str]]:
    """Names and values of what decides how a device trains, for people; checks a card that is new."""
    run = Run(operation="x/y")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    lines = [("device", str(device)), ("PyTorch", f"{torch.__version__}, {build}")]
    if reason := _not_here(str(device)):
        return [*lines, ("no card", reason)]
    if device.type == "cuda":
        lines += [("card", torch.cuda.get_device_name(device)), ("driver", str(driver()))]
        path, reason = check_paths(device, PAPER)
        if path is None:
            return [*lines, ("no card", reason)]
        lines += [("updates", path), *([("because", reason)] if path != "compiled" else [])]
        lines += [("in tf32", check_kernels(device).reason)] if path == "compiled" else []
        here = limits.precisions(device)
        kinds = [
            kind for kind, own in KINDS.items() if kind != PAPER and own.get("precision", "fp32") in here
        ]
        others = {kind: check_paths(device, kind) for kind in kinds}
        lines += [(f"{kind} runs", why) for kind, (other, why) in others.items() if other != path]
    elif reason := usable_device().reason:
        lines.append(("no card", reason))
    free, needed = limits.free_bytes(device), limits.bytes_per_run(run)
    width = min(limits.default_width(device), int(0.9 * free / needed))
    lines.append(("free memory", f"{free / 2**30:.1f} GiB"))
    lines.append(("at once", f"{width} networks of the paper's, {needed / 2**20:.0f} MiB each at most"))
    return [*lines, ("precisions", ", ".join(limits.precisions(device)))]


@lru_cache
def driver() -> str | None:
    """The version of NVIDIA's driver, such as "580.65.06"; None where there is none."""
    try:
        found = re.search(r"Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", DRIVER.read_text())
    except OSError:
        found = None
    return found[1] if found else _ask_tool("--query-gpu=driver_version", "--format=csv,noheader")


def listed_card() -> str | None:
    """The first card that NVIDIA's own tool lists, which torch may be unable to use."""
    line = _ask_tool("-L")
    return line if line and line.startswith("GPU ") else None


def _ask_tool(*arguments: str) -> str | None:
    """The first line that nvidia-smi prints, where it is there and succeeds: it prints its failures too."""
    tool = shutil.which("nvidia-smi")
    try:
        done = tool and subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines() if done and done.returncode == 0 else []
    return lines[0].strip() if lines else None


def _why_torch_sees_no_card() -> str:
    """Why a card that this machine has is not used, and what to do; nothing where it has none."""
    card = listed_card()
    if card is None:
        return ""
    name, cuda = card.split(" (UUID")[0], torch.version.cuda
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return f"{name} is hidden: CUDA_VISIBLE_DEVICES is empty; unset it to use the card"
    if cuda is None:
        return f"{name} is not used: torch {torch.__version__} is built without CUDA; install a CUDA build"
    reason = f"torch {torch.__version__} is built for CUDA {cuda}, which driver {driver()} does not serve"
    return f"{name} is not used: {reason}; update the driver, or install a torch built for an older CUDA"


def _too_full(device: torch.device) -> str:
    """Why not one network of the paper fits into the free memory of a card, or nothing."""
    needed, free = limits.bytes_per_run(Run(operation="x/y")), limits.free_bytes(device)
    if free >= needed:
        return ""
    has = f"{free / 2**20:,.0f} MiB of its memory are free, a run takes {needed / 2**20:,.0f}"
    return f"{torch.cuda.get_device_name(device)} is not used: {has}; close what else uses it"


def _too_old(device: torch.device) -> str:
    """Why torch has no code for a card, or nothing."""
    capability = torch.cuda.get_device_capability(device)
    built = [re.fullmatch(r"(?:sm|compute)_(\d+)(\d)[a-z]*", arch) for arch in torch.cuda.get_arch_list()]
    oldest = min(((int(arch[1]), int(arch[2])) for arch in built if arch), default=capability)
    if capability >= oldest:
        return ""
    has, needs = (".".join(map(str, pair)) for pair in (capability, oldest))
    reason = f"compute capability {has}, but torch {torch.__version__} begins at {needs}"
    return f"{reason}; install a torch built for an older CUDA"


def _key(device: torch.device, kind: str) -> str:
    """What a check holds for: torch, driver, card, sources, and a kind of runs."""
    card = str(getattr(torch.cuda.get_device_properties(device), "uuid", device))
    named = json.dumps([torch.__version__, driver(), card, source_hash(), kind])
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, list[str]]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(file: Path, key: str, verdict: Verdict) -> None:
    """Write a verdict down; where that cannot be done the next process checks again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{os.getpid()}.tmp")
        unfinished.write_text(json.dumps(_read(file) | {key: verdict}))
        unfinished.replace(file)
    except OSError:
        pass
