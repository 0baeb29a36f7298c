"""What is counted of an update on a card that is not here; nothing is measured."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from grokking_core import Run
from grokking_core import __main__ as command
from grokking_core.bench import measured, planned
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training.ensemble import Ensemble

SMALL = {"operation": "x+y", "p": 23, "d_model": 32, "batch_size": 64}


def test_products_are_those_counted_by_hand_and_the_sums_by_index():
    run = Run(**SMALL)
    update, _ = planned.counted(run)
    p, b, d = run.n_elements, run.effective_batch_size, run.d_model
    found = sum(flops for flops, _ in update.products) / update.n_runs
    attention = 4 * 2 * b * 4 * d * 10  # scores and sums of four positions, there and back: a few percent
    by_index = 2 * (2 * p) * (2 * b) * (4 * 3 * d)
    least = measured.flops_per_run_step(run)
    assert least < found < least + attention + by_index


class OneDevice(TorchDispatchMode):
    """Refuses an operation whose tensors, but for single numbers, lie on two devices."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        tensors = [a for a in tree_leaves((args, kwargs, out)) if isinstance(a, torch.Tensor)]
        found = {a.device for a in tensors if a.dim()}
        if len(found) > 1:
            raise RuntimeError(f"{func} mixes {found}")
        return out


@pytest.mark.parametrize(
    "more",
    [
        {"norm": "pre", "decay_toward": "init", "batch_size": "full"},
        {"architecture": "mlp", "optimizer": "sgd"},
        {"optimizer": "adam", "weight_noise": 0.01, "update_noise": 1.0},
        {"dropout": 0.1, "n_layers": 3},
    ],
    ids=str,
)
def test_an_update_and_an_evaluation_stay_on_their_device_and_never_wait_for_it(more):
    run = Run(**SMALL | more)
    e = Ensemble([run] * 3, 3, torch.device("meta"), loops=False)
    for slot in range(3):
        e.load(slot, Trajectory(run))
    e.update(1)  # tables of random streams are made once, here, and brought there
    with OneDevice():
        e.update(1)
        with torch.inference_mode():
            for evaluator in e.evaluators.values():
                evaluator.measure()
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        e.evaluate([0])  # reading does wait, and is refused: there are no numbers


def test_what_mixes_devices_is_found():
    here, there = torch.zeros(3, 3), torch.zeros(3, 3, device="meta")
    with OneDevice(), pytest.raises(RuntimeError, match="mixes"):
        there.copy_(here)


def test_weights_see_no_double_precision():
    for more in ({}, {"optimizer": "adam", "weight_noise": 0.01}, {"decay_toward": "init"}):
        update, evaluation = planned.counted(Run(**SMALL | more))
        assert update.n_double == 0, more
        assert evaluation.launches.total() > 0


def test_operations_in_double_precision_are_counted():
    count = planned.Count(1)
    with planned.Counting(count, 10):
        torch.zeros(10, dtype=torch.float64) + 1
        torch.zeros(9, dtype=torch.float64) + 1
    assert count.n_double == 2  # the zeros and the sum of the large one
    assert count.launches == {"zeros": 2, "add": 2}
    assert count.traffic == 8 * (3 * 10 + 3 * 9)


def test_what_is_read_and_what_is_written_counts_each():
    a, b, c = torch.zeros(3, 2, 5, 5)
    for operation, n_tensors in (
        (lambda: a.add_(b), 3),
        (lambda: a.add_(a), 2),
        (lambda: a.copy_(b), 2),
        (lambda: a.zero_(), 1),
        (lambda: torch.mul(b, b, out=a), 2),
        (lambda: torch.baddbmm(a, b, c), 6),  # what is added to is copied before
        (lambda: a.baddbmm_(b, c), 4),
    ):
        count = planned.Count(1)
        with planned.Counting(count, 10):
            operation()
        assert count.bytes_per_run == n_tensors * 4 * 50


def test_kernels_compute_the_hidden_layer_three_times_and_spare_its_memory():
    run = Run(**SMALL)
    (update, _), own = planned.counted(run), planned.counted_with_kernels(run)
    n_rows = 2 * run.n_elements + 3 * run.effective_batch_size  # of both layers
    more = 3 * 2 * n_rows * run.d_model * run.hidden_width
    ours, theirs = (sum(flops for flops, _ in count.products) / count.n_runs for count in (own, update))
    assert ours - theirs == more
    assert own.launches["branches"] == 3 * run.n_layers
    spared = update.bytes_per_run - own.bytes_per_run
    assert spared > 8 * 4 * n_rows * run.hidden_width  # written twice, and read by what comes after


