"""What a batch leaves in the tables, on both databases; and that a second try changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from record_parts import AT, PARTIES, ended, engines_at, one, rows, said, seconds, started
from sqlalchemy.exc import IntegrityError

from call_records import CallOver, CallParties, Record, StreamCounts
from database import Engines
from models import Call, CallStream, EndedCall, Event, Lead, Tenant, Usage, Utterance
from record_store import RESUME_SECONDS, RecordStore


@pytest.fixture
def engines(database_at: str) -> Iterator[Engines]:
    with engines_at(database_at, "clinic", "garage", webhooks=True) as engines:
        yield engines


def write(engines: Engines, *records: Record, worker: str = "w1") -> list[str]:
    """Write a batch; why records of it were refused."""
    return [refused.why for refused in RecordStore(engines, worker).write(records)]


def test_a_call_from_its_start_to_its_end(engines: Engines) -> None:
    """All that was noted of it is there, and every figure is in its own column."""
    stream = started()
    assert write(engines, stream, said(stream, "hello", 500), said(stream, "bye", 2000)) == []
    call = one(engines, Call)
    assert (call.call_sid, call.tenant_id) == ("CA1", "clinic")
    assert (call.caller, call.called, call.direction) == (*PARTIES[:2], "inbound")
    assert (call.started_at, call.ended_at, call.outcome) == (AT, None, None)
    assert write(engines, ended(stream)) == []
    call = one(engines, Call)
    assert (call.ended_at, call.outcome) == (AT + seconds(60), "completed")
    assert (call.reason, call.close_code) == ("the call has ended", 1000)
    assert (call.frames, call.dropped, call.lost_seconds) == (3000, 2, 1.5)
    assert (call.rotations, call.fallbacks, call.seconds) == (1, 1, 60.0)
    assert (call.delay_mean_ms, call.delay_worst_ms) == (200, 500)
    assert [u.text for u in rows(engines, Utterance)] == ["hello", "bye"]
    utterance = rows(engines, Utterance)[0]
    assert (utterance.start_ms, utterance.end_ms, utterance.track) == (500, 1500, "inbound")
    assert (utterance.confidence, utterance.fallback) == (0.9, False)
    assert (utterance.tenant_id, utterance.call_id) == ("clinic", call.id)


def test_the_same_batch_again_changes_nothing(engines: Engines) -> None:
    """A commit whose answer was lost is tried again: by this worker's store, or a new one."""
    stream = started()
    batch: list[Record] = [stream, said(stream, "once"), ended(stream)]
    store = RecordStore(engines, "w1")
    store.write(batch)
    before = [vars(row).copy() for t in (Call, Utterance, Event, Lead) for row in rows(engines, t)]
    for again in (store, RecordStore(engines, "w1")):
        assert again.write(batch) == []
    after = [vars(row).copy() for t in (Call, Utterance, Event, Lead) for row in rows(engines, t)]
    for state in (*before, *after):
        state.pop("_sa_instance_state")
    assert after == before
    with engines.reading() as session:
        assert [usage.calls for usage in session.query(Usage)] == [1]


def test_a_second_stream_of_a_call_goes_on_where_the_first_ended(engines: Engines) -> None:
    """Its times are on the call's clock, its figures are added, and the call is one."""
    first = started()
    second = started(at=AT + seconds(100))
    write(engines, first, said(first, "before"), ended(first, 90, code=1012))
    assert one(engines, Call).ended_at is None
    assert one(engines, Call).resume_by == AT + seconds(90 + RESUME_SECONDS)
    write(engines, second, said(second, "after", 1000), worker="w2")
    call = one(engines, Call)
    assert (call.resume_by, call.streams) == (None, 2)
    write(engines, ended(second, 30), worker="w2")
    call = one(engines, Call)
    assert (call.frames, call.seconds, call.outcome) == (6000, 120.0, "completed")
    assert [(u.text, u.start_ms) for u in rows(engines, Utterance)] == [
        ("before", 0),
        ("after", 101_000),
    ]
    assert one(engines, Lead).calls == 1


