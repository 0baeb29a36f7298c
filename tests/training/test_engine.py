"""The engine against its plain twin, and runs in company against runs alone."""

import copy
import dataclasses
import gc
import shutil
import subprocess
import sys
import threading
import weakref
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from grokking_core import Run, data, training
from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.devices import launch, limits
from grokking_core.devices.limits import EVALUATION_ROWS
from grokking_core.model import plain as model
from grokking_core.runs import schedule
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training import conductor
from grokking_core.training import plain as train
from grokking_core.training.conductor import Listener
from grokking_core.training.ensemble import Ensemble, group_key

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
MOMENTS = ("parameters", "first_moment", "second_moment")
CLOSE = 1e-10  # of curves and weights in float64, after 100 steps
BASE = {"operation": "x+y", "p": 7, "n_layers": 1, "d_model": 8, "n_heads": 2, "precision": "fp64"}
QUICK = {"operation": "x+y", "p": 23, "architecture": "mlp", "d_model": 32, "d_ff": 64, "n_layers": 1}
QUICK |= {"train_fraction": 0.7, "lr": 0.01}  # generalises within 800 steps


def follow(runs, steps, **settings):
    """Records of some runs, or of trajectories, in their order."""
    trajectories = [Trajectory(run) if isinstance(run, Run) else run for run in runs]
    ended = {}
    listener = Listener(ended=lambda t: ended.setdefault(t.run, []).append(t.record("cpu")))
    training.train(trajectories, steps=steps, listener=listener, **settings)
    assert all(len(records) == 1 for records in ended.values())
    return [ended[t.run][0] for t in trajectories]


def together(runs, steps=None):
    """An ensemble with a slot for each run, followed to `steps`."""
    e = Ensemble(runs, len(runs), CPU)
    for slot, run in enumerate(runs):
        e.load(slot, Trajectory(run))
    if steps is not None:
        advance(e, steps)
    return e


def advance(e, steps, slot=0):
    """Go on until the run in `slot` is at `steps`."""
    while e.at(slot).step < steps:
        e.advance(lambda: False)


def rows(trajectory):
    return np.array(trajectory.rows)


def assert_same(a, b, tolerance=0.0):
    """Two records have the same curve and last weights."""
    assert a.curve["step"].tolist() == b.curve["step"].tolist()
    np.testing.assert_allclose(a.curve.to_numpy(), b.curve.to_numpy(), rtol=0, atol=tolerance)
    assert (a.parameters - b.parameters).abs().max() <= tolerance
    assert a.diverged_at == b.diverged_at


# The engine against the plain twin, every kind of run.

