"""How updates are launched: graphs, compiled code and their failures, with a card's parts stood in for."""

import gc
import math
import os
import re
import subprocess
import sys
import warnings
import weakref
from collections import deque
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from graphs import CARD, capture, one_hot_take_backward

from grokking_core import Run, kernels
from grokking_core.devices import cards, kinds, launch, limits
from grokking_core.devices.launch import Backend, LostUpdateError
from grokking_core.kernels import plain
from grokking_core.model import tensor_ops
from grokking_core.runs.run import CHOICES
from grokking_core.runs.trajectory import Trajectory
from grokking_core.training import conductor, selfcheck
from grokking_core.training import ensemble as ensembles
from grokking_core.training.batches import Tables
from grokking_core.training.ensemble import Ensemble, make_ensemble
from grokking_core.updates.optimizer import Optimizer

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
BASE = {
    "operation": "x/y", "p": 13, "d_model": 16, "n_heads": 2, "n_layers": 2, "precision": "fp64",
    "train_fraction": 0.6, "batch_size": 20,
}  # fmt: skip
KINDS = {
    "post": {},
    "pre, gelu, to the initialisation": {"norm": "pre", "activation": "gelu", "decay_toward": "init"},
    "no norm, tanh, SGD": {"norm": "none", "activation": "tanh", "optimizer": "sgd", "lr": 1e-2},
    "MLP": {"architecture": "mlp"},
    "weight noise": {"optimizer": "adam", "weight_noise": 0.01},
    "update noise": {"optimizer": "adam", "update_noise": 1.0},
    "dropout": {"dropout": 0.1},
    "MLP with dropout": {"architecture": "mlp", "dropout": 0.3},
    "three layers": {"n_layers": 3},
    "full batch": {"batch_size": "full"},
    "one layer": {"n_layers": 1},
    "StableMax, perpGrad, Grokfast-MA": {
        "loss": "stablemax", "gradient": "perp", "slow_gradient": "ma", "norm_hold": 1.0,
    },
    "Muon, Grokfast-EMA": {
        "optimizer": "muon", "slow_gradient": "ema", "gradient": "zero_sum", "temperature": 2.0,
        "decay_from": 20, "decay_to": 50,
    },
}  # fmt: skip


def play(fields, n_slots, path, backend=None):
    """Weights and last rows after updates, renewals of batches, and refills by runs with other values."""
    more = [{"seed": s, "warmup_steps": 3 + 2 * s, "lr": 1e-3 * (1 + s)} for s in range(n_slots + 2)]
    fractions = [{"train_fraction": 0.6 + 0.05 * (s % 3)} for s in range(n_slots + 2)]
    runs = [Run(**BASE | fields | a | b) for a, b in zip(more, fractions, strict=True)]
    e = Ensemble(runs, n_slots, CPU, path, loops=False, backend=backend)
    for slot in range(n_slots):
        e.load(slot, Trajectory(runs[slot]))
    e.update(12)
    e.load(0, Trajectory(runs[n_slots]))
    e.update(55)
    e.load(n_slots - 1, Trajectory(runs[n_slots + 1]))
    e.update(5)
    e.evaluate(e.live)
    return e.parameters.clone(), np.array([e.at(slot).rows[-1] for slot in e.live])


# Replays.


@pytest.mark.parametrize(("kind", "n_slots"), [("post", 1), ("MLP", 1), *((kind, 3) for kind in KINDS)])
def test_replayed_update_has_the_bits_of_an_eager_one(kind, n_slots, monkeypatch):
    monkeypatch.setattr(tensor_ops, "take_backward", one_hot_take_backward)
    (ours, our_rows), (theirs, their_rows) = (
        play(KINDS[kind], n_slots, *how) for how in (("graph", CARD), ("eager",))
    )
    assert torch.equal(ours, theirs)
    np.testing.assert_array_equal(our_rows, their_rows)


def difference():
    return (play({}, 2, "graph", CARD)[0] - play({}, 2, "eager")[0]).abs().max().item()


def test_replay_does_not_see_tables_made_anew(monkeypatch):
    renew = Tables._renew

    def anew(self, *arguments):
        renew(self, *arguments)
        self.equations = self.equations.clone()

    monkeypatch.setattr(Tables, "_renew", anew)
    assert difference() > 1e-4


def test_replay_does_not_see_values_made_anew_at_a_refill(monkeypatch):
    load = Optimizer.load

    def anew(self, *arguments):
        self.value = {name: value.clone() for name, value in self.value.items()}
        load(self, *arguments)

    monkeypatch.setattr(Optimizer, "load", anew)
    assert difference() > 1e-4


@pytest.mark.parametrize(
    "wait", [lambda a: a.sum().item(), lambda a: a.nonzero(), lambda a: bool((a > 0).all()), torch.unique]
)
def test_update_for_which_the_host_would_wait_is_not_captured(wait, monkeypatch):
    batch = Tables.batch

    def waiting(self, step):
        wait(self.weight)
        return batch(self, step)

    monkeypatch.setattr(Tables, "batch", waiting)
    with pytest.warns(RuntimeWarning, match="'graph' failed .*not permitted when stream is capturing"):
        weights, _ = play({}, 2, "graph", CARD)
    monkeypatch.undo()
    assert torch.equal(weights, play({}, 2, "eager")[0])


