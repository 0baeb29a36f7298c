"""Probes against their twins, and on what is known by other means."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import twins

from grokking_core import Run, data
from grokking_core.model import plain
from grokking_core.probes import PROBES, check, early_warnings, fourier, topology
from grokking_core.runs.trajectory import Trajectory, Watched
from grokking_core.training.ensemble import Ensemble

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SMALL = {"n_layers": 1, "d_model": 8, "n_heads": 2, "precision": "fp64"}
RUN = Run(operation="x+y", p=31, train_fraction=0.4, **SMALL)
FAMILIES = {
    "sums": [replace(RUN, operation=name) for name in ("x+y", "x-y", "x*y", "x/y")],
    "even modulus": [replace(RUN, p=30), replace(RUN, operation="x*y!=0")],
    "perceptron": [replace(RUN, architecture="mlp", seed=seed) for seed in (0, 1)],
    "others": [replace(RUN, operation=name) for name in ("x^2+y^2", "x^3+xy^2+y", "x/y|x-y")],
    "permutations": [Run(operation=name, n=4, train_fraction=0.1, **SMALL) for name in ("s5:xy", "s5:xyx")],
    "outliers": [replace(RUN, outliers=50), replace(RUN, split_seed=3)],
    "single precision": [replace(RUN, precision="fp32")],
}


def watching(runs, watch, n_updates=3):
    """An ensemble with a slot for each run, after some updates and a look at all."""
    e = Ensemble(runs, len(runs), CPU, watch=watch)
    for slot, run in enumerate(runs):
        e.load(slot, Trajectory(run, watched={name: Watched() for name in watch}))
    e.evaluate(e.live)
    if n_updates:
        e.update(n_updates)
        for slot in e.live:
            e.at(slot).rows.clear()  # due again
        e.evaluate(e.live)
    return e


def seen_plainly(run, parameters):
    """Logits and features of the plain network in table order, and rows of its embedding and output."""
    network, table = plain.build(run).eval(), run.dataset()
    torch.nn.utils.vector_to_parameters(parameters.clone(), network.parameters())
    features = []
    network.output.register_forward_pre_hook(lambda _, given: features.append(given[0]))
    with torch.no_grad():
        logits = network(torch.from_numpy(data.tokens(table.x, table.y, run.n_elements)))
    embedding, output = (of.weight.detach().numpy() for of in (network.embedding, network.output))
    last = features[0][:, -1] if features[0].ndim == 3 else features[0]
    P = run.n_elements
    return logits.numpy(), last.numpy(), (embedding[:P], output[:P], output)


def assert_rows(e, name, twin, tolerance=1e-7):
    for slot, trajectory in enumerate(e.slots):
        run, frame = trajectory.run, trajectory.watched[name].frame()
        assert list(frame) == ["step", "weight_norm", *PROBES[name].columns(run)]
        expected = twin(run, *seen_plainly(run, e.parameters[slot]))
        found = trajectory.watched[name].rows[-1][2:]
        np.testing.assert_allclose(
            found[: len(expected)], expected, rtol=tolerance, atol=1e-9, err_msg=f"{run}"
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_early_warnings_are_their_twins(family):
    runs = FAMILIES[family]
    e = watching(runs, ["early_warnings"])
    assert_rows(e, "early_warnings", twins.first_warnings, 1e-3 if family == "single precision" else 1e-7)
    for trajectory in e.slots:
        _, _, *row = trajectory.watched["early_warnings"].rows[-1]
        assert row[-2:] == [trajectory.rows[-1][5], trajectory.rows[-1][3]]  # as the curve has them


@pytest.mark.parametrize("family", ["sums", "even modulus", "perceptron", "outliers", "single precision"])
def test_fourier_is_its_twin(family, monkeypatch):
    monkeypatch.setattr(
        fourier, "KEY", 0.0012
    )  # twice a frequency's share by chance: young networks have some
    e = watching(FAMILIES[family], ["fourier"])
    assert_rows(e, "fourier", twins.frequencies, 1e-3 if family == "single precision" else 1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_collapse_is_its_twin(family):
    e = watching(FAMILIES[family], ["softmax_collapse"])
    assert_rows(e, "softmax_collapse", twins.collapse, 1e-3 if family == "single precision" else 1e-7)


def test_a_softmax_collapses_where_other_exponentials_round_away():
    run = replace(RUN, precision="fp32")
    e = watching([run], ["softmax_collapse"], n_updates=0)
    evaluator, train = e.evaluators[1], e.tables.groups[0, 0]
    for gap, collapsed in ((12.0, 0.0), (30.0, 1.0)):
        evaluator.logits.zero_().scatter_(2, e.tables.label[:, :, None], gap)
        row = e.probes["softmax_collapse"].measure(evaluator.seen(torch.tensor([0]), [True]))[0]
        assert row[0] == row[1] == collapsed, gap
        assert row[-1] == gap
        assert (
            0 < row[-2] == pytest.approx((run.p + 1) * math.exp(-gap), rel=1e-3)
        )  # in float64 nothing is lost
    assert train.any()


def test_the_mean_gradient_norm_starts_as_the_first_and_forgets():
    e = watching([RUN], ["early_warnings"], n_updates=0)
    assert math.isnan(e.at(0).watched["early_warnings"].rows[0][5])
    expected = None
    for _ in range(4):
        e.update(1)
        norm = float(e.optimizer.gradients[0].norm())
        expected = norm if expected is None else 0.99 * expected + 0.01 * norm
    assert float(e.probes["early_warnings"].state[0, 0]) == pytest.approx(expected)


def test_spikes_are_counted_once_each_and_their_height_is_kept():
    probe = PROBES["spikes"](RUN, 1, CPU)
    probe.load(0, RUN)
    losses = [1e-3] * 50 + [0.5, 0.6, 1e-3, 1e-3, 7.0] + [1e-3] * 5
    for loss in losses:
        probe.update(torch.tensor([loss], dtype=torch.float64), torch.zeros(1, 1))
    e = watching([RUN], ["spikes"], n_updates=0)
    seen = e.evaluators[1].seen(torch.tensor([0]), [True])
    largest, spikes, mean = probe.measure(seen)[0].tolist()
    assert (largest, spikes) == (7.0, 2.0)
    assert 1e-3 < mean < 1.4e-3
    assert math.isnan(probe.measure(seen)[0, 0])  # anew from the curve's last row


def test_every_batch_is_seen_by_spikes():
    e = watching([RUN], ["spikes"], n_updates=0)
    e.update(5)
    losses, lone = [], Ensemble([RUN], 1, CPU)
    lone.load(0, Trajectory(RUN))
    for _ in range(5):
        lone.tables.renew(lone.steps)
        x, y, label, _ = lone.tables.batch(lone.step)
        with torch.inference_mode():
            logits = lone.network.forward(x, y)[0].double()
        losses.append(float(torch.nn.functional.cross_entropy(logits, label[0])))
        lone.update(1)
    assert float(e.probes["spikes"].state[0, 0]) == pytest.approx(max(losses), rel=1e-9)
    assert torch.equal(e.parameters, lone.parameters)


# -- facts -----------------------------------------------------------------------------------------------


def test_classes_far_apart_have_a_large_ratio():
    rng = np.random.default_rng(0)
    label = torch.arange(40)[None] % 4
    features = torch.from_numpy(rng.normal(size=(1, 40, 3)))
    used, corner = torch.ones(1, 40, dtype=torch.float64), torch.eye(4, 3, dtype=torch.float64)[label]
    near, far = (float(early_warnings.ildr(features + k * corner, label, used, 9)) for k in (0.0, 100.0))
    assert near < 1 < 1000 < far
    used[:, 4:] = 0  # one equation a class is left, and nothing within
    assert float(early_warnings.ildr(corner, label, used, 9)) == pytest.approx(1.5 / 1e-8)


@pytest.mark.parametrize(("features", "expected"), [(np.eye(8), 1.0), (np.ones((8, 8)), 0.0)])
def test_entropy_is_1_where_all_directions_are_equal_and_0_for_one(features, expected):
    assert float(early_warnings.entropy(torch.from_numpy(features)[None])) == pytest.approx(
        expected, abs=1e-9
    )


def test_entropy_of_features_that_are_not_finite_is_not_a_number():
    features = torch.full((2, 8, 8), math.nan, dtype=torch.float64)
    features[1] = torch.eye(8)
    found = early_warnings.entropy(features)
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(1)


@pytest.mark.parametrize("operation", ["x+y", "x-y", "x*y", "x/y", "x*y!=0"])
def test_logits_of_one_frequency_have_it_all(operation):
    run = replace(RUN, operation=operation)
    group = fourier.Cyclic.of(run)
    inside = group.place < group.modulus
    table = run.dataset()
    exponent = np.where(group.exponent < 0, 0.25, group.exponent)  # 0 has none
    assert (exponent[table.label[inside]] == group.place[inside]).all()  # the answer's own exponent
    logits = np.cos(2 * np.pi * 7 / group.modulus * (group.place[:, None] - exponent)) * inside[:, None]
    probe = PROBES["fourier"](run, 1, CPU)
    probe.load(0, run)
    e = watching([run], ["fourier"], n_updates=0)
    e.evaluators[1].logits.zero_()[0, : len(logits), : run.n_elements] = torch.from_numpy(logits)
    row = probe.measure(e.evaluators[1].seen(torch.tensor([0]), [True]))[0]
    found = dict(zip(probe.columns(run), row.tolist(), strict=True))
    assert found["share_7"] == pytest.approx(1)
    assert found["n_keys"] == 1
    right = ("restricted_accuracy", "all_accuracy", "held_out_accuracy")
    assert [found[name] for name in right] == [1, 1, 1]
    assert found["random_accuracy"] < 0.1
    chance = math.log(run.n_elements)
    assert found["excluded_loss"] == pytest.approx(chance)  # nothing is left
    assert found["excluded_random_loss"] == pytest.approx(found["restricted_loss"], abs=0.05)


def test_gini_is_0_for_equals_and_nearly_1_for_one_that_has_all():
    values = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 5]], dtype=torch.float64)
    assert fourier.gini(values).tolist() == pytest.approx([0, 0.75])


@pytest.mark.parametrize("p", [3, 7, 31, 97])
def test_logarithms_turn_products_into_sums(p):
    exponent = fourier.discrete_logarithms(p)
    x, y = np.meshgrid(np.arange(1, p), np.arange(1, p))
    assert ((exponent[x] + exponent[y]) % (p - 1) == exponent[x * y % p]).all()
    assert exponent[0] == -1


# -- loops -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_loops_are_those_of_the_textbooks_reduction(seed):
    rng = np.random.default_rng(seed)
    distance = topology.distances(rng.normal(size=(14 + seed, 2 + seed)))
    if seed == 3:
        distance = np.round(distance, 1)  # many edges of one length
    found, joined = topology.persistence(distance)
    np.testing.assert_allclose(sorted(map(tuple, found)), twins.loops(distance))
    nearest = distance + np.diag(np.full(len(distance), np.inf))
    assert joined >= nearest.min(1).max()


@pytest.mark.parametrize("n", [6, 12, 97])
def test_a_circle_is_one_loop(n):
    angle = 2 * np.pi * np.arange(n) / n
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    (birth, death), joined = topology.persistence(topology.distances(rows))[0][0], 2 * math.sin(math.pi / n)
    third = -(-n // 3)  # the widest triangle with the centre inside
    assert birth == pytest.approx(joined)
    assert death == pytest.approx(2 * math.sin(math.pi * third / n))
    assert len(topology.persistence(topology.distances(rows))[0]) == 1
    longest, total, normalised = topology.summary(rows * 3 + 5)  # wherever it lies, however large
    assert longest == total == pytest.approx(death - birth)
    assert normalised == pytest.approx(longest / joined)


def test_random_rows_have_the_loops_of_the_papers_baseline():
    rows = np.random.default_rng(0).normal(size=(97, 128))
    assert topology.summary(rows)[0] == pytest.approx(0.08, abs=0.02)


def test_rows_that_are_not_finite_have_no_loops():
    assert np.isnan(topology.summary(np.full((5, 2), np.inf))).all()


def test_topology_looks_at_the_elements_rows():
    e = watching([RUN, replace(RUN, seed=1)], ["topology"])
    assert_rows(e, "topology", lambda run, logits, features, rows: topology.summary(rows[0]))


# -- what may be watched ---------------------------------------------------------------------------------


@pytest.mark.parametrize("watch", ["fourier", ["fourrier"], {"fourier": {"keys": [1]}}, ["fourier:keys=3"]])
def test_an_unknown_probe_or_option_lists_those_there_are(watch):
    with pytest.raises(ValueError, match=r"watch=.*early_warnings, fourier, .*no options but watch_every"):
        check(watch)


@pytest.mark.parametrize("every", [0, -5, 2.5, True, "10"])
def test_how_often_is_a_number_of_updates(every):
    with pytest.raises(ValueError, match=r"watch_every=.* must be a whole number of updates, at least 1"):
        check(["spikes"], every)


def test_how_often_needs_something_to_watch():
    with pytest.raises(ValueError, match="watch_every=50 has nothing to watch"):
        check([], 50)


@pytest.mark.parametrize(
    ("watch", "fields", "message"),
    [
        ("fourier", {"operation": "s5:xy"}, "no frequencies for operation='s5:xy'; it has them for x"),
        ("fourier", {"operation": "x^2+y^2"}, r"no frequencies for operation='x\^2\+y\^2'"),
        ("fourier", {"operation": "x*y", "p": 12}, "p=12 must be prime for fourier of 'x\\*y'"),
        ("fourier", {"p": 2}, "p=2 is too small for fourier of 'x\\+y'"),
        ("early_warnings", {"p": 23}, "at least 512 validation equations; .*'x\\+y' .* leaves 265"),
    ],
)
def test_a_probe_says_what_it_cannot_watch(watch, fields, message):
    run = Run(**{"operation": "x+y", "train_fraction": 0.5} | fields)
    assert check([watch], None, [RUN]) == (watch,)
    with pytest.raises(ValueError, match=message):
        check([watch], None, [RUN, run])