FIGURE_2 = {  # its left panel: the nine variants
    "full-batch Adam": {"optimizer": "adam", "weight_decay": 0.0, "batch_size": "full"},
    "Adam": {"optimizer": "adam", "weight_decay": 0.0},
    "full-batch Adam with update noise": {
        "optimizer": "adam",
        "weight_decay": 0.0,
        "batch_size": "full",
        "update_noise": 1.0,
    },
    "Adam with weight noise": {"optimizer": "adam", "weight_decay": 0.0, "weight_noise": 0.01},
    "Adam with dropout": {"optimizer": "adam", "weight_decay": 0.0, "dropout": 0.1},
    "AdamW": {},
    "AdamW to the initialisation": {"decay_toward": "init"},
    "Adam at 3e-4": {"optimizer": "adam", "weight_decay": 0.0, "lr": 3e-4},
    "Adam at 3e-3": {"optimizer": "adam", "weight_decay": 0.0, "lr": 3e-3},
}
TWINS = FIGURE_2 | {
    "L2": {"optimizer": "adam", "weight_decay": 0.01},
    "SGD with momentum": {"optimizer": "sgd", "lr": 0.02, "weight_decay": 1e-3},
    "SGD with all noises": {
        "optimizer": "sgd",
        "lr": 0.01,
        "weight_decay": 0.0,
        "update_noise": 0.1,
        "weight_noise": 0.02,
        "dropout": 0.2,
        "decay_toward": "init",
    },
    "division": {"operation": "x/y"},
    "mixed operation": {"operation": "x/y|x-y"},
    "polynomial": {"operation": "x^3+xy^2+y"},
    "composite modulus": {"operation": "x*y", "p": 6},
    "group": {"operation": "s5:xy", "n": 3},
    "conjugation": {"operation": "s5:xyx^-1", "n": 3},
    "2 layers": {"n_layers": 2},
    "3 layers": {"n_layers": 3},
    "norm before": {"norm": "pre"},
    "norm before, 2 layers, dropout": {"norm": "pre", "n_layers": 2, "dropout": 0.3},
    "no norm": {"norm": "none"},
    "no norm, 3 layers, dropout": {"norm": "none", "n_layers": 3, "dropout": 0.3},
    "gelu": {"activation": "gelu"},
    "tanh": {"activation": "tanh", "d_ff": 5},
    "MLP": {"architecture": "mlp", "n_layers": 2},
    "MLP of 3 layers with all noises": {
        "architecture": "mlp",
        "n_layers": 3,
        "activation": "gelu",
        "update_noise": 0.1,
        "weight_noise": 0.02,
        "dropout": 0.2,
    },
    "MLP of 1 layer": {"architecture": "mlp", "activation": "tanh", "d_ff": 5},
    "short last batch": {"batch_size": 7, "train_fraction": 0.6},
    "batches of one": {"batch_size": 1, "train_fraction": 0.1},
    "outliers": {"outliers": 10, "split_seed": 5},
    "other values": {"betas": (0.7, 0.99), "eps": 1e-4, "warmup_steps": 0, "seed": 3},
    "single precision": {"precision": "fp32", "lr": 1e-4},
    "StableMax": {"loss": "stablemax"},
    "StableMax in single precision": {"loss": "stablemax", "precision": "fp32", "lr": 1e-4},
    "loss in double precision": {"loss_precision": "fp64", "precision": "fp32", "lr": 1e-4},
    "temperature": {"temperature": 0.3, "gradient": "zero_sum"},
    "StableMax, temperature": {"loss": "stablemax", "temperature": 3.0, "gradient": "zero_sum"},
    "perpGrad": {"gradient": "perp", "n_layers": 2},
    "Grokfast-EMA": {"slow_gradient": "ema", "optimizer": "adam", "weight_decay": 0.005},
    "Grokfast-MA": {"slow_gradient": "ma", "lr": 1e-4},
    "Muon": {"optimizer": "muon", "n_layers": 2},
    "Muon on an MLP": {"optimizer": "muon", "architecture": "mlp"},
    "normal first weights": {"init": "normal", "init_scale": 0.8, "norm": "none"},
    "learned positions": {"positions": "learned", "init": "normal", "norm": "none"},
    "norm held": {"norm_hold": 1.0, "init_scale": 2.0},
    "window of decay": {"decay_from": 20, "decay_to": 50},
}
AFTER = ("StableMax", "temperature", "perpGrad", "Grokfast-EMA", "Muon", "norm held", "window of decay")


@pytest.mark.parametrize("name", TWINS)
def test_engine_agrees_with_the_plain_twin(name):
    run = Run(**BASE | TWINS[name])
    (record,) = follow([run], 100)
    assert_same(record, train.train(run, 100), CLOSE if run.precision == "fp64" else 1e-4)
    assert record.curve["step"].tolist() == schedule.evaluation_steps(100)
    assert record.run == run


@pytest.mark.parametrize("name", ["AdamW", "L2", "2 layers", "norm before, 2 layers, dropout", "MLP", *AFTER])
def test_engine_without_loops_agrees_with_the_plain_twin(name):
    run = Run(**BASE | TWINS[name])
    e = Ensemble([run], 1, CPU, loops=False)
    e.load(0, Trajectory(run))
    advance(e, 100)
    expected = train.train(run, 100)
    np.testing.assert_allclose(rows(e.at(0)), expected.curve.to_numpy(), rtol=0, atol=CLOSE)
    assert (e.parameters[0] - expected.parameters).abs().max() < CLOSE


def test_engine_agrees_with_the_plain_twin_on_a_whole_table_of_the_paper():
    run = Run(operation="x/y", d_model=32, precision="fp64", warmup_steps=0)
    assert run.n_train > EVALUATION_ROWS
    (record,) = follow([run], 2)
    assert_same(record, train.train(run, 2), CLOSE)


# Losses however small.


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("network", [{}, {"architecture": "mlp"}])
def test_losses_down_to_1e_12_are_those_of_the_same_weights_in_float64(slots, loops, network):
    """By the plain twin, and by NumPy from the plain network's logits; with each slot due, and with one."""
    run = Run(
        **BASE
        | network
        | {"precision": "fp32", "optimizer": "adam", "weight_decay": 0.0, "lr": 0.01, "train_fraction": 0.3}
    )
    weights = train.train(run, 400).parameters
    e = Ensemble([run], slots, CPU, loops=loops)
    for slot in range(slots):
        e.load(slot, Trajectory(run, tensors=dict.fromkeys(MOMENTS, torch.zeros_like(weights))))
    seen = []
    for scale in (1.0, 2.0, 4.0, 6.0):
        scaled, plain = weights.clone(), model.build(dataclasses.replace(run, precision="fp64"))
        scaled[-plain.output.weight.numel() :] *= scale  # the output layer is the last
        torch.nn.utils.vector_to_parameters(scaled.double(), plain.parameters())
        dataset = run.dataset()
        tokens = torch.from_numpy(data.tokens(dataset.x, dataset.y, run.n_elements))
        gaps = by_numpy(plain(tokens).detach().numpy(), dataset.label)[dataset.is_train]
        twin = train.evaluate(plain, dataset, tokens, torch.from_numpy(dataset.label))[0]
        assert twin == pytest.approx(gaps.mean(), rel=1e-3)
        e.parameters.copy_(scaled)
        for due in ([*range(slots)], [slots - 1]):
            e.evaluate(due)
            assert e.at(due[-1]).rows[-1][1] == pytest.approx(gaps.mean(), rel=1e-3)
        seen.append(gaps.mean())
    assert min(seen) < 1e-9 < 1e-7 < max(seen)