class Streams:
    """Stands in for `torch.cuda`, and notes what is asked of it in order."""

    def __init__(self):
        self.asked = []

    def new_stream(self, device):
        return SimpleNamespace(device=device, wait_stream=lambda other: self.asked.append("wait"))

    def current_stream(self, device):
        return self.new_stream(device)

    def stream(self, stream):
        return self.noted(f"stream of {stream.device}")

    def new_graph(self):
        return SimpleNamespace(replay=lambda: self.asked.append("replay"))

    def graph(self, graph, stream, capture_error_mode):
        return self.noted(f"capture on a stream of {stream.device}, {capture_error_mode}")

    @contextmanager
    def noted(self, what):
        self.asked.append(what)
        yield
        self.asked.append("end")


def test_capture_takes_streams_of_its_card_and_lets_other_threads_work(monkeypatch):
    """A stream that names no card is of the current one, and nothing of another card's is captured there."""
    streams = Streams()
    for name in ("current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(streams, name))
    monkeypatch.setattr(torch.cuda, "Stream", streams.new_stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", streams.new_graph)
    replay = launch.capture_graph(lambda: streams.asked.append("update"), torch.device("cuda:1"))
    replay()
    assert streams.asked == [
        "wait", "stream of cuda:1", "update", "end", "wait",
        "capture on a stream of cuda:1, thread_local", "update", "end", "replay",
    ]  # fmt: skip


def test_ensemble_whose_buffers_are_there_is_evaluated_and_updated():
    """Buffers are made in inference mode, which nothing outside of it may write."""
    run = Run(**BASE)
    e = Ensemble([run], 1, CPU, "graph", loops=False, backend=CARD)
    e.load(0, Trajectory(run))
    e.rehearse()
    e.evaluate([0])
    e.update(1)
    e.evaluate([0])
    assert [row[0] for row in e.at(0).rows] == [0, 1]


def test_record_says_how_a_card_made_its_updates(monkeypatch):
    monkeypatch.setattr(limits, "current", lambda device: nullcontext())
    monkeypatch.setattr(cards, "driver", lambda: "580.65.06")
    run = Run(**BASE)
    e = Ensemble([run], 1, CPU, "graph", loops=False, backend=CARD)
    e.load(0, Trajectory(run))
    e.update(1)
    e.evaluate([0])
    e.device = torch.device("cuda")
    provenance = e.snapshot(0).record("cpu").provenance
    assert {name: provenance[name] for name in ("path", "width", "driver")} == {
        "path": "graph", "width": 1, "driver": "580.65.06",
    }  # fmt: skip


def test_compiler_does_not_advise_another_precision():
    """Where a run says fp32, fp32 is meant."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        launch.compile_function(lambda: None)
        warnings.warn("TensorFloat32 tensor cores for float32 matrix multiplication available", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(w.message) for w in caught] == ["something else"]


# Down the chain.


def refuses(*_):
    raise RuntimeError("operation not permitted when stream is capturing")


def no_compiler(function):
    raise RuntimeError(
        "InductorError: Failed to find C compiler.\nPlease specify via CC environment variable."
    )


def half_done(update, device):
    """A capture that fails after it has made its update."""
    update()
    refuses()


@pytest.mark.parametrize(
    ("backend", "end", "said"),
    [
        (Backend(no_compiler, capture), "graph", ["'compiled' failed .*C compiler.*'graph' takes its place"]),
        (Backend(lambda f: f, refuses), "eager", ["'compiled' failed", "'graph' failed .*not permitted"]),
        (Backend(no_compiler, half_done), "eager", ["'compiled' failed", "'graph' failed"]),
    ],
)
def test_path_that_fails_gives_way_to_the_next_with_the_same_numbers(backend, end, said):
    run = Run(**BASE)
    e = Ensemble([run], 1, CPU, "compiled", loops=False, backend=backend)
    e.load(0, Trajectory(run))
    with pytest.warns(RuntimeWarning) as warned:
        e.update(30)
    lines = [str(w.message) for w in warned]
    for pattern in said:
        (line,) = [line for line in lines if re.search(pattern, line)]
        assert "\n" not in line
    assert e.path == end
    straight = Ensemble([run], 1, CPU, loops=False)
    straight.load(0, Trajectory(run))
    straight.update(30)
    assert torch.equal(e.parameters, straight.parameters)


@pytest.mark.parametrize("fault", ["nothing", "twice", "one step late"])
def test_replay_that_loses_or_repeats_updates_is_noticed_at_the_next_evaluation(fault):
    """Does nothing, for example, what was captured on a card that is not the current one."""

    def faulty(update, device):
        makes, calls = capture(update), iter(range(100))

        def replay():
            late = fault == "one step late" and next(calls) == 0
            for _ in range(0 if late or fault == "nothing" else 2 if fault == "twice" else 1):
                makes()

        return replay if isinstance(update.__self__, Ensemble) else makes

    run = Run(**BASE)
    e = Ensemble([run], 1, CPU, "graph", loops=False, backend=Backend(capture=faulty))
    e.load(0, Trajectory(run))
    e.update(5)
    step = {"nothing": 1, "twice": 9, "one step late": 4}[fault]
    match = f"cpu is at step {step} where 5 were asked for, on the path 'graph': its weights are not kept"
    with pytest.raises(LostUpdateError, match=match):
        e.evaluate([0])
    assert e.at(0).rows == []


def test_weights_of_lost_updates_are_not_kept():
    kept, ended = [], []
    with pytest.raises(LostUpdateError):
        follow([Run(**BASE)], Backend(capture=lambda u, d: (u(), lambda: None)[1]), kept, ended)
    assert (kept, ended) == ([], [])


def follow(runs, backend, kept, ended, steps=20, width=None, path="graph"):
    """Train as on a card, on one ensemble of the CPU; returns the widths that were made."""
    widths = []

    def make(width, step):
        e = make_ensemble(runs, width, CPU, path, backend)
        widths.append(len(e.slots))
        return e

    listener = conductor.Listener(ended=ended.append, checkpoint=kept.extend)
    conducting = conductor.Conductor(
        make=make, n_alone=0, queue=deque(map(Trajectory, runs)), last_step=steps, stop_at=None,
        listener=listener, checkpoint_seconds=1000.0, asked_to_stop=lambda: False,
    )  # fmt: skip
    conducting.make_one(width or len(runs))
    try:
        conducting.conduct(n_workers=1, n_beside=1)
    finally:
        conducting.close()
        limits.give_back(torch.device("cuda"))  # as on a card
    return widths


def weights(trajectories):
    return {t.run: t.tensors["parameters"] for t in trajectories}


# Memory.


@pytest.mark.parametrize("at", ["rehearse", "capture", "the third update"])
def test_too_little_memory_halves_the_width_and_loses_no_run(at, monkeypatch):
    """And what was too wide is gone before what takes its place is made."""
    runs, alive = [Run(**BASE, seed=seed) for seed in range(4)], []
    make, rehearse, times = Ensemble.__init__, Ensemble.rehearse, SimpleNamespace(updates=0)

    def made(e, *arguments, **options):
        gc.disable()  # nothing may wait for it
        assert [ref for ref in alive if (other := ref()) is not None and vars(other)] == []
        make(e, *arguments, **options)
        alive.append(weakref.ref(e))

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def capturing(update, device):
        if (
            at == "capture"
            and len(getattr(update.__self__, "slots", ())) == 4
            and isinstance(update.__self__, Ensemble)
        ):
            full()
        return capture(update)

    def updating(e):
        times.updates += 1
        (full if at == "the third update" and times.updates == 3 else update)(e)

    update = Ensemble._update
    monkeypatch.setattr(Ensemble, "__init__", made)
    monkeypatch.setattr(Ensemble, "_update", updating)
    if at == "rehearse":
        monkeypatch.setattr(Ensemble, "rehearse", lambda e: full() if len(e.slots) == 4 else rehearse(e))
    ended, kept = [], []
    try:
        widths = follow(runs, Backend(capture=capturing), kept, ended)
    finally:
        gc.enable()
    assert widths[0] == (2 if at == "rehearse" else 4)
    assert widths[1:2] == ([2] if at != "rehearse" else widths[1:2])
    assert {t.run for t in ended} == set(runs)
    monkeypatch.undo()
    straight = []
    follow(runs, CARD, [], straight)
    for run, parameters in weights(straight).items():
        torch.testing.assert_close(weights(ended)[run], parameters, rtol=0, atol=1e-10)


def test_too_little_memory_for_one_run_says_so_and_keeps_it():
    def full(update, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    kept = []
    with pytest.raises(MemoryError, match="one run does not fit into the memory of cpu"):
        follow([Run(**BASE)], Backend(capture=full), kept, [])
    assert [t.step for t in kept] == [0]


@pytest.mark.slow
def test_compiled_ensemble_is_gone_after_training(monkeypatch):
    made, make = [], Ensemble.__init__
    monkeypatch.setattr(
        Ensemble, "__init__", lambda e, *a, **k: (make(e, *a, **k), made.append(e.parameters))[0]
    )
    gc.collect()
    gc.disable()
    try:
        backend = Backend(compile=eager_compile, capture=launch.capture_nothing)
        follow([Run(**BASE)], backend, [], [], path="compiled")
        refs = [weakref.ref(a) for a in made]
        made.clear()
        assert [ref() for ref in refs if ref() is not None] == []
    finally:
        gc.enable()


def test_error_of_a_dead_card_does_not_hide_what_came_first(monkeypatch):
    def dead(e, slot):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def broken(update, device):
        monkeypatch.setattr(Ensemble, "snapshot", dead)
        raise KeyError("the first error")

    monkeypatch.setattr(Ensemble, "_launch", lambda e: broken(None, None))
    with pytest.raises(KeyError, match="the first error") as raised:
        follow([Run(**BASE)], CARD, [], [])
    assert "illegal memory access" in raised.value.__notes__[0]


# Slots that are empty.


@pytest.mark.parametrize(
    ("n_runs", "n_slots", "n_updates", "slots"),
    [
        (128, 128, 10**6, 128),  # none is empty
        (97, 128, 10**6, 128),
        (96, 128, 10**6, 96),
        (65, 128, 10**6, 96),
        (64, 128, 10**6, 64),
        (5, 6, 10**6, 6),
        (5, 5, 10**6, 5),
        (4, 5, 10**6, 4),
        (1, 3, 10**6, 1),
        (1, 3, 1000, 3),  # two slots for so long are not worth a new ensemble
        (64, 128, 50, 128),
    ],
)
def test_slots_for_the_runs_that_are_left(n_runs, n_slots, n_updates, slots):
    assert launch.slots_for(n_runs, n_slots, n_updates) == slots


def test_widths_are_two_an_octave_and_at_most_a_third_is_empty():
    widths = {launch.slots_for(n, 128, 10**9) for n in range(1, 129)}
    assert len(widths) <= 15
    for n in range(1, 129):
        assert n <= launch.slots_for(n, 128, 10**9) <= 1.5 * n


def test_ensemble_shrinks_where_that_pays_and_nothing_waits(monkeypatch):
    """The runs that go on have the numbers that they have alone."""
    monkeypatch.setattr(launch, "REMAKING_SECONDS", 0.0)
    lone = {"optimizer": "sgd", "weight_decay": 0.0, "precision": "fp32", "warmup_steps": 0}
    wild = [Run(**BASE | lone | {"lr": 1e30, "seed": seed}) for seed in range(5)]
    tame = [Run(**BASE | lone | {"lr": 1e-3, "seed": seed}) for seed in (5, 6)]
    ended = []
    assert follow([*wild, *tame], CARD, [], ended, steps=50, width=6) == [6, 2, 1]
    assert {t.run for t in ended} == {*wild, *tame}
    alone = []
    follow(tame, CARD, [], alone, steps=50)
    for run, parameters in weights(alone).items():
        torch.testing.assert_close(weights(ended)[run], parameters, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "asks"), [({}, False), ({"norm_hold": 1.0}, True), ({"decay_toward": "init"}, True)], ids=str
)
def test_run_under_way_is_loaded_without_its_first_weights_where_it_does_not_need_them(
    more, asks, monkeypatch
):
    """They take longer to make than many updates, and a narrower ensemble loads all runs again."""
    run, seen, first = Run(**BASE | more), [], ensembles.model.first_parameters
    e, other = (Ensemble([run], 1, CPU, loops=False) for _ in range(2))
    e.load(0, Trajectory(run))
    e.update(3)
    trajectory = e.snapshot(0)
    monkeypatch.setattr(ensembles.model, "first_parameters", lambda run: (seen.append(run), first(run))[1])
    other.load(0, trajectory)
    assert bool(seen) == asks
    for a in (e, other):
        a.update(3)
    assert torch.equal(e.parameters, other.parameters)


@pytest.mark.parametrize("n_due", [1, 3, 9, 12])
def test_slots_that_are_due_are_evaluated_together(n_due):
    runs = [Run(**BASE, seed=seed) for seed in range(12)]
    e = Ensemble(runs, 12, CPU, "graph", loops=False, backend=CARD)
    for slot, run in enumerate(runs):
        e.load(slot, Trajectory(run))
    for _ in range(2):  # the second time is a replay
        e.update(5)
        due = [*range(12 - n_due, 12)][::-1]
        e.evaluate(due)
        assert [len(t.rows) for t in e.slots] == [len(e.at(11).rows) * (slot in due) for slot in range(12)]
    for slot in due:
        one = Ensemble([runs[slot]], 1, CPU, loops=False)
        one.load(0, Trajectory(runs[slot]))
        one.update(10)
        one.evaluate([0])
        np.testing.assert_allclose(e.at(slot).rows[-1], one.at(0).rows[-1], rtol=1e-9)


# Compiled code; the compiler's own backend "eager" runs what it has traced.


def eager_compile(function):
    return torch.compile(function, fullgraph=True, dynamic=False, backend="eager")


TRACED = Backend(compile=eager_compile, capture=launch.capture_nothing)


@pytest.mark.slow
def test_more_shapes_than_the_compiler_takes_by_itself():
    for number in range(11):
        run = Run(
            operation="x+y", p=5, architecture="mlp", n_layers=1, d_model=2 * (1 + number), precision="fp64"
        )
        e = Ensemble([run], 1, CPU, "compiled", loops=False, backend=TRACED)
        e.load(0, Trajectory(run))
        e.update(2)
        assert e.path == "compiled"


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["post", "pre, gelu, to the initialisation", "MLP", "update noise", "dropout", "MLP with dropout"]
)
def test_compiled_update_has_the_numbers_of_an_eager_one_and_is_compiled_once(kind):
    import torch._dynamo.utils as dynamo

    before = dynamo.counters["stats"]["unique_graphs"]
    ours, our_rows = play(KINDS[kind], 2, "compiled", TRACED)
    assert dynamo.counters["stats"]["unique_graphs"] <= before + 2  # gradients, optimizer; or known shapes
    theirs, their_rows = play(KINDS[kind], 2, "eager")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    np.testing.assert_allclose(our_rows, their_rows, rtol=1e-8, atol=1e-11)


@pytest.mark.slow
def test_compiled_update_of_parameters_has_no_powers_and_no_float64():
    """They are in the coefficients, of which each run has six, and not in what is done for each parameter."""
    run = Run(operation="x+y", p=5, decay_toward="init", update_noise=0.1)
    seen = set()

    def look(graph, inputs):
        for node in graph.graph.nodes:
            seen.add(str(node.target))
            value = node.meta.get("example_value")
            assert getattr(value, "dtype", None) != torch.float64
        return graph.forward

    traced = Backend(
        compile=lambda f: torch.compile(f, fullgraph=True, dynamic=False, backend=look),
        capture=launch.capture_nothing,
    )
    e = Ensemble([run], 2, CPU, "compiled", loops=False, backend=traced)
    e.load(0, Trajectory(run))
    e.update(1)
    assert "addcmul_" in seen
    assert not [name for name in seen if "pow" in name]


@pytest.mark.parametrize("updates", [1000, 10**6])
def test_compiling_is_for_work_that_takes_longer(updates):
    assert launch.pays(3, updates) == launch.pays(128, updates) == (updates > 10**5)
    assert launch.pays(128, 10**5)
    assert not launch.pays(8, 10**5)


# The self-check.


def small_check(backend, path, kind=kinds.PAPER):
    selfcheck.check_small(CPU, path, backend, selfcheck.small_runs(kind))


@pytest.mark.parametrize("path", ["graph", "eager"])
def test_self_check_passes_what_is_right(path):
    small_check(CARD, path)


@pytest.mark.parametrize("kind", [kind for kind in kinds.KINDS if kind != kinds.PAPER])
def test_self_check_of_every_kind_passes(kind, monkeypatch):
    monkeypatch.setattr(kernels, "load", lambda name: SimpleNamespace(bmm=plain.product))
    selfcheck.check(CPU, "graph", kind, CARD)


def test_self_check_refuses_products_that_are_wrong(monkeypatch):
    monkeypatch.setattr(
        kernels, "load", lambda name: SimpleNamespace(bmm=lambda a, b: 1.001 * torch.bmm(a, b))
    )
    with pytest.raises(selfcheck.CheckError, match=r"kernels of shape .* differ from their twins by .*e-"):
        selfcheck.check(CPU, "graph", "tf32x3", CARD)


def test_every_choice_of_a_run_is_of_a_kind_that_is_checked():
    """All but the paper's own, and those that are made before training."""
    checked = {(name, value) for fields in kinds.KINDS.values() for name, value in fields.items()}
    for name, choices in CHOICES.items():
        for value in {*choices} - {kinds.DEFAULTS[name]}:
            assert name in ("init", "precision") or (name, value) in checked, (name, value)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, []),
        ({"seed": 3, "lr": 0.1, "precision": "fp64", "n_layers": 1}, []),
        ({"weight_noise": 0.3}, ["noise"]),
        ({"optimizer": "adam"}, ["pre-norm"]),
        ({"optimizer": "muon", "gradient": "perp"}, ["StableMax", "Muon"]),
        ({"temperature": 0.5}, ["Muon"]),
        ({"norm_hold": 0.9, "loss": "stablemax"}, ["StableMax"]),
        ({"architecture": "mlp", "dropout": 0.2}, ["noise", "MLP"]),
    ],
    ids=str,
)
def test_kinds_of_runs(more, found):
    run = Run(operation="x+y", **more)
    assert kinds.kinds_of([run]) == [kinds.PAPER, *found]
    assert kinds.kinds_of([Run(operation="x+y"), run]) == [kinds.PAPER, *found]


