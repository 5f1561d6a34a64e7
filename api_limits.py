"""How often a key, or an address with wrong keys, may ask: in memory, a worker for itself.

A key counts by its hash before anybody has looked whether
it is right, so whoever does not know a key cannot use its requests up. Whoever tries wrong ones is
stopped by the address, which others may share: so a key that was right before is let through.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

# Keys that were right once
_REMEMBERED = 10_000


class ApiLimits:
    """So many requests a minute for each key, so many wrong keys a minute from each address."""

    def __init__(self, per_key: int, wrong_keys: int) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._per_key = RateLimitItemPerMinute(per_key, namespace="key")
        self._wrong = RateLimitItemPerMinute(wrong_keys, namespace="address")
        self._right: OrderedDict[str, None] = OrderedDict()

    def note_wrong(self, address: str) -> None:
        """A request from `address` came with a wrong key or with none."""
        self._limiter.hit(self._wrong, address)

    def note_right(self, key: str) -> None:
        """This key is a business's."""
        digest = _digest(key)
        self._right[digest] = None
        self._right.move_to_end(digest)
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)

    def wait_of_address(self, address: str, key: str | None) -> int:
        """Seconds for which `address` may not try keys; 0 if it may."""
        if key is not None and _digest(key) in self._right:
            return 0
        if self._limiter.test(self._wrong, address):
            return 0
        return _seconds_until(self._limiter.get_window_stats(self._wrong, address).reset_time)

    def take(self, key: str) -> tuple[int, dict[str, str]]:
        """Count a request: the seconds to wait (0: it may pass), and the answer's headers."""
        digest = _digest(key)
        may = self._limiter.hit(self._per_key, digest)
        window = self._limiter.get_window_stats(self._per_key, digest)
        reset = _seconds_until(window.reset_time)
        return 0 if may else reset, {
            "RateLimit-Limit": str(self._per_key.amount),
            "RateLimit-Remaining": str(max(0, window.remaining)),
            "RateLimit-Reset": str(reset),
        }


def _seconds_until(at: float) -> int:
    return max(1, math.ceil(at - time.time()))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
