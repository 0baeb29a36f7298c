from functools import cache

import numpy as np
import pytest
import torch

from grokking_core import Run, data
from grokking_core.model import plain as model
from grokking_core.training import plain as train
from grokking_core.weights import ends as kept

SMALL = {"operation": "x+y", "p": 7, "d_model": 8, "n_heads": 2, "n_layers": 1, "train_fraction": 0.7}
RUNS = {
    "transformer": Run(**SMALL),
    "pre norm": Run(**SMALL, norm="pre", dropout=0.3, weight_noise=0.1),
    "MLP": Run(**SMALL, architecture="mlp", precision="fp64"),
    "group": Run(**SMALL | {"operation": "s5:xy", "n": 3}),
    "division": Run(**SMALL | {"operation": "x/y"}),
}


train_once = cache(train.train)


@pytest.fixture(params=RUNS)
def trained(request, one_thread):
    return train_once(RUNS[request.param], 100)


def test_weights_are_the_very_weights(trained):
    found = kept.weights(trained.run, trained.parameters)
    assert set(found) == {"parameters"}
    np.testing.assert_array_equal(found["parameters"], trained.parameters.numpy())


def test_output_rows_are_those_of_the_trained_network(trained):
    network = model.build(trained.run)
    torch.nn.utils.vector_to_parameters(trained.parameters, network.parameters())
    rows = kept.output_rows(trained.run, trained.parameters)["rows"]
    assert rows.shape[0] == trained.run.n_elements + 2
    np.testing.assert_array_equal(rows, network.output.weight.detach().numpy())


def test_answers_are_right_as_often_as_the_curve_says(trained):
    dataset, run = trained.run.dataset(), trained.run
    answer = kept.answers(run, trained.parameters)["answer"]
    assert (answer.dtype, answer.shape) == (np.int16, dataset.x.shape)
    right, last = answer == data.operation_table(run.operation, run.p, run.n).answer, trained.curve.iloc[-1]
    assert right[dataset.is_train].mean() == pytest.approx(last["train_accuracy"])
    assert right[~dataset.is_train].mean() == pytest.approx(last["validation_accuracy"])


def test_answers_do_not_depend_on_how_many_are_computed_at_once(monkeypatch, trained):
    whole = kept.answers(trained.run, trained.parameters)["answer"]
    monkeypatch.setattr(kept, "_BLOCK", 5)
    np.testing.assert_array_equal(kept.answers(trained.run, trained.parameters)["answer"], whole)


def test_frame_has_the_rows_of_the_elements_and_what_is_right(trained):
    run, found = trained.run, kept.frame(trained.run, trained.parameters)
    rows = kept.output_rows(run, trained.parameters)["rows"][: run.n_elements]
    assert found["rows"].dtype == np.float16
    largest = np.abs(rows).max()
    np.testing.assert_allclose(found["rows"], rows, rtol=0, atol=largest / 128)
    step = np.abs(np.diff(np.unique(found["rows"].astype(float)))).min()
    assert largest / 128 <= step < largest / 64
    assert np.log2(step) % 1 == 0
    answer = data.operation_table(run.operation, run.p, run.n).answer
    right = kept.answers(run, trained.parameters)["answer"] == answer
    np.testing.assert_array_equal(np.unpackbits(found["right"], count=len(answer)).astype(bool), right)


def test_sharpness_is_a_number_a_subspace(trained):
    found = kept.sharpness(trained.run, trained.parameters)
    assert {name: array.shape for name, array in found.items()} == {"phi": (3,), "released": (3,)}
    assert (found["phi"] >= 0).all()


def test_traps_are_a_number_a_matrix_and_the_same_each_time(trained):
    found = kept.traps(trained.run, trained.parameters)
    n_matrices = sum(weight.ndim == 2 for weight in model.build(trained.run).parameters())
    assert found["count"].shape == (n_matrices,)
    assert (found["count"] == kept.traps(trained.run, trained.parameters)["count"]).all()


def test_measuring_leaves_the_weights_alone(trained):
    before = trained.parameters.clone()
    found = kept.measure(kept.KEPT, trained.run, trained.parameters)
    assert set(found) == {"weights", "output_rows", "answers", "frame", "sharpness", "traps"}
    assert torch.equal(trained.parameters, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_weights_of_a_diverged_run_are_measured(trained, value):
    found = kept.measure(kept.KEPT, trained.run, torch.full_like(trained.parameters, value))
    assert (found["output_rows"]["rows"] == value).all() or np.isnan(value)
    assert found["sharpness"]["phi"].shape == found["sharpness"]["released"].shape == (3,)
    if not np.isfinite(value):
        assert (found["answers"]["answer"] == -1).all()
        assert not found["frame"]["right"].any()
        assert not np.isfinite(found["frame"]["rows"]).any()
        assert np.isnan(found["sharpness"]["phi"]).all()
        assert np.isnan(found["traps"]["count"]).all()


def test_names_are_each_taken_once():
    assert kept.check(["answers", "weights", "answers"]) == ("answers", "weights")
    assert kept.check(()) == ()


@pytest.mark.parametrize("keep", [("rows",), ["weights", "phi"], "weights"])
def test_unknown_names_are_refused(keep):
    with pytest.raises(
        ValueError, match=r"keep=.*out of weights, output_rows, answers, frame, sharpness, traps$"
    ):
        kept.check(keep)
