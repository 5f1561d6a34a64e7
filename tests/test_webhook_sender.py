"""Events on their way to real receivers that fail, are slow, go away and come back."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from databases import fresh_sqlite
from test_call_log import Lines, logged  # noqa: F401  # a fixture
from webhook_parts import AT, HandClock, Senders, add_events, add_webhook, engines_at, events
from webhook_receiver import Answer, WebhookReceiver

from database import Engines, now
from local_stack import free_port
from models import Webhook
from record_messages import EventCounts
from webhook_client import WebhookClient
from webhook_queue import TRIED_FOR, WebhookQueue
from webhook_seats import SEATS
from webhook_sender import WebhookSender, pause_after

CALLS, EVENTS = 6, 8


@pytest.fixture
def engines() -> Iterator[Engines]:
    with engines_at(fresh_sqlite()) as engines:
        yield engines


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


def once_each(receiver: WebhookReceiver, uids: set[str]) -> bool:
    return {event["id"] for event in receiver.arrived} == uids


def in_order(receiver: WebhookReceiver) -> dict[str, list[int]]:
    """What has arrived, by call, an event that came again left out."""
    return {call: list(dict.fromkeys(marks)) for call, marks in receiver.by_call().items()}


def add_calls(engines: Engines, tenant_id: str = "clinic") -> set[str]:
    at = now()
    return {
        uid
        for call in range(CALLS)
        for uid in add_events(engines, tenant_id, f"CA{tenant_id}{call}", range(EVENTS), at)
    }


EXPECTED = {f"CAclinic{call}": list(range(EVENTS)) for call in range(CALLS)}


def failing_for_a_while(receiver: WebhookReceiver, times: int, answer: Answer) -> None:
    count = itertools.count()
    receiver.decide = lambda event: answer if next(count) < times else Answer()


@pytest.mark.parametrize("senders", [1, 2])
@pytest.mark.parametrize(
    "answer",
    [Answer(500), Answer(302, (("Location", "/elsewhere"),)), Answer(None), Answer(404, body=b"?")],
    ids=["500", "302", "closed", "404"],
)
def test_a_receiver_that_fails_gets_everything_when_it_is_well(
    engines: Engines, receiver: WebhookReceiver, answer: Answer, senders: int
) -> None:
    """Every event once, in order for its call, whatever the failure was; by two senders too."""
    add_webhook(engines, "clinic", receiver.url)
    uids = add_calls(engines)
    failing_for_a_while(receiver, 15, answer)
    with Senders(engines, senders):
        receiver.wait_for(lambda: len(receiver.arrived) >= len(uids))
    assert receiver.by_call() == EXPECTED
    assert once_each(receiver, uids)
    assert {(e.next_try_at, e.given_up_at, e.last_error) for e in events(engines)} == {
        (None, None, None)
    }
    assert len(receiver.asked) >= len(uids) + 15


def test_a_receiver_vanishes_and_comes_back(database_at: str, receiver: WebhookReceiver) -> None:
    """Its port closes in the middle and opens again: nothing is missing, nothing out of order."""
    with engines_at(database_at) as engines:
        add_webhook(engines, "clinic", receiver.url)
        uids = add_calls(engines)
        with Senders(engines, 2) as senders:
            receiver.wait_for(lambda: len(receiver.arrived) >= 10)
            receiver.vanish()
            wait_until(lambda: sum(sender.failed for sender in senders.all) >= 6)
            receiver.come_back()
            receiver.wait_for(lambda: once_each(receiver, uids))
        assert in_order(receiver) == EXPECTED
        wait_until(lambda: all(event.delivered_at for event in events(engines)))


def test_a_slow_receiver_holds_up_nobody_else(engines: Engines, receiver: WebhookReceiver) -> None:
    """It has two seats of a sender, whatever waits for it; the other's events all arrive."""
    silence = threading.Event()
    with WebhookReceiver() as slow:
        slow.decide = lambda event: Answer(waits=silence)
        add_webhook(engines, "slow", slow.url)
        add_webhook(engines, "clinic", receiver.url)
        add_calls(engines, "slow")
        uids = add_calls(engines)
        with Senders(engines, seconds=60):
            slow.wait_for(lambda: len(slow.asked) >= 1)
            receiver.wait_for(lambda: once_each(receiver, uids))
            assert slow.arrived == []
            silence.set()
            slow.wait_for(lambda: len(slow.arrived) >= CALLS * EVENTS)
    assert slow.most_at_once <= 2
    assert receiver.by_call() == EXPECTED


