"""A small book, and what a build of it does without. Imports wait: Jupyter may not be installed."""

import pytest


@pytest.fixture(autouse=True)
def _no_variables_from_make(monkeypatch):
    for name in ("PROFILE", "ONLY", "P", "FRESH", "JOBS", "MINUTES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small(tmp_path):
    """A book of one page and two notebooks, in the project's shape."""
    import small_book

    return small_book.write_book(tmp_path)


@pytest.fixture
def claims(small):
    """A third notebook, which reads what the other two have trained."""
    import small_book

    path = small.book / "claims.ipynb"
    source = "from pathlib import Path\nfound = Path('../build/executed').rglob('*.ipynb')\n"
    source += "print(*sorted(path.name for path in found))"
    small_book.write_notebook(path, "# none", source, grokking={"after": "figures"})
    return path


@pytest.fixture
def no_site(monkeypatch):
    """Rendering left out: the pages are staged, the site is one empty page."""
    from grokking_book.make import build

    def render(places, pages, strict):
        places.site.mkdir(parents=True, exist_ok=True)
        (places.site / "index.html").write_text("rendered")

    monkeypatch.setattr(build, "render", render)


@pytest.fixture
def no_card(monkeypatch):
    from grokking_book.make import settings

    monkeypatch.setattr(settings, "has_card", lambda: False)
