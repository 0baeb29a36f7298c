import matplotlib as mpl
import pandas as pd
import pytest

from grokking_core import charts

mpl.use("Agg")

TABLE = pd.DataFrame(
    {"size": [1, 1, 10, 10, 1], "time": [2.0, 4.0, 8.0, -1.0, 5.0], "kind": ["a", "a", "a", "a", "b"]}
)


def test_marks_lines_through_medians_and_what_has_no_place():
    ax = charts.points(TABLE, "size", "time", "kind", names={"a": "first"}, lines=True, xlabel="size, units")
    marks, line, other, _ = ax.get_lines()
    assert marks.get_xydata().tolist() == [[1, 2], [1, 4], [10, 8]]
    assert line.get_xydata().tolist() == [[1, 3], [10, 8]]
    assert other.get_xydata().tolist() == [[1, 5]]
    assert [text.get_text() for text in ax.get_legend().texts] == ["first (1 without a place)", "b"]
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "size, units", "time")


def test_diagonal_joins_the_smallest_and_the_largest():
    ax = charts.points(TABLE, "size", "time", "kind", diagonal=True)
    assert ax.get_lines()[-1].get_xydata().tolist() == [[1, 1], [10, 10]]


@pytest.mark.parametrize("table", [TABLE.head(0), TABLE[TABLE["time"] < 0]])
def test_nothing_to_show_is_said(table):
    ax = charts.points(table, "size", "time", "kind", diagonal=True, lines=True)
    assert [text.get_text() for text in ax.texts] == ["nothing on record yet"]


def test_what_is_not_positive_has_a_place_on_a_linear_scale():
    ax = charts.points(TABLE, "size", "time", "kind", yscale="linear")
    assert ax.get_lines()[0].get_xydata().tolist() == [[1, 2], [1, 4], [10, 8], [10, -1]]
    assert ax.get_yscale() == "linear"
