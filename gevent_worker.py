"""The gunicorn worker that carries calls: gevent, told to gRPC, and drained before it stops.

gunicorn's own gevent worker closes its listener on SIGTERM, but tells the handlers of open
WebSockets nothing: they run until the master kills the process, and no `finally` of theirs ever
runs. So this worker ends the calls itself, as soon as the signal comes.

This and `gevent_threads.py` are the modules that import gevent.
"""

from __future__ import annotations

import gc
from typing import Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

import native_threads
import record_link

# gRPC waits for its completion queues in gevent's native threads, one for each connection with a
# live stream; 10 are the default, and with nine such connections not even a host name is looked
# up any more.
HUB_THREADS = 64


class MediaWorker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gevent worker for `app:app`, whose registry it drains on SIGTERM, SIGINT and SIGQUIT."""

    def load_wsgi(self) -> None:
        """Load the application, between gevent's patches (done) and the first gRPC object."""
        # Imported here, because gunicorn's master imports this module: before the fork, and
        # before anything is patched.
        from grpc.experimental.gevent import init_gevent

        from gevent_threads import GeventNativeThreads

        init_gevent()
        native = GeventNativeThreads()
        native_threads.settle(native)
        record_link.prepare(native)
        gevent.get_hub().threadpool.maxsize = HUB_THREADS
        super().load_wsgi()
        # Modules and the application stay: to look through them held all calls up for 50 ms
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: no more calls, and a clean end for each that is live."""
        super().handle_exit(sig, frame)
        gevent.spawn(self._drain)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT (Ctrl-C reaches the workers too) and SIGQUIT: as SIGTERM.

        gunicorn's own way is to exit at once, which would cut every call off in mid-word.
        """
        self.handle_exit(sig, frame)

    def _drain(self) -> None:
        if hasattr(self, "wsgi"):  # else it is still starting, and has no calls
            self.wsgi.extensions["tamlil"].drain()
