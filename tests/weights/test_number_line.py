import math

import numpy as np
import pytest

from grokking_core.weights import number_line


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape)


def circles(p, *frequencies, noise=0.0, sizes=None):
    """Rows on circles, element x at the angle 2 pi f x / p."""
    angle = 2 * np.pi * np.outer(np.arange(p), frequencies) / p
    size = np.ones(len(frequencies)) if sizes is None else np.array(sizes)
    rows = np.concatenate([size * np.cos(angle), size * np.sin(angle)], axis=1)
    return rows + noise * draw(*rows.shape)


@pytest.mark.parametrize(("p", "frequency"), [(97, 1), (97, 5), (97, 12), (97, 48), (23, 4), (24, 5)])
def test_line_of_one_circle_has_the_inverse_of_its_frequency_as_step(p, frequency):
    table = number_line.line_test(circles(p, frequency), p)
    inverse = pow(frequency, -1, p)
    assert table["step"][0] == min(inverse, p - inverse)
    assert table["agreement"][0] == 1
    assert table["p_corrected"][0] == pytest.approx(1 / 201)
    assert (table["agreement"][1:] == 0).all()


def test_line_of_two_circles_has_a_step_that_is_short_on_both():
    table = number_line.line_test(circles(97, 10, 29), 97)
    angle = 2 * np.pi * np.outer(np.arange(1, 49), (10, 29)) / 97
    assert table["step"][0] == 1 + np.cos(angle).sum(1).argmax()
    assert table["agreement"][0] == 1


def test_line_of_the_rows_survives_noise_turns_and_the_rows_of_op_and_equals():
    turn = np.linalg.qr(draw(40, 40))[0][:2]
    rows = circles(97, 12, noise=0.02) @ turn
    table = number_line.line_test(np.concatenate([rows, np.ones((2, 40))]), 97)
    assert table["step"][0] == 8  # 8 x 12 = 96
    assert 0.5 < table["agreement"][0] < 1


def test_line_is_not_found_in_rows_without_one():
    table = number_line.line_test(draw(97, 20), 97)
    assert table["p_corrected"].min() > 0.05
    assert table["agreement"].sum() == pytest.approx(1), "each neighbour is at some step"
    assert table["chance"].sum() == pytest.approx(1)


def test_line_is_lost_when_the_elements_are_renamed():
    rows = circles(97, 12)[np.random.default_rng(0).permutation(97)]
    assert number_line.line_test(rows, 97)["p_corrected"].min() > 0.05


@pytest.mark.parametrize("p", [6, 7])
def test_line_test_gives_distances_over_those_of_all_pairs(p):
    rows = draw(p, 5)
    table = number_line.line_test(rows, p, n_shuffles=10).set_index("step")
    squares = np.square(rows[:, None] - rows).sum(-1)
    for step in range(1, p // 2 + 1):
        of_step = np.mean([squares[x, (x + step) % p] for x in range(p)])
        assert table["distance"][step] == pytest.approx(of_step / (squares.sum() / (p * (p - 1))))


def test_line_test_is_repeated_by_its_seed():
    rows = circles(23, 3, noise=0.5)
    a, b = (number_line.line_test(rows, 23, n_shuffles=20, seed=4) for _ in range(2))
    assert a.equals(b)


@pytest.mark.parametrize("p", [23, 24])
def test_frequencies_of_circles_are_their_squared_radii(p):
    shares = number_line.frequencies(circles(p, 3, 7, sizes=[2, 1]) + 5, p)
    assert shares.shape == (p // 2,)
    np.testing.assert_allclose(shares[[2, 6]], [0.8, 0.2])
    assert shares.sum() == pytest.approx(1)


def test_frequencies_of_alternating_rows_are_the_highest():
    rows = (-1.0) ** np.arange(8)[:, None]
    np.testing.assert_allclose(number_line.frequencies(rows, 8), [0, 0, 0, 1], atol=1e-12)


@pytest.mark.parametrize(("test", "p"), [(number_line.line_test, 3), (number_line.frequencies, 2)])
def test_small_modulus_is_refused(test, p):
    with pytest.raises(ValueError, match=f"p={p} must be at least {p + 1}"):
        test(np.eye(p), p)


@pytest.mark.parametrize("test", [number_line.line_test, number_line.frequencies])
def test_rows_of_another_modulus_are_refused(test):
    with pytest.raises(ValueError, match=r"rows of shape \(23, 4\) must have shape \(22, D\)"):
        test(circles(23, 1, 2), 22)


def test_frequencies_of_equal_rows_are_refused():
    with pytest.raises(ValueError, match="rows must differ"):
        number_line.frequencies(np.ones((5, 3)), 5)


@pytest.mark.parametrize(("p", "step"), [(97, 45), (97, 8), (96, 5), (24, 9), (24, 12), (5, 2)])
def test_stretches_are_pieces_of_the_line_as_long_as_each_other(p, step):
    labels = number_line.stretches(p, step, n=8)
    sizes = np.bincount(labels, minlength=8)
    assert sizes.sum() == p
    assert np.ptp(sizes) <= 1
    steps_within = sum(labels[x] == labels[(x + step) % p] for x in range(p))
    n_lines = math.gcd(p, step)
    assert steps_within >= p - 8 - n_lines, "a line is cut at the ends of stretches and where it closes"


def test_stretches_of_step_8_are_nearly_the_residues_of_figure_3():
    labels, x = number_line.stretches(97, 8), np.arange(97)
    same = sum((labels[x % 8 == r] == np.bincount(labels[x % 8 == r]).argmax()).sum() for r in range(8))
    assert same > 0.9 * 97