def by_numpy(logits, label):
    """Cross-entropy of each row in float64: log of 1 + the odds of the other answers."""
    own = np.take_along_axis(logits, label[:, None], 1)
    odds = np.exp(logits - own)
    np.put_along_axis(odds, label[:, None], 0, 1)
    return np.log1p(odds.sum(1))


def test_losses_of_a_saturated_network_agree_with_the_plain_twin():
    """An engine that took the difference of nearly equal numbers said 0 here from step 900 on."""
    run = Run(
        operation="x+y", p=23, architecture="mlp", n_layers=1, d_model=64, train_fraction=0.6,
        optimizer="adam", weight_decay=0.0, batch_size="full", lr=5e-3,
    )  # fmt: skip
    (ours,), twin = follow([run], 1000), train.train(run, 1000)
    assert 0 < twin.curve["train_loss"].iloc[-1] < 1e-6
    np.testing.assert_allclose(ours.curve["train_loss"], twin.curve["train_loss"], rtol=5e-3)


# In company and alone.

NOISES = {"update_noise": 0.5, "weight_noise": 0.01, "dropout": 0.1}


def seven(**fields):
    """Runs that differ in everything but shape."""
    fields = {"p": 11, "batch_size": 16, "n_layers": 1, "d_model": 8, "n_heads": 2, **fields}
    differ = [
        {"operation": "x+y"},
        {"operation": "x-y", "train_fraction": 0.3, "seed": 1, "lr": 2e-3},
        {"operation": "x*y", "train_fraction": 0.8, "split_seed": 3, "weight_decay": 0.0},
        {"operation": "x/y", "seed": 2, "betas": (0.8, 0.9), "eps": 1e-4},
        {"operation": "x/y|x-y", "warmup_steps": 0, "weight_decay": 0.3},
        {"operation": "x^2+y^2", "outliers": 20, "warmup_steps": 50},
        {"operation": "x^3+xy", "seed": 2**40, "lr": 1e-4, "train_fraction": 0.95},
    ]
    scales = [1, 0.5, 2, 3, 0.25, 1, 1.5]
    noise = [{name: k * fields[name] for name in NOISES if name in fields} for k in scales]
    runs = [Run(**fields | a | b) for a, b in zip(differ, noise, strict=True)]
    assert len({group_key(run) for run in runs}) == 1
    return runs


@pytest.mark.parametrize(
    ("fields", "steps", "tolerance"),
    [
        ({"precision": "fp64", "update_noise": 0.5, "weight_noise": 0.01}, 200, 1e-9),
        ({"precision": "fp64", "dropout": 0.1}, 50, 1e-9),
        ({"architecture": "mlp", **NOISES}, 200, 1e-3),
    ],
)
def test_run_in_an_ensemble_of_seven_has_its_own_curve(fields, steps, tolerance):
    runs = seven(**fields)
    e = together(runs, steps)
    for slot, record in enumerate(follow(runs, steps)):
        assert_same(e.snapshot(slot).record("cpu"), record, tolerance)


@pytest.mark.parametrize("architecture", ["transformer", "mlp"])
def test_run_in_an_ensemble_of_seven_draws_the_same_bits(architecture):
    """First weights, split, batches, noise and dropout; alone, in company, and after others in its slot."""
    runs = seven(architecture=architecture, **NOISES)
    company, refilled = together(runs), together(runs[::-1])
    refilled.update(130)
    for slot, run in enumerate(runs):
        refilled.load(slot, Trajectory(run))
    of_company, of_refilled = draws(company), draws(refilled)
    for slot, run in enumerate(runs):
        for name, alone in draws(together([run])).items():
            assert torch.equal(of_company[name][slot], alone[0]), name
            assert torch.equal(of_refilled[name][slot], alone[0]), name


