import base64
import json

import numpy as np
import pandas as pd
import pytest

from grokking_book.play import film
from grokking_core import data
from grokking_core.paper import experiments
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.run import Run
from grokking_core.weights import cosets

ADDITION = Run(operation="x+y", p=23, train_fraction=0.5)
PRODUCT = Run(operation="s5:xy", n=4, train_fraction=0.5)
STEPS = [1, 10, 100, 200, 300]


def circle(p=23, frequency=5, radius=1.0):
    """Rows on a circle, x at the angle 2 pi f x / p, in the first two of 16 dimensions."""
    angle = 2 * np.pi * frequency * np.arange(p) / p
    rows = np.zeros((p, 16))
    rows[:, :2] = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return rows


def noise(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 16))


def record(run, step, rows, validation):
    """A record that ends at a step, with a frame; the training equations are right from step 10 on."""
    steps = [0, *(s for s in STEPS if s <= step)]
    curve = pd.DataFrame(0.0, index=range(len(steps)), columns=pd.Index(COLUMNS)).assign(step=steps)
    curve["train_accuracy"] = (curve["step"] >= 10).astype(float)
    curve["validation_accuracy"] = [0, *validation[: len(steps) - 1]]
    right = run.dataset().is_train | (validation[len(steps) - 2] == 1)
    frame = {"rows": rows.astype(np.float16), "right": np.packbits(right)}
    return Record(run=run, curve=curve, kept={"frame": frame})


def made_up(run=ADDITION, last=None):
    """Noise in all frames but the last two, which groks between steps 100 and 200."""
    last = circle() if last is None else last
    rows = [noise(run.n_elements, seed) for seed in range(3)] + [last, last]
    return [record(run, step, r, [0.0, 0.1, 0.2, 0.6, 1.0]) for step, r in zip(STEPS, rows, strict=True)]


def of_cosets(side):
    """Rows that are the same for all elements of a coset of the first D4 of S4."""
    subgroup = next(h for h in cosets.subgroups(4) if h.name == "D4")
    return subgroup, noise(3, 0)[cosets.labels(subgroup, side)]


@pytest.fixture(scope="module")
def addition():
    (found,) = film.read(made_up())
    return found


# From records to frames


def test_circle_is_drawn_as_a_circle(addition):
    assert addition.order.name == "circle of frequency 5"
    np.testing.assert_allclose(np.linalg.norm(addition.points[-1], axis=1), 1, atol=2e-3)
    assert np.linalg.norm(addition.points[0], axis=1).std() > 0.1


def test_elements_follow_one_another_on_the_circle(addition):
    assert ((np.diff(addition.order.line) * 5) % 23 == 1).all()
    assert (np.diff(addition.order.labels[addition.order.line]) >= 0).all()
    assert np.bincount(addition.order.labels).tolist() == [3, 3, 3, 3, 3, 3, 3, 2]


def test_order_explains_all_of_a_circle_and_little_of_noise(addition):
    np.testing.assert_allclose(addition.share[-2:], 1, atol=1e-4)
    assert addition.chance == 2 / 22
    assert (addition.share[:3] < 0.3).all()


def test_order_explains_of_noise_what_chance_says():
    records = [record(ADDITION, 300, noise(23, seed), [0.0] * 5) for seed in range(200)]
    order = film.read(made_up())[0].order
    shares = []
    for one in records:
        rows = one.kept["frame"]["rows"].astype(float)
        rows -= rows.mean(0)
        shares.append(np.square(order.functions.T @ rows).sum() / np.square(rows).sum())
    assert np.mean(shares) == pytest.approx(2 / 22, rel=0.05)


@pytest.mark.parametrize("side", ["left", "right"])
def test_elements_of_a_coset_share_a_point_and_a_colour(side):
    subgroup, rows = of_cosets(side)
    (found,) = film.read(made_up(PRODUCT, rows))
    assert found.order.name == f"cosets of D4 (order 8), {side}"
    assert (found.order.labels == cosets.labels(subgroup, side)).all()
    assert found.order.line is None
    assert found.chance == 2 / 23
    np.testing.assert_allclose(found.share[-1], 1, atol=1e-4)
    for label in range(3):
        points = found.points[-1][found.order.labels == label]
        np.testing.assert_allclose(points, points[[0]].repeat(8, axis=0), atol=1e-9)


def test_circle_of_a_frequency_that_divides_the_modulus_has_fewer_points():
    run = Run(operation="x+y", p=24, train_fraction=0.5)
    (found,) = film.read([record(run, 300, circle(24, 6), [0.0] * 5)])
    assert len(np.unique(found.points[-1].round(2), axis=0)) == 4
    assert sorted(found.order.line) == list(range(24))


def test_two_opposite_points_are_drawn_too():
    run = Run(operation="x+y", p=4, train_fraction=0.5)
    (found,) = film.read([record(run, 300, circle(4, 2), [0.0] * 5)])
    assert found.order.functions.shape == (4, 1)
    assert found.points.shape == (1, 4, 2)


def test_frames_are_in_order_and_each_once():
    records = made_up()
    shuffled = [records[i] for i in (3, 0, 4, 1, 2, 0)]
    product = made_up(PRODUCT, of_cosets("left")[1])
    first, second = film.read([*shuffled, *product])
    assert (first.run, second.run) == (ADDITION, PRODUCT)
    assert first.steps.tolist() == second.steps.tolist() == STEPS
    assert len(first.curve) == 6


