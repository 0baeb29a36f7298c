"""The explorer of all runs: what is packed comes out again, and what the page does with it."""

import base64
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from grokking_book.play import explorer
from grokking_core.paper import experiments, profiles
from grokking_core.paper.experiments import EXPERIMENTS
from grokking_core.plans import Plan
from grokking_core.plots import style as look
from grokking_core.probes import PROBES
from grokking_core.runs.keys import key_of
from grokking_core.runs.record import COLUMNS, Record
from grokking_core.runs.records import Records
from grokking_core.runs.run import CHOICES, Run
from grokking_core.runs.schedule import evaluation_steps


def recorded(run, steps=400, learned_at=200, **columns):
    """A made-up record: training right from step 20 on, validation from `learned_at`, losses falling."""
    step = np.array(evaluation_steps(steps))
    curve = pd.DataFrame(0.5, index=range(len(step)), columns=pd.Index(COLUMNS)).assign(step=step)
    curve["train_accuracy"] = np.where(step >= 20, 0.998, 0.2)
    curve["validation_accuracy"] = np.where(step >= learned_at, 1.0, 0.01234)
    curve["train_loss"], curve["validation_loss"] = 4.5 / (1 + step), 5 * np.exp(-step / 300)
    return Record(run=run, curve=curve.assign(**columns))


