"""Tables with holes to fill in by hand (figure 1 right), and how one can: each hole with its reason.

A puzzle is the table of a run under letters; its holes are the equations that the run's network would not
be given. Rows and columns are in the order of the alphabet, which says nothing about the elements, and
letters are numbered by it: a is 0.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from grokking_book.play.widget import Widget
from grokking_core import data
from grokking_core.runs import schedule
from grokking_core.runs.run import Run

OPEN = -1  #: in place of the letter of a hole
UPDATES = 12  #: whose batches a page shows, from the first on
Cell = tuple[int, int]  #: row, column


class Step(NamedTuple):
    """A hole that can be filled in, and why."""

    cell: Cell
    letter: int
    reason: str
    because: tuple[Cell, ...]  #: the cells that decide it, all known before


# ---------------------------------------------------------------------------------------------------
# Rules: each yields the holes of a table that a law decides at once

Rule = Callable[[np.ndarray, str], Iterator[Step]]  #: (known: (n, n) letters or OPEN, alphabet)


def mirrored(known: np.ndarray, names: str) -> Iterator[Step]:
    """Holes whose mirror image is known: x y = y x."""
    for row, column in np.argwhere((known == OPEN) & (known.T != OPEN)).tolist():
        where = f"Row {names[column]}, column {names[row]}"
        reason = f"{where} has it, and the table is its own mirror image."
        yield Step((row, column), int(known[column, row]), reason, ((column, row),))


def last_of_line(known: np.ndarray, names: str) -> Iterator[Step]:
    """Holes that are the only one of their row or column."""
    for word, line, cells in _lines(len(known)):
        holes = [cell for cell in cells if known[cell] == OPEN]
        if len(holes) == 1:
            letter = (set(range(len(known))) - {known[cell] for cell in cells}).pop()
            reason = f"{word.title()} {names[line]} has every letter but {names[letter]}."
            yield Step(holes[0], letter, reason, tuple(cell for cell in cells if cell not in holes))


def crossing(known: np.ndarray, names: str) -> Iterator[Step]:
    """Holes whose row and column have, between them, every letter but one."""
    for row, column in np.argwhere(known == OPEN).tolist():
        left = _left(known, row, column)
        if len(left) == 1:
            seen = f"row {names[row]} and column {names[column]}"
            reason = f"Between them, {seen} have every letter but {names[left[0]]}."
            cross = [(row, j) for j in range(len(known))] + [(i, column) for i in range(len(known))]
            because = tuple(cell for cell in cross if known[cell] != OPEN)
            yield Step((row, column), left[0], reason, because)


def only_place(known: np.ndarray, names: str) -> Iterator[Step]:
    """Holes that alone, in their row or column, can take a letter which it lacks."""
    for word, line, cells in _lines(len(known)):
        other = "column" if word == "row" else "row"
        for letter in sorted(set(range(len(known))) - {known[cell] for cell in cells}):
            places = [cell for cell in cells if known[cell] == OPEN and letter in _left(known, *cell)]
            if len(places) == 1:
                reason = f"{word.title()} {names[line]} still needs {names[letter]}, and each of its other"
                reason += f" holes has {names[letter]} in its {other} already."
                held = np.argwhere(known == letter).tolist()
                bars = [(i, j) for i, j in held if known[(line, j) if word == "row" else (i, line)] == OPEN]
                because = [cell for cell in cells if known[cell] != OPEN] + bars
                yield Step(places[0], letter, reason, tuple(because))


def regrouped(known: np.ndarray, names: str) -> Iterator[Step]:
    """Holes on one side of (x y) z = x (y z), where the other side is known."""
    for x, y, z in product(range(len(known)), repeat=3):
        xy, yz = int(known[x, y]), int(known[y, z])
        if OPEN in (xy, yz) or (known[xy, z] == OPEN) == (known[x, yz] == OPEN):
            continue
        left, right = (xy, z), (x, yz)
        hole, found = (left, right) if known[left] == OPEN else (right, left)
        one, two, three = names[x], names[y], names[z]
        sides = [f"({one} · {two}) · {three}", f"{one} · ({two} · {three})"]
        sides = sides if hole == left else sides[::-1]
        chain = [" · ".join(names[i] for i in hole), *sides, " · ".join(names[i] for i in found)]
        given = f"As {one} · {two} = {names[xy]} and {two} · {three} = {names[yz]}"
        reason = f"{given}, {' = '.join(chain)} = {names[known[found]]}."
        yield Step(hole, int(known[found]), reason, tuple({(x, y), (y, z), found}))


def _lines(n: int) -> Iterator[tuple[str, int, list[Cell]]]:
    """Every row and every column with its cells."""
    for line in range(n):
        yield "row", line, [(line, j) for j in range(n)]
        yield "column", line, [(i, line) for i in range(n)]


def _left(known: np.ndarray, row: int, column: int) -> list[int]:
    """Letters that neither the row nor the column has."""
    return sorted(set(range(len(known))) - set(known[row].tolist()) - set(known[:, column].tolist()))


# ---------------------------------------------------------------------------------------------------
# Laws: what holds in a table, and the rules that follow


def is_latin(table: np.ndarray) -> bool:
    """Whether every letter occurs once in each row and once in each column."""
    lines = np.sort([*table, *table.T])
    return bool((lines == np.arange(len(table))).all())


def is_symmetric(table: np.ndarray) -> bool:
    """Whether x y = y x for all letters."""
    return bool((table == table.T).all())


def is_associative(table: np.ndarray) -> bool:
    """Whether (x y) z = x (y z) for all letters."""
    return bool((table[table] == table[:, table]).all())  # [x, y, z] of both


class Law(NamedTuple):
    """What a whole table may obey, and the rules that it gives for one with holes."""

    words: str
    holds: Callable[[np.ndarray], bool]
    rules: tuple[Rule, ...]


LAWS = (
    Law(
        "The table is its own mirror image: row a, column b has what row b, column a has.",
        is_symmetric,
        (mirrored,),
    ),
    Law(
        "Every letter occurs once in each row and once in each column.",
        is_latin,
        (last_of_line, crossing, only_place),
    ),
    Law(
        "Brackets make no difference: (a · b) · c = a · (b · c), where a · b stands for what is in row a,"
        " column b; so too for any other letters.",
        is_associative,
        (regrouped,),
    ),
)


def solve(shown: np.ndarray, laws: Sequence[Law], names: str) -> list[Step]:
    """Every hole with its letter and a reason, in an order in which each follows from those before.

    Parameters
    ----------
    shown : array of int, shape (n, n)
        Letters by number, `OPEN` in the holes.
    laws : sequence of Law
        Those that the whole table obeys; the rules of the first are tried first.
    names : str
        The letters' names.

    Raises
    ------
    ValueError
        If the rules of the laws leave holes open.
    """
    known, steps = shown.copy(), []
    rules = [rule for law in laws for rule in law.rules]
    while (known == OPEN).any():
        step = next((step for rule in rules for step in rule(known, names)), None)
        if step is None:
            raise ValueError(f"{(known == OPEN).sum()} holes follow from none of the {len(laws)} laws")
        known[step.cell] = step.letter
        steps.append(step)
    return steps


# ---------------------------------------------------------------------------------------------------
# Puzzles


class Equations(NamedTuple):
    """A table's equations by the numbers of letters, as `plots.table_with_holes` takes them; each (N,)."""

    x: np.ndarray
    y: np.ndarray
    answer: np.ndarray
    hidden: np.ndarray  #: bool: the holes


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """A run's table under letters."""

    run: Run  #: decides operation and holes
    letters: str  #: names of the elements, in an order that shows the table's pattern
    elements: tuple[int, ...]  #: what they name, as `data` numbers it
    operation: str  #: in words
    pattern: str  #: what one sees in that order, in words

    @property
    def names(self) -> str:
        """The letters in the order of the alphabet, which is that of rows and columns."""
        return "".join(sorted(self.letters))

    @cached_property
    def equations(self) -> Equations:
        """The equations of the table in letters, and which of them are holes."""
        dataset = self.run.dataset()
        letter = np.empty(len(self.letters), int)
        letter[list(self.elements)] = [self.names.index(name) for name in self.letters]
        x, y, answer = letter[np.stack([dataset.x, dataset.y, dataset.label])]
        return Equations(x, y, answer, ~dataset.is_train)

    @cached_property
    def table(self) -> np.ndarray:
        """The solution, (n, n) letters by number."""
        x, y, answer, _ = self.equations
        return answer[np.lexsort((y, x))].reshape(len(self.letters), -1)

    @property
    def shown(self) -> np.ndarray:
        """The table as it is asked, (n, n), `OPEN` in the holes."""
        shown, (x, y, _, hidden) = self.table.copy(), self.equations
        shown[x[hidden], y[hidden]] = OPEN
        return shown

    @property
    def laws(self) -> list[Law]:
        """The laws that hold in the table."""
        return [law for law in LAWS if law.holds(self.table)]

    @cached_property
    def steps(self) -> list[Step]:
        """A way to the solution that needs no more than the laws."""
        return solve(self.shown, self.laws, self.names)

    @property
    def told(self) -> str:
        """What the operation is, and what the letters stand for."""
        op = data.OPERATIONS[self.run.operation]
        rows = data.symmetric_group(self.run.n).tolist() if op.on_group else []
        names = ["".join(map(str, rows[i])) if op.on_group else str(i + op.nonzero) for i in self.elements]
        letters = f"{', '.join(self.letters)} stand for {', '.join(names)}."
        return f"It is {self.operation}. {letters} In this order {self.pattern}."

    def solution(self) -> str:
        """The filled table as HTML, folded, its holes in bold; the laws, and what the operation is."""
        rows = "".join(f"<tr>{self._row(row)}</tr>" for row in range(len(self.names)))
        head = "".join(f'<th scope="col">{name}</th>' for name in self.names)
        table = f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"
        laws = "".join(f"<li>{html.escape(law)}</li>" for law in self._laws)
        words = f"<p>It follows from what holds in this table:</p><ul>{laws}</ul>"
        words += f"<p>{html.escape(self.told)}</p>"
        return f'<details class="puzzle-solution"><summary>The solution</summary>{table}{words}</details>'

    def _row(self, row: int) -> str:
        cells = [self.names[letter] for letter in self.table[row]]
        marked = [
            f"<strong>{cell}</strong>" if hole else cell
            for cell, hole in zip(cells, self.shown[row] == OPEN, strict=True)
        ]
        return f'<th scope="row">{self.names[row]}</th>' + "".join(f"<td>{cell}</td>" for cell in marked)

    @property
    def _laws(self) -> list[str]:
        return [law.words for law in self.laws]

    def plain(self) -> dict[str, Any]:
        """What `book/static/puzzle.js` draws it from; a table is a list of rows, a cell [row, column]."""
        return {
            "letters": self.names,
            "table": ["".join(self.names[letter] for letter in row) for row in self.table],
            "holes": np.argwhere(self.shown == OPEN).tolist(),
            "laws": self._laws,
            "steps": [step._asdict() for step in self.steps],
            "told": self.told,
            "order": self.letters,
            "tokens": self.tokens(),
            "batches": self.batches(),
        }

    def tokens(self) -> list[list[list[int]]]:
        """Token ids of every cell's equation, [row][column]: `x op y =` and the answer, five of them."""
        dataset, (x, y, *_) = self.run.dataset(), self.equations
        asked = data.tokens(dataset.x, dataset.y, self.run.n_elements)
        ids = np.concatenate([asked, dataset.label[:, None]], axis=1)
        return ids[np.lexsort((y, x))].reshape(*self.table.shape, -1).tolist()

    def batches(self) -> list[list[list[int]]]:
        """Cells of the equations that the first updates of the run are made from, in their order."""
        train, (x, y, *_) = self.run.dataset().train, self.equations
        places = [train[schedule.batch(self.run, update).numpy()] for update in range(UPDATES)]
        return [np.stack([x[place], y[place]], axis=1).tolist() for place in places]