def draws(e):
    """What every slot begins with, and what it is given at some later steps."""
    out = {"weights": e.parameters.clone()}
    out["groups"] = torch.cat([groups for *_, groups in e.tables.parts(slice(None), 50)], dim=-1)
    positions = 1 if e.network.__class__.__name__ == "MLPNetwork" else 4
    branch = torch.empty(len(e.slots), positions * e.batch_size, 8)
    for step in (0, 3, 40, 77):
        e.step.fill_(step)
        e.tables.renew([step] * len(e.slots))
        *columns, weight = e.tables.batch(e.step)
        batch = [column * (weight > 0) for column in columns]  # past a short batch is anything
        out[f"batch {step}"] = torch.stack([*batch, weight], dim=1)
        e.optimizer.perturb(e.step)
        out[f"weight noise {step}"] = e.optimizer.noisy.clone()
        out[f"dropout {step}"] = e.dropout.draw()(0, branch)
    e.optimizer.gradients.zero_()
    e.optimizer.update(e.step)
    out["update noise"] = e.parameters.clone()
    return out


def test_dropout_is_drawn_from_its_own_stream():
    run = Run(**BASE, dropout=0.5)
    factors = together([run]).dropout.draw()(1, torch.empty(1, run.effective_batch_size, 8))
    key = streams.fold(streams.stream(0, Purpose.DROPOUT, 0), 1)
    place = torch.arange(run.effective_batch_size)[:, None] * 4 + 3  # the last of four positions
    assert torch.equal(factors[0] > 0, streams.drop_mask(key, place * 8 + torch.arange(8), 0.5))
    assert set(factors.unique().tolist()) == {0.0, 2.0}


# Slots.


@pytest.mark.parametrize("fields", [{"n_layers": 2}, NOISES])
def test_slot_that_is_refilled_leaves_its_neighbours_bits_alone(fields):
    a, b, c, d = (Run(**BASE | {"batch_size": 7, "seed": seed} | fields) for seed in range(4))
    undisturbed, refilled = Ensemble([a, b, c, d], 3, CPU), Ensemble([a, b, c, d], 3, CPU)
    for e in (undisturbed, refilled):
        for slot, run in enumerate((a, b, c)):
            e.load(slot, Trajectory(run))
        advance(e, 50)
    refilled.load(1, Trajectory(d))
    for e in (undisturbed, refilled):
        advance(e, 100)
    for slot in (0, 2):
        ours, theirs = refilled.snapshot(slot), undisturbed.snapshot(slot)
        assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in theirs.tensors)
        np.testing.assert_allclose(rows(ours), rows(theirs), rtol=0, atol=CLOSE)
    advance(refilled, 60, slot=1)
    alone = follow([d], 60)[0].curve.to_numpy()
    np.testing.assert_allclose(rows(refilled.at(1))[: len(alone)], alone, rtol=0, atol=CLOSE)


def test_slot_that_is_empty_does_not_matter():
    """Neither one that has never held a run, nor one whose run has ended."""
    first, second = (Run(**BASE, seed=seed) for seed in (0, 1))
    e = Ensemble([first, second], 4, CPU)
    e.load(1, Trajectory(first))
    e.load(3, Trajectory(second))
    advance(e, 20, slot=1)
    e.slots[3] = None
    advance(e, 200, slot=1)
    assert e.live == [1]
    assert_same(e.snapshot(1).record("cpu"), follow([first], 200)[0], 1e-9)


def test_rehearsal_before_any_run_leaves_no_trace():
    run = Run(**BASE, dropout=0.1)
    rehearsed = Ensemble([run], 2, CPU)
    rehearsed.rehearse()
    rehearsed.load(0, Trajectory(run))
    advance(rehearsed, 20)
    straight = Ensemble([run], 2, CPU)
    straight.load(0, Trajectory(run))
    advance(straight, 20)
    assert_same(rehearsed.snapshot(0).record("cpu"), straight.snapshot(0).record("cpu"))


def test_runs_take_free_slots_in_their_order():
    runs = [Run(**BASE, seed=seed) for seed in range(5)]
    ended, threads = [], set()

    def end(trajectory):
        ended.append(trajectory.run)
        threads.add(threading.get_ident())

    training.train([Trajectory(run) for run in runs], steps=20, listener=Listener(ended=end), width=2)
    assert ended == runs
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_records_do_not_depend_on_width_and_threads(width, threads):
    runs = [Run(**BASE, seed=seed, dropout=0.1) for seed in range(4)]
    alone = [follow([run], 30)[0] for run in runs]
    torch.set_num_threads(threads)
    for record, expected in zip(follow(runs, 30, width=width), alone, strict=True):
        assert_same(record, expected)


def test_runs_of_any_shapes_train_beside_each_other_on_a_cpu():
    fields = [{}, {"dropout": 0.1}, {"d_model": 4}, {"operation": "s5:xy", "n": 3}, {"batch_size": "full"}]
    runs = [Run(**BASE | more) for more in fields]
    assert len({group_key(run) for run in runs}) == len(runs)
    alone = [follow([run], 30)[0] for run in runs]
    torch.set_num_threads(2)
    for record, expected in zip(follow(runs, 30), alone, strict=True):
        assert_same(record, expected)


