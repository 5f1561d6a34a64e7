"""Which events are taken next, by whom, and what becomes of them; in both databases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from webhook_parts import AT, HandClock, add_events, add_webhook, engines_at, events

from database import Engines
from webhook_queue import LEASE_SECONDS, SEATS_OF_A_BUSINESS, Delivery, WebhookQueue
from webhook_seats import Room

URL = "https://receiver.example/"


@pytest.fixture
def engines(database_at: str) -> Iterator[Engines]:
    with engines_at(database_at) as engines:
        yield engines


def take(queue: WebhookQueue, seats: int = 8, **busy: int) -> list[Delivery]:
    taken = queue.take(Room(seats, busy))
    assert taken is not None
    return taken


def marks(taken: list[Delivery]) -> list[str]:
    return [delivery.uid for delivery in taken]


def test_the_events_of_a_call_are_taken_one_after_the_other(engines: Engines) -> None:
    """The next one only when the one before was delivered or given up."""
    add_webhook(engines, "clinic", URL)
    uids = add_events(engines, "clinic", "CA1", range(3))
    clock = HandClock()
    queue, other = WebhookQueue(engines, "w1", now=clock), WebhookQueue(engines, "w2", now=clock)
    (first,) = take(queue)
    assert (first.uid, first.url, first.tries, first.since) == (uids[0], URL, 0, AT)
    assert take(queue) == take(other) == []
    assert queue.failed(first, "answered 500", AT + timedelta(seconds=5))
    assert take(other) == []
    clock.move(seconds=6)
    (again,) = take(other)
    assert (again.uid, again.tries) == (uids[0], 1)
    assert other.delivered(again)
    (second,) = take(queue)
    assert queue.failed(second, "answered 410", None)
    (third,) = take(queue)
    assert queue.delivered(third)
    assert take(queue) == []
    assert [second.uid, third.uid] == uids[1:]
    assert [(e.delivered_at is not None, e.given_up_at is not None) for e in events(engines)] == [
        (True, False),
        (False, True),
        (True, False),
    ]
    assert [(e.tries, e.last_error) for e in events(engines)] == [
        (2, None),
        (1, "answered 410"),
        (1, None),
    ]


def test_the_next_event_of_a_call_is_taken_in_the_same_step(engines: Engines) -> None:
    """If it is due, and if the sender still has the one before; at the end there is none."""
    add_webhook(engines, "clinic", URL)
    uids = add_events(engines, "clinic", "CA1", range(3))
    add_events(engines, "clinic", "CA2", range(1))
    clock = HandClock()
    queue, other = WebhookQueue(engines, "w1", now=clock), WebhookQueue(engines, "w2", now=clock)
    first = take(queue, 1)[0]
    second = queue.delivered_take_next(first)
    assert second is not None
    assert (second.uid, second.url, second.secrets) == (uids[1], URL, first.secrets)
    assert queue.delivered_take_next(first) is None  # it was said already
    assert queue.failed(second, "answered 500", AT + timedelta(seconds=5))
    clock.move(seconds=5)
    second = next(one for one in take(other) if one.call_id == first.call_id)
    third = other.delivered_take_next(second)
    assert third is not None
    assert third.uid == uids[2]
    assert other.delivered_take_next(third) is None


def test_what_a_dead_sender_has_taken_comes_free(engines: Engines) -> None:
    """When its time is over; what it says then counts no more."""
    add_webhook(engines, "clinic", URL)
    add_events(engines, "clinic", "CA1", range(2))
    clock = HandClock()
    dead, other = WebhookQueue(engines, "w1", now=clock), WebhookQueue(engines, "w2", now=clock)
    (held,) = take(dead)
    clock.move(seconds=LEASE_SECONDS - 1)
    assert take(other) == []
    clock.move(seconds=1)
    (taken,) = take(other)
    assert taken.uid == held.uid
    assert not dead.delivered(held)
    assert not dead.failed(held, "no answer", clock.at)
    assert events(engines)[0].claimed_by == "w2"
    assert other.delivered(taken)


def test_many_senders_take_each_event_once(engines: Engines) -> None:
    """20 events of 20 calls of 10 businesses, taken by 4 senders at the same moment."""
    for n in range(10):
        add_webhook(engines, f"t{n}", URL)
        for call in range(2):
            add_events(engines, f"t{n}", f"CA{n}-{call}", range(1))
    clock = HandClock()
    queues = [WebhookQueue(engines, f"w{n}", now=clock) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        taken = [one for some in pool.map(lambda queue: take(queue, 20), queues) for one in some]
    assert len(taken) == len({one.uid for one in taken}) == 20


def test_one_business_has_not_all_the_seats(engines: Engines) -> None:
    """Not though its events wait by the hundred, and longer than the others'."""
    add_webhook(engines, "busy", URL)
    add_webhook(engines, "calm", URL)
    for n in range(100):
        add_events(engines, "busy", f"CA{n}", range(1), AT - timedelta(minutes=1))
    add_events(engines, "calm", "CAcalm", range(1))
    queue = WebhookQueue(engines, "w1", now=HandClock())
    taken = [one.tenant_id for one in take(queue)]
    assert sorted(taken) == ["busy"] * SEATS_OF_A_BUSINESS + ["calm"]
    assert take(queue, 8, busy=SEATS_OF_A_BUSINESS) == []
    assert [one.tenant_id for one in take(queue, 1, busy=1)] == ["busy"]