@pytest.mark.parametrize("senders", [1, 2])
def test_many_slow_receivers_hold_up_nobody_else(
    engines: Engines, receiver: WebhookReceiver, senders: int
) -> None:
    """More than have seats at all, with calls that wait; none of them answers before the end."""
    silence = threading.Event()
    names = [f"slow{n}" for n in range(SEATS + 4)]
    with WebhookReceiver() as slow:
        slow.decide = lambda event: Answer(waits=silence)
        for name in names:
            add_webhook(engines, name, slow.url)
            for call in range(4):
                add_events(engines, name, f"CA{name}{call}", range(2), now())
        add_webhook(engines, "clinic", receiver.url)
        uids = add_calls(engines)
        with Senders(engines, senders, seconds=60):
            slow.wait_for(lambda: len(slow.asked) >= SEATS)
            receiver.wait_for(lambda: once_each(receiver, uids))
            assert slow.arrived == []
            silence.set()
            slow.wait_for(lambda: len({event["id"] for event in slow.arrived}) == len(names) * 8)
    assert receiver.by_call() == EXPECTED
    assert set(map(tuple, in_order(slow).values())) == {(0, 1)}


def test_calls_do_not_wait_for_each_other(engines: Engines, receiver: WebhookReceiver) -> None:
    """An event that fails holds up those of its own call only."""
    add_webhook(engines, "clinic", receiver.url)
    add_calls(engines)
    bad = "CAclinic3"
    receiver.decide = lambda event: Answer(500 if event["data"]["call_sid"] == bad else 204)
    with Senders(engines):
        receiver.wait_for(lambda: len(receiver.arrived) >= (CALLS - 1) * EVENTS)
    assert set(receiver.by_call()) == set(EXPECTED) - {bad}
    assert {e["data"]["n"] for e in receiver.asked if e["data"]["call_sid"] == bad} == {0}


def one_sender(
    engines: Engines, clock: HandClock, pause: Callable[[int], float] = pause_after
) -> WebhookSender:
    return WebhookSender(
        WebhookQueue(engines, "w1", now=clock), WebhookClient(allow_private=True), pause=pause
    )


def turn(sender: WebhookSender) -> float:
    pause = sender.turn()
    assert sender.wait_until_idle(20)
    return pause


def test_a_day_of_failures_and_then_it_is_given_up(
    engines: Engines,
    logged: Lines,  # noqa: F811  # as above
) -> None:
    """Tried again and again for 24 hours, the last time at their end; what follows goes on."""
    add_webhook(engines, "clinic", f"http://127.0.0.1:{free_port()}/")
    add_events(engines, "clinic", "CA1", range(2))
    clock = HandClock()
    sender = one_sender(engines, clock)
    tried_at = []
    while (due := events(engines)[0].next_try_at) is not None:
        tried_at.append(due - AT)
        clock.at = due
        turn(sender)
    assert tried_at[0] == timedelta(0)
    assert tried_at[-1] == TRIED_FOR
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(tried_at)]
    assert 2.5 <= gaps[0] <= 5 < gaps[2] <= 20
    assert max(gaps) <= 3600
    assert 30 < len(tried_at) < 60
    first, second = events(engines)
    assert (first.given_up_at, first.tries) == (AT + TRIED_FOR, len(tried_at))
    assert "refused" in (first.last_error or "")
    assert sender.given_up == 1
    (line,) = [text for text in logged.lines if "given up" in text]
    assert f"event={first.uid} type=utterance.final tenant=clinic count=1" in line
    assert second.next_try_at is not None
    turn(sender)
    assert [e.given_up_at is not None for e in events(engines)] == [True, True]
    assert events(engines)[1].tries == 1


def test_a_receiver_that_wants_no_more(engines: Engines, receiver: WebhookReceiver) -> None:
    """410 gives the event up at once."""
    add_webhook(engines, "clinic", receiver.url)
    add_events(engines, "clinic", "CA1", range(1))
    receiver.decide = lambda event: Answer(410)
    turn(one_sender(engines, HandClock(now())))
    (event,) = events(engines)
    assert (event.tries, event.next_try_at) == (1, None)
    assert event.given_up_at is not None
    assert (event.last_error or "").startswith("answered 410")


def test_a_refused_address_is_a_failure_that_says_so(engines: Engines) -> None:
    """Nothing is sent into the server's own network, and the business reads why."""
    add_webhook(engines, "clinic", "https://127.0.0.1/hook")
    add_events(engines, "clinic", "CA1", range(1))
    sender = WebhookSender(WebhookQueue(engines, "w1", now=HandClock()), WebhookClient())
    turn(sender)
    (event,) = events(engines)
    assert "127.0.0.1, which is not a public address" in (event.last_error or "")
    assert event.next_try_at is not None