def conduct(runs, n_slots, steps, **told):
    """Records of runs that take the slots of one ensemble, as on a GPU, and the steps that were kept."""
    ended, kept = {}, []
    listener = Listener(
        ended=lambda t: ended.update({t.run: t.record("cpu")}),
        checkpoint=lambda ts: kept.extend(t.step for t in ts),
        **told,
    )
    widths = []

    def make(width, step):
        widths.append(width)
        return Ensemble(runs, width, CPU)

    conducting = conductor.Conductor(
        make=make,
        n_alone=0,
        queue=deque(Trajectory(run) for run in runs),
        last_step=steps,
        stop_at=None,
        listener=listener,
        checkpoint_seconds=1000.0,
        asked_to_stop=lambda: False,
    )
    conducting.make_one(n_slots)
    conducting.conduct(n_workers=1, n_beside=1)
    return [ended[run] for run in runs], kept, widths


def test_slots_of_one_ensemble_are_filled_until_all_runs_have_ended(monkeypatch):
    monkeypatch.setattr(launch, "REMAKING_SECONDS", 0.0)  # a narrower ensemble pays however short the runs
    runs = [Run(**BASE, seed=seed) for seed in range(5)]
    records, kept, widths = conduct(runs, 2, 30)
    assert (kept, widths) == ([], [2, 1])
    for record, alone in zip(records, follow(runs, 30), strict=True):
        assert_same(record, alone, CLOSE)


@pytest.mark.parametrize("as_on_a_gpu", [False, True])
def test_what_has_ended_is_finished_while_others_train(as_on_a_gpu):
    runs, others_go_on, finished = [Run(**BASE, seed=seed) for seed in (0, 1, 2)], threading.Event(), []

    def finish(trajectory):
        assert threading.current_thread() is not threading.main_thread()
        others_go_on.clear()
        if trajectory.run == runs[0]:
            assert others_go_on.wait(60), "training waits for it"
        finished.append(trajectory.run)

    def advanced(trajectories):
        assert threading.current_thread() is threading.main_thread()
        others_go_on.set()

    torch.set_num_threads(2)
    if as_on_a_gpu:
        conduct(runs, 2, 30, finish=finish, advanced=advanced)
    else:
        ended = []

        def end(trajectory):
            assert trajectory.run in finished
            ended.append(trajectory.run)

        listener = Listener(ended=end, finish=finish, advanced=advanced)
        training.train([Trajectory(run) for run in runs], steps=30, listener=listener, width=2)
        assert set(ended) == set(runs)
    assert set(finished) == set(runs)


def test_run_whose_end_cannot_be_finished_is_kept():
    run, ended, kept = Run(**BASE), [], []

    def finish(trajectory):
        raise ArithmeticError("does not converge")

    listener = Listener(ended=ended.append, finish=finish, checkpoint=kept.extend)
    with pytest.raises(ArithmeticError, match="does not converge"):
        training.train([Trajectory(run)], steps=30, listener=listener)
    assert ([t.step for t in kept], ended) == ([30], [])
    assert_same(follow(kept, 30)[0], follow([run], 30)[0])


# How a run ends.


def test_run_stops_at_the_first_evaluation_that_reaches_stop_at():
    runs = [Run(**QUICK, seed=seed) for seed in (0, 1)]
    whole = follow(runs, 800)
    for record, full in zip(follow(runs, 800, stop_at=0.5), whole, strict=True):
        assert record.last_step == full.steps_to(0.5, "validation") < 800
        assert record.curve.equals(full.until(800, 0.5).curve)


def test_run_that_diverges_is_recorded_as_the_twin_records_it():
    run = Run(**BASE | {"optimizer": "sgd", "lr": 1e30, "warmup_steps": 0, "precision": "fp32"})
    (record,) = follow([run], 1000)
    assert record.diverged_at == train.train(run, 1000).diverged_at == record.last_step
    assert record.last_step < 1000


def test_run_that_diverges_leaves_its_neighbours_bits_alone():
    sgd = {"optimizer": "sgd", "lr": 0.02, "weight_decay": 0.0, "precision": "fp32"}
    runs = [Run(**BASE | sgd | {"seed": seed}) for seed in range(3)]
    wild = [runs[0], dataclasses.replace(runs[1], lr=1e30, warmup_steps=0), runs[2]]
    sound, sick = together(runs, 50), together(wild, 50)
    assert sick.at(1).ended(1000, None)
    assert not np.isfinite(rows(sick.at(1))[-1]).all()
    assert np.array_equal(rows(sick.at(1))[:, 0], rows(sound.at(1))[:, 0])
    for slot in (0, 2):
        assert torch.equal(sick.parameters[slot], sound.parameters[slot])
        assert np.array_equal(rows(sick.at(slot)), rows(sound.at(slot)))