def one_percent_off(function):
    def wrong(*arguments):
        function(*arguments)
        if isinstance(owner := function.__self__, Ensemble):
            owner.optimizer.gradients.mul_(1.01)

    return wrong


def one_parameter_left_out(function):
    def wrong(*arguments):
        owner = function.__self__
        before = owner.parameters[:, -1].clone()
        function(*arguments)
        if isinstance(owner, Optimizer):
            owner.parameters[:, -1] = before

    return wrong


@pytest.mark.parametrize("wrong", [one_percent_off, one_parameter_left_out])
def test_self_check_refuses_compiled_code_that_is_wrong(wrong):
    with pytest.raises(selfcheck.CheckError, match=r"weights of Run.* differ by .*, more than 1e-09"):
        small_check(Backend(wrong, launch.capture_nothing), "compiled")


TWINS = SimpleNamespace(forward=plain.branches, backward=plain.branches_backward)


@pytest.fixture
def twins(monkeypatch):
    """The plain twins in the place of kernels, and what is measured of them: seconds by path."""
    seconds = {"kernels": 1.0, "compiled": 2.0}
    monkeypatch.setattr(kernels, "load", lambda name: TWINS)
    monkeypatch.setattr(limits, "default_width", lambda device: 1)
    monkeypatch.setattr(selfcheck, "PAPER_STEPS", 1)
    monkeypatch.setattr(selfcheck, "seconds_an_update", lambda e: [e.update(1), seconds[e.path]][1])
    monkeypatch.setattr(selfcheck, "KERNEL_SHAPES", [(2, 7, 16, 64)])
    return seconds


