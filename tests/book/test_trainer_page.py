"""Training in the page as a reader does it: a page from a folder, no server, in Chromium."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from grokking_book.play import trainer
from grokking_core.__main__ import parser
from grokking_core.paper import experiments
from grokking_core.runs.run import Run
from grokking_core.training.plain import train

STATIC = Path(__file__).resolve().parents[2] / "book" / "static"
HEAD = '<!doctype html><meta charset="utf-8"><title>Trainer</title><link rel="icon" href="data:,">'
HEAD += '<link rel="stylesheet" href="companion.css"><script src="companion.js"></script>'
SCRIPTS = ("trainer.js", "trainer_pictures.js", "trainer_core.js", "trainer_kernels.js")
SMALL = Run(operation="x+y", p=11, architecture="mlp", n_layers=1, d_model=8, lr=5e-3)
NO_WORKER = "delete window.Worker"
NO_WASM = "delete window.WebAssembly"
STEP = "() => Number(document.querySelector('.trainer').dataset.step)"


def written(folder, records, default):
    """The address of a page with the widget and nothing else, beside the scripts that it needs."""
    for name in ("companion.js", "companion.css", *SCRIPTS):
        shutil.copy(STATIC / name, folder)
    other = trainer.address(replace(default, seed=7))
    tried = f'<button type="button" data-trainer="{other}" hidden>try</button>'
    page = folder / "page.html"
    widget = trainer.widget(records, default)._repr_mimebundle_()["text/html"]
    page.write_text(HEAD + widget + tried, encoding="utf-8")
    return page.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page that begins with a small run, which has a record of a hundred updates."""
    return written(tmp_path_factory.mktemp("small"), [train(SMALL, steps=100)], SMALL)


@pytest.fixture
def open_page(browser):
    """Opens an address; the page may neither fail nor ask for anything that is not beside it."""
    tabs, wrong = [], []

    def opened(address, before="", **options):
        tab = browser.new_page(viewport={"width": 360, "height": 740}, **options)
        tabs.append(tab)
        tab.set_default_timeout(120_000)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda message: wrong.append(message.text))
        ours = ("file:", "data:", "blob:")
        tab.on("request", lambda r: None if r.url.startswith(ours) else wrong.append(r.url))
        if before:
            tab.add_init_script(before)
        tab.goto(address)
        tab.wait_for_selector("[data-companion=trainer][data-ready=yes]")
        return tab

    yield opened
    for tab in tabs:
        tab.close()
    assert wrong == []


@pytest.fixture
def page(open_page, address):
    return open_page(address)


def rest(page, step):
    """Wait until the network rests at a step."""
    condition = "dataset.going === 'false' && Number(document.querySelector('.trainer').dataset.step)"
    page.wait_for_function(f"(step) => document.querySelector('.trainer').{condition} === step", arg=step)


def settings(page):
    return {name: page.input_value(f"[name={name}]") for name in trainer.FIELDS}


def at(address, **fields):
    return address + "#" + "&".join(f"{name}={value}" for name, value in fields.items())


# Buttons


def test_a_step_is_one_update_and_reset_begins_anew(page):
    assert page.inner_text(".trainer-words").startswith("Step 0: training")
    for step in (1, 2, 3):
        page.click("button[name=update]")
        rest(page, step)
    page.click("button[name=reset]")
    rest(page, 0)
    assert page.inner_text("button[name=go]") == "Start"


def test_a_run_starts_pauses_and_goes_on_by_the_keyboard_alone(page):
    page.focus("[name=seed]")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => ({STEP})() > 5")
    assert page.inner_text("button[name=go]") == "Pause"
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('.trainer').dataset.going === 'false'")
    paused = page.evaluate(STEP)
    assert page.inner_text("button[name=go]") == "Go on"
    page.keyboard.press("Enter")
    page.wait_for_function(f"(step) => ({STEP})() > step", arg=paused)