def test_run_that_diverges_gives_its_slot_to_the_next():
    sgd = {"optimizer": "sgd", "weight_decay": 0.0, "precision": "fp32"}
    wild = Run(**BASE | sgd | {"lr": 1e30, "warmup_steps": 0})
    after = Run(**BASE | sgd | {"lr": 0.02, "seed": 1})
    _, record = follow([wild, after], 50, width=1)
    assert_same(record, follow([after], 50)[0])


def test_steps_of_zero_are_refused():
    with pytest.raises(ValueError, match="steps=0 must be a whole number of at least 1"):
        follow([Run(**BASE)], 0)


def test_no_runs_are_no_work():
    assert follow([], 10) == []


# Interruption and resumption.

RESUMED = {
    "AdamW": {"n_layers": 2},
    "toward the initialisation": {"decay_toward": "init", "batch_size": 7},
    "noises": NOISES,
    "momentum": {"optimizer": "sgd", "lr": 0.02, "weight_decay": 0.0},
    "MLP": {"architecture": "mlp"},
}


@pytest.mark.parametrize("name", RESUMED)
def test_run_that_is_interrupted_again_and_again_ends_with_the_same_bits(name):
    runs = [Run(**BASE | RESUMED[name] | {"seed": seed}) for seed in range(3)]
    kept, ended = {run: Trajectory(run) for run in runs}, {}
    listener = Listener(
        ended=lambda t: ended.__setitem__(t.run, t.record("cpu")),
        checkpoint=lambda ts: kept.update({t.run: copy.deepcopy(t) for t in ts}),
    )
    attempts = 0
    while len(ended) < len(runs):
        attempts += 1
        asked = SimpleNamespace(times=0)

        def interrupted(asked=asked):
            asked.times += 1
            return asked.times > 60

        left = [kept[run] for run in runs if run not in ended]
        training.train(left, steps=40, listener=listener, width=2, interrupted=interrupted)
    assert attempts > 2
    for run, record in zip(runs, follow(runs, 40), strict=True):
        assert_same(ended[run], record)


def test_run_that_is_continued_has_the_bits_of_one_that_never_stopped():
    run, kept = Run(**BASE), []
    training.train([Trajectory(run)], steps=30, listener=Listener(ended=kept.append))
    (record,) = follow(kept, 100)
    assert_same(record, follow([run], 100)[0])


def test_run_that_has_ended_is_not_trained_again():
    run, kept = Run(**BASE), []
    training.train([Trajectory(run)], steps=30, listener=Listener(ended=kept.append))
    before = copy.deepcopy(kept[0])
    (record,) = follow(kept, 20)
    assert record.last_step == 30
    assert torch.equal(record.parameters, before.tensors["parameters"])


def test_interruption_before_the_first_step_keeps_the_runs():
    kept = []
    listener = Listener(ended=kept.append, checkpoint=kept.extend)
    training.train([Trajectory(Run(**BASE))], steps=10, listener=listener, interrupted=lambda: True)
    assert [trajectory.step for trajectory in kept] == [0]
    assert_same(follow(kept, 10)[0], follow([Run(**BASE)], 10)[0])


def checkpoints(seconds, patience=2000):
    """(seed, step) of what is kept while two runs are followed for 10 steps, and the runs that ended."""
    kept, ended, asked = [], [], iter(range(patience))
    listener = Listener(
        ended=lambda t: ended.append(t.run.seed),
        checkpoint=lambda ts: kept.extend((t.run.seed, t.step) for t in ts),
    )
    training.train(
        [Trajectory(Run(**BASE, seed=seed)) for seed in (0, 1)],
        steps=10,
        listener=listener,
        width=2,
        checkpoint_seconds=seconds,
        interrupted=lambda: next(asked, None) is None,
    )
    return kept, sorted(ended)


def test_checkpoints_after_every_update_still_make_progress():
    kept, ended = checkpoints(seconds=0.0)
    assert ended == [0, 1]
    assert {seed for seed, _ in kept} == {0, 1}
    assert {step for _, step in kept} >= {1, 2, 3}


def test_checkpoints_wait_for_their_time():
    assert checkpoints(seconds=1000.0) == ([], [0, 1])


def test_error_of_a_listener_keeps_the_runs_under_way_and_is_raised():
    kept, runs = [], [Run(**BASE, seed=seed) for seed in (0, 1)]

    def advanced(trajectories):
        if any(t.step >= 5 for t in trajectories):
            raise OSError("disk full")

    listener = Listener(ended=kept.append, advanced=advanced, checkpoint=kept.extend)
    threads = torch.get_num_threads()
    with pytest.raises(OSError, match="disk full"):
        training.train([Trajectory(run) for run in runs], steps=100, listener=listener, width=2)
    assert torch.get_num_threads() == threads
    kept = [copy.deepcopy(trajectory) for trajectory in kept]
    assert {trajectory.run for trajectory in kept} == set(runs)
    for record, whole in zip(follow(kept, 50), follow([t.run for t in kept], 50), strict=True):
        assert_same(record, whole)