PLAINLY = Backend(compile=lambda function: function, capture=launch.capture_nothing)


def test_self_check_of_kernels_passes_where_they_are_right_and_faster(twins):
    selfcheck.check(CPU, "kernels", kinds.PAPER, PLAINLY)
    twins["kernels"] = 2.0
    with pytest.raises(selfcheck.CheckError, match=r"2e\+06 microseconds a run-step, where 'compiled' takes"):
        selfcheck.check(CPU, "kernels", kinds.PAPER, PLAINLY)


@pytest.mark.parametrize("wrong", [1.003, math.nan])
def test_self_check_refuses_kernels_that_are_wrong(twins, monkeypatch, wrong):
    def backward(*arguments):
        *others, dw = plain.branches_backward(*arguments)
        return *others, dw._replace(down=dw.down * wrong)

    monkeypatch.setattr(
        kernels, "load", lambda name: SimpleNamespace(forward=plain.branches, backward=backward)
    )
    with pytest.raises(
        selfcheck.CheckError, match=r"kernels of shape \(2, 7, 16, 64\) differ from their twins"
    ):
        selfcheck.check(CPU, "kernels", kinds.PAPER, PLAINLY)


def test_kernels_that_cannot_be_loaded_give_way_to_compiled_code(monkeypatch):
    def load(name):
        raise ModuleNotFoundError("No module named 'triton'")

    monkeypatch.setattr(kernels, "load", load)
    run = Run(**BASE | {"precision": "tf32"})
    e, theirs = (
        Ensemble([run], 1, CPU, path, loops=False, backend=PLAINLY) for path in ("kernels", "compiled")
    )
    for ensemble in (e, theirs):
        ensemble.load(0, Trajectory(run))
    with pytest.warns(RuntimeWarning, match="the path 'kernels' failed .*; 'compiled' takes its place"):
        e.update(3)
    theirs.update(3)
    assert (e.path, e.network.fused) == ("compiled", None)
    assert torch.equal(e.parameters, theirs.parameters)