def test_table_points_and_curves_are_drawn_and_say_what_they_show(page):
    page.click("button[name=update]")
    rest(page, 1)
    table = page.locator("canvas.film-table")
    assert (table.get_attribute("width"), table.get_attribute("height")) == ("11", "11")
    counts = re.findall(r"\d+", table.get_attribute("aria-label").partition("Cells:")[2])
    assert sum(map(int, counts)) == 121
    assert page.locator(".trainer-plane text").all_text_contents() == [str(x) for x in range(11)]
    assert page.locator(".trainer-accuracy polyline").count() == 2
    assert "frequency" in page.get_attribute(".trainer-plane svg", "aria-label")


def test_a_button_answers_at_once_and_is_not_undone_by_an_older_state(page):
    page.evaluate("""() => {
      const go = document.querySelector("button[name=go]");
      window.seen = [];
      new MutationObserver(() => seen.push(go.textContent)).observe(go, { childList: true });
    }""")
    pressed = """() => {
      const [go, update] = ["go", "update"].map((name) => document.querySelector(`button[name=${name}]`));
      go.click();
      return [go.textContent, update.disabled];
    }"""
    assert page.evaluate(pressed) == ["Pause", True]
    page.wait_for_function(f"() => ({STEP})() > 5")
    assert page.evaluate(pressed) == ["Go on", False]
    page.wait_for_function("document.querySelector('.trainer').dataset.going === 'false'")
    assert page.evaluate("seen") == ["Pause", "Go on"]


def test_pictures_change_what_is_there_and_make_nothing_anew(page):
    page.evaluate("""() => {
      window.added = [];
      window.drawn = new Map();
      const seen = new MutationObserver((changes) => {
        for (const { type, addedNodes, target, attributeName } of changes) {
          added.push(...[...addedNodes].filter((node) => node.nodeType === 1).map((node) => node.tagName));
          if (attributeName === "points") drawn.set(target, 1 + (drawn.get(target) ?? 0));
        }
      });
      const parts = { childList: true, subtree: true, attributes: true };
      for (const svg of document.querySelectorAll(".trainer svg")) seen.observe(svg, parts);
    }""")
    page.click("button[name=go]")
    page.wait_for_function(f"() => ({STEP})() > 300")
    page.click("button[name=go]")
    page.wait_for_function("document.querySelector('.trainer').dataset.going === 'false'")
    assert page.evaluate("[...drawn.values()].length") == 8 + 4  # the circle's stretches, the curves
    assert page.evaluate("Math.min(...drawn.values())") > 1
    assert set(page.evaluate("added")) <= {"line", "text", "g", "circle"}  # axes that grew, milestones
    everything = page.evaluate("document.querySelectorAll('.trainer svg *').length")
    drawn = page.evaluate("Math.max(...drawn.values())")
    assert page.evaluate("added.length") < everything * (drawn - 1), "what pictures made anew would add"


def test_questions_lead_to_their_runs(page):
    page.click("text=try")
    assert settings(page)["seed"] == "7"
    rest(page, 0)


# The address


