import itertools
import math

import numpy as np
import pytest
from scipy import stats

from grokking_core import Run, data

RESIDUES = [name for name, operation in data.OPERATIONS.items() if not operation.on_group]
ON_GROUP = [name for name, operation in data.OPERATIONS.items() if operation.on_group]
DIVIDING = ["x/y", "x/y|x-y"]
SYMMETRIC = ["x+y", "x*y", "x*y!=0", "x^2+y^2", "x^2+xy+y^2"]
PRIMES = [2, 5, 11, 97]
FRACTIONS = [0.01, 0.1, 1 / 3, 0.5, 0.95, 0.999]


def square(operation, p=97, n=5):
    """Answers as a square array, [x, y]; -1 outside the domain."""
    x, y, answer = data.operation_table(operation, p, n)
    size = data.n_elements(operation, p, n)
    table = np.full((size, size), -1)
    table[x, y] = answer
    return table


def dataset(**fields):
    return Run(**{"operation": "x+y", "p": 11, **fields}).dataset()


# Every table.


def test_operations_are_the_papers_twelve_and_two_products():
    assert len(RESIDUES) == 11
    assert ON_GROUP == ["s5:xy", "s5:xyx^-1", "s5:xyx"]


@pytest.mark.parametrize("operation", data.OPERATIONS)
def test_table_has_each_pair_of_its_domain_once(operation):
    x, y, _ = data.operation_table(operation)
    size = 120 if operation in ON_GROUP else 96 if operation == "x*y!=0" else 97
    lowest = 1 if operation == "x/y" else 0
    assert len(x) == {96: 9_216, 97: 9_409, 120: 14_400}[size] - (97 if operation == "x/y" else 0)
    assert set(zip(x.tolist(), y.tolist(), strict=True)) == set(
        itertools.product(range(size), range(lowest, size))
    )


@pytest.mark.parametrize(
    ("operation", "p"), [(o, p) for o in RESIDUES for p in PRIMES if (o, p) != ("x*y!=0", 2)]
)
def test_residue_answers_are_residues(operation, p):
    table = data.operation_table(operation, p)
    size = p - 1 if operation == "x*y!=0" else p
    assert all(column.dtype == np.int64 and column.shape == table.x.shape for column in table)
    assert len(table.x) == size * (p - 1 if operation == "x/y" else size)
    assert table.answer.min() >= 0
    assert table.answer.max() < size


@pytest.mark.parametrize(("operation", "n"), [(o, n) for o in ON_GROUP for n in range(2, 6)])
def test_group_answers_are_permutations_of_the_group(operation, n):
    table = data.operation_table(operation, n=n)
    assert len(table.x) == math.factorial(n) ** 2
    assert table.answer.min() >= 0
    assert table.answer.max() < math.factorial(n)


@pytest.mark.parametrize("column", range(3))
def test_table_cannot_be_written_to(column):
    with pytest.raises(ValueError, match="read-only"):
        data.operation_table("x+y", 5)[column][0] = 1


@pytest.mark.parametrize("operation", data.OPERATIONS)
def test_table_is_symmetric_exactly_where_the_operation_is(operation):
    table = square(operation)
    assert np.array_equal(table, table.T) == (operation in SYMMETRIC)


def test_operation_says_how_it_is_written_and_called():
    for name, operation in data.OPERATIONS.items():
        assert operation.latex.startswith("$"), name
        assert operation.n_operations >= 1, name
        assert bool(operation.words) == operation.on_group, name
    by_hand = {"x/y|x-y": 3, "x^2+xy+y^2": 5, "x^3+xy^2+y": 6, "s5:xyx^-1": 3}
    assert {name: data.OPERATIONS[name].n_operations for name in by_hand} == by_hand


# Residues.


@pytest.mark.parametrize("p", [*PRIMES, 96])
def test_addition_counts_round(p):
    table = square("x+y", p)
    assert np.array_equal(table[0], np.arange(p))  # 0 is neutral, and one more in x is one more
    assert np.array_equal(table[1:], (table[:-1] + 1) % p)