def test_frames_of_a_network_that_diverged_are_left_out():
    records = made_up()
    records[-1].kept["frame"]["rows"][0, 0] = np.inf
    (found,) = film.read(records)
    assert found.steps.tolist() == STEPS[:-1]


def test_answers_are_right_where_the_bits_say(addition):
    is_train = ADDITION.dataset().is_train
    assert (addition.right[:4] == is_train).all()
    assert addition.right[4].all()


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (Run(operation="x+y", p=2, train_fraction=0.5), "p=2 must be at least 3"),
        (Run(operation="s5:xy", n=2, train_fraction=0.5), "n=2 must lie in 3..5"),
    ],
)
def test_too_few_elements_have_no_order(run, said):
    with pytest.raises(ValueError, match=said):
        film.read([record(run, 300, noise(2, 0), [0.0] * 5)])


# What a page shows


def test_film_opens_before_the_transition(addition):
    assert addition.steps[addition.before] == 100
    (memorised,) = film.read(made_up()[:3])
    assert memorised.before == 2


def test_moments_are_the_first_frames_that_have_passed(addition):
    table = film.moments([addition])
    assert table["step"].to_dict() == {
        ("x+y mod 23", "first weights"): 1,
        ("x+y mod 23", "training at 99 %"): 10,
        ("x+y mod 23", "validation at 50 %"): 200,
        ("x+y mod 23", "validation at 99 %"): 300,
        ("x+y mod 23", "last frame"): 300,
    }
    assert table["step"].is_monotonic_increasing
    assert table.loc["x+y mod 23"].loc["validation at 50 %", "validation"] == 0.6
    assert table["order"].iloc[-1] == pytest.approx(1, abs=1e-4)
    assert "validation at 50 %" not in film.moments(film.read(made_up()[:3])).loc["x+y mod 23"].index
    assert film.moments([]).empty


def unpacked(text, kind=np.uint8):
    return np.frombuffer(base64.b64decode(text), kind)


def test_page_has_the_frames_as_they_are(addition):
    told = json.loads(json.dumps(film.widget([addition]).data))["films"][0]
    assert told["frames"]["step"] == STEPS
    assert told["frames"]["validation"] == [0.0, 0.1, 0.2, 0.6, 1.0]
    assert told["curve"]["step"] == STEPS
    points = unpacked(told["points"], "<i2").reshape(addition.points.shape) / 32767
    np.testing.assert_allclose(points, addition.points / np.abs(addition.points).max(), atol=1e-4)
    right = np.unpackbits(unpacked(told["right"]).reshape(len(STEPS), -1), axis=1, count=told["cells"])
    assert (right == addition.right).all()
    assert (np.unpackbits(unpacked(told["train"]), count=23 * 23) == ADDITION.dataset().is_train).all()
    assert (told["cells"], told["columns"], STEPS[told["start"]]) == (529, 23, 100)
    assert [told["marks"][label] for label in told["labels"]] == [
        told["marks"][label] for label in addition.order.labels
    ]


def test_kinds_of_cells_have_the_colours_of_figure_5(addition):
    names = [name for name, _ in film.widget([addition]).data["kinds"]]
    assert names == ["training, right", "training, wrong", "held out, right", "held out, wrong"]


def test_note_tells_the_film_in_words(addition):
    assert "x+y mod 23, to step 300: training at 99 % at step 10; validation" in film.widget([addition]).note
    assert "not learned" not in film.widget([addition]).note
    assert "No frame of the film is on record" in film.widget([]).note


def test_whole_film_is_a_small_page():
    runs = {run: len(plan.parts) // 2 for plan in [experiments.film()] for run in plan.runs}
    found = []
    for run, n_frames in runs.items():
        rng = np.random.default_rng(0)
        order = film.Order("made up", np.zeros((run.n_elements, 2)), np.arange(run.n_elements) % 60, None)
        steps = np.arange(1, n_frames + 1)
        columns = pd.DataFrame(rng.random((500, len(COLUMNS))), columns=pd.Index(COLUMNS))
        n = len(data.operation_table(run.operation, run.p, run.n).x)
        frames = {"points": rng.normal(size=(n_frames, run.n_elements, 2)), "share": rng.random(n_frames)}
        frames |= {"right": rng.random((n_frames, n)) < 0.5, "steps": steps}
        found.append(film.Film(run=run, order=order, curve=columns.assign(step=range(500)), **frames))
    assert len(film.widget(found)._repr_mimebundle_()["text/html"]) < 300_000


# The page


def test_page_runs_with_nothing_on_record(run_notebook):
    names = run_notebook("film", lambda run: None)
    assert names["films"] == []
    assert names["told"].empty
    assert "Frames are missing** for s5:xy and x+y" in names["text"]


def test_page_shows_the_run_that_is_on_record(run_notebook):
    def answer(run):
        return made_up(run, circle(97))[-1] if run.operation == "x+y" else None

    names = run_notebook("film", answer)
    assert [found.run.operation for found in names["films"]] == ["x+y"]
    assert names["told"]["training"].tolist()[-1] == 100
    assert "Frames are missing** for s5:xy." in names["text"]
