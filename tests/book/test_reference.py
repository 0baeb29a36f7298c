"""The reference: every public name of the packages on a page, with a link to its lines."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from inspect import getmodule, isclass, isfunction
from pathlib import Path

import pytest
import yaml

from grokking_book.sphinx import reference
from grokking_core.__main__ import parser

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "book" / "reference"
ROOMS = re.findall(r"{room} ([\w.]+)", "".join(page.read_text() for page in PAGES.glob("*.md")))
MODULES = [name for room in ROOMS for name in reference.modules(room)]

DOCSTRING = """Of x*y and |S_n|: `a*b` of a_ and \\n.

    y = *x*

Parameters
----------
x_ : int
    A *share*."""


def public_names(module):
    """The functions and classes that a module defines."""
    found = import_module(module)
    return [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and (isclass(value) or isfunction(value)) and getmodule(value) is found
    ]


def test_modules_are_those_of_the_room_and_of_its_rooms():
    bench = [f"grokking_core.bench.{name}" for name in ("measured", "planned", "watching")]
    assert reference.modules("grokking_core.bench") == bench
    assert reference.modules(bench[0]) == bench[:1]
    assert {"grokking_core.data.operations", "grokking_core.runs.run"} <= {
        *reference.modules("grokking_core")
    }
    assert [name for name in reference.modules("grokking_core") if "__main__" in name] == []


def test_every_module_of_the_core_is_on_one_page_and_every_page_in_the_book():
    assert sorted(name for name in MODULES if name.startswith("grokking_core.")) == sorted(
        reference.modules("grokking_core")
    )
    assert len(MODULES) == len({*MODULES})
    listed = re.findall(r"reference/\w+", (PAGES.parent / "_toc.yml").read_text())
    assert sorted(listed) == sorted(f"reference/{page.stem}" for page in PAGES.glob("*.md"))


def test_rooms_stand_in_the_order_in_which_they_build_on_each_other():
    (order,) = re.findall(r"^layers = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    layers = [re.findall(r"grokking_core\.(\w+)", line) for line in order.splitlines()]
    height = {room: number for number, line in enumerate(reversed(layers)) for room in line}
    listed = re.findall(r"reference/(\w+)", (PAGES.parent / "_toc.yml").read_text())
    rooms = [name for name in listed if name in height]
    assert {"data", "runs", "model", "training", "sweeps", "paper"} <= {*rooms}
    index = re.findall(r"{doc}`(\w+)`", (PAGES / "index.md").read_text())
    assert index == listed[1:]
    card = [name for name in rooms if name not in ("measures", "records", "bench")]  # beside others
    assert card == sorted(card, key=height.__getitem__)


def test_prose_is_no_markup_but_for_names_in_backticks_and_sections():
    lines = DOCSTRING.splitlines()
    reference.plain(None, "function", "f", None, None, lines)
    assert lines == [
        r"Of x\*y and \|S_n\|: `a*b` of a\_ and \\n.",
        "",
        "::",
        "",
        "    y = *x*",
        "",
        "Parameters",
        "----------",
        r"x\_ : int",
        r"    A \*share\*.",
    ]


def test_comment_of_a_field_is_not_read_as_its_type():
    lines = ["None: the run's seed"]
    reference.plain(None, "attribute", "f", None, None, lines)
    assert lines == [": None: the run's seed"]


def test_fields_of_named_tuples_are_not_told_to_be_fields():
    lines = ["Alias for field number 0"]
    reference.plain(None, "attribute", "f", None, None, lines)
    assert lines == []


@pytest.mark.parametrize(
    ("module", "name", "full"),
    [
        ("grokking_core.measures.steps", "Estimate", "grokking_core.measures.intervals.Estimate"),
        ("grokking_core.weights.cosets", "data.compose", "grokking_core.data.operations.compose"),
        ("grokking_core.runs.record", "Run", "grokking_core.runs.run.Run"),
        ("grokking_core.runs.record", "no_such_name", "no_such_name"),
        ("no_such_module", "Run", "Run"),
    ],
)
def test_names_lead_to_where_they_are_defined(module, name, full):
    with suppress(ModuleNotFoundError):
        import_module(module)
    assert reference.full_name(module, name) == full


# -------------------------------------------------------------------------------------------------
# The pages


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """The folder of the reference's pages, rendered alone as the book configures it; warnings are errors."""
    folder = tmp_path_factory.mktemp("reference")
    shutil.copytree(PAGES, folder / "pages")
    with (folder / "pages" / "index.md").open("a") as index:
        index.write("\n```{toctree}\n:glob:\n*\n```\n")
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]
    names = ("autodoc_", "napoleon_", "default_role", "nitpick_", "add_module", "html_domain_", "python_")
    settings = {key: value for key, value in config["config"].items() if key.startswith(names)}
    own = [name for name in config["local_extensions"] if name.endswith(("reference", "command_line"))]
    extensions = ["myst_parser", *(name for name in config["extra_extensions"] if "ext." in name), *own]
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    (folder / "conf.py").write_text("\n".join([f"extensions = {extensions}", *lines]))
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", "--keep-going", "-b", "html"]
    command += ["-c", str(folder), str(folder / "pages"), str(folder / "html")]
    env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'book'}", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def text(rendered):
    """The text of each page of the reference by its name."""
    return {page.stem: (rendered / f"{page.stem}.html").read_text() for page in PAGES.glob("*.md")}


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_its_place_and_a_link_to_its_lines(rendered, text, module):
    everything = "".join(text.values())
    source = (rendered / "_modules" / f"{module.replace('.', '/')}.html").read_text()
    for name in public_names(module):
        assert f'id="{module}.{name}"' in everything
        assert f'_modules/{module.replace(".", "/")}.html#{name}"' in everything
        assert f'id="{name}"' in source


@pytest.mark.slow
def test_fields_of_a_run_are_described_by_their_comments(text):
    for name, words in (("lr", "learning rate after warm-up"), ("precision", "tf32: CUDA products only")):
        place = text["runs"].index(f'id="grokking_core.runs.run.Run.{name}"')
        assert words in text["runs"][place : place + 3000]


@pytest.mark.slow
def test_search_and_index_know_the_names(rendered, text):
    index = (rendered / "searchindex.js").read_text()
    known = json.loads(index[index.index("{") : index.rindex("}") + 1])["objects"]
    names = {f"{prefix}.{entry[4]}" for prefix, entries in known.items() for entry in entries}
    assert names >= {f"{module}.{name}" for module in MODULES for name in public_names(module)}
    assert 'href="genindex.html"' in text["index"]
    assert "grokking_core.runs.record" in (rendered / "genindex.html").read_text()


@pytest.mark.slow
def test_command_line_shows_every_command_and_option(text):
    shown = dict(
        re.findall(r'<section id="(grokking[\w-]*)">(.*?)</section>', text["command_line"], re.DOTALL)
    )
    commands = next(action.choices for action in parser()._actions if isinstance(action.choices, dict))
    assert shown.keys() == {"grokking", *(f"grokking-{name}" for name in commands)}
    for name, command in commands.items():
        assert f"\n    {name} " in shown["grokking"]
        for action in command._actions:
            for option in action.option_strings or [action.metavar or action.dest]:
                assert option in shown[f"grokking-{name}"], option


@pytest.mark.slow
def test_pages_are_light(rendered):
    for page in rendered.rglob("*.html"):
        assert page.stat().st_size < 1_500_000, page
