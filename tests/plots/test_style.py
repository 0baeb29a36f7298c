import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb

from grokking_core import data
from grokking_core.paper import experiments
from grokking_core.plots import style as look

# Severe colour blindness in linear RGB: Machado, Oliveira & Fernandes 2009, table 1.
SEEN_BY = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deutan": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritan": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
TO_XYZ = [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8729]]  # white: 1, 1, 1


def lab(colour: str, matrix) -> np.ndarray:
    """CIE 1976 L*a*b* of an sRGB colour as seen through a matrix on linear RGB."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array(TO_XYZ) @ np.clip(np.array(matrix) @ linear, 0, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.fixture(autouse=True)
def _no_windows():
    mpl.use("Agg")
    yield
    plt.close("all")


GROUPS = {
    "operations": {style.colour for style in look.OPERATIONS.values()},
    "variants": {style.colour for style in look.VARIANTS.values()},
    "cosets": set(look.COSETS),
    "splits": set(look.COLOURS.values()),
}


@pytest.mark.parametrize("eye", SEEN_BY)
@pytest.mark.parametrize("colours", GROUPS.values(), ids=GROUPS)
def test_colours_of_a_page_are_told_apart_by_every_eye(colours, eye):
    seen = [lab(colour, SEEN_BY[eye]) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


@pytest.mark.parametrize("colours", GROUPS.values(), ids=GROUPS)
def test_colours_are_seen_on_white(colours):
    assert max(lab(colour, SEEN_BY["all cones"])[0] for colour in colours) < 75


def test_styles_exist_for_every_operation_and_every_variant():
    assert list(look.OPERATIONS) == list(data.OPERATIONS)
    assert list(look.VARIANTS) == list(experiments.VARIANTS)


@pytest.mark.parametrize("styles", [look.OPERATIONS, look.VARIANTS], ids=["operations", "variants"])
def test_style_is_known_by_its_marker_alone_and_by_colour_and_dash(styles):
    assert len({style.marker for style in styles.values()}) == len(styles)
    assert len({(style.colour, style.dash) for style in styles.values()}) == len(styles)


def test_operations_are_solid_where_the_order_of_the_operands_does_not_matter():
    for name, style in look.OPERATIONS.items():
        x, y, answer = data.operation_table(name, p=7, n=3)
        answers = {(a, b): c for a, b, c in zip(x, y, answer, strict=True)}
        symmetric = all(answers.get((b, a)) == c for (a, b), c in answers.items())
        assert (style.dash == "-") == symmetric, name


def test_style_does_not_depend_on_the_company():
    alone, together = look.styles(["x/y"]), look.styles(["s5:xy", "x/y"])
    assert alone["x/y"] == together["x/y"] == look.OPERATIONS["x/y"]


def test_style_of_a_count_goes_from_dark_to_light_and_depends_on_it_alone():
    counts = (0, 1, 10, 100, 1000, 3000)
    found = look.styles(counts)
    brightness = [lab(found[k].colour, SEEN_BY["all cones"])[0] for k in counts]
    assert brightness == sorted(brightness)
    assert len({found[k].marker for k in counts}) == 6
    assert look.styles([100])[100] == found[100]
    assert look.styles([10**6])[10**6].colour == found[3000].colour


def test_styles_of_unknown_names_take_turns():
    found = look.styles(["this", "x+y", "that"])
    assert found["this"] == look.OTHERS[0]
    assert found["that"] == look.OTHERS[1]


def test_name_without_a_colour_of_its_own_is_dashed():
    found = look.styles([f"name {i}" for i in range(len(look.OTHERS) + 1)])
    first, *_, last = found.values()
    assert (last.colour, first.dash, last.dash) == (first.colour, "-", "--")


def test_cosets_have_72_looks_and_neighbours_differ_in_colour_and_marker():
    looks = [look.coset(i) for i in range(72)]
    assert len(set(looks)) == 72
    assert all(a.colour != b.colour and a.marker != b.marker for a, b in itertools.pairwise(looks))


def test_markers_of_dashed_lines_are_hollow():
    assert look.marked(look.Style("#123456", "o", "--"), 5)["mfc"] == "white"
    assert look.marked(look.Style("#123456", "o"), 5)["mfc"] == "#123456"


def test_names_are_mathematics_counts_have_commas_and_a_page_may_say_otherwise():
    assert look.name_of("x^2+y^2") == "$x^2+y^2$"
    assert look.name_of(3000) == look.name_of(np.int64(3000)) == "3,000"
    assert look.name_of("x+y", {"x+y": "sum"}) == "sum"
    assert look.name_of("AdamW, decay 1") == "AdamW, decay 1"


def test_ink_is_white_on_dark_and_black_on_light():
    assert [look.ink(colour) for colour in ("#000000", "#332288", "#56B4E9", "#ffffff")] == [
        "white",
        "white",
        "black",
        "black",
    ]


def test_axes_given_are_used_and_new_ones_are_on_white():
    _, ax = plt.subplots()
    assert look.axes(ax) is ax
    new = look.axes(None)
    assert to_hex(new.get_facecolor()) == to_hex(new.figure.get_facecolor()) == "#ffffff"