def test_runs_that_kernels_do_not_fit_are_compiled():
    others = ({"activation": "gelu"}, {"d_model": 256}, {"norm": "pre"}, {"dropout": 0.1})
    for more in ({"precision": "fp32"}, *others):
        run = Run(**BASE | {"precision": "tf32"} | more)
        assert Ensemble([run], 1, CPU, "kernels", loops=False).path == "compiled"


def test_self_check_refuses_a_path_that_gave_way():
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(selfcheck.CheckError, match="'graph' gave way to 'eager'"),
    ):
        small_check(Backend(capture=refuses), "graph")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "it was ended by signal 11"),
        ("import time; time.sleep(60)", "it took more than 2 s"),
        ("raise SystemExit('no kernel image is available for execution on the device')", "no kernel image"),
        ("raise SystemExit('NaN')", "NaN"),
        ("", None),
        # What Triton and the compiler say where something is missing, and what it means:
        ("raise RuntimeError('Failed to find C compiler.')", "no C compiler: install gcc; RuntimeError: "),
        (
            "import subprocess, sys; sys.stderr.write('fatal error: Python.h: No such file or directory')"
            "; subprocess.run(['false'], check=True)",
            "Python's headers are missing: install python3-dev; subprocess.CalledProcessError",
        ),
        (
            "raise PermissionError(13, 'Permission denied', '.triton')",
            "nowhere to write compiled code: set TORCHINDUCTOR_CACHE_DIR",
        ),
        ("raise OSError(28, 'No space left on device')", "nowhere to write compiled code"),
        ("assert False, 'libcuda.so cannot found!'", "install the driver, or run ldconfig"),
        ("raise RuntimeError('CUDA out of memory. Tried to allocate 20 MiB')", "close what else uses it; "),
        ("raise RuntimeError('CUDA driver version is insufficient for CUDA runtime version')", "update it; "),
    ],
)
def test_self_check_may_crash_or_hang_in_its_own_process(code, reason, monkeypatch):
    run = subprocess.run
    monkeypatch.setattr(
        cards.subprocess, "run", lambda command, **options: run([sys.executable, "-c", code], **options)
    )
    failure = cards.check_elsewhere(CPU, "compiled", limit=2.0)
    assert failure is None if reason is None else reason in failure


