"""What the tests of the audio's way share: threads that fall as badly as they can, virtual time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

LOUD = b"\x80"  # the loudest sample of mu-law
QUIET = b"\xff"  # its zero
PATIENCE = 10.0  # seconds, for what ought to come at once


@contextmanager
def hasty_threads() -> Iterator[None]:
    """The interpreter changes threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def interrupted(
    run: Callable[[], T], function: Callable[..., Any], line: int, do: Callable[[], object]
) -> tuple[T, bool]:
    """What `run()` gives with `do()` in another thread before the `line`-th line of `function`.

    And whether that line came. Where a lock keeps `do()` out, it goes on when it is let in.
    """
    lines = 0
    other = threading.Thread(target=do, daemon=True)

    def local(code: FrameType, event: str, arg: Any) -> Any:
        nonlocal lines
        if event in ("line", "return"):
            lines += 1
            if lines == line:
                other.start()
                other.join(0.02)  # all that a lock may take from it
        return local

    def trace(code: FrameType, event: str, arg: Any) -> Any:
        return local if code.f_code is function.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = run()
    finally:
        sys.settrace(before)
    if lines >= line:
        other.join(PATIENCE)
        assert not other.is_alive()
    return result, lines >= line


class VirtualTime:
    """A clock that only waits move on, and what is planned to happen while one waits.

    The events that `event()` makes wait in it, so that one thread plays all parts, at once and
    always in the same order.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._plan: list[tuple[float, int, Callable[[], object]]] = []

    def clock(self) -> float:
        return self.now

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        self._plan.append((seconds, len(self._plan), action))
        self._plan.sort(key=lambda step: step[:2])

    def event(self) -> threading.Event:
        return _VirtualEvent(self)

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        until = float("inf") if timeout is None else self.now + timeout + 1e-9
        while not event.is_set() and self._plan and self._plan[0][0] <= until:
            at, _, action = self._plan.pop(0)
            self.now = max(self.now, at)
            action()
        if event.is_set():
            return True
        assert timeout is not None, "nobody ends this wait"
        self.now = until
        return False


class _VirtualEvent(threading.Event):
    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self._time = time

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set() or self._time.wait(self, timeout)
