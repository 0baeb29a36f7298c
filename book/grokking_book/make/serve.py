"""`make serve`: the built site on localhost."""

from __future__ import annotations

import functools
import http.server
import os
import re
import sys
from pathlib import Path

from grokking_book.make.render import repair
from grokking_book.sources.jobs import Places
from grokking_book.sources.parameters import WrongUse
from grokking_core._streams import forgiven


def port_of(text: str) -> int:
    """Return the port that a text names.

    Raises
    ------
    WrongUse
        Where it names none.
    """
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise WrongUse(f"PORT={text} must be a number from 1 to 65535")
    return int(text)


def server(site: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of the site's files, on this machine only.

    Raises
    ------
    WrongUse
        Where there is no site, or another program has the port.
    """
    if not (site / "index.html").is_file():
        raise WrongUse("no site yet: run make book first")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        words = f"port {port} cannot be had ({error.strerror}); try make serve PORT={port % 65535 + 1}"
        raise WrongUse(words) from None


def main() -> int:
    """Serve the site until Ctrl-C; return 0, 2 for wrong use."""
    return forgiven(_main, "make serve")


def _main() -> int:
    places = Places(Path().absolute())
    try:
        port = port_of((os.environ.get("PORT") or "8000").strip())
        repair(places)
        with server(places.site, port) as served:
            print(f"http://localhost:{port}  (Ctrl-C stops it)", flush=True)
            served.serve_forever()
    except WrongUse as error:
        print(f"make serve: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
