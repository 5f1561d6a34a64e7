"""Who may send: seats for receivers that answer soon, and others for those that do not.

A receiver is slow while a post to it takes longer than a second, and from then on until one takes
less. A slow one has one seat, and none of those that the others share: however many are slow, they
hold up each other at most, and the others for that first second.

Called by the sender's threads; it waits for nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

SEATS = 8
SLOW_SEATS = 24
SLOW_SECONDS = 1.0
# Of threads, whatever becomes slow at once
MOST_SEATS = 64


@dataclass(frozen=True, slots=True)
class Room:
    """How many seats are free, and how many each business has: `slow` are the slow ones' alone."""

    seats: int = SEATS
    busy: Mapping[str, int] = field(default_factory=dict)
    slow_seats: int = 0
    slow: Mapping[str, int] = field(default_factory=dict)


class Seat:
    """One post after the other for one business."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.posting_since: float | None = None


class Seats:
    """The seats of one sender."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._change = threading.Condition()
        self._taken: set[Seat] = set()
        self._slow: set[str] = set()

    def take(self, tenant_id: str) -> Seat:
        """A seat of which `room()` said that it is free."""
        seat = Seat(tenant_id)
        with self._change:
            self._taken.add(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Give it back."""
        with self._change:
            self._taken.remove(seat)
            self._change.notify_all()

    def begin_post(self, seat: Seat) -> None:
        """A post begins."""
        with self._change:
            seat.posting_since = self._clock()

    def end_post(self, seat: Seat) -> bool:
        """It has an answer, or none; whether that came soon."""
        with self._change:
            slow = self._is_long(seat)
            seat.posting_since = None
            (self._slow.add if slow else self._slow.discard)(seat.tenant_id)
            return not slow

    def room(self) -> Room:
        """What is free now."""
        with self._change:
            slow = self._slow | {seat.tenant_id for seat in self._taken if self._is_long(seat)}
            taken = Counter(seat.tenant_id for seat in self._taken)
        busy = Counter({name: count for name, count in taken.items() if name not in slow})
        busy_slow = {name: taken[name] for name in slow}
        most = max(0, MOST_SEATS - taken.total())
        seats = min(most, max(0, SEATS - busy.total()))
        slow_seats = min(most - seats, max(0, SLOW_SEATS - sum(busy_slow.values())))
        return Room(seats, busy, slow_seats, busy_slow)

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until nobody sits; False after so many seconds."""
        with self._change:
            return self._change.wait_for(lambda: not self._taken, seconds)

    def _is_long(self, seat: Seat) -> bool:
        since = seat.posting_since
        return since is not None and self._clock() - since > SLOW_SECONDS
