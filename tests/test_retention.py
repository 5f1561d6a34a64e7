"""What is older than its business wants to keep goes, in batches, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from record_parts import AT, ended, engines_at, rows, said, started

import retention
from database import Engines
from models import Call, CallStream, Event, Lead, Tenant, Utterance
from record_store import RecordStore

DAY = timedelta(days=1)


@pytest.fixture
def engines(database_at: str) -> Iterator[Engines]:
    """Two businesses: `clinic` keeps for 10 days, `garage` for a year."""
    with engines_at(database_at, "clinic", "garage", webhooks=True) as engines:
        with engines.writing() as session:
            session.get_one(Tenant, "clinic").keep_days = 10
        yield engines


def record(engines: Engines, call_sid: str, tenant_id: str, days_ago: float) -> None:
    stream = started(call_sid, tenant_id, at=AT - days_ago * DAY)
    RecordStore(engines, "w1").write([stream, said(stream, call_sid), ended(stream)])
    with engines.writing() as session:
        of_it = Event.payload.contains(call_sid)
        session.execute(sa.update(Event).where(of_it).values(created_at=stream.at))


def purge(engines: Engines, tenant_id: str | None = None) -> int:
    deleted = 0
    while True:
        with engines.writing() as session:
            some = retention.purge_some(session, AT, tenant_id)
        if not some:
            return deleted
        deleted += some


def calls(engines: Engines) -> list[str]:
    return [call.call_sid for call in rows(engines, Call)]


def test_old_calls_go_with_all_that_was_said(engines: Engines) -> None:
    """By each business's own limit; the lead stays for as long as somebody called lately."""
    record(engines, "CA-old", "clinic", 11)
    record(engines, "CA-new", "clinic", 9)
    record(engines, "CA-garage", "garage", 11)
    assert purge(engines) == 1
    assert calls(engines) == ["CA-new", "CA-garage"]
    assert [u.text for u in rows(engines, Utterance)] == ["CA-new", "CA-garage"]
    assert len(rows(engines, CallStream)) == 2
    assert len(rows(engines, Lead)) == 2
    assert not rows(engines, Event, Event.payload.contains("CA-old"))


def test_a_lead_goes_when_nobody_called_for_so_long(engines: Engines) -> None:
    """It is personal data too."""
    record(engines, "CA-old", "clinic", 11)
    purge(engines)
    assert rows(engines, Lead) == []


def test_a_live_call_is_never_deleted(engines: Engines) -> None:
    """However long it has been going on."""
    RecordStore(engines, "w1").write([started(at=AT - 400 * DAY)])
    assert purge(engines) <= 1  # its lead, perhaps
    assert calls(engines) == ["CA1"]


def test_one_business_alone(engines: Engines) -> None:
    """`flask tenant purge ID` leaves the others alone."""
    record(engines, "CA-1", "clinic", 11)
    record(engines, "CA-2", "garage", 400)
    purge(engines, "garage")
    assert calls(engines) == ["CA-1"]


def test_many_go_in_batches(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction deletes more than a batch."""
    monkeypatch.setattr(retention, "BATCH", 3)
    for number in range(7):
        record(engines, f"CA-{number}", "clinic", 20)
    with engines.writing() as session:
        assert retention.purge_some(session, AT) == 3
    assert len(calls(engines)) == 4
    purge(engines)
    assert calls(engines) == []


def test_events_go_when_they_are_done(engines: Engines) -> None:
    """Delivered or given up, and old; what still waits is kept."""
    record(engines, "CA-1", "garage", 40)
    with engines.writing() as session:
        session.execute(sa.update(Event).values(created_at=AT - 40 * DAY))
        session.execute(
            sa.update(Event).where(Event.type == "call.started").values(next_try_at=None)
        )
    assert purge(engines) == 1
    assert "call.started" not in [event.type for event in rows(engines, Event)]
    assert "call.ended" in [event.type for event in rows(engines, Event)]


def test_a_call_stays_while_an_event_of_it_may_arrive(engines: Engines) -> None:
    """Of a business that keeps for a day; when its time is over, or it has arrived, it goes."""
    with engines.writing() as session:
        session.get_one(Tenant, "clinic").keep_days = 1
    for call_sid in ("CA-waits", "CA-resent", "CA-arrived", "CA-late"):
        record(engines, call_sid, "clinic", 2)
    with engines.writing() as session:
        for call_sid, values in (
            ("CA-waits", {"created_at": AT - DAY / 2}),
            ("CA-resent", {"resent_at": AT - DAY / 2}),
            ("CA-arrived", {"created_at": AT - DAY / 2, "next_try_at": None}),
        ):
            of_it = Event.payload.contains(call_sid)
            session.execute(sa.update(Event).where(of_it).values(**values))
    purge(engines)
    assert calls(engines) == ["CA-waits", "CA-resent"]
    with engines.writing() as session:
        session.execute(sa.update(Event).values(next_try_at=None))
    purge(engines)
    assert calls(engines) == []


def test_the_days_purge_falls_to_one_worker(engines: Engines) -> None:
    """Whoever claims it first; again a day later."""
    claims = []
    for at in (AT, AT + DAY / 2, AT + DAY):
        with engines.writing() as session:
            claims.append(retention.claim_purge(session, at))
    assert claims == [True, False, True]
