import numpy as np
import pytest

from grokking_core.weights import spectra


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def found(matrix):
    return spectra.traps(matrix, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(64, 32), (32, 64), (64, 64), (33, 32)])
def test_random_entries_have_hardly_any_trap(shape):
    counts = [found(noise(*shape, seed=seed)) for seed in range(40)]
    assert np.mean(counts) < 0.05


@pytest.mark.parametrize("shape", [(64, 32), (32, 64)])
def test_a_huge_entry_is_a_trap_and_a_strong_direction_is_none(shape):
    matrix = noise(*shape)
    matrix[3, 4] = 30
    assert found(matrix) == 1
    direction = noise(*shape) + 3 * np.outer(np.ones(shape[0]), np.ones(shape[1]) * np.sign(noise(shape[1])))
    assert found(direction) == 0, "shuffling takes correlations away"


def test_traps_do_not_depend_on_scale():
    matrix = noise(64, 32)
    matrix[3, 4] = 30
    assert found(1000 * matrix) == found(matrix)


def test_effective_rank_counts_equal_directions():
    assert spectra.effective_rank(np.eye(5)) == pytest.approx(5)
    assert spectra.effective_rank(np.outer(np.arange(1, 4), np.ones(6))) == pytest.approx(1)
    shares = np.array([0.5, 0.25, 0.25])
    assert spectra.effective_rank(np.diag([2.0, 1.0, 1.0])) == pytest.approx(
        np.exp(-(shares * np.log(shares)).sum())
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_has_neither(value):
    matrix = np.full((4, 3), value)
    assert np.isnan(found(matrix))
    assert np.isnan(spectra.effective_rank(matrix))


def test_nothing_has_no_trap_and_no_rank():
    assert found(np.zeros((4, 3))) == 0
    with np.errstate(invalid="ignore"):
        assert np.isnan(spectra.effective_rank(np.zeros((4, 3))))