def test_listener_is_told_of_every_evaluation():
    steps = []
    listener = Listener(ended=lambda t: None, advanced=lambda ts: steps.extend(t.rows[-1][0] for t in ts))
    training.train([Trajectory(Run(**BASE))], steps=50, listener=listener)
    assert steps == schedule.evaluation_steps(50)


def test_run_ends_at_the_first_evaluation_that_reaches_the_stop_accuracy():
    """Even before its first update, as its plain twin does."""
    fields = BASE | {"operation": "x*y", "train_fraction": 0.9, "lr": 0.01}
    runs = [Run(**fields, seed=seed) for seed in range(5)]
    records = follow(runs, 20, stop_at=0.3)
    for record in records:
        assert_same(record, train.train(record.run, 20, stop_at=0.3), CLOSE)
    assert {record.last_step for record in records} == {0, 10, 20}


# Groups.


@pytest.mark.parametrize(
    "fields",
    [
        {"operation": "x-y"},
        {"train_fraction": 0.3, "batch_size": 512},
        {"outliers": 5},
        {"seed": 3},
        {"split_seed": 3},
        {"lr": 0.1},
        {"betas": (0.8, 0.9)},
        {"eps": 1e-3},
        {"weight_decay": 0.0},
        {"warmup_steps": 3},
        {"d_ff": 512},
        {"n": 3},
        {"optimizer": "adam"},
        {"decay_toward": "init"},
    ],
)
def test_group_takes_runs_that_differ_in_values(fields):
    paper = Run(operation="x+y")
    assert group_key(paper) == group_key(dataclasses.replace(paper, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"p": 96},
        {"operation": "s5:xy"},
        {"architecture": "mlp"},
        {"n_layers": 1},
        {"d_model": 64},
        {"d_ff": 64},
        {"n_heads": 8},
        {"activation": "gelu"},
        {"norm": "pre"},
        {"optimizer": "sgd"},
        {"batch_size": "full"},
        {"batch_size": 128},
        {"train_fraction": 0.05},  # of 470 equations, half are a batch
        {"update_noise": 1.0},
        {"weight_noise": 0.1},
        {"dropout": 0.1},
        {"precision": "fp64"},
    ],
)
def test_group_keeps_shapes_and_paths_apart(fields):
    paper = Run(operation="x+y")
    assert group_key(paper) != group_key(dataclasses.replace(paper, **fields))


def test_group_of_mlps_does_not_ask_for_heads_and_norm():
    mlp = Run(operation="x+y", architecture="mlp")
    other = dataclasses.replace(mlp, n_heads=8, norm="none")
    assert group_key(mlp) == group_key(other)


def test_group_takes_noises_of_any_strength():
    runs = [Run(**BASE, dropout=a, weight_noise=a, update_noise=a) for a in (0.1, 0.2)]
    assert group_key(runs[0]) == group_key(runs[1])


# Memory and devices.


def tensors_alive():
    gc.collect()
    alive = [a for a in gc.get_objects() if type(a) is torch.Tensor]
    return len(alive), sum(a.untyped_storage().nbytes() for a in alive)


@pytest.mark.parametrize("fields", [{"batch_size": 7, "n_layers": 2}, NOISES, {"architecture": "mlp"}])
def test_memory_does_not_grow_with_the_steps(fields):
    e = together([Run(**BASE | fields, seed=seed) for seed in range(2)], 50)
    before = tensors_alive()
    advance(e, 150)
    assert tensors_alive() == before


def test_memory_of_a_run_that_has_ended_is_free_for_the_next(monkeypatch):
    made, alive = [], []
    load = Ensemble.load
    monkeypatch.setattr(Ensemble, "load", lambda e, *what: (made.append(weakref.ref(e)), load(e, *what)))
    listener = Listener(ended=lambda t: alive.append(sum(ref() is not None for ref in made)))
    gc.collect()
    gc.disable()  # nothing may wait for it: it counts objects, not what they hold
    try:
        runs = [Run(**BASE, seed=seed) for seed in range(6)]
        training.train([Trajectory(run) for run in runs], steps=10, listener=listener, width=1)
    finally:
        gc.enable()
    assert len(made) == len(alive) == 6
    assert max(alive) <= 2, "the one that ended, the one that is trained"


def test_memory_that_is_too_small_for_one_run_says_what_is_needed(monkeypatch):
    monkeypatch.setattr(limits, "free_bytes", lambda device: 3 * 2**20)
    match = r"Run\(operation='x\+y'.* needs about [\d,]+ MiB; cpu has 3 MiB free"
    with pytest.raises(MemoryError, match=match):
        follow([Run(operation="x+y")], 10)


