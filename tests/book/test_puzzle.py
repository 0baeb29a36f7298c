"""Tables with holes: every reason is sound, every puzzle has one solution, and the page lets it be found."""

import json
import re
from itertools import pairwise, product

import numpy as np
import pytest

from grokking_book.play import puzzle
from grokking_book.play.puzzle import LAWS, OPEN, PUZZLES
from grokking_core import data

MIRROR, LATIN, GROUPING = LAWS
NAMES = "abcdefg"


@pytest.fixture(params=PUZZLES, ids=lambda each: each.operation)
def each(request):
    return request.param


def completions(known):
    """All ways to fill the holes so that no letter is twice in a row or a column."""
    holes, n = np.argwhere(known == OPEN), len(known)
    if not len(holes):
        return [known.copy()]
    free = [[v for v in range(n) if v not in known[i] and v not in known[:, j]] for i, j in holes]
    fewest = min(range(len(holes)), key=lambda k: len(free[k]))
    found, next_one = [], known.copy()
    for letter in free[fewest]:
        next_one[tuple(holes[fewest])] = letter
        found += completions(next_one)
    return found


# Rules: what they say of a part of a table holds in the whole of it.


def symmetric(rng):
    """A table that is its own mirror image."""
    order, answers = rng.permutation(7), rng.permutation(7)
    return answers[PUZZLES[0].table[np.ix_(order, order)]]


def latin(rng):
    """A table with every letter once a line, of any other order."""
    rows, columns, answers = (rng.permutation(7) for _ in range(3))
    return answers[PUZZLES[0].table[np.ix_(rows, columns)]]


def group(rng):
    """A table of the permutations of three things."""
    names = rng.permutation(6)
    back = np.argsort(names)
    return names[PUZZLES[-1].table[np.ix_(back, back)]]


TABLES = {"symmetric": (MIRROR, symmetric), "latin": (LATIN, latin), "group": (GROUPING, group)}


@pytest.mark.parametrize(("law", "make"), TABLES.values(), ids=TABLES)
def test_rules_of_a_law_never_err_in_a_table_that_obeys_it(law, make):
    rng, n_steps = np.random.default_rng(0), 0
    for _ in range(60):
        table = make(rng)
        assert law.holds(table)
        known = np.where(rng.random(table.shape) < rng.uniform(0.3, 0.9), table, OPEN)
        for rule in law.rules:
            for step in rule(known, NAMES):
                n_steps += 1
                assert known[step.cell] == OPEN
                assert step.letter == table[step.cell], step
    assert n_steps > 100


@pytest.mark.parametrize(("law", "make"), TABLES.values(), ids=TABLES)
def test_reason_needs_no_more_than_the_cells_it_names(law, make):
    rng = np.random.default_rng(1)
    for rule, _ in product(law.rules, range(20)):
        table = make(rng)
        known = np.where(rng.random(table.shape) < 0.7, table, OPEN)
        for step in rule(known, NAMES):
            because = np.full_like(known, OPEN)
            for cell in step.because:
                assert known[cell] != OPEN
                because[cell] = known[cell]
            assert (step.cell, step.letter) in [(found.cell, found.letter) for found in rule(because, NAMES)]


def test_rules_give_their_reasons_in_letters():
    def first(rule, rows):
        known = np.array([[OPEN if name == "." else NAMES.index(name) for name in row] for row in rows])
        step = next(rule(known, NAMES))
        return step.cell, NAMES[step.letter], step.reason

    assert first(puzzle.mirrored, ["ab", ".a"]) == (
        (1, 0),
        "b",
        "Row a, column b has it, and the table is its own mirror image.",
    )
    assert first(puzzle.last_of_line, ["ab.", "...", "..."]) == ((0, 2), "c", "Row a has every letter but c.")
    assert first(puzzle.crossing, ["a..", ".b.", "..."])[2] == (
        "Between them, row a and column b have every letter but c."
    )
    assert first(puzzle.only_place, ["...", ".a.", "..a"]) == (
        (0, 0),
        "a",
        "Row a still needs a, and each of its other holes has a in its column already.",
    )
    assert first(puzzle.regrouped, ["bc.", "...", "..."]) == (
        (1, 0),
        "c",
        "As a · a = b and a · a = b, b · a = (a · a) · a = a · (a · a) = a · b = c.",
    )


@pytest.mark.parametrize("table", [each.table for each in PUZZLES], ids=[each.operation for each in PUZZLES])
def test_laws_hold_as_they_are_defined(table):
    letters = range(len(table))
    assert puzzle.is_symmetric(table) == all(table[x, y] == table[y, x] for x, y in product(letters, letters))
    assert puzzle.is_associative(table) == all(
        table[table[x, y], z] == table[x, table[y, z]] for x, y, z in product(letters, letters, letters)
    )
    assert puzzle.is_latin(table)
    table = table.copy()
    table[0, 0] = table[0, 1]
    assert not puzzle.is_latin(table)


