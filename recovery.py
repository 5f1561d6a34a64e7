"""When the calls of one business may try Google again after their streams have failed.

A call's own pauses double from 0.1 s to 5 s. They are shorter while few calls wait, because so
few cannot trouble Google, and as soon as one of them gets an answer all the others are told.
When Google says that a quota is used up (RESOURCE_EXHAUSTED), the breaker opens: no call of the
business opens a stream for a while, and then one of them tries for all. Any thread; nothing
waits in it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
# While no more calls than this wait, a second between two tries of a call is the most
_FEW_CALLS = 5
FIRST_BREAK_SECONDS, LONGEST_BREAK_SECONDS = 15.0, 120.0
# When a break is over, how long the one call that tries has before the next one may
_TRIAL_SECONDS = 5.0
# Calls that are told that Google is back do not all come at once: so many a second
_WELCOME_RATE = 20

Wake = Callable[[float], None]  # called with the seconds after which to try


class Recovery:
    """How one business stands with Google. `clock`: seconds; `uniform(low, high)`: the jitter."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
        first_break_seconds: float = FIRST_BREAK_SECONDS,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._first_break_seconds = first_break_seconds
        self._lock = threading.Lock()
        self._waiting: dict[object, tuple[float, Wake]] = {}  # since when
        self._broken_at = self._broken_until = float("-inf")
        self._breaks = 0  # in a row
        self._trying = False  # one call tries for all

    def pause(self, attempt: int) -> float:
        """Seconds to wait before the `attempt`-th try in a row (the first is 0)."""
        longest = min(LONGEST_PAUSE_SECONDS, max(1.0, len(self._waiting) / _FEW_CALLS))
        pause = min(longest, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 10))
        return pause * self._uniform(0.75, 1.0)

    def exhausted(self, begun_at: float = float("inf")) -> None:
        """Google said RESOURCE_EXHAUSTED to a stream that was begun then: open the breaker.

        For longer each time in a row; a stream from before the break does not count again.
        """
        with self._lock:
            now = self._clock()
            if begun_at < self._broken_at or (now < self._broken_until and not self._trying):
                return
            seconds = min(
                LONGEST_BREAK_SECONDS, self._first_break_seconds * 2.0 ** min(self._breaks, 10)
            )
            self._breaks += 1
            self._trying = False
            self._broken_at = now
            self._broken_until = now + seconds * self._uniform(0.75, 1.0)

    def broken_for(self) -> float:
        """Seconds until a stream may be tried; asking does not try."""
        with self._lock:
            return max(0.0, self._broken_until - self._clock()) if self._breaks else 0.0

    def admit(self) -> float:
        """0 if a stream may be opened now, else the seconds after which to ask again."""
        with self._lock:
            if not self._breaks:
                return 0.0
            now = self._clock()
            if now < self._broken_until:
                return self._broken_until - now
            self._broken_until = now + _TRIAL_SECONDS
            self._trying = True  # this call
            return 0.0

    def worked(self, begun_at: float = float("inf")) -> None:
        """A stream that was begun then was answered: close the breaker and tell those who wait.

        A stream that is older than their trouble goes on being answered; that is no news.
        """
        if not self._breaks and not self._waiting:  # nearly always
            return
        with self._lock:
            if begun_at >= self._broken_at:
                self._breaks = 0
                self._broken_until = float("-inf")
            told = [who for who, (since, _) in self._waiting.items() if since <= begun_at]
            wakes = [self._waiting.pop(who)[1] for who in told]
        for number, wake in enumerate(wakes):
            wake(number / _WELCOME_RATE)

    def wait(self, who: object, wake: Wake) -> None:
        """`who` waits, and wants to be told when a stream of another call is answered."""
        with self._lock:
            self._waiting[who] = (self._clock(), wake)

    def leave(self, who: object) -> None:
        """`who` waits no longer."""
        with self._lock:
            self._waiting.pop(who, None)
