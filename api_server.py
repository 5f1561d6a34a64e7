"""Serves the API in the records' process, at a socket in the file system that a worker knows.

waitress has plain threads, which may wait for the database. Only this user may open the socket, and
whoever does needs a key all the same.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from pathlib import Path

from settings import Settings

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


def _serve(settings: Settings, worker_id: str) -> None:
    import waitress

    import api  # imported here: the records' process has more urgent things to do at first

    stop(worker_id)  # of a process before this one, which was killed
    waitress.serve(
        api.make_app(settings),
        unix_socket=str(socket_of(worker_id)),
        unix_socket_perms="600",
        threads=_THREADS,
        clear_untrusted_proxy_headers=False,
        _quiet=True,
    )