def test_self_check_runs_in_a_process_of_its_own():
    failure = cards.check_elsewhere(CPU, "fast")
    assert failure == "ValueError: path='fast' must be one of kernels, compiled, graph, eager"


# A card that is there, or seems to be.

H100 = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-4d2b7f0a)\n"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts an nvidia-smi of its own first in PATH, and no card behind it."""

    def make(script):
        file = tmp_path / "nvidia-smi"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cards, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    cards.usable_device.cache_clear()
    cards.driver.cache_clear()
    yield make
    cards.usable_device.cache_clear()
    cards.driver.cache_clear()


LIST = f"printf '%s' '{H100}'"


def test_card_that_torch_does_not_see_is_not_used_and_the_reason_said(tool, monkeypatch):
    tool(f'case "$1" in -L) {LIST};; *) echo 470.57.02;; esac')
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert cards.usable_device() == (
        "cpu",
        f"GPU 0: NVIDIA H100 80GB HBM3 is not used: torch {torch.__version__} is built for CUDA 13.0, which "
        "driver 470.57.02 does not serve; update the driver, or install a torch built for an older CUDA",
    )
    assert cards.default_device() == "cpu"


def test_torch_without_cuda_is_the_reason(tool, monkeypatch):
    tool(LIST)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA; install a CUDA build" in cards.usable_device().reason


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_card_that_is_hidden_is_said_to_be(tool, monkeypatch, hidden):
    tool(LIST)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert "CUDA_VISIBLE_DEVICES is empty" in cards.usable_device().reason


@pytest.mark.parametrize(
    "script",
    [
        "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9",
        "echo 'No devices were found'",
        "kill -9 $$",
        "exit 0",
    ],
)
def test_failure_of_nvidias_tool_is_no_card(tool, script):
    tool(script)
    assert cards.usable_device() == ("cpu", "")


def test_driver_is_read_where_the_kernel_says_it(tool):
    cards.DRIVER.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 12\n"
    )
    assert cards.driver() == "580.65.06"


@pytest.fixture
def card(monkeypatch, tmp_path):
    """A card that torch sees; `passes` are the paths that pass their check, `asked` those that were tried."""
    properties = SimpleNamespace(uuid="4d2b7f0a")
    found = SimpleNamespace(passes={"compiled"}, asked=[], capability=(9, 0), free=8 * 2**30)
    monkeypatch.setattr(cards, "default_folder", lambda: tmp_path / "records")
    for name, answer in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: "NVIDIA H100",
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: found.capability,
        "get_arch_list": lambda: ["sm_75", "sm_80", "sm_90", "compute_90"],
        "memory_reserved": lambda device: 0,
        "memory_allocated": lambda device: 0,
        "mem_get_info": lambda device: (found.free, 80 * 2**30),
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)

    def check(device, path, kind=kinds.PAPER):
        found.asked.append(path if kind == kinds.PAPER else f"{path} for {kind}")
        return None if found.asked[-1] in found.passes else "no C compiler"

    monkeypatch.setattr(cards, "check_elsewhere", check)
    monkeypatch.setattr(cards.kernels, "are_there", lambda: True)
    clear = (cards.usable_device, cards.check_paths, cards.check_kernels)
    for function in clear:
        function.cache_clear()
    yield found
    for function in clear:
        function.cache_clear()


