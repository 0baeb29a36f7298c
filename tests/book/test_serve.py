"""`make serve`."""

import socket

import pytest

from grokking_book.make import render, serve
from grokking_book.sources.jobs import Places
from grokking_book.sources.parameters import WrongUse


@pytest.mark.parametrize("text", ["80a", "-1", "0", "65536", "8000.0", "٨"])
def test_port_is_a_number(text):
    with pytest.raises(WrongUse, match=f"PORT={text} must be a number from 1 to 65535"):
        serve.port_of(text)


def test_port_that_is_taken_is_named(tmp_path):
    (tmp_path / "index.html").touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(WrongUse, match=f"port {port} cannot be had .*; try make serve PORT="):
            serve.server(tmp_path, port)


def test_site_that_is_not_there_is_to_be_made_first(tmp_path):
    with pytest.raises(WrongUse, match="no site yet: run make book first"):
        serve.server(tmp_path, 8000)


def test_site_is_put_back_after_a_kill_between_two_renames(tmp_path):
    places = Places(tmp_path)
    gone = render.gone_of(places.site)
    gone.mkdir(parents=True)
    (gone / "index.html").write_text("the last good site")
    render.repair(places)
    assert (places.site / "index.html").read_text() == "the last good site"
    new = tmp_path / "new"
    new.mkdir()
    render.swap(new, places.site)
    render.repair(places)
    assert [*places.site.iterdir()] == []
    assert not gone.exists()
