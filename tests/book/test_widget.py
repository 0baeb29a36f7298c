"""Parts of a page that a reader can play with."""

import json

import pytest

from grokking_book.play.widget import Widget


def parts(widget):
    """Its HTML, and the data that a script finds in it."""
    page = widget._repr_mimebundle_()["text/html"]
    before, _, rest = page.partition('<script type="application/json">')
    return before, rest.partition("</script>")[0]


def test_data_arrive_as_they_are_even_if_they_look_like_markup():
    data = {"told": '</script><b>"', "numbers": [1, 2.5, None], "name": "x/y"}
    before, found = parts(Widget("table", data, "A table."))
    assert json.loads(found) == data
    assert 'data-companion="table"' in before


def test_note_is_text_and_stands_for_it_elsewhere():
    widget = Widget("table", {}, "a < b & c")
    assert widget._repr_mimebundle_()["text/plain"] == str(widget) == "a < b & c"
    assert "a &lt; b &amp; c" in parts(widget)[0]


def test_what_is_no_json_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        Widget("table", {"loss": float("nan")}, "")._repr_mimebundle_()