def test_first_path_that_passes_is_taken_and_remembered(card, capsys):
    card.passes = {"graph", "eager"}
    assert cards.path_of(torch.device("cuda")) == "graph"
    assert (
        "NVIDIA H100: updates by the path 'graph'; 'compiled' failed (no C compiler)"
        in capsys.readouterr().err
    )
    assert cards.usable_device() == (
        "cuda",
        "NVIDIA H100: updates by the path 'graph'; 'compiled' failed (no C compiler)",
    )
    assert card.asked == ["compiled", "graph"]
    cards.check_paths.cache_clear()  # as in the next process
    assert cards.path_of(torch.device("cuda")) == "graph"
    assert card.asked == ["compiled", "graph"]


@pytest.mark.parametrize("changed", ["torch", "driver", "card", "sources"])
def test_check_is_made_again_where_what_it_depends_on_has_changed(card, monkeypatch, changed):
    cards.path_of(torch.device("cuda"))
    cards.check_paths.cache_clear()
    if changed == "torch":
        monkeypatch.setattr(torch, "__version__", "99.0")
    elif changed == "driver":
        monkeypatch.setattr(cards, "driver", lambda: "999.1")
    elif changed == "card":
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda d: SimpleNamespace(uuid="other"))
    else:
        monkeypatch.setattr(cards, "source_hash", lambda: "other")
    cards.path_of(torch.device("cuda"))
    assert card.asked == ["compiled", "compiled"]


def test_damaged_or_unwritable_memory_of_checks_is_done_without(card, tmp_path):
    (tmp_path / "records").write_text("a file in the place of the folder")
    assert cards.path_of(torch.device("cuda")) == "compiled"
    (tmp_path / "records").unlink()
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / ".cards.json").write_text("{damaged")
    cards.check_paths.cache_clear()
    assert cards.path_of(torch.device("cuda")) == "compiled"


def test_card_that_passes_nothing_is_not_used_and_asked_again(card):
    card.passes = set()
    assert cards.usable_device().value is None
    assert "no path passes its self-check: 'compiled' failed" in cards.usable_device().reason
    assert cards.default_device() == "cpu"
    with pytest.raises(ValueError, match=r"device='cuda' cannot be used: .*'eager' failed.*; use 'cpu'"):
        cards.path_of(torch.device("cuda"))
    cards.check_paths.cache_clear()
    cards.check_paths(torch.device("cuda"), kinds.PAPER)
    assert len(card.asked) == 6


def test_kind_of_runs_that_fails_takes_a_path_that_passes(card, capsys):
    """And never one that the paper's runs fail on."""
    card.passes = {"graph", "eager for Muon", "graph for noise"}
    muon, noisy, plain = (
        Run(operation="x+y", **more) for more in ({"optimizer": "muon"}, {"dropout": 0.1}, {})
    )
    device = torch.device("cuda")
    assert cards.path_of(device, [plain]) == "graph"
    assert cards.path_of(device, [plain, muon]) == "eager"
    assert cards.path_of(device, [noisy]) == "graph"
    assert "NVIDIA H100, Muon runs: updates by the path 'eager'; 'graph' failed" in capsys.readouterr().err
    assert card.asked == ["compiled", "graph", "graph for Muon", "eager for Muon", "graph for noise"]
    cards.check_paths.cache_clear()  # as in the next process
    assert cards.path_of(device, [muon, noisy]) == "eager"
    assert len(card.asked) == 5


def test_kind_of_runs_that_no_path_trains_is_refused_and_the_others_trained(card):
    device = torch.device("cuda")
    with pytest.raises(ValueError, match=r"H100, MLP runs: no path passes its self-check: .*; use 'cpu'"):
        cards.path_of(device, [Run(operation="x+y", architecture="mlp")])
    assert cards.path_of(device, [Run(operation="x+y")]) == "compiled"
    assert cards.usable_device().value == "cuda"


TF32 = Run(operation="x+y", precision="tf32")


def test_own_kernels_are_for_runs_in_tf32_where_they_pass_their_check(card):
    device = torch.device("cuda")
    card.passes |= {"kernels", "compiled for pre-norm"}
    assert cards.path_of(device, [Run(operation="x+y")]) == "compiled"
    assert cards.path_of(device, [replace(TF32, activation="gelu")]) == "compiled"
    assert "kernels" not in card.asked
    assert cards.path_of(device, [TF32]) == "kernels"
    assert cards.check_kernels(device).reason == "NVIDIA H100: updates in tf32 by the path 'kernels'"
    card.passes = {"graph"}
    cards.check_paths.cache_clear()
    cards._remember(cards.default_folder() / ".cards.json", cards._key(device, kinds.PAPER), ("graph", ""))
    assert cards.path_of(device, [TF32]) == "graph"


def test_own_kernels_that_are_refused_are_not_asked_again(card):
    device = torch.device("cuda")
    for _ in range(2):
        assert cards.path_of(device, [TF32]) == "compiled"
        cards.check_kernels.cache_clear()  # as in the next process
    assert card.asked.count("kernels") == 1
    assert cards.check_kernels(device).reason == "NVIDIA H100: 'kernels' not taken (no C compiler)"