def test_time_follows_from_bytes_operations_and_launches():
    card = planned.Card(1e9, {"fp32": 1e9}, seconds_between_launches=1e-3)
    count = planned.Count(2, traffic=2 * 10**6, products=[(4e6, 10), (10, 6e6)])
    count.launches["add"] = 8
    assert count.seconds_per_run(card, "fp32", width=4) == pytest.approx(1e-3 + 2e-3 + 3e-3 + 2e-3)


def test_every_run_of_a_profile_is_followed_by_the_simulation(tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text(
        "fig1_operation_table: {operation: x/y, p: 23, d_model: 32, steps: 500}\n"
        "rounding: {operation: x+y, p: 23, d_model: 32, precisions: [fp32], seeds: [0, 1, 2, 3, 4], "
        "train_fraction: 0.5, steps: 300, stop_at: 0.99}\n"
    )
    work = planned.simulated(str(file), width=4)
    assert work.used == 500 + 5 * 300
    # Four slots, then the fifth run beside three empty ones, in ever narrower ensembles.
    assert 0 <= work.empty < 0.5
    assert sum(work.evaluations.values()) >= 2
    updates, evaluations = work.seconds(planned.CARDS["H100"], "fp32")
    assert updates > 0
    assert evaluations > 0


def step_by_step(self, interrupted):
    """`Pretended.advance` as an ensemble does it: to the next evaluation of any run."""
    runs, width = [t for t in self.slots if t], len(self.slots)
    if not any(t.is_due for t in runs):
        n = min(self.next_stop(t) - t.step for t in runs)
        self.work.updates[self.shape, width] += n
        self.work.used += n * len(runs)
        for t in runs:
            t.step += n
    due = [t for t in runs if t.is_due or (t.watch_every and t.step % t.watch_every == 0)]
    size = planned.evaluated_at_once(len(due), width)
    self.work.evaluations[self.shape, width, size] += -(-len(due) // size)
    for t in due:
        right = float(t.step >= self.end_of(t.run))
        if t.is_due:
            t.rows = [(t.step, *[right] * (len(planned.COLUMNS) - 1))]


def next_stop(self, trajectory):
    every, step = trajectory.watch_every, planned.schedule.next_evaluation(trajectory.step)
    return min(step, trajectory.step - trajectory.step % every + every) if every else step


def test_simulation_from_end_to_end_counts_what_one_from_evaluation_to_evaluation_does(monkeypatch, tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text(
        "rounding: {operation: x+y, p: 23, d_model: 32, precisions: [fp32], train_fraction: 0.5, "
        f"seeds: {list(range(23))}, steps: 3000, stop_at: 0.99}}\n"
        "early_warnings: {p: 23, d_model: 32, seeds: [0, 1, 2], steps: 700, watch_every: 70}\n"
    )
    monkeypatch.setattr(planned, "EARLIEST", 100)
    monkeypatch.setattr(planned, "counted", lambda run: (planned.Count(1), planned.Count(1)))
    jumps = planned.simulated(str(file), width=9)
    monkeypatch.setattr(planned.Pretended, "advance", step_by_step)
    monkeypatch.setattr(planned.Pretended, "next_stop", next_stop, raising=False)
    steps = planned.simulated(str(file), width=9)
    assert jumps == steps
    assert len({width for _, width in jumps.updates}) > 1
    assert {size for _, width, size in jumps.evaluations if width == 9} == {8, 9}


@pytest.mark.usefixtures("own_folders")
def test_the_command_prints_counts_times_and_assumptions(capsys):
    assert command.main(["bench", "--plan", "smoke", "--widths", "8"]) == 0
    printed = capsys.readouterr().out
    assert "H100 fp32" in printed
    assert "assumed: 3.0 TB/s" in printed
    assert "No card was measured" in printed


@pytest.mark.usefixtures("own_folders")
@pytest.mark.parametrize(
    ("wrong", "says"), [(["--plan", "smoky"], "smoky"), (["--plan", "--widths", "0"], "at least 1")]
)
def test_wrong_use_exits_with_2(wrong, says, capsys):
    assert command.main(["bench", *wrong]) == 2
    assert says in capsys.readouterr().err