@pytest.mark.parametrize("p", [*PRIMES, 96])
def test_multiplication_is_repeated_addition(p):
    plus, times = square("x+y", p), square("x*y", p)
    assert np.all(times[0] == 0)
    assert np.array_equal(times[1:], plus[times[:-1], np.arange(p)])


@pytest.mark.parametrize("p", [*PRIMES, 96])
def test_subtraction_undoes_addition(p):
    x, y, difference = data.operation_table("x-y", p)
    assert np.array_equal(square("x+y", p)[difference, y], x)


@pytest.mark.parametrize("p", PRIMES)
def test_division_undoes_multiplication(p):
    x, y, quotient = data.operation_table("x/y", p)
    assert np.array_equal(square("x*y", p)[quotient, y], x)


@pytest.mark.parametrize("p", PRIMES)
def test_inverses_multiply_to_one(p):
    inverses = data.inverses(p)
    assert inverses[0] == 0
    assert np.all(inverses[1:] * np.arange(1, p) % p == 1 % p)


@pytest.mark.parametrize("p", PRIMES)
def test_mixed_operation_divides_by_odd_y_and_subtracts_even_y(p):
    mixed = square("x/y|x-y", p)
    assert np.array_equal(mixed[:, 1::2], square("x/y", p)[:, 1::2])
    assert np.array_equal(mixed[:, 0::2], square("x-y", p)[:, 0::2])


@pytest.mark.parametrize("p", [*PRIMES, 96])
@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("x^2+y^2", lambda x, y: (x + y) ** 2 - 2 * x * y),
        ("x^2+xy+y^2", lambda x, y: (x + y) ** 2 - x * y),
        ("x^2+xy+y^2+x", lambda x, y: (x + y) * (x + 1) + y * (y - 1)),
        ("x^3+xy", lambda x, y: x * (x * x + y)),
        ("x^3+xy^2+y", lambda x, y: x * (x * x + y * y) + y),
    ],
)
def test_polynomials_agree_with_another_form_in_whole_numbers(operation, answer, p):
    for x, y, z in zip(*(column.tolist() for column in data.operation_table(operation, p)), strict=True):
        assert (answer(x, y) - z) % p == 0


@pytest.mark.parametrize(("p", "root"), [(11, 2), (97, 5)])
def test_addition_mod_p_less_1_is_multiplication_mod_p_renamed(p, root):
    """Claim C22: a -> root^a takes one table to the other, on nonzero operands."""
    name = np.array([pow(root, a, p) for a in range(p - 1)])
    assert set(name) == set(range(1, p))  # root is primitive
    a, b, total = data.operation_table("x+y", p - 1)
    assert np.array_equal(square("x*y", p)[name[a], name[b]], name[total])
    assert np.array_equal(square("x*y!=0", p)[name[a] - 1, name[b] - 1], name[total] - 1)


@pytest.mark.parametrize("p", [3, 11, 97])
def test_multiplication_of_nonzero_residues_numbers_them_from_0(p):
    assert np.array_equal(square("x*y!=0", p) + 1, square("x*y", p)[1:, 1:])


def test_multiplication_of_nonzero_residues_needs_two_of_them():
    with pytest.raises(ValueError, match="p=2 must be at least 3 for 'x\\*y!=0'"):
        data.operation_table("x*y!=0", 2)


# The symmetric group.


@pytest.mark.parametrize("n", range(2, 6))
def test_symmetric_group_is_in_lexicographic_order(n):
    rows = [tuple(row) for row in data.symmetric_group(n).tolist()]
    assert len(set(rows)) == math.factorial(n)
    assert rows == sorted(rows)
    assert all(sorted(row) == list(range(n)) for row in rows)


@pytest.mark.parametrize("n", range(2, 6))
def test_product_is_first_x_then_y_on_positions(n):
    rows = [tuple(row) for row in data.symmetric_group(n).tolist()]
    for x, y, xy in zip(*(c.tolist() for c in data.operation_table("s5:xy", n=n)), strict=True):
        assert rows[xy] == tuple(rows[y][rows[x][i]] for i in range(n))


