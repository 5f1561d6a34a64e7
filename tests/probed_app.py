"""The application with one more address, `/probe`, that counts what a leak would leave behind."""

from __future__ import annotations

import gc
import threading

from flask import Response, jsonify
from greenlet import greenlet

from app import create_app

app = create_app()


@app.get("/probe")
def probe() -> Response:
    gc.collect()
    return jsonify(
        threads=threading.active_count(),
        greenlets=sum(1 for o in gc.get_objects() if isinstance(o, greenlet) and not o.dead),
        live=app.extensions["tamlil"].registry.live,
    )
