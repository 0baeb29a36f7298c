import importlib
import json
import shutil

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped has failed")


def unskipped(report, config):
    """The report; with --no-skips a failure where a test, or a module of tests, was skipped."""
    if report.skipped and config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"--no-skips, but {report.longrepr[-1]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return unskipped((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return unskipped((yield), collector.config)


def pytest_collection_modifyitems(items):
    """Skip what needs a CUDA device where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def one_thread():
    """One thread an operation: tiny networks lose time to more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """Records folders of the test's own, and nothing asked for in the environment."""
    (tmp_path / "shipped").mkdir()
    monkeypatch.setenv("GROKKING_RECORDS", str(tmp_path / "own"))
    monkeypatch.setenv("GROKKING_SHIPPED", str(tmp_path / "shipped"))
    for name in ("GROKKING_FRESH", "GROKKING_TRAINED_SINCE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run_notebook(monkeypatch):
    """Runs a figure's cells on the records that `made_up` gives, None: missing; returns their names."""
    pytest.importorskip("IPython", reason="needs Jupyter, which training does without")
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    from grokking_book.pages import exercises
    from grokking_core.paper import profiles
    from grokking_core.plans import Plan
    from grokking_core.runs.records import Records

    def run(name, made_up, **parameters):
        def answer(plan):
            found = {run: made_up(run) for run in plan.runs}
            asked = [(part.steps, part.stop_at) for part in plan.parts]
            records = Records((record for record in found.values() if record is not None), asked=asked)
            records.missing = [run for run, record in found.items() if record is None]
            return records

        monkeypatch.setattr(Plan, "sweep", answer)
        monkeypatch.setattr(exercises, "block", lambda notebook: "")  # reads records; has its own tests
        notebook = profiles.FOLDER.parent / "figures" / f"{name}.ipynb"
        names: dict = {}
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
                names.update(parameters if "parameters" in cell["metadata"].get("tags", ()) else {})
        return names

    backend = mpl.get_backend()
    mpl.use("Agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    yield run
    mpl.use(backend)


@pytest.fixture
def interpreted(monkeypatch):
    """A function that gives a module of Triton kernels by its name, with its kernels interpreted."""
    tl = pytest.importorskip("triton.language")
    loaded = []

    def plain_sum(x, axis):  # Triton's own was loaded to be compiled
        return tl.core.reduce(x, axis, tl.standard._sum_combine)

    monkeypatch.setattr(tl, "sum", plain_sum)

    def load(name):
        module = importlib.import_module(f"grokking_core.kernels.{name}")
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        loaded.append(importlib.reload(module))
        return loaded[-1]

    yield load
    monkeypatch.undo()
    for module in loaded:
        importlib.reload(module)


@pytest.fixture(scope="session")
def site():
    """The folder of the built site; skips where there is none, or one of other sources."""
    site_pages = pytest.importorskip("site_pages", reason="needs Beautiful Soup, of the extra test")
    folder = site_pages.site_folder()
    if not (folder / "index.html").is_file():
        pytest.skip(f"no site in {folder}: run make book")
    if absent := site_pages.not_executed(folder):
        pytest.skip(f"the site lacks {absent.count(',') + 1} notebooks: run make book without ONLY")
    if changed := site_pages.changed_since(folder):
        pytest.skip(f"the site is older than {changed[0]} ({len(changed)} such files): run make book")
    return folder


@pytest.fixture(scope="session")
def pages(site):
    """The pages of the built site by name, e.g. figures/fig2_operations.html."""
    import site_pages

    return site_pages.pages_of(site)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window, closed after each module: the loop of its driver bars all other loops."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright, of the extra test")
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found[0], args=QUIET)
        yield browser
        browser.close()
