"""The reference: what is read from the sources, and the pages made of it."""

import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from inspect import getsource, ismodule
from pathlib import Path

import pytest

from grokking_book.sphinx import reference as sphinx_reference
from grokking_book.sphinx import sources
from grokking_core.__main__ import parser

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "book" / "reference"


CLASS = '''
@dataclass
class Thing:
    """One.

    Attributes
    ----------
    b, c : int
        Both.
    """

    a: int = 1  # above 0
    b: int = 2

    def __init__(self):
        self.c = 3
        self.d = 4
'''

DOCSTRING = """First.

More.

Parameters
----------
x, y : Tensor
    Two
    lines.
z : int

Raises
------
E
    If."""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one module, whose text a test writes; what is read is forgotten after it."""

    def write(source, name="things"):
        (tmp_path / f"{name}.py").write_text(source)
        sources.forget()
        return sources.read(name)

    (tmp_path / "__init__.py").write_text("from grokking_core.things import Thing\n")
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    yield write
    monkeypatch.undo()
    sources.forget()


# -------------------------------------------------------------------------------------------------
# What is read from the sources


@pytest.mark.parametrize("name", sources.modules())
def test_reference_has_every_public_name_of_a_module(name):
    module = import_module(f"grokking_core.{name}")
    for key, value in vars(module).items():
        if key.startswith("_") or ismodule(value) or key == "annotations":
            continue
        full = sources.full_name(key, module.__name__)
        assert full is not None, key
        if getattr(value, "__module__", "") == module.__name__:
            assert full.startswith(f"{module.__name__}."), full
            assert full in sources.documented()


@pytest.mark.parametrize("name", sources.modules())
def test_every_name_of_the_reference_exists(name):
    module = import_module(f"grokking_core.{name}")
    for entry in sources.read(name).names:
        found = getattr(module, entry.name)
        for member in entry.members:
            made = f"self.{member.name}" in getsource(found)
            assert made or member.name in found.__annotations__ or hasattr(found, member.name), member


def test_every_module_is_on_one_page_and_every_page_in_the_book():
    text = "".join(page.read_text() for page in PAGES.iterdir())
    named = re.findall(r"^\.\. reference:: (\w+)$", text, re.MULTILINE)
    assert sorted(named) == sources.modules(), "each module has its place on a page of the reference"
    listed = re.findall(r"reference/\w+", (PAGES.parent / "_toc.yml").read_text())
    assert sorted(listed) == sorted(f"reference/{page.stem}" for page in PAGES.iterdir())


def test_new_public_name_appears_and_a_private_one_does_not(package):
    told = package(
        'def new(a: int = 1) -> str:\n    """Text."""\n\n\ndef _own(): ...\n\n\nSIZE = 3  # of it\n'
    )
    function, size = told.names
    assert (function.name, function.signature, function.says) == ("new", "(a: int=1) -> str", "Text.")
    assert (size.kind, size.value, size.says, size.line) == ("data", "3", "of it", 8)


def test_fields_are_described_by_their_comments_or_the_docstring(package):
    (thing,) = package(CLASS).names
    assert thing.line == 2
    told = {member.name: (member.says, member.type, member.prose_type) for member in thing.members}
    assert told == {"c": ("Both.", "", "int"), "a": ("above 0", "int", ""), "b": ("Both.", "int", "")}


def test_kinds_of_members_are_those_of_python(package):
    source = (
        "class Late(ValueError):\n    def a(self, x): ...\n\n    @property\n    def b(self) -> int: ...\n\n"
        "    @classmethod\n    def c(cls): ...\n\n    @staticmethod\n    def d(x): ...\n"
    )
    (late,) = package(source).names
    assert late.kind == "exception"
    kinds = {member.name: (member.kind, member.signature) for member in late.members}
    assert kinds["a"] == ("method", "(x)")
    assert kinds["b"] == ("property", "")
    assert kinds["c"] == ("classmethod", "()")
    assert kinds["d"] == ("staticmethod", "(x)")


def test_sections_of_a_docstring_are_its_items():
    head, parts = sources.sections(DOCSTRING)
    assert head == "First.\n\nMore."
    assert parts == [
        ("Parameters", [sources.Item("x, y : Tensor", "Two\nlines."), sources.Item("z : int", "")]),
        ("Raises", [sources.Item("E", "If.")]),
    ]


@pytest.mark.parametrize(
    ("name", "module", "full"),
    [
        ("Run", "grokking_core", "grokking_core.runs.run.Run"),
        ("grokking_core.plots.curves.embedding", "grokking_core", "grokking_core.plots.embeddings.embedding"),
        ("steps_to", "grokking_core.runs.record", None),
        ("sweep", "grokking_core.sweeps.sweeping", "grokking_core.sweeps.sweeping.sweep"),
        ("sweep", "grokking_core.runs.record", "grokking_core.sweeps.sweeping"),
        ("kept.KEPT", "grokking_core.sweeps.sweeping", "grokking_core.weights.ends.KEPT"),
        ("Tensor", "grokking_core.training.ensemble", "torch.Tensor"),
        ("pd.DataFrame", "grokking_core.runs.record", "pandas.DataFrame"),
        ("no_such_name", "grokking_core.training.ensemble", None),
        ("grokking_core.Run.no_such_name", "grokking_core", None),
    ],
)
def test_names_lead_to_where_they_are_defined(name, module, full):
    assert sources.full_name(name, module) == full


def test_names_of_a_class_are_found_inside_it():
    inside = sources.full_name("steps_to", "grokking_core.runs.record", "Record")
    assert inside == "grokking_core.runs.record.Record.steps_to"


def test_prose_is_no_markup_but_for_names_in_backticks():
    text = sphinx_reference.inline("x*y of |S_n|, `steps` and a_ of `Run`.", "grokking_core.runs.record")
    assert text == (
        r"x\*y of \|S_n\|, \ ``steps``\  and a\_ of \ :py:obj:`Run <grokking_core.runs.run.Run>`\ ."
    )
    assert sphinx_reference.paragraphs("Where\n\n    a = *b*", "") == [
        "Where",
        "",
        "::",
        "",
        "        a = *b*",
        "",
    ]


# -------------------------------------------------------------------------------------------------
# The pages


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the reference's pages, rendered alone; a warning is an error."""
    folder = tmp_path_factory.mktemp("reference")
    shutil.copytree(PAGES, folder / "pages")
    with (folder / "pages" / "index.md").open("a") as index:
        index.write("\n```{toctree}\n:glob:\n*\n```\n")
    (folder / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "extensions = ['myst_parser', 'grokking_book.sphinx.reference']\n"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", "--keep-going", "-b", "html"]
    command += ["-c", str(folder), str(folder / "pages"), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site):
    """The text of each page of the reference by its name."""
    return {page.stem: (site / f"{page.stem}.html").read_text() for page in PAGES.iterdir()}


@pytest.mark.slow
def test_every_name_has_its_place_and_a_link_to_its_lines(site, pages):
    # A name's signature: from its anchor to the link to a line, with no other signature's end between.
    link = r'id="(grokking_core\.[\w.]+)">(?:(?!<dt|</dt>).)*?href="([\w/]+\.html)#line-(\d+)"><span'
    found = {
        name: (page, int(line))
        for text in pages.values()
        for name, page, line in re.findall(link, text, re.DOTALL)
    }
    assert found.keys() == {name for name, entry in sources.documented().items() if entry}
    for name, (page, line) in found.items():
        assert f'id="line-{line}"' in (site / page).read_text(), name
        module, said = page.removeprefix("_modules/grokking_core/").removesuffix(".html"), name.split(".")[-1]
        lines = (sources.FOLDER / f"{module}.py").read_text().splitlines()[line - 1 :]
        beside = next(text for text in lines if not text.lstrip().startswith(("@", ")", '"')))
        assert re.search(rf"\b{said}\b", beside), name


@pytest.mark.slow
def test_search_knows_every_name(site):
    index = (site / "searchindex.js").read_text()
    known = json.loads(index[index.index("{") : index.rindex("}") + 1])["objects"]
    names = {f"{prefix}.{entry[4]}" for prefix, entries in known.items() for entry in entries}
    assert names >= {name for name, entry in sources.documented().items() if entry}


@pytest.mark.slow
def test_names_and_modules_are_indexed_on_pages_that_are_linked(site, pages):
    for index in ("genindex", "py-modindex"):
        assert f'href="{index}.html"' in pages["index"]
        assert "grokking_core.runs.record" in (site / f"{index}.html").read_text()


@pytest.mark.slow
def test_command_line_shows_every_command_and_option(pages):
    shown = dict(
        re.findall(r'<section id="(grokking[\w-]*)">(.*?)</section>', pages["command_line"], re.DOTALL)
    )
    commands = next(action.choices for action in parser()._actions if isinstance(action.choices, dict))
    assert shown.keys() == {"grokking", *(f"grokking-{name}" for name in commands)}
    for name, command in commands.items():
        assert f"\n    {name} " in shown["grokking"]
        for action in command._actions:
            for option in action.option_strings or [action.metavar or action.dest]:
                assert option in shown[f"grokking-{name}"], option
    bench = re.findall(r'add_argument\("(--\w+)"', (sources.FOLDER / "bench.py").read_text())
    assert len(bench) > 3
    assert all(option in shown["grokking-bench"] for option in bench)


@pytest.mark.slow
def test_pages_are_light(site):
    for page in site.rglob("*.html"):
        assert page.stat().st_size < 1_500_000, page
