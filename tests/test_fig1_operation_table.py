import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from grokking_core import Run, data
from grokking_core.experiments import profiles_folder

NOTEBOOK = profiles_folder().parent / "figures" / "fig1_operation_table.ipynb"
LETTERS = "abcdefg"


@pytest.fixture(scope="module")
def cells():
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in found]


@pytest.fixture(scope="module")
def puzzle(cells):
    """What the reader is asked: a grid of letters by number, -1 where a cell is blank."""
    source = next(c["source"] for c in cells if "puzzle = " in c["source"])
    grid = np.full((7, 7), -1)

    def draw(x, y, answer, hidden):
        grid[x[~hidden], y[~hidden]] = answer[~hidden]

    modules = {"np": np, "data": data, "Run": Run, "plt": SimpleNamespace(show=lambda: None)}
    exec(source, modules | {"plots": SimpleNamespace(table_with_holes=draw)})
    return grid


@pytest.fixture(scope="module")
def solution(cells):
    """The page's solution: letters by number, and which cells are bold."""
    text = next(c["source"] for c in cells if "{admonition} Solution" in c["source"])
    rows = [line.strip("|").split("|")[1:] for line in text.splitlines() if re.match(r"\| \*\*[a-g]", line)]
    grid = [[LETTERS.index(cell.strip(" *")) for cell in row] for row in rows]
    return np.array(grid), np.array([["**" in cell for cell in row] for row in rows])


def completions(grid):
    """Number of ways, up to two, to fill the blanks so that no letter is twice in a row or a column."""
    blanks = np.argwhere(grid < 0)
    if not len(blanks):
        return 1
    choices = [[v for v in range(7) if v not in grid[i] and v not in grid[:, j]] for i, j in blanks]
    fewest = min(range(len(blanks)), key=lambda k: len(choices[k]))
    found = 0
    for value in choices[fewest]:
        grid[tuple(blanks[fewest])] = value
        found += completions(grid)
        grid[tuple(blanks[fewest])] = -1
        if found > 1:
            break
    return found


def test_puzzle_has_one_solution(puzzle):
    assert completions(puzzle) == 1
    assert (puzzle >= 0).sum() == data.n_training_equations(0.5, 49)


def test_solution_fills_the_holes_of_the_puzzle(puzzle, solution):
    grid, bold = solution
    assert (bold == (puzzle < 0)).all()
    assert (grid[~bold] == puzzle[~bold]).all()
    assert completions(grid.copy()) == 1
    assert all(sorted(line) == list(range(7)) for line in [*grid, *grid.T])


def test_solution_is_addition_under_the_names_that_it_gives(solution):
    names = [LETTERS.index(letter) for letter in "ecafbgd"]  # of 0 to 6
    x, y, answer = np.array(names)[np.stack(data.operation_table("x+y", 7))]
    assert (solution[0][x, y] == answer).all()
