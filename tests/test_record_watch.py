"""The watch: what it looks after, each in its time, and that a fault ends nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from databases import fresh_sqlite
from record_parts import AT, ended, engines_at, rows, said, seconds, started

import call_log
import retention
from businesses import Business
from call_records import CallOver
from database import Engines
from models import Call, Worker
from record_store import RecordStore
from record_watch import RecordWatch
from tenant_directory import add_business


class Watched:
    """A watch on a clock that stands still, and what it did."""

    def __init__(self, engines: Engines, worker: str = "me") -> None:
        self.seconds = 0.0
        self.businesses: list[list[Business]] = []
        self.ended: list[tuple[str, str]] = []
        self.engines = engines
        self.watch = RecordWatch(
            engines,
            worker,
            on_businesses=self.businesses.append,
            end_call=lambda call_sid, reason: self.ended.append((call_sid, reason)),
            lease_seconds=30,
            clock=lambda: self.seconds,
            now=lambda: AT + seconds(self.seconds),
        )

    def turn(self, after: float = 0.0) -> float:
        self.seconds += after
        return self.watch.turn()


@pytest.fixture
def engines() -> Iterator[Engines]:
    with engines_at(fresh_sqlite(), "clinic") as engines:
        yield engines


@pytest.fixture
def log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    monkeypatch.setattr(call_log.logger, "propagate", False)  # each line once
    call_log.logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "tamlil"):
        yield caplog
    call_log.logger.removeHandler(caplog.handler)


def test_a_new_business_is_known_within_half_a_second(engines: Engines) -> None:
    """Without a restart; the next look is never further away."""
    watched = Watched(engines)
    assert watched.turn() <= 0.5
    with engines.writing() as session:
        add_business(session, Business("garage", ("+97237654321",)))
    watched.turn(0.1)
    assert [[known.tenant_id for known in told] for told in watched.businesses] == [["clinic"]]
    watched.turn(0.4)
    assert [known.tenant_id for known in watched.businesses[1]] == ["clinic", "garage"]
    watched.turn(5)
    assert len(watched.businesses) == 2


def test_a_call_that_is_over_is_told_once(engines: Engines) -> None:
    """Within the second, also one of which another worker was told."""
    watched = Watched(engines)
    watched.turn()
    RecordStore(engines, "other").write([CallOver("CA1", AT + seconds(0.5))])
    for _ in range(5):
        watched.turn(1.0)
    assert watched.ended == [("CA1", "Twilio says that the call is over")]


def test_the_older_of_two_workers_gives_a_call_up(engines: Engines) -> None:
    """The newer stream is the caller's; the worker that has it is told nothing."""
    old, new = Watched(engines, "old"), Watched(engines, "new")
    for watched in (old, new):
        watched.turn()
    RecordStore(engines, "old").write([started()])
    RecordStore(engines, "new").write([started(at=AT + seconds(1))])
    for watched in (old, new):
        watched.turn(2.0)
    assert old.ended == [("CA1", "replaced by a newer stream of this call")]
    assert new.ended == []


def test_a_dead_workers_calls_are_closed_by_the_next_that_looks(
    engines: Engines, log: pytest.LogCaptureFixture
) -> None:
    """After the lease and not before."""
    dead, me = Watched(engines, "dead"), Watched(engines)
    dead.turn()
    stream = started()
    RecordStore(engines, "dead").write([stream, said(stream, "x")])
    me.turn(29)
    assert rows(engines, Call)[0].ended_at is None
    me.turn(10)
    assert rows(engines, Call)[0].outcome == "lost"
    assert "calls of a dead worker closed as lost: 1" in log.text
    assert [worker.id for worker in rows(engines, Worker)] == ["me"]


def test_workers_that_note_that_they_live_lose_nothing(engines: Engines) -> None:
    """However long their calls last."""
    one, other = Watched(engines, "one"), Watched(engines, "other")
    RecordStore(engines, "one").write([started()])
    for _ in range(60):
        one.turn(5)
        other.turn(5)
    assert rows(engines, Call)[0].ended_at is None


def test_after_an_outage_nobody_is_taken_for_dead_at_once(
    log: pytest.LogCaptureFixture,
) -> None:
    """While the database was away, nobody could note that they live."""
    with engines_at(fresh_sqlite(), "clinic") as engines:
        me = Watched(engines)
        me.turn()
        RecordStore(engines, "other").write([started()])
        holder = engines.here().connect()
        holder.exec_driver_sql("ALTER TABLE workers RENAME TO away")
        holder.commit()
        assert me.turn(20) == 2.0
        holder.exec_driver_sql("ALTER TABLE away RENAME TO workers")
        holder.commit()
        holder.close()
        for _ in range(5):
            me.turn(10)
            assert rows(engines, Call)[0].ended_at is None
        me.turn(30)
        assert rows(engines, Call)[0].outcome == "lost"
        assert (
            "[DB] away: OperationalError: no such table: workers, tried again count=1" in log.text
        )
        assert "[DB] back: records are looked after again" in log.text


def test_a_broken_call_is_closed_in_time(engines: Engines) -> None:
    """When no new stream of it has come."""
    watched = Watched(engines)
    stream = started()
    RecordStore(engines, "me").write([stream, ended(stream, 1, code=1006)])
    watched.turn(10)
    assert rows(engines, Call)[0].ended_at is None
    watched.turn(40)
    assert rows(engines, Call)[0].outcome == "broken"


def test_the_days_purge_goes_in_parts_between_other_duties(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """So that the worker's own note is never late; what was deleted is said."""
    monkeypatch.setattr(retention, "BATCH", 2)
    for number in range(5):
        stream = started(f"CA{number}", at=AT - seconds(400 * 86_400))
        RecordStore(engines, "me").write([stream, ended(stream)])
    watched = Watched(engines)
    left = []
    for _ in range(5):
        watched.turn()
        left.append(len(rows(engines, Call)))
    assert left == [3, 1, 0, 0, 0]
    assert "[DB] purged: 6 old records deleted" in log.text  # the lead too


def test_the_thread_ends_when_it_is_told(engines: Engines) -> None:
    """And leaves no note of a worker that is gone."""
    known = threading.Event()
    watch = RecordWatch(
        engines, "me", on_businesses=lambda _: known.set(), end_call=lambda *_: None
    )
    watch.start()
    assert known.wait(20)
    watch.stop(20)
    assert rows(engines, Worker) == []
