import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.text import Text

from grokking_core import Run, data, plots
from grokking_core.plots import embeddings, tables
from grokking_core.plots import style as look
from grokking_core.runs.record import Record
from grokking_core.weights.structure import Structure

SMALL = data.operation_table("x/y", p=5)  # 5 rows, 4 columns
LARGE = data.operation_table("x+y", p=23)


@pytest.fixture(autouse=True)
def _no_windows():
    mpl.use("Agg")
    yield
    plt.close("all")


def cells(ax) -> np.ndarray:
    """Colours of the picture's cells as text, one an element of the table."""
    (image,) = ax.images
    rgba = image.cmap(image.norm(image.get_array()))
    return np.array([[to_hex(colour) for colour in row] for row in rgba])


def written(ax) -> dict[tuple[int, int], str]:
    return {(int(row), int(column)): t.get_text() for t in ax.texts for column, row in [t.get_position()]}


def legend(ax) -> list[str]:
    return [] if ax.get_legend() is None else [text.get_text() for text in ax.get_legend().get_texts()]


def ticks(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_functions_are_offered_by_plots():
    assert plots.embedding is embeddings.embedding
    assert plots.filled_table is tables.filled_table


# -------------------------------------------------------------------------------------------------
# Operation tables


def test_small_table_has_its_answers_written_and_its_holes_blank():
    hidden = (SMALL.x == 2) & (SMALL.y == 3)
    ax = plots.table_with_holes(*SMALL, hidden)
    assert (2, 2) not in written(ax)
    assert len(written(ax)) == 19
    assert written(ax)[3, 1] == "e"  # 3 / 2 = 4 mod 5; columns begin with y = 1
    assert (ticks(ax.xaxis), ticks(ax.yaxis)) == (list("bcde"), list("abcde"))
    assert cells(ax)[2, 2] == tables.PAPER.lower()
    assert (cells(ax) == tables.SHADE.lower()).sum() == 19


def test_small_table_has_the_symbols_it_is_given():
    ax = plots.table_with_holes(*SMALL, symbols="01234")
    assert written(ax)[3, 1] == "4"
    assert ticks(ax.xaxis) == list("1234")


def test_large_table_has_a_colour_an_answer_and_white_holes():
    hidden = LARGE.x == 4
    ax = plots.table_with_holes(*LARGE, hidden)
    assert not written(ax)
    values = ax.images[0].get_array()
    assert values.mask[4].all()
    assert values.mask.sum() == 23
    np.testing.assert_array_equal(values[5], (5 + np.arange(23)) % 23)
    assert ticks(ax.yaxis) == ["0", "20"]


def test_large_table_is_coloured_in_a_circle():
    colours = plots.table_with_holes(*LARGE).images[0].cmap(np.linspace(0, 1, 256))[:, :3]
    assert np.abs(colours[0] - colours[-1]).max() < 0.02
    assert colours.mean(axis=1).max() < 0.85  # no answer is as light as a hole


def test_filled_table_tells_training_right_and_wrong_apart():
    given = LARGE.answer.copy()
    given[5] = given[40] = 22
    train = np.arange(len(given)) < 40
    ax = plots.filled_table(*LARGE, given, train)
    colours = {name: colour.lower() for name, colour in tables.KINDS.items()}
    flat = cells(ax).ravel()
    assert flat[0] == colours["training, right"]
    assert flat[5] == colours["training, wrong"]
    assert flat[40] == colours["held out, wrong"]
    assert flat[41] == colours["held out, right"]
    assert legend(ax) == [
        "training, right: 39 (97.5 %)",
        "training, wrong: 1 (2.5 %)",
        "held out, right: 488 (99.8 %)",
        "held out, wrong: 1 (0.2 %)",
    ]


def test_filled_table_names_only_kinds_that_occur_and_says_all_only_of_all():
    train = np.arange(len(LARGE.x)) < 40
    assert legend(plots.filled_table(*LARGE, LARGE.answer, train)) == [
        "training, right: 40 (100 %)",
        "held out, right: 489 (100 %)",
    ]
    x, y, answer = data.operation_table("x+y", p=97)
    given, train = np.where(x + y == 192, 0, answer), x == 0  # one wrong
    assert legend(plots.filled_table(x, y, answer, given, train))[1:] == [
        "held out, right: 9,311 (99.9 %)",
        "held out, wrong: 1 (0.1 %)",
    ]


def test_small_filled_table_has_the_networks_answers_written():
    given = np.where(np.arange(20) == 3, 2, SMALL.answer)
    ax = plots.filled_table(*SMALL, given, np.arange(20) < 10)
    assert written(ax)[0, 3] == "c"
    (wrong,) = [text for text in ax.texts if text.get_position() == (3, 0)]
    assert wrong.get_color() == "white"


def test_filled_table_without_answers_on_record_shows_what_was_trained_on():
    ax = plots.filled_table(*SMALL, None, np.arange(20) < 10)
    assert len(written(ax)) == 10
    assert legend(ax) == ["training", "held out, not on record"]


# -------------------------------------------------------------------------------------------------
# Embeddings

CIRCLE = np.stack([np.cos(np.arange(11)), np.sin(np.arange(11))], axis=1)


def test_embedding_has_the_same_look_for_the_same_label():
    ax = plots.embedding(CIRCLE, np.arange(11) % 3)
    marks = [line for line in ax.lines if line.get_marker() != "None"]
    assert [len(line.get_xdata()) for line in marks] == [4, 4, 3]
    assert [(line.get_color(), line.get_marker()) for line in marks] == [look.coset(i)[:2] for i in range(3)]
    np.testing.assert_array_equal(np.stack(marks[1].get_data(), axis=1), CIRCLE[1::3])


def test_embedding_joins_every_element_to_the_one_a_step_further():
    ax = plots.embedding(CIRCLE, step=8)
    joins = [line for line in ax.lines if line.get_marker() == "None"]
    assert len(joins) == 11
    for x, join in enumerate(joins):
        np.testing.assert_array_equal(join.get_xydata(), CIRCLE[[x, (x + 8) % 11]])
        assert join.get_linestyle() == ("-" if x + 8 < 11 else ":")
        assert join.get_color() == look.coset(x % 8).colour
    assert legend(ax) == [str(i) for i in range(8)]
    assert ax.get_legend().get_title().get_text() == "x mod 8"


def test_embedding_has_names_on_its_points():
    ax = plots.embedding(CIRCLE, step=8, names=[str(i) for i in range(11)])
    assert [text.get_text() for text in ax.texts] == [str(i) for i in range(11)]
    np.testing.assert_allclose([text.get_position() for text in ax.texts], CIRCLE)
    assert all(text.get_fontsize() >= 8 for text in ax.texts)


def test_embedding_without_labels_is_of_one_look():
    (marks,) = plots.embedding(CIRCLE).lines
    assert len(marks.get_xdata()) == 11


def test_embedding_of_60_cosets_has_60_looks():
    ax = plots.embedding(np.zeros((120, 2)), np.repeat(np.arange(60), 2))
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == 60


# -------------------------------------------------------------------------------------------------
# Agreement

COSETS = pd.DataFrame(
    {
        "name": ["A4", "D5", "C2"],
        "order": [12, 10, 2],
        "side": ["left", "right", "left"],
        "agreement": [0.4, 0.1, 0.0],
        "chance": [0.1, 0.08, 0.01],
        "p_corrected": [0.005, 0.2, 1.0],
    }
)
LINE = pd.DataFrame(
    {"step": [8, 1, 2], "agreement": [0.5, 0.1, 0.2], "chance": 0.1, "p_corrected": [0.005, 1.0, 0.04]}
)


def test_labels_of_a_line_colour_its_steps_and_have_no_legend():
    ax = plots.embedding(CIRCLE, np.arange(11) // 6, step=8)
    joins = [line for line in ax.lines if line.get_marker() == "None"]
    assert [join.get_color() for join in joins] == [look.coset(x // 6).colour for x in range(11)]
    assert {join.get_linestyle() for join in joins} == {"-"}
    assert legend(ax) == []


def network(operation: str, validation: float, test: pd.DataFrame, n: int = 20) -> Structure:
    """A made-up network, whose output rows are noise."""
    curve = pd.DataFrame({"step": [0, 3000], "validation_accuracy": [1.0, validation]})
    curve["unmirrored_accuracy"] = validation - 0.05
    run = Run(operation=operation, p=n, n=4, weight_decay=0.5)
    return Structure(Record(run=run, curve=curve), np.random.default_rng(0).normal(size=(n, 4)), test)


def panels(figure) -> list[str]:
    """Titles of the rows of panels, and of the panels."""
    rows = figure.subfigs
    return [row.get_suptitle() for row in rows] + [ax.get_title() for row in rows for ax in row.axes]


def test_structures_of_lines_have_the_picture_and_the_test_side_by_side():
    missing = Run(operation="x+y", seed=3)
    weak = LINE.assign(agreement=0.1)
    figure = plots.structures([network("x+y", 0.9998, LINE), network("x+y", 0.9399, weak)], [missing])
    assert panels(figure) == [
        "decay 0.5, seed 0, 3,000 updates: validation 99.9 % (unmirrored 95.0 %)",
        "decay 0.5, seed 0, 3,000 updates: validation 94.0 % (unmirrored 89.0 %), NOT learned",
        "decay 1, seed 3: not on record",
        *("line of step 8", "") * 2,
        *("", ""),
    ]
    left, right = figure.subfigs[0].axes
    assert right.get_ylim() == figure.subfigs[1].axes[1].get_ylim()
    joins = [line for line in left.lines if line.get_marker() == "None"]
    assert [list(line.get_xdata()) for line in right.lines if line.get_linestyle() == ":"] == [[8, 8]]
    assert len(joins) == 20
    (keys,) = figure.legends
    assert next(text.get_text() for text in keys.texts) == "chance"
    assert right.get_legend() is None


def test_structures_of_cosets_have_the_papers_last_where_it_is_not_among_the_first(monkeypatch):
    monkeypatch.setattr(embeddings, "CLASSES", 1)
    table = COSETS.assign(subgroup=[25, 0, 0], conjugate=0)  # in S_4
    figure = plots.structures([network("s5:xy", 1.0, table, n=24)])
    assert panels(figure)[0] == "decay 0.5, seed 0, 3,000 updates: validation 100 %"
    left, right = figure.axes
    assert left.get_title() == "cosets of A4 (order 12), left"
    assert [(label.get_text(), label.get_weight()) for label in right.get_yticklabels()] == [
        ("A4 (order 12), left", "normal"),
        ("D5 (order 10), right", "bold"),
    ]


@pytest.mark.parametrize("n_networks", [0, 1])
def test_structures_of_nothing_or_of_a_diverged_network_say_so(n_networks):
    diverged = network("x+y", 0.0, LINE.iloc[:0])._replace(rows=np.zeros((0, 2)))
    figure = plots.structures([diverged] * n_networks)
    figure.draw_without_rendering()
    assert [t.get_text() for ax in figure.axes for t in ax.texts] == ["nothing on record yet"] * 2


def dots(ax) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_cosets_are_rows_in_order_filled_where_sure():
    ax = plots.coset_agreement(COSETS)
    assert ticks(ax.yaxis) == ["A4 (order 12), left", "D5 (order 10), right", "C2 (order 2), left"]
    assert dots(ax) == {
        "chance": [[0.1, 0], [0.08, 1], [0.01, 2]],
        "found, corrected p < 0.05": [[0.4, 0]],
        "found, corrected p ≥ 0.05": [[0.1, 1], [0.0, 2]],
    }
    assert [line.get_markerfacecolor() for line in ax.lines][1:] == [look.FOUND, "#FFFFFF"]
    assert ax.yaxis_inverted()  # the first is on top


def test_cosets_beyond_the_most_are_left_out():
    assert ticks(plots.coset_agreement(COSETS, most=2).yaxis) == [
        "A4 (order 12), left",
        "D5 (order 10), right",
    ]


def test_line_steps_are_in_order_and_the_best_is_named():
    ax = plots.line_agreement(LINE)
    assert dots(ax) == {
        "chance": [[1, 0.1], [2, 0.1], [8, 0.1]],
        "found, corrected p < 0.05": [[2, 0.2], [8, 0.5]],
        "found, corrected p ≥ 0.05": [[1, 0.1]],
    }
    assert [text.get_text() for text in ax.texts] == ["+8"]


EMPTY = {
    "embedding": lambda: plots.embedding([]),
    "line": lambda: plots.embedding(np.empty((0, 2)), step=8),
    "coset agreement": lambda: plots.coset_agreement(COSETS.iloc[:0]),
    "line agreement": lambda: plots.line_agreement(LINE.iloc[:0]),
}


@pytest.mark.parametrize("draw", EMPTY.values(), ids=EMPTY)
def test_picture_of_nothing_says_so(draw):
    ax = draw()
    ax.figure.draw_without_rendering()
    assert [text.get_text() for text in ax.texts] == ["nothing on record yet"]


def test_pictures_are_drawn_on_white_without_warnings_and_no_text_is_small():
    pages = [
        plots.table_with_holes(*SMALL),
        plots.table_with_holes(*LARGE),
        plots.filled_table(*LARGE, LARGE.answer, LARGE.x < 9),
        plots.embedding(CIRCLE, step=3),
        plots.coset_agreement(COSETS),
        plots.line_agreement(LINE),
    ]
    for ax in pages:
        ax.figure.draw_without_rendering()
        assert to_hex(ax.figure.get_facecolor()) == "#ffffff"
        assert all(t.get_fontsize() >= look.SMALL for t in ax.figure.findobj(Text) if t.get_text())


def test_picture_is_drawn_into_the_axes_it_is_given():
    _, ax = plt.subplots()
    assert plots.embedding(CIRCLE, ax=ax) is ax
    assert len(plt.get_fignums()) == 1
