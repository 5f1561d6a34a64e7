"""Serves the API in the records' process, at a socket in the file system that a worker knows.

waitress has plain threads, which may wait for the database. Only this user may open the socket, and
whoever does needs a key all the same. It listens at once, but the API is only made when somebody
asks: most services are never asked, and it is a third of what this process costs.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from call_log import logger
from settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# As many requests are answered at a time; each may have a connection to the database
_THREADS = 4


def socket_of(worker_id: str) -> Path:
    """Where the records' process of this worker listens."""
    return Path(tempfile.gettempdir()) / f"tamlil-{worker_id}.sock"


def start(settings: Settings, worker_id: str) -> None:
    """Begin to serve, in a thread that does not keep the process alive."""
    threading.Thread(target=_serve, args=(settings, worker_id), name="api", daemon=True).start()


def stop(worker_id: str) -> None:
    """Leave nothing behind; those that are being answered are cut off."""
    with contextlib.suppress(FileNotFoundError):
        socket_of(worker_id).unlink()


class MadeWhenAsked:
    """A WSGI application that `make` makes at the first request, once, whichever thread has it.

    While it cannot be made each request is answered 500, with the reason in the log, and the next
    one tries again.
    """

    def __init__(self, make: Callable[[], WSGIApplication]) -> None:
        self._make = make
        self._making = threading.Lock()
        self._made: WSGIApplication | None = None

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        made = self._made or self._make_once()
        return made(environ, start) if made else _not_made(start)

    def _make_once(self) -> WSGIApplication | None:
        with self._making:
            if self._made is None:
                try:
                    self._made = self._make()
                except Exception:  # whatever it is, the thread goes on to the next request
                    logger.exception("[API] it could not be made; the next request tries again")
            return self._made


def _not_made(start: StartResponse) -> list[bytes]:
    body = {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    start("500 Internal Server Error", [("Content-Type", "application/problem+json")])
    return [json.dumps(body).encode()]


def _serve(settings: Settings, worker_id: str) -> None:
    import waitress  # imported here: the records' process has more urgent things to do at first

    def make() -> WSGIApplication:
        import api

        return api.make_app(settings)

    stop(worker_id)  # of a process before this one, which was killed
    waitress.serve(
        MadeWhenAsked(make),
        unix_socket=str(socket_of(worker_id)),
        unix_socket_perms="600",
        threads=_THREADS,
        clear_untrusted_proxy_headers=False,
        _quiet=True,
    )
