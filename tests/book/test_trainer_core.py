"""The run of the trainer page against the package's: its numbers, in Chromium, without a page around them."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from grokking_core.data import streams
from grokking_core.data.operations import n_training_equations
from grokking_core.data.streams import Purpose
from grokking_core.model import plain as model
from grokking_core.model import tensor_ops
from grokking_core.runs import schedule
from grokking_core.runs.run import Run
from grokking_core.training.plain import train
from grokking_core.weights import number_line

STATIC = Path(__file__).resolve().parents[2] / "book" / "static"
SMALL = Run(operation="x+y", p=11, architecture="mlp", n_layers=1, d_model=8, lr=5e-3, train_fraction=0.6)
RUNS = {
    "sums": SMALL,
    "products, wrong answers": Run(
        operation="x*y",
        p=12,
        architecture="mlp",
        n_layers=1,
        d_model=16,
        outliers=10,
        seed=7,
        weight_decay=0.5,
    ),
    "quotients": Run(
        operation="x/y", p=13, architecture="mlp", n_layers=1, d_model=8, train_fraction=0.45, seed=123_456
    ),
    "differences, short last batch": Run(
        operation="x-y", p=19, architecture="mlp", n_layers=1, d_model=16, train_fraction=0.9, lr=5e-3
    ),
}
FIELDS = ("operation", "p", "train_fraction", "outliers", "seed", "d_model", "lr", "weight_decay")
START = """(() => {
  const core = companion.trainerCore(companion.trainerKernels);
  const plainly = (value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
  const rowsOf = (trainer, steps) => {
    const rows = [trainer.evaluate().row];
    while (trainer.step < steps) {
      trainer.update();
      if (trainer.step === core.nextEvaluation(rows.at(-1).step)) rows.push(trainer.evaluate().row);
    }
    return rows;
  };
  Object.assign(window, { core, plainly, rowsOf });
})()"""


@pytest.fixture(scope="module")
def js(browser):
    """Evaluates a function of JavaScript on an argument, `core` and the helpers above at hand."""
    page = browser.new_page()
    page.evaluate("() => { window.companion = {}; }")
    for name in ("trainer_kernels.js", "trainer_core.js"):
        page.add_script_tag(path=STATIC / name)
    page.evaluate(START)
    yield page.evaluate
    page.close()


def told(run):
    """What the script is told of a run."""
    return {name: getattr(run, name) for name in FIELDS}


@pytest.fixture(params=RUNS.values(), ids=RUNS.keys())
def run(request):
    return request.param


# Random numbers


def test_bits_are_those_of_the_streams(js):
    key = streams.stream(123_456, Purpose.ORDER, 10**6)
    pairs = js("""() => {
      const { high, low } = core.bits(core.stream(123456, 3, 1e6), 999);
      return [Array.from(high), Array.from(low)];
    }""")
    assert [h * 2**32 + low for h, low in zip(*pairs, strict=True)] == streams.bits(
        key, torch.arange(999)
    ).tolist()


def test_uniform_draws_and_permutations_are_those_of_the_streams(js):
    key = streams.stream(5, Purpose.SPLIT)
    assert js("() => plainly(core.uniform(core.stream(5, 0), 501))") == streams.uniform(key, 501).tolist()
    assert (
        js("() => plainly(core.permutation(core.stream(5, 0), 501))")
        == streams.permutation(key, 501).tolist()
    )


def test_all_quantiles_of_the_normal_distribution_are_those_of_the_streams(js):
    expected = streams._normal_quantiles(torch.float32, torch.device("cpu"))
    assert js("() => plainly(core.normalQuantiles())") == expected.tolist()


# What a run is trained on


def test_table_split_and_wrong_answers_are_those_of_the_package(js, run):
    found = js(
        "(run) => Object.fromEntries(Object.entries(core.dataset(run)).map(([k, v]) => [k, plainly(v)]))",
        told(run),
    )
    expected = run.dataset()
    for name, array in {**expected._asdict(), "isTrain": expected.is_train}.items():
        if name in found:
            assert found[name] == array.astype(int).tolist(), name
    assert set(found) == {"x", "y", "label", "train", "isTrain"}


def test_batches_are_those_of_the_package(js, run):
    updates = [*range(12), 100, 101, 7]
    found = js(
        "([run, updates]) => { const batch = core.batches(run.seed, core.dataset(run).train);"
        " return updates.map((update) => plainly(batch(update))); }",
        [told(run), updates],
    )
    train_order = run.dataset().train
    assert found == [train_order[schedule.batch(run, update)].tolist() for update in updates]


def test_training_equations_are_rounded_as_by_the_package(js):
    asked = [(fraction, p * p) for p in range(11, 60) for fraction in (0.05, 0.125, 0.33, 0.5, 0.95)]
    found = js("(asked) => asked.map(([fraction, n]) => core.nTrain(fraction, n))", asked)
    assert found == [n_training_equations(fraction, n) for fraction, n in asked]


def test_evaluation_steps_are_those_of_the_package(js):
    found = js("""() => {
      const steps = [];
      for (let step = 0; step < 1e6; ) steps.push((step = core.nextEvaluation(step)));
      return steps;
    }""")
    assert found == schedule.evaluation_steps(10**6)[1:]


# The network


def test_first_weights_are_those_of_the_package_bit_for_bit(js, run):
    found = js("(run) => plainly(new core.Trainer(run).weights)", told(run))
    expected = torch.nn.utils.parameters_to_vector(model.build(run).parameters()).detach()
    assert found == expected.tolist()


@lru_cache
def curve_of(run):
    """A hundred updates of the package's plain network."""
    return train(run, steps=100).curve


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("without", [False, True], ids=["vectors", "plain"])
def test_losses_agree_with_the_packages_over_a_hundred_updates(js, run, without):
    rows = js("([run, plain]) => rowsOf(new core.Trainer(run, plain), 100)", [told(run), without])
    curve = curve_of(run)
    assert [row["step"] for row in rows] == curve["step"].tolist()
    for name in ("train_loss", "validation_loss"):
        np.testing.assert_allclose([row[name] for row in rows], curve[name], rtol=1e-4)
    for name in ("train_accuracy", "validation_accuracy"):
        np.testing.assert_allclose([row[name] for row in rows], curve[name], atol=0.011)
    np.testing.assert_allclose([row["norm"] for row in rows], curve["weight_norm"], rtol=1e-5)


def test_vectors_are_there_and_their_plain_twin_says_that_it_is_one(js):
    found = js(
        "(run) => [false, true].map((plain) => new core.Trainer(run, plain).kernels.vectors)", told(SMALL)
    )
    assert found == [True, False]


def test_products_of_odd_sizes_are_right(js):
    found = js("""() => [false, true].map((plain) => {
      const kernels = companion.trainerKernels(1e6, plain);
      const [m, n, k] = [7, 24, 5];
      const [a, b, c] = [m * k, k * n, m * n].map((size) => kernels.floats(size));
      a.forEach((_, i) => (a[i] = i % 11));
      b.forEach((_, i) => (b[i] = i % 7));
      c.fill(1);
      kernels.product(m, n, k, a, 1, m, b, n, c, n, 1);
      return Array.from(c);
    })""")
    a = np.arange(35).reshape(5, 7).T % 11
    b = np.arange(120).reshape(5, 24) % 7
    assert found == [(1 + a @ b).ravel().tolist()] * 2


def test_a_loss_near_zero_is_right_to_its_last_digits(js):
    logits = [40.0, -3.0, 2.5, 0.0]
    for label in range(4):
        (expected,) = tensor_ops.cross_entropy(torch.tensor([[logits]]), torch.tensor([[label]]))[0].tolist()
        assert js("([z, label]) => core.crossEntropy(z, label)", [logits, label]) == pytest.approx(
            expected, rel=1e-12
        )


# The picture


def rows_of(seed, p, width=16):
    return np.random.default_rng(seed).normal(size=(p, width))


@pytest.mark.parametrize("p", [11, 12, 41])
def test_strongest_frequency_and_its_share_are_those_of_the_package(js, p):
    rows = rows_of(p, p)
    found = js(
        "([rows, p]) => core.planeOf(Float64Array.from(rows), 16, core.places({ operation: 'x+y', p }))",
        [rows.ravel().tolist(), p],
    )
    shares = number_line.frequencies(rows, p)[: (p - 1) // 2]  # that of p / 2 is no circle
    assert found["frequency"] == 1 + shares.argmax()
    assert found["share"] == pytest.approx(shares.max(), rel=1e-9)


def test_rows_on_a_circle_are_drawn_as_one(js):
    angle = 2 * np.pi * 3 * np.arange(23) / 23
    frame = np.linalg.qr(rows_of(0, 16))[0][:2]
    rows = 5 * np.stack([np.cos(angle), np.sin(angle)], axis=1) @ frame + 7
    found = js(
        """(rows) => {
          const plane = core.planeOf(Float64Array.from(rows), 16, core.places({ operation: 'x-y', p: 23 }));
          return { ...plane, points: Array.from(plane.points) };
        }""",
        rows.ravel().tolist(),
    )
    assert found["frequency"] == 3
    assert found["share"] == pytest.approx(1)
    expected = 5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(np.reshape(found["points"], (23, 2)), expected, atol=1e-5)


def test_elements_of_products_stand_in_the_order_of_their_logarithms(js):
    found = js("() => core.places({ operation: 'x*y', p: 41 })")
    assert found["n"] == 40
    assert found["place"][0] == -1
    assert sorted(found["place"][1:]) == list(range(40))
    for x, y in ((2, 3), (17, 35), (40, 40)):
        assert (found["place"][x] + found["place"][y] - found["place"][x * y % 41]) % 40 == 0
    composite = js("() => core.places({ operation: 'x*y', p: 42 })")
    assert composite == {"n": 42, "place": list(range(42))}


# Messages


SERVE = """async ({ run, messages }) => {
  const [heard, queue] = [[], []];
  const hear = (state) => heard.push(JSON.parse(JSON.stringify(state)));
  const receive = core.serve(hear, (callback) => queue.push(callback), 5, 20);
  for (const message of [{ load: run }, ...messages]) {
    receive(message);
    while (queue.length && !message.atOnce) queue.shift()();
  }
  return heard;
}"""


def served(js, run, *messages):
    return json.loads(json.dumps(js(SERVE, {"run": told(run), "messages": list(messages)})))


def test_a_run_goes_as_far_as_it_is_asked_and_one_update_is_one(js):
    heard = served(js, SMALL, {"go": True, "until": 25, "stopAt": 2}, {"update": True}, {"pause": True})
    assert heard[0]["loaded"]
    assert heard[0]["row"]["step"] == 0
    until = [state for state in heard if state.get("why") == "until"]
    assert [state["row"]["step"] for state in until] == [25, 26]
    assert heard[-1]["row"]["step"] == 26
    assert not any(state["going"] for state in (heard[-1], *until))
    steps = [row["step"] for state in heard for row in state["rows"]]
    assert steps == [0, 1, 2, 5, 10, 20]  # the grid, though the run was looked at elsewhere


def test_a_run_ends_where_it_has_learned_and_where_it_diverges(js):
    heard = served(js, SMALL, {"go": True, "until": 10_000, "stopAt": 0.01})
    assert heard[-1]["why"] == "learned"
    wild = Run(operation="x+y", p=11, architecture="mlp", n_layers=1, d_model=8, lr=0.1, weight_decay=1e3)
    assert served(js, wild, {"go": True, "until": 10_000, "stopAt": 2})[-1]["why"] == "diverged"


def test_a_pause_is_heard_while_training(js):
    heard = served(js, SMALL, {"go": True, "until": 10**6, "stopAt": 2, "atOnce": True}, {"pause": True})
    assert heard[-1]["row"]["step"] < 10**6
    assert not heard[-1]["going"]
