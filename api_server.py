"""Serves the API in the records' process, at a socket in the file system that its worker knows.

Nobody else reaches it: the worker is in front (`api_forward.py`), and says who asks.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import waitress
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

# How many requests are carried out at a time; calls need none of them
_THREADS = 4


def start(app: Flask, path: Path) -> None:
    """Serve `app` at `path`, in threads that do not keep the process alive."""
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]  # as Flask documents it
    server: Any = waitress.create_server(
        app,
        unix_socket=str(path),
        unix_socket_perms="600",
        threads=_THREADS,
        ident=None,
        # it was in the worker's hands already
        clear_untrusted_proxy_headers=False,
    )
    threading.Thread(target=server.run, name="api", daemon=True).start()