def test_width_fits_into_free_memory(monkeypatch):
    run = Run(**BASE)
    monkeypatch.setattr(limits, "free_bytes", lambda device: 4 * limits.bytes_per_run(run))
    assert limits.fitting_width([run] * 10, CPU, 10) == 3  # a tenth stays free
    assert limits.fitting_width([run] * 10, CPU, 2) == 2
    assert limits.fitting_width([run] * 2, CPU, 10) == 2
    monkeypatch.setattr(limits, "free_bytes", lambda device: limits.bytes_per_run(run))
    assert limits.fitting_width([run] * 10, CPU, 10) == 1


@pytest.mark.parametrize("more", [{"d_model": 256}, {"n_layers": 3}, {"precision": "fp64"}, {"p": 113}])
def test_memory_of_a_run_grows_with_its_size(more):
    run = Run(operation="x+y")
    assert limits.bytes_per_run(dataclasses.replace(run, **more)) > limits.bytes_per_run(run)


def test_free_memory_of_this_machine_is_a_number():
    assert limits.free_bytes(CPU) > 2**20


@pytest.mark.parametrize("precision", ["tf32", "tf32x3"])
def test_what_only_cards_compute_in_is_refused_on_the_cpu(precision):
    run = Run(operation="x+y", precision=precision)
    said = rf"precision='{precision}' is not to be had on device='cpu', .*; use 'fp32' or 'tf32-rounded'"
    with pytest.raises(ValueError, match=said):
        follow([run], 10)
    with pytest.raises(ValueError, match=said):
        train.train(run, 10)


def test_settings_of_torch_are_as_before_after_training():
    torch.set_num_threads(2)
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    follow([Run(**BASE)], 1)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_workers_make_their_products_alone():
    """The threads of an operation are not passed on to a new thread, which would start some of its own."""
    code = (
        "import os, torch; from concurrent.futures import ThreadPoolExecutor\n"
        "from grokking_core.devices import limits\n"
        "def started():\n"
        "    before = os.listdir('/proc/self/task')\n"
        "    torch.ones(1024, 1024) @ torch.ones(1024, 1024)\n"
        "    return len(os.listdir('/proc/self/task')) - len(before)\n"
        "torch.set_num_threads(2)\n"
        "with limits.settings(torch.device('cpu'), 'fp32'):\n"
        "    with ThreadPoolExecutor(1, initializer=limits.begin_worker) as pool:\n"
        "        print(pool.submit(started).result())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


# End to end.


def test_small_network_groks():
    """The training set is learnt early, the rest of the table suddenly and late."""
    for record in follow([Run(**QUICK, seed=seed) for seed in (0, 1)], 1500, stop_at=0.99):
        learnt = record.steps_to(0.99, "train")
        generalised = record.steps_to(0.99, "validation")
        assert learnt is not None
        assert generalised is not None
        assert 4 * learnt < generalised <= 1500
        at_learnt = record.curve.set_index("step").loc[learnt]
        assert at_learnt["validation_accuracy"] < 0.1
        assert record.steps_to(0.9, "unmirrored") is not None


# On a GPU.


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*FIGURE_2, "division", "group", "3 layers", "MLP"])
def test_engine_on_the_gpu_agrees_with_the_plain_twin(name):
    run = Run(**BASE | TWINS[name])
    (record,) = follow([run], 100, device="cuda")
    assert_same(record, train.train(run, 100), 1e-9)


@pytest.mark.gpu
def test_slots_on_the_gpu_are_refilled():
    runs = seven(precision="fp64", **NOISES)
    for record, alone in zip(follow(runs, 60, device="cuda", width=3), follow(runs, 60), strict=True):
        assert_same(record, alone, 1e-9)


@pytest.mark.gpu
def test_run_that_is_continued_on_the_gpu_has_the_same_bits():
    run, kept = Run(**BASE, **NOISES), []
    training.train([Trajectory(run)], steps=30, listener=Listener(ended=kept.append), device="cuda")
    assert_same(follow(kept, 100, device="cuda")[0], follow([run], 100, device="cuda")[0])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_ensemble_agrees_with_the_eager_one():
    fields = {"p": 13, "d_model": 32, "weight_noise": 0.01, "decay_toward": "init", "precision": "fp64"}
    runs = [Run(operation="x+y", seed=seed, **fields) for seed in range(3)]
    parameters = []
    for path in ("eager", "compiled"):
        e = Ensemble(runs, len(runs), CPU, path, loops=False)
        for slot, run in enumerate(runs):
            e.load(slot, Trajectory(run))
        e.update(50)
        parameters.append(e.parameters)
    assert torch.allclose(*parameters, rtol=0, atol=1e-10)
