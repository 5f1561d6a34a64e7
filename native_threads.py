"""Threads of the operating system, for what would otherwise hold up the calls: databases.

In a gevent worker a thread is a greenlet, and SQLite (C code that waits in the kernel) would stop
all of them. There the worker settles a kind of its own (`gevent_threads.py`); under `flask run` and
in commands threads are threads, and this is enough.

What runs in a native thread must not log and must not take a lock that a greenlet may hold:
gevent's locks do not survive that. It hands over what it has to say with `tell()`.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

Result = TypeVar("Result")


class Lock(Protocol):
    """The system's own lock; whoever waits for it holds up its own thread only."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...

    def locked(self) -> bool: ...

    def __enter__(self) -> bool: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...


class NativeThreads:
    """Threads where threads are threads."""

    def start(self, run: Callable[[], object], name: str) -> None:
        """Run `run` in a native thread of its own, which does not keep the process alive."""
        threading.Thread(target=run, name=name, daemon=True).start()

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What `function` returns or raises, without holding up anybody but the caller."""
        return function(*arguments)

    def tell(self, function: Callable[..., object], *arguments: Any) -> None:
        """From a native thread: have `function` called where logging and locks are safe."""
        function(*arguments)

    def lock(self) -> Lock:
        """A lock between native threads and others; `release()` never waits."""
        return _thread.allocate_lock()

    def spawn(self, command: list[str]) -> int:
        """From a native thread: start a child process, for `reap()`. Raises `OSError`."""
        return os.posix_spawn(command[0], command, os.environ)

    def reap(self, pid: int) -> None:
        """From a native thread: wait for the end of a child process."""
        with contextlib.suppress(ChildProcessError):  # somebody else did
            os.waitpid(pid, 0)

    def wait_for_room(self, descriptor: int, seconds: float) -> bool:
        """From a native thread: wait until a pipe takes more, or breaks; False if not in time."""
        poll = self._new_poll()
        poll.register(descriptor, select.POLLOUT)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def place(self) -> object:
        """Which of the threads this is, where each must have things of its own."""
        return None

    def _new_poll(self) -> select.poll:
        return select.poll()


_here = NativeThreads()


def here() -> NativeThreads:
    """The native threads of this process."""
    return _here


def settle(native: NativeThreads) -> None:
    """This process has native threads of another kind."""
    global _here
    _here = native


def brief_lock() -> _thread.LockType:
    """A lock that is never held while anything waits, nor while a listener is called.

    No greenlet ever finds it taken by another, so that the system's own lock does, at a tenth of
    what gevent's costs; between threads it is as good as any.
    """
    return cast(_thread.LockType, _here.lock())


class Bell:
    """Wakes one native thread. `ring()` never waits and may come from anywhere."""

    def __init__(self, native: NativeThreads) -> None:
        self._lock = native.lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake who waits, or the next one who will."""
        with contextlib.suppress(RuntimeError):  # it rings already
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Wait for it; False after so many seconds without."""
        return self._lock.acquire(timeout=max(0.0, seconds))