def test_own_kernels_need_triton_and_tensor_cores(card, monkeypatch):
    card.capability = (7, 5)
    assert cards.check_kernels(torch.device("cuda")).value == "compiled"
    card.capability = (9, 0)
    cards.check_kernels.cache_clear()
    monkeypatch.setattr(cards.kernels, "are_there", lambda: False)
    assert cards.check_kernels(torch.device("cuda")).value == "compiled"
    assert card.asked == []


def test_card_whose_memory_others_hold_is_not_used(card):
    card.free = 50 * 2**20
    value, reason = cards.usable_device()
    assert value is None
    assert re.fullmatch(
        r"NVIDIA H100 is not used: 50 MiB of its memory are free, a run takes \d+; close what else uses it",
        reason,
    )
    assert cards.default_device() == "cpu"


def test_card_with_500_mb_free_trains_fewer_at_once(card):
    card.free = 500 * 2**20
    assert cards.usable_device().value == "cuda"
    runs = [Run(operation="x/y", seed=seed) for seed in range(128)]
    assert 1 <= limits.fitting_width(runs, torch.device("cuda"), 128) <= 5


@pytest.mark.parametrize("name", ["cuda:1", "cuda:7", "gpu", "mps", "cpu:0"])
def test_device_that_is_not_here_is_refused(card, name):
    with pytest.raises(ValueError, match=f"device='{name}' is not here; choose from cpu, cuda:0$"):
        cards.check_device(name)
    for here in ("cpu", "cuda", "cuda:0"):
        cards.check_device(here)


def test_device_that_is_hidden_or_not_served_is_refused_with_the_reason(tool, monkeypatch):
    tool(LIST)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(
        ValueError, match=r"choose from cpu\. GPU 0: .* is hidden: CUDA_VISIBLE_DEVICES is empty"
    ):
        cards.check_device("cuda")


def test_card_older_than_torch_is_not_used(card):
    card.capability = (6, 1)
    said = "compute capability 6.1, but torch .* begins at 7.5; install a torch built for an older CUDA"
    with pytest.raises(ValueError, match=said):
        cards.path_of(torch.device("cuda"))
    assert card.asked == []


def test_description_names_what_decides_and_what_is_wrong(card, monkeypatch):
    """With a card that is used, and on a machine whose card is not."""
    card.passes |= {f"compiled for {kind}" for kind in kinds.KINDS} - {"compiled for Muon"}
    card.passes |= {"graph for Muon"}
    monkeypatch.setattr(cards, "listed_card", lambda: None)
    monkeypatch.setattr(cards, "driver", lambda: "580.65.06")
    lines = dict(cards.describe(torch.device("cuda")))
    assert (lines["card"], lines["driver"], lines["updates"]) == ("NVIDIA H100", "580.65.06", "compiled")
    assert "because" not in lines
    assert lines["in tf32"] == "NVIDIA H100: 'kernels' not taken (no C compiler)"
    assert [name for name in lines if name.endswith(" runs")] == ["Muon runs"]
    assert "compiled for tf32x3" in card.asked
    assert "Muon runs: updates by the path 'graph'; 'compiled' failed" in lines["Muon runs"]
    assert (lines["free memory"], lines["precisions"]) == ("8.0 GiB", ", ".join(CHOICES["precision"]))
    width = int(0.9 * 8 * 2**30 / limits.bytes_per_run(Run(operation="x/y")))
    assert lines["at once"].startswith(f"{width} networks of the paper's, ")
    card.passes = set()
    cards.check_paths.cache_clear()
    monkeypatch.setattr(cards, "source_hash", lambda: "other")
    assert "no path passes" in dict(cards.describe(torch.device("cuda")))["no card"]
    absent = "device='cuda:7' is not here; choose from cpu, cuda:0"
    assert dict(cards.describe(torch.device("cuda:7")))["no card"] == absent
    lines = dict(cards.describe(CPU))
    assert "no path passes" in lines["no card"]
    assert lines["precisions"] == "fp32, tf32-rounded, fp64"


@pytest.mark.parametrize(("capability", "has"), [((9, 0), True), ((8, 0), True), ((7, 5), False)])
def test_tf32_is_for_cards_that_have_it(card, capability, has):
    card.capability = capability
    assert ("tf32" in limits.precisions("cuda")) == has


def test_work_of_a_card_is_done_with_it_as_the_current_one(monkeypatch):
    """Streams and graphs that name no card belong to the current one, which is 0 in a new thread."""
    current, seen = [], []

    class Current:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            current.append(str(self.device))

        def __exit__(self, *_):
            current.pop()

    monkeypatch.setattr(limits, "current", Current)
    run = Run(**BASE)
    e = Ensemble([run], 1, CPU, loops=False)
    monkeypatch.setattr(
        ensembles.model, "first_parameters", spy(ensembles.model.first_parameters, seen, current)
    )
    for name in ("_update", "_measure"):
        monkeypatch.setattr(Ensemble, name, spy(getattr(Ensemble, name), seen, current))
    e.load(0, Trajectory(run))
    e.update(1)
    e.evaluate([0])
    e.advance(lambda: False)
    assert len(seen) == 5
    assert all(seen)


def spy(function, seen, current):
    def spied(*arguments):
        seen.append(current[-1:] == ["cpu"])
        return function(*arguments)

    return spied


def test_memory_that_the_process_holds_and_does_not_use_is_free(monkeypatch):
    for name, n_bytes in {"memory_reserved": 70, "memory_allocated": 30}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, n_bytes=n_bytes: n_bytes)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 100))
    assert limits.free_bytes(torch.device("cuda")) == 45
