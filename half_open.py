"""How many of a worker's sockets have not said yet whose they are: few, whoever opens them."""

from __future__ import annotations

import threading
from collections.abc import Callable


class HalfOpen:
    """At most `most` sockets without their `start`. Any thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = 0
        self._lock = threading.Lock()

    def take(self) -> Place | None:
        """A place for one more socket; None if there is none left.

        It is looked for and taken in one step: sockets that come together are let in one by one.
        """
        with self._lock:
            if self.now >= self.most:
                return None
            self.now += 1
        return Place(self._put_back)

    def _put_back(self) -> None:
        with self._lock:
            self.now -= 1


class Place:
    """A socket's place, from before its upgrade is answered; given back once, by the first."""

    def __init__(self, put_back: Callable[[], None]) -> None:
        self._put_back = put_back
        self._taken = True
        self._lock = threading.Lock()

    def give_back(self) -> None:
        with self._lock:
            was_taken, self._taken = self._taken, False
        if was_taken:
            self._put_back()
