import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from grokking_core import Run, data
from grokking_core.model import networks as ensemble
from grokking_core.model import plain as model
from grokking_core.runs.record import Record
from grokking_core.weights import sharpness
from grokking_core.weights.sharpness import phi_in, released_phi_in, subspace, training_loss

pytestmark = pytest.mark.usefixtures("one_thread")

N = 50
X0 = np.random.default_rng(0).normal(size=N)
BOX = subspace(X0, dimensions=4)
TASK = Run(operation="x+y", p=7, d_model=8, n_heads=2, train_fraction=0.6, outliers=3)


def linear(slope, height=0.5):
    """A loss that is `height` at X0 and has the same slope along each of the box's directions."""
    gradient = slope * np.linalg.pinv(BOX.A).T @ np.array([1, -1, 1, 1])
    return lambda x: (height + gradient @ (x - X0), gradient)


def peak_inside(height, place):
    """A loss whose one maximum lies in the box, at y = place."""
    top = X0 + BOX.A @ place
    return lambda x: (height - np.square(x - top).sum() / 2, top - x)


# -- the definition ---------------------------------------------------------------------------------


def test_subspace_has_unit_rows_and_the_box_of_the_definition():
    inverse = np.linalg.pinv(BOX.A)
    np.testing.assert_allclose(np.linalg.norm(inverse, axis=1), 1)
    np.testing.assert_allclose(BOX.bound, 1e-3 * (np.abs(inverse @ X0) + 1))
    assert np.abs(inverse @ inverse.T - np.eye(4)).max() < 0.6, "the directions differ"


def test_subspace_is_its_seeds_own():
    again, other = subspace(X0, dimensions=4), subspace(X0, dimensions=4, seed=1)
    np.testing.assert_array_equal(BOX.A, again.A)
    assert not np.isclose(BOX.A, other.A).any()


@pytest.mark.parametrize("slope", [1e-9, 1.0, 1e3])
def test_sharpness_of_a_linear_loss_is_that_of_a_corner(slope):
    highest = 100 * slope * BOX.bound.sum() / 1.5
    assert phi_in(linear(slope), X0, BOX) == pytest.approx(highest, rel=1e-6)


def test_sharpness_finds_a_maximum_inside_the_box():
    place = BOX.bound * np.array([0.3, -0.5, 0.1, 0.7])
    loss = peak_inside(2.0, place)
    start, _ = loss(X0)
    assert phi_in(loss, X0, BOX) == pytest.approx(100 * (2 - start) / (1 + start), rel=1e-4)


def test_sharpness_of_a_flat_loss_is_zero():
    assert phi_in(lambda x: (0.3, np.zeros(N)), X0, BOX) == 0


def test_sharpness_at_a_maximum_is_zero_and_never_less():
    assert phi_in(peak_inside(2.0, np.zeros(4)), X0, BOX) == 0


def test_sharpness_stays_in_the_box():
    seen = []

    def loss(x):
        seen.append(np.linalg.pinv(BOX.A) @ (x - X0))
        return linear(1.0)(x)

    phi_in(loss, X0, BOX)
    reached = np.abs(seen).max(0) / BOX.bound
    np.testing.assert_allclose(reached, 1, rtol=1e-9)


# -- the released form ------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [0.5, 3.0])
def test_released_form_goes_downhill_and_divides_by_one_minus_the_loss(height):
    drop = 100 * 50 * BOX.bound.sum()
    released = released_phi_in(linear(50.0, height), X0, BOX, batch_size=1)
    assert released == pytest.approx(drop / (1 - height), rel=1e-6)
    assert phi_in(linear(50.0, height), X0, BOX) == pytest.approx(drop / (1 + height), rel=1e-6)


def test_released_form_misses_slopes_that_the_batch_size_hides():
    assert released_phi_in(linear(1e-3), X0, BOX, batch_size=1) > 0
    assert released_phi_in(linear(1e-3), X0, BOX, batch_size=512) == 0


def test_released_form_adds_gradients_up():
    # scipy stops at slopes of 1e-5; the second gradient is added to the first
    assert released_phi_in(linear(0.6e-5), X0, BOX, batch_size=1) > 0
    assert released_phi_in(linear(0.4e-5), X0, BOX, batch_size=1) == 0


