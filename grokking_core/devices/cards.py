"""Which graphics card can be used, and how: what torch says of it, and what its self-check has shown."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from grokking_core.devices import limits
from grokking_core.devices.launch import PATHS
from grokking_core.records.store import default_folder
from grokking_core.runs.record import source_hash
from grokking_core.runs.run import Run

LIMIT_SECONDS = 600.0  #: for the self-check of a path; compiling takes most of them
DRIVER = Path("/proc/driver/nvidia/version")


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
    checked = check_paths(torch.device("cuda"))
    return checked if checked.value is None else Verdict("cuda", checked.reason)


def path_of(device: torch.device) -> str:
    """The best path of `launch.PATHS` that passes its self-check on a card.

    Raises
    ------
    ValueError
        If none does; says why.
    """
    path, reason = check_paths(device)
    if path is None:
        raise ValueError(f"device={str(device)!r} cannot be used: {reason}; use 'cpu'")
    return path


@lru_cache
def check_paths(device: torch.device) -> Verdict:
    """The best path that passes its self-check on a card; what the first check says is remembered."""
    name, remembered = torch.cuda.get_device_name(device), default_folder() / ".cards.json"
    key = _key(device)
    if found := _read(remembered).get(key):
        return Verdict(*found)
    if reason := _too_old(device):
        return Verdict(None, f"{name}: {reason}")
    print(f"{device}: {name} is checked before its first training, in minutes", file=sys.stderr, flush=True)
    failures = []
    verdict = None
    for path in PATHS:
        failure = check_elsewhere(device, path)
        if failure is None:
            verdict = Verdict(path, "; ".join([f"{name}: updates by the path {path!r}", *failures]))
            break
        failures.append(f"{path!r} failed ({failure})")
    verdict = verdict or Verdict(None, f"{name}: no path passes its self-check: {'; '.join(failures)}")
    print(f"{device}: {verdict.reason}", file=sys.stderr, flush=True)
    if verdict.value:  # what failed may be mended by then
        _remember(remembered, key, verdict)
    return verdict


def check_elsewhere(device: torch.device, path: str, limit: float = LIMIT_SECONDS) -> str | None:
    """Why a path fails its self-check in a process of its own, which may crash or hang; None if it passes."""
    command = [sys.executable, "-m", "grokking_core.training.selfcheck", str(device), path]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"it took more than {limit:.0f} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"it was ended by signal {-done.returncode}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit status {done.returncode}"


def describe(device: torch.device) -> list[tuple[str, str]]:
    """Names and values of what decides how a device trains, for people; checks a card that is new."""
    run = Run(operation="x/y")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    lines = [("device", str(device)), ("PyTorch", f"{torch.__version__}, {build}")]
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        return [*lines, ("no card", _why_torch_sees_no_card() or f"{device} is not here")]
    if device.type == "cuda":
        path, reason = check_paths(device)
        lines += [("card", torch.cuda.get_device_name(device)), ("driver", str(driver()))]
        lines += [("updates", path or f"none: {reason}")]
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


def _key(device: torch.device) -> str:
    """What a check holds for: torch, driver, card and sources."""
    card = str(getattr(torch.cuda.get_device_properties(device), "uuid", device))
    named = json.dumps([torch.__version__, driver(), card, source_hash()])
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
