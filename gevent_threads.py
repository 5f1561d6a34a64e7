"""Native threads beside gevent's loop, for `native_threads`; imported by the worker alone."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from native_threads import Lock, NativeThreads

Result = TypeVar("Result")

# How many requests for records are answered at a time; calls need none of them
POOL_THREADS = 4

_start_new_thread = get_original("_thread", "start_new_thread")
_allocate_lock = get_original("_thread", "allocate_lock")
_posix_spawn = get_original("os", "posix_spawn")
_waitpid = get_original("os", "waitpid")
_get_ident = get_original("_thread", "get_ident")
_poll = get_original("select", "poll")


class GeventNativeThreads(NativeThreads):
    """Threads where `threading.Thread` is a greenlet. Made after the fork, in the loop's thread."""

    def __init__(self) -> None:
        self._loop = gevent.get_hub().loop
        self._pool = ThreadPool(POOL_THREADS)

    def start(self, run: Callable[[], object], name: str) -> None:
        _start_new_thread(run, ())

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        result: Result = self._pool.apply(function, arguments)
        return result

    def tell(self, function: Callable[..., object], *arguments: Any) -> None:
        # in a greenlet: the loop itself must not wait for anything
        self._loop.run_callback_threadsafe(gevent.spawn, function, *arguments)

    def lock(self) -> Lock:
        lock: Lock = _allocate_lock()
        return lock

    def spawn(self, command: list[str]) -> int:
        # gevent's own has the child watched by a loop, which only the loop's thread has
        pid: int = _posix_spawn(command[0], command, os.environ)
        return pid

    def reap(self, pid: int) -> None:
        with contextlib.suppress(ChildProcessError):  # somebody else did
            _waitpid(pid, 0)

    def place(self) -> object:
        return _get_ident()

    def _new_poll(self) -> select.poll:
        poll: select.poll = _poll()
        return poll