SHIFTED = "each row is the one above, moved on by one place"
PUZZLES = (
    Puzzle(
        run=Run(operation="x+y", p=7, train_fraction=0.5, seed=0),
        letters="ecafbgd",
        elements=(0, 1, 2, 3, 4, 5, 6),
        operation="addition modulo 7",
        pattern=SHIFTED,
    ),
    Puzzle(
        run=Run(operation="x+y", p=5, train_fraction=0.4, seed=0),
        letters="dbeac",
        elements=(0, 1, 2, 3, 4),
        operation="addition modulo 5",
        pattern=SHIFTED,
    ),
    Puzzle(
        run=Run(operation="x*y!=0", p=7, train_fraction=0.4, seed=0),
        letters="cfbeda",
        elements=(0, 2, 1, 5, 3, 4),  # 1, 3, 9, 27, ... modulo 7, numbered from 0
        operation="multiplication modulo 7, without 0",
        pattern=f"each letter is the one before times 3, and {SHIFTED}",
    ),
    Puzzle(
        run=Run(operation="x-y", p=7, train_fraction=0.5, seed=3),
        letters="fbgdaec",
        elements=(0, 1, 2, 3, 4, 5, 6),
        operation="subtraction modulo 7, row minus column",
        pattern=SHIFTED,
    ),
    Puzzle(
        run=Run(operation="s5:xy", n=3, train_fraction=0.5, seed=0),
        letters="bfdcea",
        elements=(0, 3, 4, 1, 2, 5),
        operation="the product of the permutations of three things, first the row's, then the column's",
        pattern="the rotations come first, the swaps after them, and the table falls into four blocks",
    ),
)
NOTE = (
    "In a browser, the table can be filled in here by hand, with hints and a check, and so can others; beside"
    " it are its equations as a network gets them: numbers of symbols, a batch at a time, in random order."
)


def widget(puzzles: Sequence[Puzzle] = PUZZLES) -> Widget:
    """Puzzles to play with in a page, the first at first."""
    return Widget("puzzle", {"puzzles": [puzzle.plain() for puzzle in puzzles]}, NOTE)