def test_a_fault_of_our_own_is_tried_again_and_given_up_like_any_other(
    engines: Engines,
) -> None:
    """A secret that is none, put there past the commands: logged, and not for ever."""
    add_webhook(engines, "clinic", "http://127.0.0.1:1/", secret="whsec_!")
    add_events(engines, "clinic", "CA1", range(1))
    clock = HandClock()
    sender = one_sender(engines, clock)
    turn(sender)
    (event,) = events(engines)
    assert (event.tries, event.claimed_by) == (1, None)
    assert "internal error" in (event.last_error or "")
    clock.at = AT + TRIED_FOR
    turn(sender)
    assert events(engines)[0].given_up_at == clock.at


def test_an_event_whose_webhook_is_gone_is_given_up(engines: Engines) -> None:
    """As one that was written while the webhook was removed."""
    add_webhook(engines, "other", "https://receiver.example/")
    add_webhook(engines, "clinic", "https://receiver.example/")
    add_events(engines, "clinic", "CA1", range(1))
    with engines.writing() as session:
        session.delete(session.get_one(Webhook, "clinic"))
    turn(one_sender(engines, HandClock()))
    assert events(engines)[0].last_error == "the business has no webhook"


def test_looks_seldom_where_nobody_has_a_webhook(engines: Engines) -> None:
    """Every few seconds; once a second where somebody has one."""
    sender = one_sender(engines, HandClock())
    assert turn(sender) == 5
    add_webhook(engines, "clinic", "https://receiver.example/")
    assert turn(sender) == 1


def test_no_more_posts_at_once_than_seats(engines: Engines) -> None:
    """However many events are due."""
    silence = threading.Event()
    with WebhookReceiver() as slow:
        slow.decide = lambda event: Answer(waits=silence)
        for n in range(SEATS):
            add_webhook(engines, f"t{n}", slow.url)
            add_events(engines, f"t{n}", f"CA{n}a", range(1))
            add_events(engines, f"t{n}", f"CA{n}b", range(1))
        sender = one_sender(engines, HandClock(now()))
        sender.turn()
        slow.wait_for(lambda: len(slow.asked) == SEATS)
        sender.turn()
        assert len([e for e in events(engines) if e.claimed_by]) == SEATS
        silence.set()
        assert sender.wait_until_idle(20)
        assert slow.most_at_once == SEATS


def test_stop_does_not_wait_for_a_slow_receiver(engines: Engines) -> None:
    """A drain is not held up; what was on its way is not settled, and will be sent again."""
    silence = threading.Event()
    with WebhookReceiver() as slow:
        slow.decide = lambda event: Answer(waits=silence)
        add_webhook(engines, "clinic", slow.url)
        add_events(engines, "clinic", "CA1", range(1), now())
        sender = one_sender(engines, HandClock(now()))
        sender.start()
        slow.wait_for(lambda: len(slow.asked) == 1)
        began = time.monotonic()
        sender.stop(0.3)
        assert time.monotonic() - began < 2
        assert events(engines)[0].next_try_at is not None
        silence.set()
        assert sender.wait_until_idle(20)


def test_the_back_off_begins_with_seconds_and_ends_with_an_hour() -> None:
    """With chance in it, so that what failed together does not come back together."""
    assert all(2.5 <= pause_after(1) <= 5 for _ in range(100))
    assert all(1800 <= pause_after(tries) <= 3600 for tries in (11, 100, 100_000))
    assert len({pause_after(5) for _ in range(20)}) > 10


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # it is another thread's counter, which tells nobody


def test_how_the_events_stand_is_said(engines: Engines, receiver: WebhookReceiver) -> None:
    """What waits in the database, and what this sender has done; not at every turn."""
    add_webhook(engines, "clinic", receiver.url)
    add_events(engines, "clinic", "CA1", range(3), now())
    receiver.decide = lambda event: Answer(500 if event["data"]["n"] == 1 else 200)
    told: list[EventCounts] = []
    sender = WebhookSender(
        WebhookQueue(engines, "w1"), WebhookClient(allow_private=True), on_counts=told.append
    )
    sender.turn()
    sender.turn()
    assert [(one.waiting, one.delivered, one.failed) for one in told] == [(3, 0, 0)]
    assert sender.wait_until_idle(20)
    sender.stop()
    assert (sender.delivered, sender.failed, sender.given_up) == (1, 1, 0)