def test_product_of_two_transpositions_depends_on_their_order():
    """(1 0 2) then (0 2 1): 0 -> 1 -> 2, 1 -> 0 -> 0, 2 -> 2 -> 1; the other way its inverse."""
    table = square("s5:xy", n=3)
    assert data.symmetric_group(3)[table[2, 1]].tolist() == [2, 0, 1]
    assert data.symmetric_group(3)[table[1, 2]].tolist() == [1, 2, 0]


@pytest.mark.parametrize("n", range(2, 6))
def test_product_is_associative(n):
    table, size = square("s5:xy", n=n), math.factorial(n)
    a, b, c = np.random.default_rng(0).integers(size, size=(3, 20_000))
    if size <= 24:
        a, b, c = np.indices((size, size, size)).reshape(3, -1)
    assert np.array_equal(table[table[a, b], c], table[a, table[b, c]])


@pytest.mark.parametrize("n", range(2, 6))
def test_product_has_an_identity_and_inverses(n):
    table, every = square("s5:xy", n=n), np.arange(math.factorial(n))
    assert np.array_equal(table[0], every)
    assert np.array_equal(table[:, 0], every)
    assert np.all(table[every, data.inverse(every, n)] == 0)
    assert np.all(table[data.inverse(every, n), every] == 0)


@pytest.mark.parametrize("n", range(2, 6))
def test_conjugate_and_sandwich_are_what_they_say(n):
    product = square("s5:xy", n=n)
    x, y, conjugate = data.operation_table("s5:xyx^-1", n=n)
    assert np.array_equal(product[conjugate, x], product[x, y])
    _, _, sandwich = data.operation_table("s5:xyx", n=n)
    assert np.array_equal(product[data.inverse(x, n), sandwich], product[y, x])


def test_conjugates_have_as_many_fixed_points():
    _, y, conjugate = data.operation_table("s5:xyx^-1")
    fixed = (data.symmetric_group(5) == np.arange(5)).sum(axis=1)
    assert np.array_equal(fixed[conjugate], fixed[y])


# Bad input.


@pytest.mark.parametrize("function", [data.check_operation, data.n_elements, data.operation_table])
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("x%y",), r"operation='x%y' is unknown; choose from x\+y, x-y, .*s5:xyx$"),
        (("x+y", 1), "p=1 must be at least 2"),
        (("x+y", -7), "p=-7 must be at least 2"),
        (("x/y", 96), "p=96 must be prime for 'x/y'"),
        (("x/y", 4), "p=4 must be prime"),
        (("x/y|x-y", 49), "p=49 must be prime"),
        (("s5:xy", 97, 1), r"n=1 must lie in 2\.\.5 for 's5:xy'"),
        (("s5:xyx", 97, 6), r"n=6 must lie in 2\.\.5"),
    ],
)
def test_unknown_operation_or_size_is_refused(function, arguments, match):
    with pytest.raises(ValueError, match=match):
        function(*arguments)


@pytest.mark.parametrize("operation", data.OPERATIONS)
def test_unknown_operation_lists_this_one(operation):
    with pytest.raises(ValueError, match="unknown") as error:
        data.check_operation("?")
    assert operation in str(error.value).split("choose from ")[1].split(", ")


def test_size_that_an_operation_does_not_use_is_not_checked():
    assert data.n_elements("x+y", 7, n=99) == 7
    assert data.n_elements("s5:xy", p=1, n=3) == 6


# Tokens.


def test_tokens_are_x_op_y_equals():
    rows = data.tokens(np.array([0, 96]), np.array([5, 0]), 97)
    assert rows.tolist() == [[0, 97, 5, 98], [96, 97, 0, 98]]


# Split.


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("operation", ["x+y", "x/y", "s5:xy"])
def test_split_is_disjoint_exhaustive_and_of_the_right_size(operation, fraction):
    d = dataset(operation=operation, p=97, train_fraction=fraction)
    n = len(d.x)
    assert len(set(d.train.tolist())) == len(d.train) == d.is_train.sum()
    assert np.all(d.is_train[d.train])
    assert abs(len(d.train) - fraction * n) <= 0.5
    assert not np.any(d.is_train & d.is_unmirrored)