def test_the_late_end_of_a_replaced_stream_ends_nothing(engines: Engines) -> None:
    """Two sockets of one call: the newer one lives on."""
    first, second = started(), started(at=AT + seconds(1))
    write(engines, first, second, ended(first, 2))
    assert one(engines, Call).ended_at is None
    write(engines, ended(second, 9))
    assert one(engines, Call).ended_at == AT + seconds(10)


def test_a_call_that_counts_as_ended_may_come_back(engines: Engines) -> None:
    """Its worker was believed to be dead, or its new stream came late."""
    first, second = started(), started(at=AT + seconds(100))
    write(engines, first, ended(first))
    write(engines, second)
    call = one(engines, Call)
    assert (call.ended_at, call.outcome, call.streams) == (None, None, 2)


def test_two_tracks_keep_their_names(engines: Engines) -> None:
    """`outbound` is the business's side."""
    stream = started()
    write(engines, stream, said(stream, "a", track="inbound"), said(stream, "b", track="outbound"))
    assert [u.track for u in rows(engines, Utterance)] == ["inbound", "outbound"]


@pytest.mark.parametrize("caller", ["anonymous", "Anonymous", "", "+", "sip:dana@example.com"])
def test_who_cannot_be_called_back_makes_no_lead(engines: Engines, caller: str) -> None:
    """The call is recorded all the same."""
    write(engines, started(parties=CallParties(caller, "+97231234567")))
    assert one(engines, Call).caller == caller
    assert rows(engines, Lead) == []


def test_a_lead_is_made_once_and_touched_at_each_call(engines: Engines) -> None:
    """By the caller's number, in each business apart; what the business wrote stays."""
    write(engines, started("CA1"))
    with engines.writing() as session:
        session.query(Lead).one().name = "Dana"
    write(engines, started("CA2", at=AT + seconds(5)), started("CA3", "garage"))
    clinic, garage = rows(engines, Lead)
    assert (clinic.tenant_id, clinic.number, clinic.calls) == ("clinic", "+972501111111", 2)
    assert (clinic.first_call_at, clinic.last_call_at) == (AT, AT + seconds(5))
    assert (clinic.name, garage.tenant_id, garage.calls, garage.name) == ("Dana", "garage", 1, "")


def test_of_an_outbound_call_the_lead_is_who_was_called(engines: Engines) -> None:
    """Not the business itself."""
    parties = CallParties("+97231234567", "+972502222222", "outbound-api")
    write(engines, started(parties=parties))
    assert one(engines, Lead).number == "+972502222222"


def test_no_record_reaches_another_business(engines: Engines) -> None:
    """A stream, text or end under another business's name is refused, and the rest is written."""
    mine = started("CA1", "clinic")
    theirs = started("CA1", "garage")
    why = write(
        engines,
        mine,
        theirs,
        said(mine, "mine"),
        said(mine, "theirs", tenant_id="garage"),
        ended(mine, tenant_id="garage"),
    )
    assert len(why) == 3
    assert all("another business" in text for text in why)
    assert [u.text for u in rows(engines, Utterance)] == ["mine"]
    assert one(engines, Call).ended_at is None


def test_what_belongs_to_nothing_is_refused_and_the_rest_is_written(engines: Engines) -> None:
    """A business or a call that was deleted while the call went on."""
    nobody, known = started("CA1", "nobody"), started("CA2")
    why = write(engines, nobody, said(nobody, "x"), known, ended(nobody), said(known, "y"))
    assert why == [
        "its business is not there (any more)",
        "its call is not there (any more)",
        "its call is not there (any more)",
    ]
    assert [u.text for u in rows(engines, Utterance)] == ["y"]


def test_on_a_laptop_businesses_are_made_as_they_are_named(engines: Engines) -> None:
    """Where everybody is believed, the simulator's names need no `flask tenant add`."""
    store = RecordStore(engines, "w1", adds_tenants=True)
    assert store.write([started(tenant_id="new")]) == []
    assert "new" in [tenant.id for tenant in rows(engines, Tenant)]