def unpacked(text):
    """What `packed` was given, read as the page reads it."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1).astype(np.uint16)
    return np.cumsum(planes[0] + 256 * planes[1], dtype=np.uint16)


def read_back(curves):
    """The curves of each run, from what a page holds."""
    columns = {name: unpacked(text) for name, text in curves["packed"].items()}
    frame = pd.DataFrame({"step": np.array(curves["grid"])[columns["row"].astype(int)]})
    for name in explorer.ACCURACIES:
        frame[name] = columns[name] / explorer.PER_UNIT
    for name in explorer.LOSSES:
        loss = explorer.LOWEST * 10 ** ((columns[name] - 1.0) / explorer.PER_DECADE)
        frame[name] = np.where(columns[name] == 0, np.nan, loss)
    for name in curves["diagnostics"]:
        seen = explorer.LOWEST * 10 ** ((columns[name] - 1.0) / explorer.PER_DECADE)
        frame[name] = np.where(columns[name] == 0, np.nan, seen)
    ends = np.cumsum(curves["points"])
    parts = [frame[end - n : end] for n, end in zip(curves["points"], ends, strict=True)]
    return [part.reset_index(drop=True) for part in parts]


def data_of(*records, name="fig1_grokking_curves"):
    return explorer.widget({name: records}).data


# The curves


def test_numbers_are_unpacked_as_they_were_packed():
    values = np.array([0, 65535, 1, 1, 40000, 3], np.uint16)
    assert unpacked(explorer.packed(values)).tolist() == values.tolist()
    assert unpacked(explorer.packed(values[:0])).tolist() == []


def test_curves_are_those_of_the_records_to_the_stated_precision():
    noise = np.random.default_rng(0)
    records = []
    for seed, steps in enumerate((30, 1000, 400)):
        n = len(evaluation_steps(steps))
        told = {name: noise.uniform(size=n) for name in explorer.ACCURACIES}
        told |= {name: 10 ** noise.uniform(-8.5, 5, n) for name in explorer.LOSSES}
        records.append(recorded(Run(operation="x/y", seed=seed), steps, **told))
    curves = explorer.curves(records)
    assert curves["every"] == 1
    for record, found in zip(records, read_back(curves), strict=True):
        assert found["step"].tolist() == record.curve["step"].tolist()
        for name in explorer.ACCURACIES:
            lost = record.curve[name] - found[name]
            assert lost.between(-1e-9, 1e-3).all()
        for name in explorer.LOSSES:
            assert np.abs(found[name] / record.curve[name] - 1).max() < 0.012


@pytest.mark.parametrize(("accuracy", "shown"), [(0.98999, 0.989), (0.99, 0.99), (0.9999, 0.999), (1.0, 1.0)])
def test_accuracy_is_rounded_down_so_that_99_percent_is_shown_where_it_was_reached(accuracy, shown):
    record = recorded(Run(operation="x/y"), validation_accuracy=accuracy)
    (found,) = read_back(explorer.curves([record]))
    assert found["validation_accuracy"].eq(shown).all()


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_loss_that_is_not_finite_is_a_gap(loss):
    record = recorded(Run(operation="x/y"), train_loss=loss, validation_loss=0.0)
    (found,) = read_back(explorer.curves([record]))
    assert found["train_loss"].isna().all()
    assert found["validation_loss"].tolist() == pytest.approx([explorer.LOWEST] * len(found))


def noisy(n_runs, steps):
    """Records that no packing can make much shorter."""
    noise, n = np.random.default_rng(1), len(evaluation_steps(steps))
    for seed in range(n_runs):
        told = {name: noise.uniform(0, 0.98, size=n) for name in explorer.ACCURACIES}
        told |= {name: 10 ** noise.uniform(-6, 1, n) for name in explorer.LOSSES}
        told["train_accuracy"][1 + seed % 40], told["validation_accuracy"][41 + 3 * seed % 50] = 1.0, 1.0
        yield recorded(Run(operation="x/y", seed=seed), steps, **told)


@pytest.mark.parametrize("limit", [20_000, 8_000, 1])
def test_long_records_are_thinned_but_keep_ends_and_milestones(limit):
    records = list(noisy(40, 10_000))
    curves = explorer.curves(records, limit)
    assert curves["every"] > 1
    assert sum(map(len, curves["packed"].values())) <= max(limit, 4000)
    for record, found in zip(records, read_back(curves), strict=True):
        steps = record.curve["step"]
        train, validation = explorer.milestones(record)
        assert {0, train, validation, steps.iloc[-1]} <= {*found["step"]}
        assert {*steps[:: curves["every"]]} <= {*found["step"]}
        assert found.set_index("step")["validation_accuracy"][validation] == 1
        assert found["validation_accuracy"].ge(0.99).sum() == 1


def test_page_of_1800_long_runs_stays_below_a_megabyte():
    curves = [record.curve for record in noisy(900, 1_000_000)]  # too many to be packed as repeats
    runs = [Run(operation="x/y", seed=seed) for seed in range(1800)]
    records = [Record(run=run, curve=curves[run.seed % 900]) for run in runs]
    assert sum(len(record.curve) for record in records) > 300_000
    page = explorer.widget({"fig2_operations": records})._repr_mimebundle_()["text/html"]
    assert 500_000 < len(page) < 1_000_000


# What was watched


def with_watched(run, probe, **columns):
    """A record with what a probe saw: at every evaluation, and between."""
    record = recorded(run)
    steps = sorted({*record.curve["step"], 37, 333})
    frame = pd.DataFrame({"step": steps} | {name: of(np.array(steps)) for name, of in columns.items()})
    return replace(record, watched={probe: frame})


def ildr_of(run):
    others = dict.fromkeys(("entropy", "gradient_norm"), np.ones_like)
    return with_watched(run, "early_warnings", ildr=lambda s: 1.0 + s, **others)


def test_diagnostics_are_what_the_probes_saw_at_the_evaluations():
    watched, bare = ildr_of(Run(operation="x/y")), recorded(Run(operation="x+y"))
    curves = explorer.curves([watched, bare])
    assert [*curves["diagnostics"]] == ["ildr", "entropy", "gradient"]
    assert curves["diagnostics"]["ildr"] == {"title": "ILDR", "log": True}
    found, without = read_back(curves)
    assert found["ildr"].tolist() == pytest.approx((1 + found["step"]).tolist(), rel=0.012)
    assert without["ildr"].isna().all()


def test_run_has_what_any_figure_watched_of_it():
    run = Run(operation="x/y")
    loops = with_watched(run, "topology", largest=lambda s: 0.1 * s)
    ((record, name),) = explorer.distinct({"early_warnings": [ildr_of(run)], "topology": [loops]}).values()
    assert (set(record.watched), name) == ({"early_warnings", "topology"}, "early_warnings")
    assert {"ildr", "loop"} <= explorer.curves([record])["diagnostics"].keys()


def test_every_diagnostic_is_a_number_that_its_probe_sees():
    run = Run(operation="x+y", p=31)
    for name, diagnostic in explorer.DIAGNOSTICS.items():
        columns = PROBES[diagnostic.probe].columns(run)
        record = with_watched(run, diagnostic.probe, **dict.fromkeys(columns, np.ones_like))
        (found,) = read_back(explorer.curves([record]))
        assert found[name].notna().all(), name


# The choices


def test_run_of_several_figures_counts_once_as_far_as_it_is_known():
    run, other = Run(operation="x/y"), Run(operation="x+y")
    short, long = recorded(run, 100, learned_at=50), recorded(run, 1000)
    found = {"fig1_grokking_curves": [short], "fig2_operations": [recorded(other), long]}
    kept = explorer.distinct(found)
    assert [(each.run, name) for each, name in kept.values()] == [
        (run, "fig1_grokking_curves"),
        (other, "fig2_operations"),
    ]
    assert kept[key_of(run)][0] is long


def test_facets_tell_all_different_settings_of_the_profiles_apart():
    for profile in ("laptop", "paper", "smoke"):
        runs = {key_of(run): run for name in EXPERIMENTS for run in experiments.plan(name, profile).runs}
        told = {tuple(facet.of(run) for facet in explorer.FACETS.values()) for run in runs.values()}
        assert len(told) == len(runs)


def test_facets_name_what_is_not_the_papers():
    assert explorer.operation_of(Run(operation="x+y", p=96)) == "x+y mod 96"
    assert explorer.operation_of(Run(operation="s5:xy", p=96)) == "s5:xy"
    assert explorer.operation_of(Run(operation="s5:xy", n=4)) == "s5:xy on S4"
    assert explorer.optimizer_of(Run(operation="x+y")) == "AdamW, decay 1"
    assert explorer.optimizer_of(Run(operation="x+y", weight_decay=0.0)) == "AdamW, decay 0"
    assert explorer.optimizer_of(Run(operation="x+y", optimizer="sgd", lr=0.1)) == "SGD, lr 0.1, decay 1"
    later = Run(operation="x+y", gradient="perp", norm_hold=0.8)
    assert explorer.optimizer_of(later) == "AdamW, decay 1, gradient perp, norm_hold 0.8"
    assert {*CHOICES["optimizer"]} == {*explorer.OPTIMIZERS}
    assert explorer.network_of(Run(operation="x+y", architecture="mlp", n_layers=1)) == "1-layer MLP"
    assert explorer.network_of(Run(operation="x+y", d_model=32)) == "2-layer transformer, width 32"


def test_values_are_in_order_and_have_the_figures_colours():
    runs = [("x+y", 0.9, 10), ("x/y", 0.25, 0), ("s5:xy", 0.5, 10), ("x+y", 0.25, 1000)]
    made = [Run(operation=o, train_fraction=f, outliers=k) for o, f, k in runs]
    facets = data_of(*map(recorded, made))["facets"]
    assert facets["operation"]["values"] == ["x+y", "x/y", "s5:xy"]
    assert facets["operation"]["colours"] == [look.OPERATIONS[o].colour for o in ("x+y", "x/y", "s5:xy")]
    assert facets["fraction"]["values"] == ["0.25", "0.5", "0.9"]
    assert facets["fraction"]["written"] == ["25 %", "50 %", "90 %"]
    assert facets["outliers"]["written"] == ["0", "10", "1,000"]
    assert len({*facets["fraction"]["colours"]}) == 3


def test_milestones_are_exact_and_censored_runs_have_none():
    runs = [Run(operation="x/y", seed=seed) for seed in (0, 1)]
    told = data_of(recorded(runs[0]), recorded(runs[1], learned_at=10_000))["runs"]
    assert told["train"] == [20, 20]
    assert told["validation"] == [200, None]


def test_first_view_has_the_seeds_of_the_first_run_and_others_compare_most():
    settings = [("x/y", 0.5, 0), ("x/y", 0.5, 1), ("x+y", 0.5, 0), ("x+y", 0.3, 0), ("x+y", 0.8, 0)]
    made = [Run(operation=o, train_fraction=f, seed=s) for o, f, s in settings]
    views = {view["title"]: view for view in data_of(*map(recorded, made))["views"]}
    assert [*views] == ["grokking", "by operation", "by training fraction"]
    assert views["grokking"]["choose"]["operation"] == "x/y"
    assert "seed" not in views["grokking"]["choose"]
    assert views["by training fraction"]["choose"]["operation"] == "x+y"
    assert "fraction" not in views["by training fraction"]["choose"]
    assert views["by operation"]["choose"]["fraction"] == "0.5"


def test_nothing_on_record_is_a_page_too():
    data = data_of()
    assert data["curves"]["points"] == data["views"] == data["runs"]["seed"] == []
    assert read_back(data["curves"]) == []


def test_every_figure_that_runs_link_to_has_a_page():
    figures = profiles.FOLDER.parent / "figures"
    assert [name for name in EXPERIMENTS if not (figures / f"{name}.ipynb").is_file()] == []


def test_page_runs_with_and_without_records(monkeypatch, run_notebook):
    monkeypatch.setenv("GROKKING_PROFILE", "smoke")
    monkeypatch.setattr(Plan, "read", lambda plan: only(plan, 0))
    names = run_notebook("../explorer", lambda run: None)
    assert len(names["shown"]) == 0
    assert len(names["missing"]) > 10
    monkeypatch.setattr(Plan, "read", lambda plan: only(plan, 2))
    names = run_notebook("../explorer", lambda run: None)
    assert len(names["shown"]) > 3
    assert "all are drawn" in names["text"]


def only(plan, n):
    """The first n runs of a plan on record, the others missing."""
    found = Records(map(recorded, plan.runs[:n]), asked=[(400, None)])
    found.missing = list(plan.runs[n:])
    return found


# In a browser, from a folder, without a server

PAGE = """<!DOCTYPE html><html data-theme="light"><meta charset="utf-8"><title>Explorer</title>
<style>html { --pst-color-background: #ffffff; --pst-color-text-base: #222832; --pst-color-border: #d1d5da }
html[data-theme="dark"] { --pst-color-background: #14181e; --pst-color-text-base: #ced6dd }</style>
<script src="static/companion.js"></script>"""
LINES = """plot => plot.data.filter(line => line.mode === "lines").map(({x, y}) => [x, y])"""
INK = "plot => [plot.layout.font.color, plot.layout.paper_bgcolor, plot.data[0].line.color]"


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the explorer of some records, at an address; what goes wrong in the page fails the test."""
    shutil.copytree(profiles.FOLDER.parent / "static", tmp_path / "static")
    page, wrong = browser.new_page(), []
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if told.type in ("error", "warning") else None)

    def opened(*records, at=""):
        widget = explorer.widget({"fig1_grokking_curves": records})
        (tmp_path / "page.html").write_text(PAGE + widget._repr_mimebundle_()["text/html"])
        page.goto((tmp_path / "page.html").as_uri() + at)
        page.wait_for_selector("[data-ready=yes]")
        return page

    yield opened
    page.close()
    assert wrong == []


def few():
    """x/y at 40 % with two seeds, which the page opens with, and x+y at 50 %, which never learns."""
    runs = [Run(operation="x/y", seed=seed, train_fraction=0.4) for seed in (0, 1)]
    return [*map(recorded, runs), recorded(Run(operation="x+y"), steps=100)]


def chosen(page):
    """What is chosen, and how many runs are shown."""
    boxes = page.locator("input:checked").evaluate_all("all => all.map(box => [box.name, box.value])")
    return dict(boxes), int(page.locator(".explorer-count").inner_text())


def test_page_draws_what_was_packed(opened):
    rising = np.linspace(0, 1, len(evaluation_steps(400)))
    record = recorded(Run(operation="x/y"), validation_accuracy=rising)
    (found,) = read_back(explorer.curves([record]))
    lines = opened(record).locator(".explorer-plot").evaluate(LINES)
    for (x, y), name in zip(lines, (*explorer.ACCURACIES, *explorer.LOSSES), strict=True):
        scale = 100 if name in explorer.ACCURACIES else 1
        assert x == [*found["step"], None]
        assert y[:-1] == pytest.approx((scale * found[name]).tolist())


def test_page_opens_with_the_setting_of_the_first_run(opened):
    found, n_shown = chosen(opened(*few()))
    assert (found["operation"], found["fraction"], n_shown) == ("x/y", "0.4", 2)
    assert "seed" not in found


def test_address_decides_what_is_shown(opened):
    page = opened(*few(), at="#operation=x+y&x=linear&colour=seed")
    assert chosen(page) == ({"operation": "x+y"}, 1)
    assert page.locator("[name=x]").input_value() == "linear"
    assert page.locator("[name=colour]").input_value() == "seed"
    page.evaluate("location.hash = 'operation=x/y&seed=1&seed=0'")
    page.wait_for_function("document.querySelector('.explorer-count').textContent === '2'")
    assert page.locator("[name=x]").input_value() == "log"
    page.evaluate("location.hash = 'a-heading'")
    assert chosen(page)[1] == 2


def test_choice_narrows_the_runs_and_goes_into_the_address(opened):
    page = opened(*few())
    assert page.locator("[name=operation][value='x+y']").is_disabled()  # not at 40 %
    page.locator("[name=seed][value='1']").check()
    page.locator("[name=x]").select_option("linear")
    there = chosen(page)
    assert there[1] == 1
    assert "operation=x/y&fraction=0.4&" in page.url
    assert page.url.endswith("&seed=1&x=linear&loss=log&curves=both&colour=side&diagnostic=none")
    page.reload()
    page.wait_for_selector("[data-ready=yes]")
    assert chosen(page) == there


def test_address_of_runs_that_are_not_on_record_shows_none(opened):
    page = opened(*few(), at="#operation=x/y&fraction=0.99")
    assert chosen(page)[1] == 0
    assert "No run on record" in page.locator(".explorer-said").inner_text()


def test_too_many_runs_are_shown_in_an_even_selection(opened):
    runs = [Run(operation=o, seed=seed) for o in ("x+y", "x/y") for seed in range(150)]
    page = opened(*(recorded(run, steps=20) for run in runs), at="#colour=operation")
    assert chosen(page) == ({}, 150)
    shown = page.locator("tbody tr td:first-child").all_inner_texts()
    assert shown == 75 * ["x+y"] + 75 * ["x/y"]


def test_table_tells_the_milestones_and_who_has_none(opened):
    page = opened(*few(), at="#seed=0")
    rows = [row.split("\t") for row in page.locator("tbody tr").all_inner_texts()]
    assert [row[:4] for row in rows] == [
        ["x+y", "50 %", "20", "not within 100 steps"],
        ["x/y", "40 %", "20", "200"],
    ]
    assert page.locator("tbody a").first.get_attribute("href") == "figures/fig1_grokking_curves.html"


def test_curves_follow_the_theme(opened):
    page = opened(*few(), at="#operation=x+y&colour=operation")
    assert page.locator(".explorer-plot").evaluate(INK) == ["#222832", "#ffffff", "rgb(0, 0, 0)"]
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function("document.querySelector('.explorer-plot').layout.paper_bgcolor === '#14181e'")
    text, _, line = page.locator(".explorer-plot").evaluate(INK)
    assert text == "#ced6dd"
    assert line != "rgb(0, 0, 0)"  # black would be lost


def test_curves_on_the_screen_can_be_taken_away_as_a_table(opened):
    page = opened(*few(), at="#operation=x+y")
    with page.expect_download() as taken:
        page.click("button[name=csv]")
    found = pd.read_csv(taken.value.path())
    assert set(found["operation"]) == {"x+y"}
    assert found["step"].tolist() == evaluation_steps(100)
    expected = recorded(Run(operation="x+y"), steps=100).curve
    assert found["train_accuracy"].tolist() == pytest.approx(expected["train_accuracy"].tolist())
    assert found["train_loss"].tolist() == pytest.approx(expected["train_loss"].tolist(), rel=0.02)


def test_picture_on_the_screen_can_be_taken_away_as_svg(opened):
    page = opened(*few())
    with page.expect_download() as taken:
        page.click("button[name=svg]")
    assert taken.value.suggested_filename == "curves.svg"
    text = taken.value.path().read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert "optimizer steps" in text


BESIDE = """plot => plot.data.filter(line => line.yaxis === "y3").map(({x, y}) => [x, y])"""


def test_diagnostic_is_a_second_curve_on_an_axis_of_its_own(opened):
    watched = ildr_of(Run(operation="x/y"))
    page = opened(watched, recorded(Run(operation="x+y")), at="#x=log")
    plot = page.locator(".explorer-plot")
    assert plot.evaluate(BESIDE) == []
    page.locator("[name=diagnostic]").select_option("ildr")
    ((x, y),) = plot.evaluate(BESIDE)
    (found,) = read_back(explorer.curves([watched]))
    assert [step for step in x if step is not None] == found["step"].tolist()
    assert [value for value in y if value is not None] == pytest.approx(found["ildr"].tolist())
    layout = plot.evaluate("({ layout: { yaxis3 } }) => [yaxis3.side, yaxis3.type, yaxis3.title.text]")
    assert layout == ["right", "log", "ILDR"]
    legend = page.locator(".explorer-legend").inner_text()
    assert "ILDR dashed, axis at the right" in legend
    assert "not watched in 1 of 2 runs" in legend
    assert page.url.endswith("&diagnostic=ildr")
    page.reload()
    page.wait_for_selector("[data-ready=yes]")
    assert page.locator("[name=diagnostic]").input_value() == "ildr"
    assert len(plot.evaluate(BESIDE)) == 1
    with page.expect_download() as taken:
        page.click("button[name=csv]")
    table = pd.read_csv(taken.value.path()).query("operation == 'x/y'")
    assert table["ildr"].tolist() == pytest.approx(found["ildr"].tolist(), rel=1e-3)


def test_page_without_records_says_so(opened):
    page = opened()
    assert chosen(page) == ({}, 0)
    assert "none is on record" in page.locator(".explorer-said").inner_text()