# -- of networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["transformer", "mlp"])
def test_training_loss_agrees_with_the_plain_network(architecture, monkeypatch):
    monkeypatch.setattr(sharpness, "_BLOCK", 10)  # 29 equations: three blocks, the last one shorter
    run = Run(**TASK.identity() | {"architecture": architecture, "precision": "fp64"})
    network, dataset = model.build(run), run.dataset()
    tokens = torch.from_numpy(data.tokens(dataset.x, dataset.y, run.n_elements))[dataset.train]
    plain = F.cross_entropy(network(tokens), torch.from_numpy(dataset.label)[dataset.train])
    slopes = torch.autograd.grad(plain, list(network.parameters()))
    value, gradient = training_loss(run)(ensemble.first_parameters(run).numpy())
    assert value == pytest.approx(plain.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, torch.cat([s.flatten() for s in slopes]), rtol=1e-9, atol=1e-12)


def test_sharpness_of_a_network_is_the_highest_loss_seen_in_its_box():
    parameters = ensemble.first_parameters(TASK)
    x0, loss = parameters.double().numpy(), training_loss(TASK)
    box = subspace(x0, dimensions=3, eps=1e-2, seed=5)
    corners = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T * box.bound
    highest = max(loss(x0 + box.A @ corner)[0] for corner in corners)
    here, _ = loss(x0)
    found = sharpness.phi(TASK, parameters, dimensions=3, eps=1e-2, seed=5)
    assert found == pytest.approx(100 * (highest - here) / (1 + here), rel=1e-3)


def test_measure_gives_both_forms_in_each_subspace():
    parameters = ensemble.first_parameters(TASK)
    measured = sharpness.measure(TASK, parameters, n_subspaces=2)
    for seed in range(2):
        assert measured["phi"][seed] == sharpness.phi(TASK, parameters, seed=seed)
        assert measured["released"][seed] == sharpness.released_phi(TASK, parameters, seed=seed)
    assert (measured["phi"] > 0).all()
    assert len(set(measured["phi"])) == 2, "another subspace, another value"
    assert all(values.dtype == np.float64 for values in measured.values())


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_sharpness_of_a_network_that_diverged_is_not_a_number(weight):
    parameters = ensemble.first_parameters(TASK).index_fill(0, torch.tensor(3), weight)
    measured = sharpness.measure(TASK, parameters, n_subspaces=1)
    assert np.isnan(measured["phi"]).all()
    assert np.isnan(measured["released"]).all()


def test_measure_leaves_weights_and_the_global_generator_alone():
    parameters = ensemble.first_parameters(TASK)
    before, generator = parameters.clone(), torch.get_rng_state()
    sharpness.measure(TASK, parameters, n_subspaces=1)
    assert torch.equal(parameters, before)
    assert torch.equal(torch.get_rng_state(), generator)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"parameters of shape \(3,\) must have shape \(\d+,\)"):
        sharpness.phi(TASK, np.zeros(3))


@pytest.mark.parametrize("dimensions", [0, N + 1])
def test_subspace_needs_some_dimensions_and_not_more_than_weights(dimensions):
    with pytest.raises(ValueError, match=rf"dimensions={dimensions} must lie in 1..{N}"):
        subspace(X0, dimensions=dimensions)


def test_summary_has_the_end_of_each_network_and_means_over_subspaces():
    ends = {"train_loss": 0.5, "train_accuracy": 1.0, "validation_accuracy": 0.4, "unmirrored_accuracy": 0.3}
    curve = pd.DataFrame([{"step": 0} | dict.fromkeys(ends, 9.0), {"step": 70} | ends])
    kept = {"sharpness": {"phi": np.array([1.0, 3.0, 8.0]), "released": np.array([0.0, 0.0, 0.3])}}
    record = Record(run=Run(operation="x+y", train_fraction=0.3, seed=2), curve=curve, kept=kept)
    table = sharpness.table([record])
    assert table.iloc[0].to_dict() == {
        "train_fraction": 0.3, "seed": 2, "followed": 70, "train_loss": 0.5, "train": 1.0,
        "validation": 0.4, "unmirrored": 0.3, "phi": 4.0, "released": pytest.approx(0.1), "n_subspaces": 3,
    }  # fmt: skip
    nothing = sharpness.table([])
    assert (len(nothing), list(nothing)) == (0, list(table))
