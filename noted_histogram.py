"""A Prometheus histogram that is noted into often and written seldom.

In the multi-process mode each observation of `prometheus_client` is two writes into a mapped file,
8 µs; here a note is a plain number in a list, and `flush()` writes what has come together, about
once a second. Any thread; nothing waits in it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left

from prometheus_client import Histogram


class NotedHistogram(Histogram):
    """`note()` what is observed; `/metrics` has it after the next `flush()`."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._noting = threading.Lock()
        self._notes = [0] * len(self._upper_bounds)
        self._notes_sum = 0.0

    def note(self, value: float) -> None:
        """One observation."""
        place = bisect_left(self._upper_bounds, value)  # the last bound is infinite
        with self._noting:
            self._notes[place] += 1
            self._notes_sum += value

    def flush(self) -> None:
        """Write what was noted since the last time."""
        with self._noting:
            notes, self._notes = self._notes, [0] * len(self._notes)
            total, self._notes_sum = self._notes_sum, 0.0
        for bucket, count in zip(self._buckets, notes, strict=True):
            if count:
                bucket.inc(count)
        if total:
            self._sum.inc(total)
