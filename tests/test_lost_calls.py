"""Calls that nobody ends any more, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer
from record_parts import AT, ended, engines_at, one, rows, said, seconds, started
from sqlalchemy import event

import lost_calls
from call_records import CallOver, StreamCounts
from database import Engines
from models import Call, CallStream, EndedCall, Event, Usage, Worker
from record_store import RESUME_SECONDS, RecordStore

LATER = AT + seconds(100)


@pytest.fixture
def engines(database_at: str) -> Iterator[Engines]:
    with engines_at(database_at, "clinic", webhooks=True) as engines:
        yield engines


def alive(engines: Engines, worker: str, at: float = 100) -> None:
    with engines.writing() as session:
        lost_calls.note_alive(session, worker, AT + seconds(at))


def close_lost(engines: Engines) -> int:
    with engines.writing() as session:
        return lost_calls.close_lost(session, AT + seconds(90), LATER)


def test_calls_of_a_worker_that_is_not_seen_are_lost(engines: Engines) -> None:
    """Ended once, with their event; those of workers that live are left alone."""
    dead, live = started("CA1"), started("CA2")
    RecordStore(engines, "dead").write([dead, said(dead, "the last words")])
    RecordStore(engines, "live").write([live])
    alive(engines, "dead", 10)
    alive(engines, "live")
    assert close_lost(engines) == 1
    first, second = rows(engines, Call)
    assert (first.outcome, first.reason, first.ended_at) == ("lost", "its worker died", LATER)
    assert second.ended_at is None
    assert [event.type for event in rows(engines, Event, Event.type == "call.ended")] == [
        "call.ended"
    ]
    assert [worker.id for worker in rows(engines, Worker)] == ["live"]
    assert close_lost(engines) == 0


def test_a_worker_that_was_never_seen_is_dead_too(engines: Engines) -> None:
    """It died before its first note, or its note was tidied away."""
    RecordStore(engines, "w1").write([started()])
    assert close_lost(engines) == 1


def test_a_lost_stream_whose_call_went_on_elsewhere_ends_nothing(engines: Engines) -> None:
    """The caller came back with a new stream at another worker."""
    RecordStore(engines, "dead").write([started()])
    RecordStore(engines, "live").write([started(at=AT + seconds(5))])
    alive(engines, "live")
    assert close_lost(engines) == 0
    assert one(engines, Call).ended_at is None
    assert [stream.lost for stream in rows(engines, CallStream)].count(True) == 1


def test_a_worker_that_was_only_cut_off_ends_its_call_itself(engines: Engines) -> None:
    """With its own figures, and what it still has to write is written."""
    stream = started()
    store = RecordStore(engines, "w1")
    store.write([stream])
    close_lost(engines)
    store.write([said(stream, "late"), ended(stream, 200, counts=StreamCounts(frames=10_000))])
    call = one(engines, Call)
    assert (call.outcome, call.frames, call.ended_at) == ("completed", 10_000, AT + seconds(200))


def give_up(engines: Engines, worker: str, at: float, resume: float = 30) -> int:
    with engines.writing() as session:
        return lost_calls.give_up_streams_of(session, worker, AT + seconds(at), resume)


def close_broken(engines: Engines, at: float) -> tuple[int, int]:
    with engines.writing() as session:
        return lost_calls.close_broken(session, AT + seconds(at))


def test_a_call_whose_worker_died_may_come_back(engines: Engines) -> None:
    """Its caller is still on the line: it is one call, and ends once."""
    stream, again = started(), started(at=AT + seconds(22))
    RecordStore(engines, "dead").write([stream, said(stream, "before")])
    assert give_up(engines, "dead", 20) == 1
    assert give_up(engines, "dead", 21) == 0
    RecordStore(engines, "live").write([again])
    assert close_broken(engines, 60) == (0, 0)
    RecordStore(engines, "live").write([ended(again, 10)])
    call = one(engines, Call)
    assert (call.outcome, call.streams, call.seconds) == ("completed", 2, 80.0)
    assert [event.type for event in rows(engines, Event)].count("call.ended") == 1


def test_a_lost_call_is_as_long_as_what_was_said_on_it(engines: Engines) -> None:
    """Its worker's last note may be older; a second stream does not count the first one again."""
    stream = started()
    with engines.writing() as session:
        lost_calls.note_alive(session, "dead", AT + seconds(4))
    RecordStore(engines, "dead").write([stream, said(stream, "last words", start_ms=6_000)])
    give_up(engines, "dead", 40)
    assert one(engines, Call).seconds == 7.0
    again = started(at=AT + seconds(30))
    RecordStore(engines, "dead").write([again, said(again, "more", start_ms=5_000)])
    give_up(engines, "dead", 60)
    assert one(engines, Call).seconds == 7.0 + 6.0


