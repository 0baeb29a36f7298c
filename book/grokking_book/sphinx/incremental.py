"""Sphinx: a rendering that goes on from the last one gives the site that a rendering from nothing gives.

Sphinx reads and writes the pages whose sources changed. But a page shows more than its source: titles of
other pages in its navigation, their numbers and names in its references. So where anything has changed
that pages take from each other, all pages are written again, into an empty folder. That is still far
less than reading all again, which a changed configuration, style or package makes necessary.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.environment import BuildEnvironment

#: What the environment and its domains know of each page for the others.
SHARED = ("titles", "longtitles", "tocs", "toctree_includes", "toc_secnumbers", "toc_fignumbers")
DOMAINS = ("std", "py", "math", "index")
FILES = ("images", "dlfiles")  #: copied beside the pages


def shared(app: Sphinx, env: BuildEnvironment) -> str:
    """Return a hash of all that pages take from each other."""
    citations = env.domaindata["cite"]["citations"]
    outputs = Path(app.outdir).parent  # of notebooks, beside the site
    told: list[Any] = [sorted(env.found_docs), *(plain(getattr(env, name)) for name in (*SHARED, *FILES))]
    told += [plain(env.domaindata[name]) for name in DOMAINS]
    told += [(c.citation_id, c.bibliography_key, c.formatted_entry.label) for c in citations]
    told += [(file.name, file.read_bytes()) for file in sorted(outputs.rglob("*.glue.json"))]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return a value as lists of texts, whose order depends on no history."""
    if isinstance(value, dict):
        return sorted((repr(key), plain(entry)) for key, entry in value.items())
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, nodes.Node):
        return value.pformat()
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else repr(value)


def write_all_if_shared_changed(app: Sphinx, env: BuildEnvironment) -> Iterable[str]:
    """Return the pages to be written besides those that were read: all or none."""
    known, told = Path(app.doctreedir, "shared"), shared(app, env)
    if known.is_file() and known.read_text() == told:
        env._search_index_index_entries.update(json.loads(index_of(app).read_text()))
        return []
    known.write_text(told)
    shutil.rmtree(app.outdir)
    Path(app.outdir).mkdir()
    env._search_index_index_entries.clear()
    return sorted(env.found_docs)


def forget_words(app: Sphinx) -> Iterable[Any]:
    """Take words that no page has any more from the index of the search."""
    indexer = app.builder.indexer if isinstance(app.builder, StandaloneHTMLBuilder) else None
    for words in (indexer._mapping, indexer._title_mapping) if indexer else ():
        for word in [word for word, pages in words.items() if not pages]:
            del words[word]
    return []


def index_of(app: Sphinx) -> Path:
    """Return the file of what the search finds by entries of the index, which Sphinx forgets."""
    return Path(app.doctreedir, "index_entries.json")


def keep_index(app: Sphinx, error: Exception | None) -> None:
    """Write the entries of the index down, for the next rendering."""
    if error is None:
        index_of(app).write_text(json.dumps(app.env._search_index_index_entries))


def setup(app: Sphinx) -> dict[str, Any]:
    """Be an extension of Sphinx."""
    app.connect("env-get-updated", write_all_if_shared_changed, priority=900)  # all is numbered then
    app.connect("html-collect-pages", forget_words)
    app.connect("build-finished", keep_index)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
