"""When the streams of a process's calls may be replaced, so that they are not all at once.

Calls that started together reach the end of their streams' time together, and Google counts new
streams a minute. Time is cut into slots, in each of which one stream is replaced at the most.
A stream reserves the last free slot before its hard limit; a boundary in the speech may be used
before that if its slot is free. Pure but for its lock; any thread, nothing waits in it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

SLOT_SECONDS = 0.3  # four in any one second, or five where some are a little late


class RotationSlots:
    """The slots of a process. Times are seconds on `clock`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()  # more than one of a slot where none was left

    def reserve(self, latest: float) -> float:
        """The time of a slot at or before `latest`; `latest` itself if there is none left."""
        now = _slot(self._clock())
        with self._lock:
            for slot in [slot for slot in self._taken if slot < now]:
                del self._taken[slot]
            for slot in range(_slot(latest), now, -1):
                if slot not in self._taken:
                    self._taken[slot] = 1
                    return slot * SLOT_SECONDS
            self._taken[_slot(latest)] += 1
        return latest

    def take(self, reserved: float) -> bool:
        """Use the slot that it is now; False if it is another's. The `reserved` one stays so."""
        now, own = _slot(self._clock()), _slot(reserved)
        with self._lock:
            if now in self._taken and now != own:
                return False
            self._taken[now] += 1
            return True

    def give_back(self, reserved: float) -> None:
        """The stream that reserved it is gone."""
        slot = _slot(reserved)
        with self._lock:
            self._taken[slot] -= 1
            if self._taken[slot] <= 0:
                del self._taken[slot]


def _slot(seconds: float) -> int:
    return int(seconds / SLOT_SECONDS + 1e-6)