def test_solve_says_so_where_the_laws_do_not_suffice():
    last = PUZZLES[-1]
    assert LATIN in last.laws
    with pytest.raises(ValueError, match="12 holes follow from none of the 1 laws"):
        puzzle.solve(last.shown, [LATIN], last.names)


# Puzzles


def test_steps_lead_to_the_solution_each_from_those_before(each):
    known = each.shown
    for step in each.steps:
        assert known[step.cell] == OPEN
        assert all(known[cell] != OPEN for cell in step.because)
        known[step.cell] = step.letter
    assert (known == each.table).all()


def test_puzzle_has_one_solution_that_obeys_its_laws(each):
    found = completions(each.shown)
    lawful = [table for table in found if all(law.holds(table) for law in each.laws)]
    assert len(lawful) == 1
    assert (lawful[0] == each.table).all()
    if each.run.operation == "s5:xy":
        assert len(found) > 1  # each letter once a line is not enough


def test_puzzle_is_its_operation_under_letters(each):
    x, y, answer = data.operation_table(each.run.operation, each.run.p, each.run.n)
    name = dict(zip(each.elements, each.letters, strict=True))
    assert sorted(name) == list(range(each.run.n_elements))
    for row, column, letter in zip(x, y, answer, strict=True):
        cell = each.names.index(name[row]), each.names.index(name[column])
        assert each.names[each.table[cell]] == name[letter]


def test_holes_are_what_the_run_would_not_be_trained_on(each):
    dataset = each.run.dataset()
    assert (each.equations.hidden == ~dataset.is_train).all()
    assert (each.shown != OPEN).sum() == each.run.n_train
    assert (each.shown == OPEN).sum() == each.equations.hidden.sum()


def in_order(each):
    places = [each.names.index(letter) for letter in each.letters]
    return np.argsort(places)[each.table[np.ix_(places, places)]]


def test_order_shows_the_pattern_that_is_told(each):
    table = in_order(each)
    if each.pattern.endswith(puzzle.SHIFTED):
        by = 1 if each.run.operation == "x-y" else -1
        assert all((row == np.roll(above, by)).all() for above, row in pairwise(table))
    else:
        assert (table // 3 == np.kron([[0, 1], [1, 0]], np.ones((3, 3), int))).all()


def test_told_names_the_elements():
    assert "e, c, a, f, b, g, d stand for 0, 1, 2, 3, 4, 5, 6." in PUZZLES[0].told
    powers = [str(3**k % 7) for k in range(6)]
    assert f"c, f, b, e, d, a stand for {', '.join(powers)}." in PUZZLES[2].told
    assert "b, f, d, c, e, a stand for 012, 120, 201, 021, 102, 210." in PUZZLES[4].told


def test_solution_has_the_holes_in_bold(each):
    rows = re.findall(r"<tr><th scope=\"row\">(\w)</th>(.*?)</tr>", each.solution())
    assert [name for name, _ in rows] == list(each.names)
    cells = [re.findall(r"<td>(<strong>)?(\w)(?:</strong>)?</td>", row) for _, row in rows]
    assert [[each.names.index(letter) for _, letter in row] for row in cells] == each.table.tolist()
    assert [[bool(bold) for bold, _ in row] for row in cells] == (each.shown == OPEN).tolist()


# What the network gets


def test_tokens_of_a_cell_are_those_of_its_equation(each):
    tokens, n = np.array(each.tokens()), each.run.n_elements
    letter = {
        element: each.names.index(name) for element, name in zip(each.elements, each.letters, strict=True)
    }
    for row, column in np.ndindex(each.table.shape):
        x, op, y, equals, answer = tokens[row, column].tolist()
        assert [letter[x], letter[y], letter[answer]] == [row, column, each.table[row, column]]
        assert (op, equals) == (n, n + 1)


def test_batches_of_an_epoch_are_every_shown_cell_once(each):
    epoch = [tuple(cell) for batch in each.batches()[:2] for cell in batch]
    assert len(epoch) == len(set(epoch)) == each.run.n_train
    assert all(each.shown[cell] != OPEN for cell in epoch)
    assert each.batches()[:2] != each.batches()[2:4]


def test_widget_carries_all_puzzles_in_little_space():
    widget = puzzle.widget()
    assert widget.name == "puzzle"
    assert [len(each["holes"]) for each in widget.data["puzzles"]] == [len(each.steps) for each in PUZZLES]
    assert len(json.dumps(widget.data)) < 50_000
