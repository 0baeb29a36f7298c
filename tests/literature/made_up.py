"""Made-up records of rows of the ledger."""

import pandas as pd

from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import Run


def record(train=300, validation=None, *, followed=4000, norms=None, later=None, kept=None, **fields):
    """A run that fits its training set at `train` and learns at `validation`, or never where that is None.

    `norms` is the weight norm by step, kept until the next one; `later` validation accuracy by step from
    `validation` on.
    """
    later, norms = later or {}, norms or {0: 1.0}
    end = max(step for step in (followed, train, validation, *later) if step)
    steps = sorted({0, 10, end, train or 0, validation or 0, *later, *norms})
    known = pd.Series({step: float(validation is not None and step >= validation) for step in steps})
    for step in sorted(later):
        known.loc[step:] = later[step]
    curve = pd.DataFrame(1.0, index=range(len(steps)), columns=pd.Index(COLUMNS))
    curve["step"] = steps
    curve["train_accuracy"] = [float(train is not None and step >= train) for step in steps]
    curve["validation_accuracy"] = curve["unmirrored_accuracy"] = known.to_numpy()
    curve["weight_norm"] = pd.Series(norms).reindex(steps).ffill().to_numpy()
    return Record(run=Run(**{"operation": "x+y"} | fields), curve=curve, kept=kept or {})


def records(*found, missing=()):
    flat = [each for part in found for each in (part if isinstance(part, list) else [part])]
    result = Records(flat, asked=[])
    result.missing = list(missing)
    return result


def seeds(train=300, validation=None, n=3, **fields):
    """Some seeds of one configuration, a few percent apart."""
    return [
        record(train and int(train * f), validation and int(validation * f), seed=seed, **fields)
        for seed, f in enumerate((1, 1.03, 1.06, 1.01, 1.04)[:n])
    ]