def test_a_call_whose_worker_died_is_lost_if_it_does_not_come_back(engines: Engines) -> None:
    """It ended when its worker did, and its length counts: that audio was sent to Google."""
    RecordStore(engines, "dead").write([started()])
    give_up(engines, "dead", 20)
    assert close_broken(engines, 49) == (0, 0)
    assert close_broken(engines, 51) == (1, 1)
    call = one(engines, Call)
    assert (call.outcome, call.ended_at, call.seconds) == ("lost", AT + seconds(20), 20.0)
    with engines.reading() as session:
        [usage] = session.query(Usage).all()
        assert (usage.calls, usage.seconds, usage.google_seconds) == (1, 20.0, 20.0)


def test_what_was_guessed_of_a_lost_stream_gives_way_to_the_truth(engines: Engines) -> None:
    """Its worker was only cut off from the database, and has counted."""
    stream = started()
    RecordStore(engines, "w1").write([stream])
    give_up(engines, "w1", 20)
    RecordStore(engines, "w1").write([ended(stream, 60)])
    assert one(engines, Call).seconds == 60.0
    with engines.reading() as session:
        [usage] = session.query(Usage).all()
        assert (usage.seconds, usage.google_seconds) == (60.0, 61.0)


def test_a_broken_call_ends_when_no_new_stream_comes(engines: Engines) -> None:
    """After its time, at the moment at which its stream broke."""
    stream = started()
    RecordStore(engines, "w1").write([stream, ended(stream, 5, code=1006, reason="broke")])
    for at, count in ((5 + RESUME_SECONDS - 1, 0), (5 + RESUME_SECONDS + 1, 1), (999, 0)):
        with engines.writing() as session:
            assert lost_calls.close_broken(session, AT + seconds(at)) == (count, 0)
    call = one(engines, Call)
    assert (call.outcome, call.reason, call.ended_at) == ("broken", "broke", AT + seconds(5))


def test_who_is_told_that_a_call_is_over(engines: Engines) -> None:
    """Whoever looks within the time; old words are tidied away."""
    RecordStore(engines, "w1").write([CallOver("CA1", AT), CallOver("CA2", LATER)])
    with engines.reading() as session:
        assert sorted(lost_calls.told_over(session, AT)) == ["CA1", "CA2"]
        assert lost_calls.told_over(session, AT + seconds(50)) == ["CA2"]
    with engines.writing() as session:
        lost_calls.close_broken(session, AT + seconds(3601))
    with engines.reading() as session:
        assert [row.call_sid for row in session.query(EndedCall)] == ["CA2"]


def test_a_call_with_a_newer_stream_elsewhere_is_taken_over(engines: Engines) -> None:
    """Of two workers only the one with the older stream is told; ended streams do not count."""
    old, new = started("CA1"), started("CA1", at=AT + seconds(1))
    RecordStore(engines, "w1").write([old, started("CA2")])
    RecordStore(engines, "w2").write([new])
    with engines.reading() as session:
        assert list(lost_calls.taken_over(session, "w1")) == ["CA1"]
        assert list(lost_calls.taken_over(session, "w2")) == []
    RecordStore(engines, "w1").write([ended(old)])
    with engines.reading() as session:
        assert list(lost_calls.taken_over(session, "w1")) == []


def test_a_worker_that_ends_in_order_leaves_no_note(engines: Engines) -> None:
    """Nobody waits for it."""
    alive(engines, "w1")
    with engines.writing() as session:
        lost_calls.note_end(session, "w1")
    assert rows(engines, Worker) == []


def test_an_end_while_its_stream_is_given_up_counts_once(postgres: PostgresServer) -> None:
    """Another worker gives it up in the middle of its end; SQLite has one writer at a time."""
    with engines_at(url := postgres.fresh(), "clinic") as engines, engines_at(url) as others:
        stream = started()
        store = RecordStore(engines, "w1")
        store.write([stream])
        given_up: list[int] = []

        def give_up(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if "FROM calls" in statement and not given_up:
                given_up.append(close_lost(others))

        event.listen(engines.here(), "before_cursor_execute", give_up)
        store.write([ended(stream, counts=StreamCounts(seconds=60, google_seconds=60))])
        assert given_up
        with engines.reading() as session:
            [usage] = session.query(Usage).all()
        assert (usage.seconds, usage.google_seconds) == (60, 60)
        assert one(engines, Call).seconds == 60
