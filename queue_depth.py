"""How full a session's queue has been, and when that is an overload. Pure.

A queue that is nearly full now and then is jitter; one that is nearly full in a quarter of the
last minute's samples means that frames wait, and that the next burst will cost some.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SAMPLE_SECONDS = 5.0
SAMPLES = 12  # a minute's


@dataclass(frozen=True, slots=True)
class Overload:
    """The queue was over `limit` of `size` frames in `over` of `samples` samples."""

    limit: int
    size: int
    over: int
    samples: int


class QueueDepth:
    """Samples of the depth of a queue of `size` frames, one each `SAMPLE_SECONDS`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._limit = size * 3 // 4  # 12 of 16
        self._over: deque[bool] = deque(maxlen=SAMPLES)

    def sample(self, depth: int) -> Overload | None:
        """Take a sample; the overload if this one adds to it, else None.

        It takes a quarter of a minute's samples, also while the first minute is not yet over:
        a call's first busy moment is not an overload.
        """
        self._over.append(depth > self._limit)
        over = sum(self._over)
        if self._over[-1] and over * 4 >= SAMPLES:
            return Overload(self._limit, self._size, over, len(self._over))
        return None
