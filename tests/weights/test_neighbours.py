import numpy as np
import pytest

from grokking_core.weights import neighbours as embedding

ROWS = np.random.default_rng(0).normal(size=(30, 8))


def draw(*shape):
    return np.random.default_rng(1).normal(size=shape)


def same_part(parts):
    """Share of neighbours in the same part, for some ways (W, P) to part the elements."""
    return lambda names, near: (parts[:, names, None] == parts[:, near]).mean((1, 2))


# -- rows and neighbours ----------------------------------------------------------------------------


def test_elements_leave_out_the_rows_of_op_and_equals():
    np.testing.assert_array_equal(embedding.elements(ROWS, 28), ROWS[:28])
    np.testing.assert_array_equal(embedding.elements(ROWS, 30), ROWS)


@pytest.mark.parametrize("n_elements", [27, 29, 31])
def test_elements_of_another_size_are_refused(n_elements):
    with pytest.raises(ValueError, match=rf"rows of shape \(30, 8\) must have shape \({n_elements}, D\)"):
        embedding.elements(ROWS, n_elements)


def test_elements_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="rows must be finite"):
        embedding.elements(np.where(ROWS > 2, np.nan, ROWS), 30)


def test_nearest_rows_agree_with_distances_one_by_one():
    for i, found in enumerate(embedding.nearest(ROWS, 3)):
        distances = {j: np.linalg.norm(ROWS[i] - ROWS[j]) for j in range(30) if j != i}
        assert list(found) == sorted(distances, key=distances.__getitem__)[:3]


def test_nearest_rows_stay_when_all_rows_move_turn_or_grow():
    turn = np.linalg.qr(draw(8, 8))[0]
    np.testing.assert_array_equal(embedding.nearest(3 * ROWS @ turn + 7, 3), embedding.nearest(ROWS, 3))


# -- shuffles ---------------------------------------------------------------------------------------


def test_shuffled_names_give_each_data_set_the_same_chance():
    """Of 200 sets without structure about 10 have a corrected p of 5 % or less in the best of 20 tests."""
    generator, hits = np.random.default_rng(0), 0
    parts = generator.integers(0, 3, size=(20, 30))
    together = parts[:, :, None] == parts[:, None, :]
    chance = (together.sum((1, 2)) - 30) / (30 * 29)
    for _ in range(200):
        near = embedding.nearest(generator.normal(size=(30, 8)), 3)
        tested = embedding.against_shuffles(same_part(parts), chance, near, 39, seed=1)
        hits += tested.p_corrected.min() <= 0.05
    assert 3 <= hits <= 20


def test_shuffled_names_tell_what_is_there_from_what_is_not():
    parts = np.stack([np.arange(30) // 6, np.arange(30) % 5])
    near = embedding.nearest(draw(5, 8)[parts[0]] + 0.3 * ROWS, 3)
    chance = np.full(2, 5 / 29)
    tested = embedding.against_shuffles(same_part(parts), chance, near, 99, seed=0)
    assert tested.agreement[0] > 0.9
    assert tested.p_corrected[0] == 0.01, "no shuffle of 99 does as well"
    assert tested.p_corrected[1] > 0.2
    assert tested.z[0] > 10 > 2 > tested.z[1]


def test_shuffled_names_find_the_chance_that_was_worked_out():
    parts = np.array([[0] * 10 + [1] * 20])
    chance = (10 * 9 + 20 * 19) / (30 * 29)
    near, seen = embedding.nearest(ROWS, 3), []
    embedding.against_shuffles(
        lambda *a: seen.append(same_part(parts)(*a)) or seen[-1], np.zeros(1), near, 4000, 0
    )
    assert np.mean(seen[1:]) == pytest.approx(chance, abs=0.005)


def test_what_cannot_vary_is_no_evidence():
    near = embedding.nearest(ROWS, 3)
    tested = embedding.against_shuffles(same_part(np.zeros((1, 30))), np.ones(1), near, 20, seed=0)
    assert (tested.agreement[0], tested.z[0], tested.p_corrected[0]) == (1, 0, 1)


def test_shuffles_are_repeated_by_their_seed():
    near, parts = embedding.nearest(ROWS, 3), np.arange(120).reshape(4, 30) % 7
    chance = np.full(4, 0.1)
    a, b, c = (embedding.against_shuffles(same_part(parts), chance, near, 20, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.z, b.z)
    assert not np.array_equal(a.z, c.z)


# -- the picture ------------------------------------------------------------------------------------


def test_picture_keeps_clusters_together_and_is_repeated():
    cluster = np.arange(30) // 10
    rows = 5 * draw(3, 8)[cluster] + 0.1 * ROWS
    points = embedding.picture(rows, perplexity=5)
    assert points.shape == (30, 2)
    assert (cluster[embedding.nearest(points, 3)] == cluster[:, None]).all()
    np.testing.assert_array_equal(points, embedding.picture(rows, perplexity=5))


def test_picture_of_few_rows_needs_no_other_arguments():
    assert np.isfinite(embedding.picture(ROWS[:6])).all()