def test_split_is_a_table_with_its_answers():
    d, table = dataset(operation="x/y"), data.operation_table("x/y", 11)
    for column, expected in zip((d.x, d.y, d.label), table, strict=True):
        assert np.array_equal(column, expected)


def test_training_equations_are_the_nearest_whole_number():
    sizes = [data.n_training_equations(f, 9_409) for f in (0.5, 0.3, 0.00005, 0.99999)]
    assert sizes == [4_704, 2_823, 0, 9_409]


def test_split_of_a_smaller_fraction_is_part_of_a_larger_one():
    splits = [dataset(p=97, train_fraction=f).train for f in FRACTIONS]
    for smaller, larger in itertools.pairwise(splits):
        assert np.array_equal(larger[: len(smaller)], smaller)


def test_split_depends_on_the_split_seed_alone():
    first = dataset(split_seed=7, seed=1)
    others = [
        dataset(split_seed=7, seed=2),
        dataset(seed=7),
        dataset(split_seed=7, lr=1.0, batch_size=3, architecture="mlp", optimizer="sgd"),
        dataset(split_seed=7, operation="x*y"),
    ]
    assert all(np.array_equal(first.train, other.train) for other in others)


def test_splits_of_different_seeds_are_independent():
    splits = [dataset(p=97, seed=seed, train_fraction=0.3).is_train for seed in range(6)]
    n = len(splits[0])
    for a, b in itertools.combinations(splits, 2):  # hypergeometric: mean 0.09 n
        assert (a & b).sum() == pytest.approx(0.09 * n, abs=5 * math.sqrt(n) * 0.3 * 0.7)


# Outliers.


def test_outliers_none_leaves_every_answer():
    d = dataset(p=97, outliers=0)
    assert np.array_equal(d.label, data.operation_table("x+y", 97).answer)


@pytest.mark.parametrize("outliers", [1, 10, 1000, 4704])
def test_outliers_replace_the_first_training_answers_only(outliers):
    d, clean = dataset(p=97, outliers=outliers), dataset(p=97)
    assert np.array_equal(d.train, clean.train)
    untouched = np.ones(len(d.x), bool)
    untouched[d.train[:outliers]] = False
    assert np.array_equal(d.label[untouched], clean.label[untouched])
    changed = (d.label != clean.label).sum()
    assert changed == pytest.approx(outliers * 96 / 97, abs=5 * math.sqrt(outliers / 97) + 1 / 97)


def test_outliers_are_drawn_from_the_table():
    """As often as an answer occurs: 0 in 193 of 9,409 equations of x^2 + y^2, others in 96."""
    d = dataset(operation="x^2+y^2", p=97, train_fraction=0.9, outliers=8000)
    drawn = np.bincount(d.label[d.train[:8000]], minlength=97)
    share = np.bincount(data.operation_table("x^2+y^2", 97).answer, minlength=97) / 97**2
    assert share.max() > 2 * np.median(share)
    assert stats.chisquare(drawn, 8000 * share).pvalue > 1e-4


def test_outliers_are_the_first_of_more_outliers():
    few, many = dataset(p=97, outliers=100), dataset(p=97, outliers=200)
    first = few.train[:100]
    assert np.array_equal(few.label[first], many.label[first])


def test_outliers_depend_on_the_split_seed_alone():
    labels = [dataset(outliers=20, split_seed=3, seed=seed).label for seed in (0, 1)]
    assert np.array_equal(*labels)
    assert not np.array_equal(labels[0], dataset(outliers=20, split_seed=4).label)


# Equations whose mirror is not in training.


@pytest.mark.parametrize(
    "fields",
    [
        {"operation": "x+y"},
        {"operation": "x/y"},
        {"operation": "x+y", "train_fraction": 0.9},
        {"operation": "s5:xyx", "n": 3, "train_fraction": 0.3},
        {"operation": "x/y", "p": 2},
    ],
)
def test_unmirrored_equations_are_those_of_a_search(fields):
    d = dataset(**fields)
    pairs = list(zip(d.x.tolist(), d.y.tolist(), strict=True))
    training = {pairs[i] for i in d.train}
    assert d.is_unmirrored.tolist() == [(x, y) not in training and (y, x) not in training for x, y in pairs]
