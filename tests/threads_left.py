"""That a test leaves no thread behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 20.0


@contextmanager
def no_thread_left(counts: Callable[[str], bool] = lambda name: True) -> Iterator[None]:
    """See that the threads which began meanwhile, if their name `counts`, come to their end."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if counts(thread.name):
            _join(thread)
            assert not thread.is_alive(), thread


def _join(thread: threading.Thread) -> None:
    until = time.monotonic() + PATIENCE
    while thread.ident is None and time.monotonic() < until:  # starting: not to be joined yet
        time.sleep(0.001)
    thread.join(PATIENCE)
