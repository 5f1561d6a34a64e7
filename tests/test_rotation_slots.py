"""The slots of rotations: no two streams in one, the last free one before the limit, given back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from audio_parts import hasty_threads
from hypothesis import given
from hypothesis import strategies as st

from rotation_slots import SLOT_SECONDS, RotationSlots

BASE = 4000  # the slot that it is when a test begins


def slot(number: float) -> float:
    """The time of the slot that is so many after the first."""
    return (BASE + number) * SLOT_SECONDS


class Slots(RotationSlots):
    """Slots whose time the test moves."""

    def __init__(self) -> None:
        self.now = slot(0)
        super().__init__(lambda: self.now)


@given(st.lists(st.floats(0.5, 300), max_size=60))
def test_everyone_gets_a_slot_alone_and_in_time(limits: list[float]) -> None:
    """Whatever limits they have: at or shortly before it, and alone while there are slots."""
    slots = Slots()
    got = [(slots.reserve(slots.now + limit), slots.now + limit) for limit in limits]
    for at, latest in got:
        assert latest - SLOT_SECONDS * (len(got) + 1) < at < latest + 1e-6
    if all(limit > 61 * SLOT_SECONDS for limit in limits):
        assert len({round(at / SLOT_SECONDS) for at, _ in got}) == len(got)


def test_the_last_free_slot_is_reserved() -> None:
    """A stream lives as long as it may: the next one with that limit gets the slot before."""
    slots = Slots()
    got = [slots.reserve(slot(100.4)) for _ in range(4)]
    assert got == [slot(100), slot(99), slot(98), slot(97)]
    assert slots.reserve(slot(101.4)) == slot(101)


def test_where_no_slot_is_left_the_limit_stands() -> None:
    """Too many rotations at once are better than a stream that Google ends."""
    slots = Slots()
    assert [slots.reserve(slot(2.4)) for _ in range(3)] == [slot(2), slot(1), slot(2.4)]
    assert slots.reserve(slot(0.4)) == slot(0.4)
    assert slots.reserve(slot(-9)) == slot(-9)


def test_what_was_shared_is_not_given_back_for_the_other() -> None:
    """Of two that have one slot the first that goes leaves it to the second."""
    slots = Slots()
    first, _, second = (slots.reserve(slot(2.4)) for _ in range(3))
    slots.give_back(second)
    slots.now = first
    assert not slots.take(slot(80))
    slots.give_back(first)
    assert slots.take(slot(80))


def test_a_slot_that_is_given_back_is_free() -> None:
    """The stream ended by itself: another one may have its slot, and no other's."""
    slots = Slots()
    first, second = slots.reserve(slot(100)), slots.reserve(slot(100))
    slots.give_back(first)
    assert slots.reserve(slot(100)) == first
    slots.give_back(second)
    slots.give_back(second)
    assert slots.reserve(slot(100)) == second


def test_now_can_be_taken_once() -> None:
    """At a boundary, if nobody else is replaced just then."""
    slots = Slots()
    one, other = slots.reserve(slot(100)), slots.reserve(slot(100))
    slots.now = slot(50.4)
    assert slots.take(one)
    slots.now = slot(50.9)
    slots.reserve(slot(200))  # forgets what is over, not what is now
    assert not slots.take(other)
    slots.now = slot(51)
    assert slots.take(other)


def test_a_slot_that_is_reserved_is_its_owners() -> None:
    """Who has a boundary just then waits until it is over."""
    slots = Slots()
    one, other = slots.reserve(slot(50)), slots.reserve(slot(100))
    slots.now = slot(50.4)
    assert not slots.take(other)
    assert slots.take(one)
    slots.now = slot(51.2)
    assert slots.take(other)


def test_a_reservation_is_kept_until_it_is_given_back() -> None:
    """A replacement that failed is tried again: meanwhile nobody else got the slot."""
    slots = Slots()
    own = slots.reserve(slot(100))
    slots.now = slot(60)
    assert slots.take(own)
    assert slots.reserve(slot(100)) == slot(99)
    slots.now = own
    assert not slots.take(slot(99))
    assert slots.take(own)


def test_what_is_over_is_forgotten() -> None:
    """A process that runs for weeks keeps no slots of the past."""
    slots = Slots()
    for _ in range(500):
        slots.now += 10.0
        slots.take(slots.reserve(slots.now + 285))
    assert len(slots._taken) <= 2 * (285 / 10 + 2)


@pytest.mark.parametrize("seconds", [number * SLOT_SECONDS for number in (4_001, 123_457, 10**7)])
def test_the_slot_of_its_own_time_is_the_same(seconds: float) -> None:
    """No rounding makes another slot of it, however long the machine has been up."""
    slots = Slots()
    slots.now = seconds - 100
    at = slots.reserve(seconds)
    assert at == seconds
    slots.now = at
    assert not slots.take(seconds - 50)
    assert slots.take(at)


def test_every_slots_time_lies_in_it() -> None:
    """Times are not exact in binary, and none may fall into the slot before its own."""
    slots = Slots()
    for number in range(1, 1000):
        assert slots.reserve(slot(number)) == slot(number)


def test_threads_never_get_the_same_slot() -> None:
    """Calls that begin together reserve together."""
    slots = Slots()
    with hasty_threads(), ThreadPoolExecutor(8) as pool:
        got = list(pool.map(slots.reserve, [slot(400)] * 300))
    assert len(set(got)) == 300
    with hasty_threads(), ThreadPoolExecutor(8) as pool:
        list(pool.map(slots.give_back, got))
    assert slots.reserve(slot(400)) == slot(400)
