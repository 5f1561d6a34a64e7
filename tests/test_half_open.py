"""Sockets that have not said whose they are: no more than the limit, however they come."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from half_open import HalfOpen, Place


def test_no_more_places_than_there_are() -> None:
    half_open = HalfOpen(2)
    places = [half_open.take() for _ in range(3)]
    assert [place is not None for place in places] == [True, True, False]
    assert half_open.now == 2


def test_a_place_is_given_back_once() -> None:
    """The `start` gives it back, and the end of the request, which knows nothing of that."""
    half_open = HalfOpen(2)
    first, second = half_open.take(), half_open.take()
    assert first is not None
    assert second is not None
    first.give_back()
    first.give_back()
    assert half_open.now == 1
    assert half_open.take() is not None
    assert half_open.take() is None


def test_those_that_come_together_are_let_in_one_by_one() -> None:
    """Between the look and the taking there is no moment for another."""
    half_open, together = HalfOpen(3), threading.Barrier(8)

    def come() -> Place | None:
        together.wait(10)
        return half_open.take()

    with ThreadPoolExecutor(8) as threads:
        places = list(threads.map(lambda _: come(), range(8)))
    assert sum(place is not None for place in places) == 3