def test_twilios_word_ends_a_call_without_a_stream(engines: Engines) -> None:
    """And is kept for the worker that may have its socket; one with a live stream is left to it."""
    broken, live = started("CA1"), started("CA2")
    write(engines, broken, ended(broken, 5, code=1006), live)
    write(engines, CallOver("CA1", AT + seconds(8)), CallOver("CA2", AT + seconds(8)))
    write(engines, CallOver("CA1", AT + seconds(9)), CallOver("CA-unknown", AT))
    first, second = rows(engines, Call)
    assert (first.ended_at, first.outcome) == (AT + seconds(8), "completed")
    assert second.ended_at is None
    with engines.reading() as session:
        told = {row.call_sid for row in session.query(EndedCall)}
    assert told == {"CA1", "CA2", "CA-unknown"}


def test_usage_is_by_month_of_the_businesss_own_time_zone(engines: Engines) -> None:
    """23:30 UTC on the last of a month is the next month in Jerusalem."""
    late = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
    streams = [started("CA1"), started("CA2", at=late)]
    for stream in streams:
        write(engines, stream, ended(stream))
    with engines.reading() as session:
        usage = {row.month: row for row in session.query(Usage)}
        assert set(usage) == {"2026-11", "2026-12"}
        month = usage["2026-12"]
        assert (month.calls, month.seconds, month.google_seconds) == (1, 60.0, 61.0)


def test_events_stand_in_the_order_of_their_call(engines: Engines) -> None:
    """With their payloads as they are sent; one each, of this business only."""
    stream = started()
    write(engines, stream, said(stream, "שלום", 100))
    write(engines, said(stream, "bye", 3000), ended(stream))
    events = rows(engines, Event)
    assert [event.type for event in events] == [
        "call.started",
        "lead.created",
        "utterance.final",
        "utterance.final",
        "call.ended",
    ]
    assert {event.tenant_id for event in events} == {"clinic"}
    assert "שלום" in events[2].payload
    payload = json.loads(events[2].payload)
    assert payload["type"] == "utterance.final"
    assert payload["id"] == events[2].uid
    assert payload["business"] == "clinic"
    assert payload["data"]["call_sid"] == "CA1"
    assert (payload["data"]["text"], payload["data"]["start_ms"]) == ("שלום", 100)
    over = json.loads(events[4].payload)["data"]
    assert (over["outcome"], over["ended_at"]) == ("completed", "2026-11-27T12:01:00.000Z")


def test_a_business_without_a_webhook_gets_no_events(database_at: str) -> None:
    """Nothing piles up that nobody asked for."""
    with engines_at(database_at, "clinic") as engines:
        stream = started()
        write(engines, stream, said(stream, "x"), ended(stream))
        assert rows(engines, Event) == []


def test_an_end_of_a_stream_that_was_given_up_as_lost_counts(engines: Engines) -> None:
    """Its worker was only cut off: its figures are true, and come once."""
    stream = started()
    write(engines, stream)
    with engines.writing() as session:
        row = session.query(CallStream).one()
        row.ended_at, row.lost = AT, True
        call = session.query(Call).one()
        call.ended_at, call.outcome = AT, "lost"
    for _ in range(2):
        write(engines, ended(stream, counts=StreamCounts(frames=7)))
    call = one(engines, Call)
    assert (call.frames, call.outcome, call.ended_at) == (7, "completed", AT + seconds(60))


def test_what_is_said_on_a_deleted_call_is_in_no_other_one(engines: Engines) -> None:
    """Its worker was given up, but lives; the next call is another business's."""
    stream, store = started("CA1", "clinic"), RecordStore(engines, "w1")
    store.write([stream, said(stream, "one")])
    with engines.writing() as session:
        session.delete(session.query(Call).one())
    assert write(engines, started("CA2", "garage"), worker="w2") == []
    with pytest.raises(IntegrityError):
        store.write([said(stream, "the clinic's secret")])
    assert rows(engines, Utterance) == []
