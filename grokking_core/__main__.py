"""The command line: `python -m grokking_core`, installed as `grokking`.

Exit status: 0 done, 1 failed, 2 wrong use, 3 stopped by a time limit or Ctrl-C with everything kept.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import types
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from inspect import getsource
from pathlib import Path
from time import monotonic, time
from typing import Any, Union, get_args, get_origin, get_type_hints

import pandas as pd
import torch

import grokking_core
from grokking_core import devices, sweep
from grokking_core._streams import forgiven, say
from grokking_core.paper import experiments, export
from grokking_core.plans import Part, Plan, merged
from grokking_core.probes import PROBES
from grokking_core.records.store import KINDS, Store, finished_bytes
from grokking_core.runs.record import utc_now
from grokking_core.runs.records import Records
from grokking_core.runs.run import CHOICES, Run
from grokking_core.sweeps.estimate import Estimate, duration, expected

DONE, FAILED, WRONG_USE, STOPPED = range(4)
PROFILES = ("smoke", "laptop", "overnight", "paper")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of a command line."""
    warnings.formatwarning = lambda message, *_, **__: f"grokking: {message}\n"
    return forgiven(lambda: _run(argv), "grokking")


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    try:
        if getattr(args, "device", None) and args.command is not check:  # which says more
            devices.check_device(args.device)
        return args.command(args)
    except ValueError as error:
        return _tell(error, WRONG_USE)
    except KeyboardInterrupt as error:
        return _tell(error if str(error) else "stopped", STOPPED)
    except (OSError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
        return _tell(error, FAILED)


def _tell(error: object, status: int) -> int:
    print(f"grokking: {error}", file=sys.stderr)
    return status


# -------------------------------------------------------------------------------------------------
# Commands


def train(args: argparse.Namespace) -> int:
    """Train one configuration, print and draw its milestones."""
    values = {f.name: getattr(args, f.name) for f in fields(Run) if hasattr(args, f.name)}
    if twice := [seed for seed in args.seeds if args.seeds.count(seed) > 1]:
        raise ValueError(f"seeds has {twice[0]} twice: the same run is no second sample")
    runs = [Run(**values, seed=seed) for seed in args.seeds]
    if args.plot:
        from grokking_core import plots  # an error now, not after training

        _check_plot(args.plot)
    asked = {"watch": args.watch, "watch_every": args.watch_every}
    records = sweep(
        runs, args.steps, args.stop_at, minutes=args.minutes, device=args.device, fresh=args.fresh, **asked
    )
    print(milestones(records))
    if args.plot:
        plots.accuracy_curves(records).figure.savefig(args.plot)  # pyright: ignore
        print(f"drawn: {args.plot}")
    return _status(records)


def _check_plot(path: Path) -> None:
    """Raise `ValueError` if no picture can be written to a path; nothing that is there is changed."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix and path.suffix[1:].lower() not in known:
        raise ValueError(f"plot={str(path)!r} must end with one of .{', .'.join(known)}")
    there = path.exists()
    try:
        with open(path, "ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise ValueError(f"plot={str(path)!r} cannot be written: {error.strerror or error}") from None


def milestones(records: Records) -> str:
    """Steps to 95 % and 99 %, first and sustained, as a table; a dash where they were not reached."""
    names = [
        f"{side}_{share:.0%}".rstrip("%") for side in ("train", "validation") for share in export.THRESHOLDS
    ]
    lines = [["seed", "followed", *(name.replace("_", " ") + "%" for name in names), "diverged"]]
    for row in export.milestones(records).to_dict("records"):
        steps = [f"{_step(row[f'{name}_first'])} / {_step(row[f'{name}_sustained'])}" for name in names]
        lines.append([f"{row['seed']}", _step(row["last_step"]), *steps, _step(row["diverged_at"])])
    return table(lines) + "\n(first step at or above / step from which it stays there; - : not reached)"


def _step(step: Any) -> str:
    return "-" if pd.isna(step) else f"{step:,}"


def sweep_experiments(args: argparse.Namespace) -> int:
    """Read or train what experiments ask in a profile, each run once for all of them."""
    plans = _plans(args.experiments, args.profile)
    if args.minutes is not None and args.minutes <= 0:
        raise ValueError(f"minutes={args.minutes} must be above 0")
    if args.fresh:  # from now on: what one part has trained, the next reads
        os.environ["GROKKING_FRESH"] = utc_now()
    started, parts, left_out = monotonic(), [], set[Run]()
    with ExitStack() as stack:
        executor = _executor(args, stack)
        for part in merged(plans.values()):
            left = args.minutes and max(args.minutes - (monotonic() - started) / 60, 1e-6)
            where = {"executor": executor, "device": args.device, "minutes": left}
            every = part.watch_every if args.watch_every is None else args.watch_every
            part = replace(part, watch=(*part.watch, *args.watch), watch_every=every)
            asked = part.asks | {"stop_at": part.stop_at, "keep_checkpoints": part.goes_on}
            runs = part.runs if args.scheduler else _computed(part, args.device)
            left_out |= {*part.runs} - {*runs}
            parts.append(sweep(runs, part.steps, unwritten="raise", **asked, **where))
    for name, plan in plans.items():
        missing = len(plan.read().missing)
        print(f"{name}: {len(plan.runs) - missing} of {len(plan.runs)} runs on record")
    counts = Records.joined(parts)
    message = f"{counts.n_read} read, {counts.n_trained} trained, {len(counts.missing)} missing"
    message += f", {len(left_out)} left out" if left_out else ""
    print(f"{message}, {duration(monotonic() - started)}", flush=True)
    return max(map(_status, parts), key=(DONE, STOPPED, FAILED).index)


def _plans(names: Sequence[str], profile: str) -> dict[str, Plan]:
    """What experiments ask in a profile, or all that it has."""
    known = experiments.load_profile(profile)
    for name in names:
        if name in experiments.EXPERIMENTS and name not in known:
            raise ValueError(f"profile={profile!r} has no {name}; it has {', '.join(known) or 'nothing'}")
    asked = names or [name for name in experiments.EXPERIMENTS if name in known]
    return {name: experiments.plan(name, profile) for name in asked}


def _computed(part: Part, device: str | None) -> list[Run]:
    """A part's runs but for those to be trained in a precision that the device lacks; prints how many.

    Raises
    ------
    ValueError
        If they are all of them.
    """
    device = device or devices.default_device()
    missing = Plan((part,)).read().missing
    lacking = {run for run in missing if run.precision not in devices.precisions(device)}
    if lacking == {*part.runs}:
        devices.check_precision(part.runs[0], torch.device(device))
    if lacking:
        print(f"{len(lacking)} runs left out: {device} does not compute in their precision", flush=True)
    return [run for run in part.runs if run not in lacking]


def _executor(args: argparse.Namespace, stack: ExitStack) -> Any:
    """Workers as asked for, ended with the stack; None without."""
    if args.workers is None and args.scheduler is None:
        return None
    from grokking_core.sweeps import cluster, workers

    if args.workers is not None:
        return stack.enter_context(workers.LocalWorkers(args.workers))
    return stack.enter_context(cluster.dask_executor(args.scheduler))


def _status(records: Records) -> int:
    if records.unwritten:
        return _tell(f"{len(records.unwritten)} records could not be written", FAILED)
    return STOPPED if records.missing else DONE


def status(args: argparse.Namespace) -> int:
    """Say what is on record, by experiment and profile, and what the files take."""
    store, device = Store(), args.device or devices.default_device()
    profiles = [args.profile] if args.profile else PROFILES
    lines = [["experiment", "profile", "runs", "recorded", "under way", "missing", "expected"]]
    bases = dict[str, None]()
    plans = {profile: _plans(args.experiments, profile) for profile in profiles}
    for name in experiments.EXPERIMENTS:
        for profile in (profile for profile in profiles if name in plans[profile]):
            counts, estimate = _progress(store, plans[profile][name], device)
            lines.append([name, profile, *counts, duration(estimate.seconds) if estimate else "-"])
            bases |= {estimate.basis: None} if estimate else {}
    print(table(lines))
    for basis in bases:
        print(f"expected on {device} {basis}, if no run ends early; what checkpoints have is not counted")
    print(f"\n{store.folder}" + ("" if store.folder.is_dir() else " (not there yet)"))
    for kind, (count, size) in store.usage().items():
        limit = f" of {finished_bytes() / 1e6:,.0f}" if kind == "finished" else ""
        print(f"  {kind}: {count}, {size / 1e6:.1f}{limit} MB")
    print(f"{store.shipped}: {sum(len(pack.rows) for pack in store.packs)} shipped records")
    return DONE


def _progress(store: Store, plan: Plan, device: str) -> tuple[list[str], Estimate | None]:
    """Runs, recorded, under way, missing; and how long these take where the device computes them."""
    found = plan.read(store)
    left = {
        run: max(1, steps - store.checkpoint_step(run))
        for run, steps in found.missing_steps.items()
        if run.precision in devices.precisions(device)
    }
    n_missing = len(found.missing)
    under_way = sum(store.checkpoint_step(run) > 0 for run in found.missing)
    counts = (len(plan.runs), len(plan.runs) - n_missing, under_way, n_missing - under_way)
    try:
        return [*map(str, counts)], expected(left, store, device) if left else None
    except Exception as error:  # an estimate stops nothing
        say(f"how long {n_missing} runs take is not known: {error}")
        return [*map(str, counts)], None


def verify(args: argparse.Namespace) -> int:
    """Check every file of the records; those with something wrong by name."""
    counts: dict[str, int] = dict.fromkeys((*KINDS, "pack"), 0)
    troubled = 0
    for entry in Store().verify():
        counts[entry.kind] = counts.get(entry.kind, 0) + 1
        if entry.trouble:
            troubled += 1
        if entry.trouble or entry.note:
            print(f"{entry.path}: {entry.trouble or entry.note}")
    checked = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"checked: {checked}; something is wrong with {troubled}")
    return FAILED if troubled else DONE


def export_records(args: argparse.Namespace) -> int:
    """Write curves and milestones for other tools."""
    for path, n_rows in export.write(Store().records(), args.folder, args.format):
        print(f"{path}: {n_rows:,} rows")
    return DONE


def pack(args: argparse.Namespace) -> int:
    """Pack the user's records for shipping."""
    asked = args.profile or args.experiments
    plans = _plans(args.experiments, args.profile or "laptop") if asked else {}
    more = {"weights": args.weights, "begun": args.begun}
    count, size = export.pack(Store(), args.file, list(plans.values()), **more)
    print(f"{args.file}: {count} records, {size / 1e6:.2f} MB")
    return DONE


def clean(args: argparse.Namespace) -> int:
    """Remove checkpoints and what dead processes left, never a record."""
    kinds = {"checkpoint", "finished", "unfinished"} | ({"set aside"} if args.set_aside else set())
    freed = count = 0
    for entry in list(Store().entries()):
        young = entry.kind == "unfinished" and entry.modified > time() - 3600
        if entry.kind in kinds and not young:
            entry.path.unlink(missing_ok=True)
            count, freed = count + 1, freed + entry.size
    print(f"removed {count} files, {freed / 1e6:.1f} MB")
    return DONE


def check(args: argparse.Namespace) -> int:
    """Say on what training would run here, how long it would take, and what is wrong with a graphics card."""
    device = args.device or devices.default_device()
    if not device.startswith("cuda"):
        devices.check_device(device)
    lines = devices.describe(torch.device(device))
    print("\n".join(f"{name:<15}{value}" for name, value in lines), flush=True)
    usable = "at once" in dict(lines)
    _say_profiles(Store(), device if usable else "cpu")
    return DONE if usable else FAILED


def _say_profiles(store: Store, device: str) -> None:
    """Print what each profile has on record, and how long the rest takes a device."""
    bases = dict[str, None]()
    for profile in PROFILES:
        parts = (part for plan in _plans([], profile).values() for part in plan.parts)
        (n_runs, n_recorded, *_), estimate = _progress(store, Plan(tuple(parts)), device)
        left = f", the others take about {duration(estimate.seconds)}" if estimate else ""
        print(f"{profile:<15}{n_runs} runs, {n_recorded} on record{left}", flush=True)
        bases |= {estimate.basis: None} if estimate else {}
    for basis in bases:
        print(f"expected on {device} {basis}, if no run ends early")


def bench(args: argparse.Namespace) -> int:
    """Measure the speed of training on this machine, or count what it asks of a card."""
    from grokking_core.bench import measured, planned

    if args.plan:
        print(planned.report(measured.PAPER, args.plan, args.widths or [64, 128]))
        return DONE
    text = measured.report(
        args.device or devices.default_device(),
        args.precision,
        args.widths,
        args.rounds,
        as_json=args.json,
        output=args.output,
    )
    print(text)
    return DONE


def table(lines: list[list[str]]) -> str:
    """Lines of words as columns, the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(w.rjust(n) for w, n in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


# -------------------------------------------------------------------------------------------------
# Options


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    top = argparse.ArgumentParser(prog="grokking", description="Train, record and measure grokking runs.")
    top.epilog = (
        "Exit status: 0 done, 1 failed, 2 wrong use, 3 stopped by a time limit or Ctrl-C, everything kept. "
        "Records lie in GROKKING_RECORDS, by default in your cache folder."
    )
    top.add_argument("--version", action="version", version=grokking_core.__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _train_options(_command(commands, "train", train))
    p = _command(commands, "sweep", sweep_experiments)
    _which(p, profile="laptop")
    _how(p)
    where = p.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=int, metavar="N", help="processes here, one a GPU where there are GPUs"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, such as tcp://host:8786")
    p = _command(commands, "status", status)
    _which(p, profile=None)
    p.add_argument("--device", help="that the time is estimated for")
    _command(commands, "verify", verify)
    p = _command(commands, "export", export_records)
    p.add_argument("folder", type=Path, help="that takes curves and milestones")
    p.add_argument("--format", choices=("csv", "parquet"), default="csv")
    p = _command(commands, "pack", pack)
    p.add_argument("file", type=Path, help="such as book/records/paper.parquet; what it holds stays in it")
    _which(p, profile=None)
    p.add_argument("--weights", action="store_true", help="copy kept weights beside it")
    p.add_argument("--begun", action="store_true", help="copy checkpoints beside it, to go on from elsewhere")
    p = _command(commands, "clean", clean)
    p.add_argument("--set-aside", action="store_true", help="damaged files that were set aside as well")
    p = _command(commands, "check", check)
    p.add_argument("--device", help="cpu, cuda or cuda:N (default: what a sweep would take)")
    _bench_options(_command(commands, "bench", bench))
    return top


def _bench_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    p.add_argument("--output", metavar="FILE", help="also write the JSON to a file")
    p.add_argument("--device", help="(default: what a sweep would take)")
    p.add_argument("--precision", choices=("fp32", "tf32", "tf32x3", "tf32-rounded"), default="fp32")
    p.add_argument("--widths", type=int, nargs="+", metavar="R", help="runs trained at a time")
    p.add_argument("--rounds", type=int, default=5, help="times that everything is measured (5)")
    plan = "count instead what an update, and training a profile (laptop), ask of a graphics card"
    p.add_argument("--plan", nargs="?", const="laptop", metavar="PROFILE", help=plan)


def _command(commands: Any, name: str, function: Any) -> argparse.ArgumentParser:
    p = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    p.set_defaults(command=function)
    return p


def _which(p: argparse.ArgumentParser, profile: str | None) -> None:
    p.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="all without a name")
    default = "%(default)s" if profile else "all of them"
    p.add_argument(
        "--profile",
        default=profile,
        help=f"smoke, laptop, overnight, paper or a .yml file (default: {default})",
    )


def _how(p: argparse.ArgumentParser) -> None:
    p.add_argument("--minutes", type=float, metavar="M", help="time limit; the next call goes on from there")
    p.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda if it is there)")
    p.add_argument("--fresh", action="store_true", default=None, help="train again what is on record")
    p.add_argument(
        "--watch", nargs="+", default=(), metavar="PROBE", help=f"what looks at the runs: {', '.join(PROBES)}"
    )
    p.add_argument("--watch-every", type=int, metavar="N", help="updates between two looks (and evaluations)")


def _train_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="SEED", help="(default: 0)")
    p.add_argument(
        "--steps", type=int, default=10_000, help="updates to follow each run for (default: %(default)s)"
    )
    p.add_argument("--stop-at", type=float, metavar="A", help="validation accuracy in (0, 1] that ends a run")
    p.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the accuracies into a file, such as curves.png"
    )
    _how(p)
    hints, comments = (
        get_type_hints(Run),
        dict(re.findall(r"^    (\w+): .*?  #: (.+)$", getsource(Run), re.M)),
    )
    group = p.add_argument_group("the run; defaults are the paper's")
    for f in fields(Run):
        if f.name == "seed":
            continue
        option: dict[str, Any] = {"type": _reader(hints[f.name]), "metavar": f.name.upper()}
        if f.name == "betas":
            option = {"type": float, "nargs": 2, "metavar": ("BETA1", "BETA2")}
        option |= {"required": True} if f.name == "operation" else {"default": argparse.SUPPRESS}
        text = comments.get(f.name) or ", ".join(CHOICES[f.name])
        text += "" if f.name == "operation" else f" (default: {f.default})"
        option["help"] = text.replace("%", "%%")
        group.add_argument(f"--{f.name.replace('_', '-')}", **option)


def _reader(hint: Any) -> Any:
    """What makes an option's text a value of a field's type."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)

    def read(text: str) -> Any:
        for kind in kinds:
            if kind is type(None) and text.lower() == "none":
                return None
            if kind in (int, float):
                try:
                    return kind(text)
                except ValueError:
                    continue
        if kinds in ((int,), (float,)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number")
        return text

    return read


if __name__ == "__main__":
    sys.exit(main())
