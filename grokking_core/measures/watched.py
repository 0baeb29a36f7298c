"""Numbers from what was watched of runs: when a signal warns, of what, and how often for nothing.

A signal is a number that is larger the nearer a run is said to be; its alarm is the first evaluation, from
T_fit on, at which it passes a threshold. T_fit is the first step with 99 % training accuracy, T95 the first
with 95 % of all validation equations right, the papers' own mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from grokking_core.runs.record import LEARNED, Record
from grokking_core.runs.run import Run

GROKKED = 0.95  #: validation accuracy of T95
KEY = 0.02  #: share of the logits' variance above which a frequency is a key
BEGUN = 0.05  #: accuracy on unmirrored equations of a run that has begun to generalize
WINDOW = 1000  #: updates within which a fall of entropy counts

Signal = Callable[[Any], Any]  # a series from a frame's rows from T_fit on


def _fall(column: str) -> Signal:
    """By how much a column lies below its largest value within WINDOW updates before."""

    def fall(rows: Any) -> Any:
        values, steps = rows[column].to_numpy(float), rows["step"].to_numpy()
        highest = [values[(steps <= step) & (steps >= step - WINDOW)].max() for step in steps]
        return pd.Series(np.array(highest) - values, rows.index)

    return fall


def _over_first(column: str) -> Signal:
    return lambda rows: rows[column] / rows[column].iloc[0]


def _below_first(column: str) -> Signal:
    return lambda rows: rows[column].iloc[0] / rows[column]


SIGNALS: dict[str, tuple[Signal, float]] = {  #: by name, with the threshold of its alarm
    "ILDR over 2.5 x its value at fitting": (_over_first("ildr"), 2.5),
    "entropy at most 0.61": (lambda rows: -rows["entropy"], -0.61),
    "entropy fell by 0.05": (_fall("entropy"), 0.05),
    "uncentred entropy fell by 0.05": (_fall("entropy_uncentred"), 0.05),
    "weight norm below 3/4 of its value at fitting": (_below_first("weight_norm"), 4 / 3),
    "mean gradient norm below half of its value at fitting": (_below_first("gradient_norm"), 2.0),
    "unmirrored accuracy over 5 %": (lambda rows: rows["unmirrored_accuracy"], BEGUN),
    "validation loss 10 % below its maximum": (
        lambda rows: 1 - rows["validation_loss"] / rows["validation_loss"].cummax(), 0.1
    ),
}  # fmt: skip


def since_fitting(record: Record, probe: str) -> pd.DataFrame:
    """The rows of a probe from T_fit on; none where the run has not fitted its training set."""
    frame, fitted = record.watched[probe], record.steps_to(LEARNED, "train")
    return pd.DataFrame(frame[frame["step"] >= (np.inf if fitted is None else fitted)])


def alarms(records: Iterable[Record], is_control: Callable[[Run], bool]) -> pd.DataFrame:
    """What each signal says of each run, in rows.

    operation, seed, control; signal; fitted and learned, T_fit and T95, NA where not reached; alarm, its
    first step, NA without one; lead, updates from the alarm to T95; score, the signal's largest value from
    T_fit to T95, or to the end of a run that does not learn: NaN where it has not fitted.
    """
    rows = []
    for record in records:
        frame, learned = since_fitting(record, "early_warnings"), record.steps_to(GROKKED, "validation")
        row = {"operation": record.run.operation, "seed": record.run.seed, "learned": learned}
        row |= {"fitted": record.steps_to(LEARNED, "train"), "control": is_control(record.run)}
        for name, (signal, threshold) in SIGNALS.items():
            values = signal(frame) if len(frame) else pd.Series(dtype=float)
            raised = frame["step"].to_numpy()[np.asarray(values >= threshold)]
            alarm = int(raised[0]) if len(raised) else None
            before = values[frame["step"] < learned] if learned is not None else values
            lead = learned - alarm if learned is not None and alarm is not None else None
            score = float(before.max()) if len(before) else np.nan
            rows.append(row | {"signal": name, "alarm": alarm, "lead": lead, "score": score})
    columns = ["operation", "seed", "control", "learned", "fitted", "signal", "alarm", "lead", "score"]
    steps = dict.fromkeys(("learned", "fitted", "alarm", "lead"), "Int64")
    return pd.DataFrame(rows, columns=columns).astype(steps)


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """A row a signal of `alarms`, over all runs.

    learners and warned: runs that learn, and those of them with an alarm before T95; lead, shortest and
    longest, median and ends over the learners with an alarm; controls and false_alarms: controls that do not
    learn, and those with an alarm; area: under the points of `operating_points`, 1/2 for chance. Other runs
    that have not learned may yet: they are neither.
    """
    rows = {}
    for name in dict.fromkeys(table["signal"]):
        of: Any = table[table["signal"] == name]
        learns, points = of["learned"].notna(), operating_points(of)
        never = of["control"].astype(bool) & ~learns
        lead = of.loc[learns, "lead"].dropna().astype(float)
        rows[name] = {
            "learners": int(learns.sum()),
            "warned": int((lead > 0).sum()),
            "lead": lead.median(),
            "shortest": lead.min(),
            "longest": lead.max(),
            "controls": int(never.sum()),
            "false_alarms": int(of.loc[never, "alarm"].notna().sum()),
            "area": float(np.trapezoid(points["warned"], points["false_alarms"])),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def operating_points(of_signal: pd.DataFrame) -> pd.DataFrame:
    """Shares of learners warned and of controls alarmed for every threshold of a signal, none to all.

    A run that has not fitted its training set has no score, and raises no alarm.
    """
    learns, score = of_signal["learned"].notna().to_numpy(), of_signal["score"].fillna(-np.inf).to_numpy()
    never = of_signal["control"].to_numpy(bool) & ~learns
    thresholds = np.unique(score)[::-1]
    share = {
        name: [0.0, *((score[of] >= t).mean() if of.any() else np.nan for t in thresholds)]
        for name, of in (("warned", learns), ("false_alarms", never))
    }
    return pd.DataFrame(share)


# -- frequencies -----------------------------------------------------------------------------------------


def keys(record: Record) -> list[int]:
    """Frequencies with more than KEY of the variance of the logits at the end of a run."""
    last: dict[Any, float] = record.watched["fourier"].iloc[-1].to_dict()
    shares = {name: share for name, share in last.items() if name.startswith("share_")}
    return [int(name.removeprefix("share_")) for name, share in shares.items() if share > KEY]


def key_share(record: Record) -> pd.Series:
    """Share of a run's last keys in the variance of its logits, by step."""
    frame = record.watched["fourier"].set_index("step")
    return frame.reindex(columns=[f"share_{k}" for k in keys(record)]).sum(axis=1)