def test_a_bookmark_brings_settings_step_and_record_back(open_page, address):
    page = open_page(at(address, step=40, record="shown"))
    rest(page, 40)
    page.click("button[name=update]")
    rest(page, 41)
    other = open_page(page.url)
    rest(other, 41)
    assert settings(other) == settings(page)
    assert other.inner_text(".trainer-compared") == page.inner_text(".trainer-compared") != ""
    picture = "canvas => canvas.toDataURL()"
    assert other.eval_on_selector("canvas", picture) == page.eval_on_selector("canvas", picture)
    points = "svg => svg.innerHTML"
    assert other.eval_on_selector(".trainer-plane svg", points) == page.eval_on_selector(
        ".trainer-plane svg", points
    )


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("train_fraction", "2", "Training share 2: it must be a number from 0.05 to 0.95; it is 0.5 now."),
        (
            "train_fraction",
            "NaN",
            "Training share NaN: it must be a number from 0.05 to 0.95; it is 0.5 now.",
        ),
        ("d_model", "1000000", "Width 1000000: it must be a multiple of 8 from 8 to 128; it is 8 now."),
        ("d_model", "12", "Width 12: it must be a multiple of 8 from 8 to 128; it is 8 now."),
        ("p", "4", "Modulus 4: it must be a whole number from 11 to 59; it is 11 now."),
        ("p", "11.5", "Modulus 11.5: it must be a whole number from 11 to 59; it is 11 now."),
        ("seed", "", "Seed (empty): it must be a whole number from 0 to 999,999; it is 0 now."),
        (
            "outliers",
            "90",
            "Wrong answers 90: it must be at most 60, the number of training equations; it is 0 now.",
        ),
        ("operation", "x^y", "Operation x^y: it must be one of x+y, x-y, x*y, x/y; it is x+y now."),
        (
            "lr",
            "%E0%A4%A",
            "Learning rate %E0%A4%A: it must be a number from 0.00001 to 0.1; it is 0.005 now.",
        ),
        ("step", "-3", "Step -3: it must be a whole number from 0 to 100,000; it is 0 now."),
        (
            "fraction",
            "2",
            "fraction is no setting; an address has operation, p, train_fraction, outliers, weight_decay, lr,"
            " d_model, seed, step, record.",
        ),
    ],
)
def test_an_address_that_asks_too_much_gets_the_default_and_is_told_why(
    open_page, address, name, value, told
):
    page = open_page(at(address, **{name: value}))
    assert page.inner_text(".trainer-wrong") == told
    rest(page, 0)
    defaults = {key: f"{getattr(SMALL, key):g}" for key in trainer.FIELDS if key != "operation"}
    assert settings(page) == {"operation": "x+y", **defaults}


@pytest.mark.parametrize("p", [4, 15])
def test_a_modulus_without_inverses_is_refused_where_they_are_needed(open_page, address, p):
    page = open_page(at(address, operation="x/y", p=p))
    allowed = {4: "a whole number from 11 to 59", 15: "a prime number for x/y"}
    assert f"Modulus {p}: it must be {allowed[p]}" in page.inner_text(".trainer-wrong")
    assert settings(page)["p"] == "11"


def test_an_address_of_a_heading_is_none_of_a_run(open_page, address):
    page = open_page(f"{address}#where-this-comes-from")
    assert page.inner_text(".trainer-wrong") == ""
    assert settings(page)["p"] == "11"


def test_what_a_reader_enters_is_held_to_the_same_rules(page):
    page.fill("[name=p]", "1000")
    page.press("[name=p]", "Tab")
    assert page.inner_text(".trainer-wrong").startswith(
        "Modulus 1000: it must be a whole number from 11 to 59"
    )
    assert settings(page)["p"] == "11"
    page.fill("[name=p]", "13")
    page.press("[name=p]", "Tab")
    assert page.inner_text(".trainer-wrong") == ""
    assert page.evaluate("document.querySelector('canvas').width") in (11, 13)
    page.wait_for_function("document.querySelector('canvas').width === 13")


# What the package says of it


def test_the_record_of_the_run_is_laid_over_it_and_agrees(open_page, address):
    page = open_page(at(address, step=100))
    rest(page, 100)
    page.click("button[name=record]")
    told = page.inner_text(".trainer-compared")
    most = float(re.search(r"at most (\S+) of", told)[1])
    assert most <= 1e-3
    dashed = "document.querySelectorAll('.trainer-loss polyline[stroke-dasharray]').length"
    page.wait_for_function(f"{dashed} === 2")
    assert page.get_attribute("button[name=record]", "aria-pressed") == "true"
    page.click("button[name=record]")
    assert page.inner_text(".trainer-compared") == ""


def test_a_run_without_a_record_says_so(open_page, address):
    page = open_page(at(address, seed=3))
    page.click("button[name=record]")
    assert "no record of this very run" in page.inner_text(".trainer-compared")


