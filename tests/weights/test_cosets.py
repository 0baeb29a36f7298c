from collections import Counter

import numpy as np
import pytest

from grokking_core import data
from grokking_core.weights import cosets
from grokking_core.weights.cosets import (
    coset_test,
    generated,
    labels,
    paper_subgroup,
    product_table,
    subgroups,
)


def named(name, conjugate=0, n=5):
    return next(s for s in subgroups(n) if (s.name, s.conjugate) == (name, conjugate))


def planted(parts, noise=0.5, d=32):
    """Rows around a centre for each part, and those of `op` and `=`."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(parts.max() + 1, d))[parts]
    return np.concatenate([rows + noise * generator.normal(size=rows.shape), np.zeros((2, d))])


# -- subgroups --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "n_subgroups", "n_classes"), [(2, 2, 2), (3, 6, 4), (4, 30, 11), (5, 156, 19)])
def test_subgroups_are_as_many_as_there_are(n, n_subgroups, n_classes):
    assert len(subgroups(n)) == len({s.elements for s in subgroups(n)}) == n_subgroups
    assert len({s.name for s in subgroups(n)}) == n_classes, "each class has a name of its own"


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_subgroups_are_closed_and_their_orders_divide_that_of_the_group(n):
    product, identity = product_table(n), 0
    for s in subgroups(n):
        assert identity in s.elements
        assert set(product[np.ix_(s.elements, s.elements)].ravel()) == set(s.elements)
        assert len(product) % s.order == 0


def test_subgroups_have_conjugates_and_orders_as_in_the_tables_of_s5():
    sizes = {"C2 on 2": (2, 10), "C2 on 2+2": (2, 15), "C2xC2 on 2+2": (4, 15), "C2xC2 on 4": (4, 5)}
    sizes |= {"S3 on 3": (6, 10), "S3 on 3+2": (6, 10), "C6": (6, 10), "D4": (8, 15), "D5": (10, 6)}
    sizes |= {"A4": (12, 5), "S3xC2": (12, 10), "F20": (20, 6), "S4": (24, 5), "A5": (60, 1), "S5": (120, 1)}
    sizes |= {"1": (1, 1), "C3": (3, 10), "C4": (4, 15), "C5": (5, 6)}
    orders, counts = {s.name: s.order for s in subgroups(5)}, Counter(s.name for s in subgroups(5))
    assert {name: (orders[name], counts[name]) for name in orders} == sizes


def test_subgroups_of_a_class_are_conjugate():
    group, product = np.arange(120), product_table(5)
    inverse = data.inverse(group, 5)
    for name in ("D5", "S3 on 3+2", "A5"):
        first = list(named(name).elements)
        conjugates = {tuple(sorted(product[product[inverse[g], first], g].tolist())) for g in group}
        assert conjugates == {s.elements for s in subgroups(5) if s.name == name}


@pytest.mark.parametrize("n", [3, 4, 5])
def test_normal_subgroups_are_those_of_the_textbook(n):
    normal = {3: {"1", "C3", "S3"}, 4: {"1", "C2xC2 on 4", "A4", "S4"}, 5: {"1", "A5", "S5"}}[n]
    assert {s.name for s in subgroups(n) if s.is_normal} == normal


def test_product_table_is_the_operation_that_networks_learn():
    x, y, answer = data.operation_table("s5:xy", n=4)
    np.testing.assert_array_equal(product_table(4)[x, y], answer)


def test_paper_subgroup_has_ten_elements_and_is_generated_by_its_two():
    paper = paper_subgroup()
    assert (paper.name, paper.order) == ("D5", 10)
    permutations = data.symmetric_group(5)[list(paper.elements)].tolist()
    assert [3, 4, 2, 0, 1] in permutations, "(0 3)(1 4)"
    assert [0, 2, 1, 4, 3] in permutations, "(1 2)(3 4)"


def test_generated_by_nothing_is_the_identity():
    assert generated([], 4) == (0,)


@pytest.mark.parametrize("n", [1, 6])
def test_subgroups_of_other_groups_are_refused(n):
    with pytest.raises(ValueError, match=rf"n={n} must lie in 2\.\.5"):
        subgroups(n)


# -- cosets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["C2 on 2+2", "S3 on 3", "D5", "S4", "A5"])
def test_labels_part_the_group_into_cosets(name, side):
    subgroup, product = named(name), product_table(5)
    part = labels(subgroup, side)
    assert np.bincount(part).tolist() == [subgroup.order] * (120 // subgroup.order)
    assert tuple(np.flatnonzero(part == 0)) == subgroup.elements
    for g in (0, 17, 119):
        coset = product[g, subgroup.elements] if side == "left" else product[subgroup.elements, g]
        assert set(part[coset]) == {part[g]}


def test_left_cosets_of_a_point_stabilizer_are_told_by_what_goes_to_the_point():
    """S4 keeps one point: g h has that point where g has it, h g sends that point where g does."""
    stabilizer, group = named("S4"), data.symmetric_group(5)
    kept = int(np.flatnonzero((group[list(stabilizer.elements)] == np.arange(5)).all(0))[0])
    left, right = labels(stabilizer, "left"), labels(stabilizer, "right")
    assert len(set(zip(left, np.argsort(group, axis=1)[:, kept], strict=True))) == 5
    assert len(set(zip(right, group[:, kept], strict=True))) == 5


def test_sides_are_the_same_for_normal_subgroups_only():
    for s in subgroups(4):
        assert np.array_equal(labels(s, "left"), labels(s, "right")) == s.is_normal


def test_side_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="side='both' must be left or right"):
        labels(paper_subgroup(), "both")  # type: ignore[arg-type]


# -- the test ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("name", "conjugate"), [("D5", 1), ("A4", 3), ("S3 on 3+2", 7), ("C4", 2)])
def test_planted_cosets_are_found_with_their_side_and_conjugate(name, conjugate, side):
    table = coset_test(planted(labels(named(name, conjugate), side)), n_shuffles=50)
    best = table.iloc[0]
    assert (best["name"], best["conjugate"], best["side"]) == (name, conjugate, side)
    assert best["agreement"] > 0.95
    assert best["p_corrected"] == pytest.approx(1 / 51)
    np.testing.assert_array_equal(cosets.best_labels(table), labels(named(name, conjugate), side))


def test_cosets_on_one_side_are_no_cosets_on_the_other():
    table = coset_test(planted(labels(named("S4", 2), "left")), n_shuffles=50)
    of_s4 = table[table["name"] == "S4"].set_index(["conjugate", "side"])["agreement"]
    assert of_s4[2, "left"] > 0.95
    assert of_s4.drop((2, "left")).max() < 0.5


def test_cosets_of_a_normal_subgroup_have_no_side():
    table = coset_test(planted(labels(named("A5"), "left")), n_shuffles=50)
    assert table.loc[0, ["name", "side"]].tolist() == ["A5", "both"]
    np.testing.assert_array_equal(cosets.best_labels(table), labels(named("A5"), "left"))


def test_rows_without_structure_show_none():
    table = coset_test(np.random.default_rng(0).normal(size=(120, 32)))
    assert table["p_corrected"].min() > 0.05
    table = coset_test(planted(labels(named("D5"), "left"))[np.random.default_rng(0).permutation(120)])
    assert table["p_corrected"].min() > 0.05, "clusters under wrong names are none"


@pytest.mark.parametrize(("n", "n_tests"), [(3, 7), (4, 54), (5, 307)])
def test_coset_test_has_a_row_for_each_proper_subgroup_and_side(n, n_tests):
    table = coset_test(np.random.default_rng(0).normal(size=(len(product_table(n)), 9)), n=n, n_shuffles=20)
    assert len(table) == n_tests
    assert table["z"].is_monotonic_decreasing
    for row in table.itertuples():
        assert subgroups(n)[row.subgroup].name == row.name
        assert row.chance == pytest.approx((row.order - 1) / (len(product_table(n)) - 1))


def test_coset_test_counts_the_neighbours_in_the_same_coset():
    rows = np.random.default_rng(0).normal(size=(24, 9))
    for row in coset_test(rows, n=4, n_shuffles=10).itertuples():
        part, same = labels(subgroups(4)[row.subgroup], "right" if row.side == "right" else "left"), 0
        for g in range(24):
            nearest = np.argsort(np.linalg.norm(rows - rows[g], axis=1))[1:4]
            same += sum(part[nearest] == part[g])
        assert row.agreement == pytest.approx(same / (24 * 3))


def test_best_conjugates_have_one_row_a_name_and_side():
    table = coset_test(planted(labels(named("D5", 1), "left")), n_shuffles=20)
    best = cosets.best_conjugates(table)
    assert len(best) == len(set(zip(best["name"], best["side"], strict=True))) == 2 * 16 + 1
    of_c4 = table[(table["name"] == "C4") & (table["side"] == "left")]
    assert best[(best["name"] == "C4") & (best["side"] == "left")]["z"].item() == of_c4["z"].max()


def test_coset_test_is_repeated_by_its_seed():
    rows = np.random.default_rng(0).normal(size=(24, 9))
    a, b, c = (coset_test(rows, n=4, n_shuffles=20, seed=seed) for seed in (3, 3, 4))
    assert a.equals(b)
    assert not a.equals(c)


def test_coset_test_of_two_letters_is_refused():
    with pytest.raises(ValueError, match=r"n=2 must lie in 3\.\.5"):
        coset_test(np.eye(2), n=2)


def test_rows_of_another_group_are_refused():
    with pytest.raises(ValueError, match=r"rows of shape \(24, 3\) must have shape \(120, D\)"):
        coset_test(np.ones((24, 3)))