def first_above(series: pd.Series, threshold: float) -> int | None:
    """The first step at which a series by step is at or above a threshold."""
    steps = series.index.to_numpy()[series.to_numpy() >= threshold]
    return int(steps[0]) if len(steps) else None


def frequency_table(records: Sequence[Record]) -> pd.DataFrame:
    """A row a run: its keys, when they had some share of the logits, and what controls do.

    T_fit and T95; keys, those of the last network; share 0.1, 0.25, 0.5, the first steps at which these had
    it; all, keys and held out, accuracies of the restricted network at T_fit; the losses at the end.
    """
    rows = []
    for record in records:
        frame, share = record.watched["fourier"].set_index("step"), key_share(record)
        fitted, last = record.steps_to(LEARNED, "train"), frame.iloc[-1]
        row = named(record) | {"keys": ", ".join(map(str, keys(record)))}
        row |= {f"share {of}": first_above(share, of) for of in (0.1, 0.25, 0.5)}
        for name in ("keys", "random", "all", "held out"):
            column = f"{'restricted' if name == 'keys' else name.replace(' ', '_')}_accuracy"
            row[f"{name}, at T_fit"] = np.nan if fitted is None else frame.loc[fitted, column]
        row |= {
            "excluded loss, end": last["excluded_loss"],
            "excluded random, end": last["excluded_random_loss"],
        }
        rows.append(row)
    return with_steps(rows, "T_fit", "T95", "share 0.1", "share 0.25", "share 0.5")


# -- loops -----------------------------------------------------------------------------------------------


def null_band(records: Iterable[Record], is_control: Callable[[Run], bool]) -> tuple[float, float]:
    """Lowest and highest longest life of a loop in runs that know nothing of the rule; NaN without.

    Those are the controls, and the others up to T_fit, or to BEGUN of the unmirrored equations right where
    that comes first: some generalize before they fit.
    """
    values = []
    for record in records:
        frame, fitted = record.watched["topology"], record.steps_to(LEARNED, "train")
        began = record.steps_to(BEGUN, "unmirrored")
        until = min(fitted or 0, np.inf if began is None else began)
        until = record.last_step if is_control(record.run) else until
        values += frame["largest"].to_numpy()[frame["step"].to_numpy() <= until].tolist()
    return (min(values), max(values)) if values else (np.nan, np.nan)


def leaves_band(record: Record, highest: float) -> int | None:
    """The step from which a run's longest loop stays above a band's top to the end."""
    frame = record.watched["topology"]
    outside = (frame["largest"] > highest).to_numpy()
    stays = np.logical_and.accumulate(outside[::-1])[::-1]
    return int(frame["step"].to_numpy()[stays.argmax()]) if stays.any() else None


def loop_table(records: Sequence[Record], is_control: Callable[[Run], bool]) -> pd.DataFrame:
    """A row a run: longest life of a loop at T_fit and at the end, when it leaves the null band; the lead."""
    _, highest = null_band(records, is_control)
    rows = []
    for record in records:
        longest = record.watched["topology"].set_index("step")["largest"]
        row, left = named(record), leaves_band(record, highest)
        fitted, learned = row["T_fit"], row["T95"]
        row |= {"at T_fit": np.nan if fitted is None else longest.loc[fitted], "at the end": longest.iloc[-1]}
        row |= {"leaves the band": left, "lead": None if left is None or learned is None else learned - left}
        rows.append(row)
    return with_steps(rows, "T_fit", "T95", "leaves the band", "lead")


def named(record: Record) -> dict[str, Any]:
    """What begins a run's row in a table of watched runs: task, seed, T_fit and T95."""
    ((task, _),) = by_task([record]).items()
    fitted, learned = record.steps_to(LEARNED, "train"), record.steps_to(GROKKED, "validation")
    return {"task": task, "seed": record.run.seed, "T_fit": fitted, "T95": learned}


def with_steps(rows: list[dict[str, Any]], *steps: str) -> pd.DataFrame:
    """Rows as a table whose steps are whole numbers, or NA."""
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys((name for name in steps if name in table), "Int64"))


def by_task(records: Iterable[Record]) -> Mapping[str, list[Record]]:
    """Records by task as the pages of watched runs name it: operation, share, what is special."""
    found: dict[str, list[Record]] = {}
    for record in records:
        run = record.run
        special = ", random answers" * bool(run.outliers) + ", no layer norm" * (run.norm == "none")
        found.setdefault(f"{run.operation}, {run.train_fraction:.0%}{special}", []).append(record)
    return found