def test_the_command_is_that_of_the_very_run(open_page, address):
    page = open_page(
        at(address, operation="x*y", seed=3, outliers=2, train_fraction="0.33", weight_decay="0")
    )
    page.click("summary")
    words = page.inner_text(".trainer-outside pre >> nth=0").split()
    assert words[:2] == ["grokking", "train"]
    args = vars(parser().parse_args(words[1:]))
    given = {name: value for name, value in args.items() if name in Run.__dataclass_fields__}
    expected = replace(SMALL, operation="x*y", seed=3, outliers=2, train_fraction=0.33, weight_decay=0.0)
    assert Run(**given, seed=args["seeds"][0]) == expected


def test_the_python_asks_the_same_of_the_papers_network(open_page, address):
    page = open_page(at(address, operation="x-y", seed=3, train_fraction="0.33"))
    page.click("summary")
    (line,) = re.findall("^run = (.+)$", page.inner_text(".trainer-outside pre >> nth=1"), re.M)
    assert eval(line, {"Run": Run}) == Run(operation="x-y", seed=3, train_fraction=0.33)


# Browsers that lack something, and readers who want less


@pytest.mark.parametrize(
    ("without", "told"),
    [
        (NO_WORKER, "This browser runs no workers: it trains in the page, in short slices."),
        (NO_WASM, "This browser has no vectors in WebAssembly: it trains several times slower."),
    ],
    ids=["workers", "vectors"],
)
def test_a_browser_that_lacks_something_trains_slower_and_says_so(open_page, address, without, told):
    page = open_page(at(address, step=100, record="shown"), without)
    rest(page, 100)
    assert told in page.inner_text(".trainer-words")
    most = float(re.search(r"at most (\S+) of", page.inner_text(".trainer-compared"))[1])
    assert most <= 1e-3


def test_a_reader_who_wants_little_motion_sees_fewer_pictures(open_page, address):
    page = open_page(address, reduced_motion="reduce")
    page.evaluate("""() => {
      window.pictures = 0;
      const seen = new MutationObserver(() => window.pictures++);
      seen.observe(document.querySelector(".trainer-plane svg"), { attributes: true });
    }""")
    page.click("button[name=go]")
    page.wait_for_function(
        f"() => ({STEP})() > 1000 || document.querySelector('.trainer').dataset.going === 'false'"
    )
    assert page.evaluate("window.pictures") < 20


# The default run and its neighbours, all the way


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    plan = experiments.plan("trainer", "laptop")
    records = plan.read()
    assert records.missing == []
    return written(tmp_path_factory.mktemp("full"), records, plan.runs[0]), records


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("operation", ["x+y", "x-y", "x*y"])
def test_a_run_groks_in_the_page_as_it_does_in_the_package(open_page, full_size, operation, seed):
    address, records = full_size
    page = open_page(at(address, operation=operation, seed=seed, record="shown"))
    page.click("button[name=go]")
    page.wait_for_selector(".trainer-news:has-text('Learned')")
    compared = page.inner_text(".trainer-compared")
    found = {
        which: re.search(rf"in {which} at step ([\d,]+), here at step ([\d,]+)", compared)
        for which in ("training", "validation")
    }
    for which, match in found.items():
        kept, own = (int(number.replace(",", "")) for number in match.groups())
        assert own == pytest.approx(kept, rel=0.1), which
    assert float(re.search(r"at most (\S+) of", compared)[1]) <= 1e-3
    default = records[0].run
    (record,) = (r for r in records if r.run == replace(default, operation=operation, seed=seed))
    assert record.steps_to(0.99, "validation") == int(found["validation"][1].replace(",", ""))


@pytest.mark.slow
def test_page_weighs_less_than_300_kilobytes_beside_shared_scripts(full_size):
    page = Path(full_size[0].removeprefix("file://"))
    assert page.stat().st_size + sum((STATIC / name).stat().st_size for name in SCRIPTS) < 250_000
