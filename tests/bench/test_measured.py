"""What the benchmark counts, and what its JSON has; no speed is asserted."""

import json
from dataclasses import replace

import pytest
import torch

from grokking_core import Run
from grokking_core import __main__ as command
from grokking_core.bench import measured, watching
from grokking_core.probes import PROBES
from grokking_core.runs import schedule

CPU = torch.device("cpu")


def test_operations_of_a_step_are_those_counted_by_hand():
    p, b, d, f = 97, 512, 128, 512
    rows = 2 * p + 2 * b
    first = (2 * p + 2) * d * 3 * d + rows * (d * d + 2 * d * f)
    last = rows * d * 2 * d + b * (d * d + d * d + 2 * d * f) + b * d * (p + 2)
    assert measured.flops_per_run_step(Run(operation="x/y")) == 3 * 2 * (first + last)


@pytest.mark.usefixtures("own_folders")
def test_json_has_the_keys_that_others_read(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(measured, "SECONDS", 0.01)
    monkeypatch.setattr(measured, "PAPER", replace(measured.PAPER, p=23, d_model=32))
    file = tmp_path / "new" / "bench.json"
    arguments = ["--json", "--device", "cpu", "--rounds", "1", "--widths", "1", "2", "--output", str(file)]
    assert command.main(["bench", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(file.read_text())
    assert result["threads"] == torch.get_num_threads()
    assert [e["width"] for e in result["engine"]] == [1, 2]
    numbers = [
        "plain_run_steps_per_second",
        "matmul_flops_per_second",
        "flops_per_run_step",
        "share_of_floor",
    ]
    assert all(result[name] > 0 for name in [*numbers, "peak_memory_bytes"])
    assert {"device", "precision"} <= result.keys()
    assert list(result["cost_of_watching"]) == list(PROBES)
    assert all(share > -1 for share in result["cost_of_watching"].values())


@pytest.mark.parametrize("fits", [1, 2])
def test_runs_on_a_card_are_measured_one_ensemble_after_the_other(fits, monkeypatch):
    """Several together may not fit; and one that is narrower than was asked is not measured as it."""
    made, closed, make = [], [], measured.make_ensemble
    monkeypatch.setattr(
        measured,
        "make_ensemble",
        lambda runs, width, *_: (made.append(width), make(runs, fits, CPU, "eager"))[1],
    )
    monkeypatch.setattr(measured.cards, "path_of", lambda *_: "graph")
    monkeypatch.setattr(measured, "SECONDS", 0.01)
    close = measured.Ensemble.close
    monkeypatch.setattr(measured.Ensemble, "close", lambda e: (closed.append(len(e.slots)), close(e))[1])
    runs = [Run(operation="x+y", p=7, d_model=16, architecture="mlp", seed=seed) for seed in range(2)]
    if fits == 2:
        assert measured._card_rate(runs, CPU) > 0
    else:
        with pytest.raises(MemoryError, match="2 runs do not fit into cpu, 1 do: see --widths"):
            measured._card_rate(runs, CPU)
    assert (made, closed) == ([2], [fits])


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--widths", "0"]])
def test_wrong_use_exits_with_2(wrong, capsys):
    assert command.main(["bench", "--device", "cpu", *wrong]) == 2
    assert "at least 1" in capsys.readouterr().err


def test_probe_costs_what_it_adds_to_updates_and_evaluations():
    timed = watching.Timed(None, update=[0.001, 0.002], evaluation=[0.0, 0.5])  # type: ignore[arg-type]
    n_evaluations = len(schedule.evaluation_steps(watching.STEPS))
    assert timed.seconds(0) == pytest.approx(10.0)
    assert timed.seconds(1) == pytest.approx(20 + 0.5 * n_evaluations)
