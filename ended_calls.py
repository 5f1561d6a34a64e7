"""Tells every worker process of a call that Twilio says is over.

A status callback comes to any worker; the call's socket is held by one. Until there is a database
that all of them share, the stand-in for it is a directory: a file named after the call is put
there, and each worker looks once a second. A worker that does not share the directory (another
machine) is not told; there the call ends by its socket or the reaper.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from call_log import logger

LOOK_SECONDS = 1.0
_KEPT_SECONDS = 60.0  # then every worker has looked


def default_directory() -> Path:
    """One for each user and each gunicorn (whose workers have one parent)."""
    return Path(tempfile.gettempdir()) / f"tamlil-{os.getuid()}-{os.getppid()}" / "ended"


class EndedCalls:
    """The directory, and the thread of this process that looks into it.

    `close(call_sid)` is called for each call that is over, once in this process; it must not
    block for long.
    """

    def __init__(
        self,
        close: Callable[[str], object],
        directory: Path | None = None,
        *,
        look_seconds: float = LOOK_SECONDS,
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        self._close = close
        self._directory = directory or default_directory()
        self._look_seconds = look_seconds
        self._thread_class = thread_class
        self._lock = threading.Lock()
        self._pid = 0
        self._known: set[str] = set()
        self._stop = threading.Event()

    def tell(self, call_sid: str) -> None:
        """Have every worker close this call. `call_sid` must be an identifier, never a path."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._directory / call_sid).touch()
        except OSError as error:  # the call then ends by its socket or the reaper
            logger.warning("[STATUS] other workers are not told: %s", error)

    def watch(self) -> None:
        """Look from now on, in a thread of this process; may be called again."""
        with self._lock:
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
        self._thread_class(target=self._look_often, name="ended-calls", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def look(self, now: float | None = None) -> None:
        """Close the calls that are over, and tidy up behind them."""
        now = time.time() if now is None else now
        found: set[str] = set()
        for path in self._directory.glob("*"):
            found.add(path.name)
            if path.name not in self._known:
                self._close(path.name)
            try:
                if now - path.stat().st_mtime > _KEPT_SECONDS:
                    path.unlink()
            except FileNotFoundError:
                pass  # another worker was first
        self._known = found

    def _look_often(self) -> None:
        while not self._stop.wait(self._look_seconds):
            try:
                self.look()
            except Exception:  # the next look must come all the same
                logger.exception("[STATUS] a look at the ended calls failed; the next one comes")
