"""How often a key may ask, and an address with wrong keys: in memory, a worker for itself.

Only keys that were found to be right are counted by themselves, so whoever does not know one can
neither use its requests up nor fill the memory. Wrong ones are counted by the address, which others
may share: so that count is for those who come with wrong keys, and never stops a right one.
"""

from __future__ import annotations

import hashlib
import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter


class ApiLimits:
    """So many requests a minute for each key, so many wrong keys a minute from each address."""

    def __init__(self, per_key: int, wrong_keys: int) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._per_key = RateLimitItemPerMinute(per_key, namespace="key")
        self._wrong = RateLimitItemPerMinute(wrong_keys, namespace="address")

    def is_used_up(self, key: str) -> bool:
        """Whether this key has been right as often as it may, so that nobody has to look again."""
        return not self._limiter.test(self._per_key, _digest(key))

    def take_wrong(self, address: str) -> int:
        """Count a wrong key from `address`: the seconds to wait for the next; 0: it may try."""
        if self._limiter.hit(self._wrong, address):
            return 0
        return _seconds_until(self._limiter.get_window_stats(self._wrong, address).reset_time)

    def take(self, key: str) -> tuple[int, dict[str, str]]:
        """Count a request with a right key.

        The seconds to wait (0: it may pass), and the answer's headers.
        """
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
