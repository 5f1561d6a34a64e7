"""The gunicorn worker that carries calls: gevent, told to gRPC, and drained before it stops.

gunicorn's own gevent worker closes its listener on SIGTERM, but tells the handlers of open
WebSockets nothing: they run until the master kills the process, and no `finally` of theirs ever
runs. So this worker ends the calls itself, as soon as the signal comes.

This and `gevent_threads.py` are the modules that import gevent.
"""

from __future__ import annotations

import gc
import sys
import time
from functools import partial
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.workers.ggevent import GeventWorker

import native_threads
import record_link

# gRPC waits for its completion queues in gevent's native threads, one for each connection with a
# live stream; 10 are the default, and with nine such connections not even a host name is looked
# up any more.
HUB_THREADS = 64

# How often the master is told that the worker lives
_NOTE_SECONDS = 1.0


class MediaWorker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gevent worker for `app:app`, whose registry it drains on SIGTERM, SIGINT and SIGQUIT."""

    def init_process(self) -> None:
        self._told = Event()
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, between gevent's patches (done) and the first gRPC object."""
        # Imported here, because gunicorn's master imports this module: before the fork, and
        # before anything is patched.
        from grpc.experimental.gevent import init_gevent

        from gevent_threads import GeventNativeThreads

        _leave_out("aiohttp")
        init_gevent()
        native = GeventNativeThreads()
        native_threads.settle(native)
        record_link.prepare(native)
        gevent.get_hub().threadpool.maxsize = HUB_THREADS
        super().load_wsgi()
        # Modules and the application stay: to look through them held all calls up for 50 ms
        gc.collect()
        gc.freeze()

    def run(self) -> None:
        """Serve until the worker is told to end, then wait for what is going on.

        As gunicorn's own, which however looks only once a second whether it is over: a worker would
        end up to two seconds later than it may.
        """
        if self.cfg.is_ssl:  # not in front of Twilio, where TLS ends at the platform
            super().run()
            return
        servers = [self._serve(listener) for listener in self.sockets]
        while self.alive and not self._told.wait(_NOTE_SECONDS):
            self.notify()
        for server in servers:
            server.close()
        until = time.monotonic() + self.cfg.graceful_timeout
        for server in servers:
            while not server.pool.join(timeout=_NOTE_SECONDS):
                self.notify()
                if time.monotonic() > until:
                    self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
                    server.stop(timeout=1)
                    break

    def _serve(self, listener: Any) -> StreamServer:
        listener.setblocking(1)
        server = StreamServer(
            listener, handle=partial(self.handle, listener), spawn=Pool(self.worker_connections)
        )
        if self.cfg.workers > 1:
            server.max_accept = 1  # the others shall have some of them
        server.start()
        return server

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
        self._told.set()
        if hasattr(self, "wsgi"):  # else it is still starting, and has no calls
            self.wsgi.extensions["tamlil"].drain()


def _leave_out(library: str) -> None:
    """Have this process do without a library: whoever can do so is told that there is none.

    Google's library loads aiohttp if it is there, for its asynchronous clients, which nobody here
    uses; and it is there for Twilio's. In each worker that was a quarter of a second and 10 MB.
    """
    sys.modules.setdefault(library, None)  # type: ignore[arg-type]  # "The import system", 5.3.1
