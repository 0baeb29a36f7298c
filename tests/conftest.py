import json

import pytest
import torch


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

    from grokking_core import exercises, experiments
    from grokking_core.sweep import Records

    def run(name, made_up, **parameters):
        def answer(plan):
            found = {run: made_up(run) for run in plan.runs}
            asked = [(part.steps, part.stop_at) for part in plan.parts]
            records = Records((record for record in found.values() if record is not None), asked=asked)
            records.missing = [run for run, record in found.items() if record is None]
            return records

        monkeypatch.setattr(experiments.Plan, "sweep", answer)
        monkeypatch.setattr(exercises, "block", lambda notebook: "")  # reads records; has its own tests
        notebook = experiments.profiles_folder().parent / "figures" / f"{name}.ipynb"
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