def test_who_has_no_seat_comes_first(engines: Engines) -> None:
    """Four businesses whose events have waited for longer get second seats only after it."""
    for tenant in ("t0", "t1", "t2", "t3"):
        add_webhook(engines, tenant, URL)
        for n in range(5):
            add_events(engines, tenant, f"CA{tenant}{n}", range(1), AT - timedelta(minutes=1))
    add_webhook(engines, "calm", URL)
    add_events(engines, "calm", "CAcalm", range(1))
    queue = WebhookQueue(engines, "w1", now=HandClock())
    assert "calm" in [one.tenant_id for one in take(queue, 5)]
    assert take(queue, 0) == []


def test_slow_ones_have_seats_of_their_own(engines: Engines) -> None:
    """One each, and none of the others', whatever is free."""
    for tenant in ("slow", "slower", "quick"):
        add_webhook(engines, tenant, URL)
        for n in range(3):
            add_events(engines, tenant, f"CA{tenant}{n}", range(1))
    queue = WebhookQueue(engines, "w1", now=HandClock())
    taken = queue.take(Room(seats=8, slow_seats=4, slow={"slow": 0, "slower": 1}))
    assert taken is not None
    assert sorted(one.tenant_id for one in taken) == ["quick", "quick", "slow"]
    assert queue.take(Room(seats=8, busy={"quick": 2}, slow={"slow": 0, "slower": 0})) == []


def test_what_waits_behind_a_failure_is_not_looked_at(engines: Engines) -> None:
    """All of the call is due with the event that it waits for, in order."""
    add_webhook(engines, "clinic", URL)
    add_events(engines, "clinic", "CA1", range(3))
    queue = WebhookQueue(engines, "w1", now=HandClock())
    (first,) = take(queue)
    later = AT + timedelta(minutes=10)
    assert queue.failed(first, "x" * 1000, later)
    assert [e.next_try_at for e in events(engines)] == [later] * 3
    assert len(events(engines)[0].last_error or "") == 300


def test_without_webhooks_there_is_little_to_look_for(engines: Engines) -> None:
    """Which the queue says, so that its sender looks less often."""
    assert WebhookQueue(engines, "w1").take(Room()) is None


def test_what_waits_is_counted_with_its_age(engines: Engines) -> None:
    """What arrived or was given up does not wait; what failed and is tried again does."""
    add_webhook(engines, "clinic", URL)
    clock = HandClock()
    queue = WebhookQueue(engines, "w1", now=clock)
    assert queue.waiting() == (0, 0.0)
    for number in range(3):
        add_events(engines, "clinic", f"CA{number}", range(1), AT + timedelta(seconds=number))
    clock.move(seconds=10)
    assert queue.waiting() == (3, 10.0)
    first, second = take(queue)
    assert queue.delivered(first)
    assert queue.failed(second, "answered 500", clock.at + timedelta(hours=1))
    assert queue.waiting() == (2, 9.0)
