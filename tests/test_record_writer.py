"""The writer: nothing waits for it, nothing is written twice, what is lost is counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from databases import fresh_sqlite
from record_parts import ended, engines_at, rows, said, started
from sqlalchemy.exc import IntegrityError

import call_log
from call_records import Record
from errors import RecordFault, StoreAway
from models import Utterance
from record_messages import Refused
from record_store import RecordStore
from record_writer import RecordWriter

PATIENCE = 20.0
STREAM = started()


class Store:
    """Keeps what is written; `fault` is asked before each batch and may raise."""

    def __init__(self) -> None:
        self.change = threading.Condition()
        self.written: list[Record] = []
        self.batches: list[int] = []
        self.tries = 0
        self.fault: Callable[[Sequence[Record]], None] = lambda batch: None

    def write(self, batch: Sequence[Record]) -> list[Refused]:
        with self.change:
            self.tries += 1
            self.change.notify_all()
        self.fault(batch)
        with self.change:
            self.written.extend(batch)
            self.batches.append(len(batch))
            self.change.notify_all()
        return []

    def wait_for(self, predicate: Callable[[], bool]) -> None:
        with self.change:
            assert self.change.wait_for(predicate, PATIENCE)


@pytest.fixture
def log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    monkeypatch.setattr(call_log.logger, "propagate", False)  # each line once
    call_log.logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "tamlil"):
        yield caplog
    call_log.logger.removeHandler(caplog.handler)


def writer_of(store: Store, limit: int = 1000) -> RecordWriter:
    writer = RecordWriter(store, limit=limit, gather_seconds=0.02)
    writer.start()
    return writer


def away(*_: object) -> None:
    raise StoreAway("server closed the connection")


def test_what_is_put_is_written_in_order_and_together() -> None:
    """Many records that come at once are few transactions."""
    store = Store()
    writer = writer_of(store)
    records = [said(STREAM, str(n)) for n in range(200)]
    assert all(writer.put(record) for record in records)
    store.wait_for(lambda: len(store.written) == 200)
    assert store.written == records
    assert len(store.batches) < 20
    assert writer.close(PATIENCE) == 0
    assert (writer.written, writer.lost, writer.waiting) == (200, 0, 0)


def test_the_end_writes_what_waits_without_gathering() -> None:
    """A drain has little time."""
    store = Store()
    writer = RecordWriter(store, gather_seconds=1e6)
    writer.start()
    writer.put(STREAM)
    assert writer.close(PATIENCE) == 0
    assert store.written == [STREAM]


def test_a_database_that_is_away_is_waited_for(log: pytest.LogCaptureFixture) -> None:
    """What came meanwhile is written once it is back, in order, and both are said."""
    store = Store()
    store.fault = away
    writer = writer_of(store)
    records = [said(STREAM, str(n)) for n in range(20)]
    for record in records:
        writer.put(record)
    store.wait_for(lambda: store.tries >= 2)
    assert writer.waiting == 20
    store.fault = lambda batch: None
    store.wait_for(lambda: len(store.written) == 20)
    assert store.written == records
    writer.close(PATIENCE)
    assert "[DB] not written, tried again: server closed the connection" in log.text
    assert "[DB] back: writing again" in log.text


def test_past_its_limit_text_is_lost_and_counted(log: pytest.LogCaptureFixture) -> None:
    """`put` goes on, at once; what begins and ends calls still has room."""
    store = Store()
    writer = RecordWriter(store, limit=100)  # not started: nothing is taken out
    kept = [writer.put(said(STREAM, str(n))) for n in range(120)]
    assert kept == [True] * 90 + [False] * 30
    assert writer.put(STREAM)
    assert writer.put(ended(STREAM))
    assert (writer.lost, writer.waiting) == (30, 92)
    lines = [record.message for record in log.records]
    assert lines == [
        "[DB] no room: a record is lost lost=1",
        "[DB] no room: a record is lost lost=10",
    ]


def test_a_record_that_cannot_be_written_does_not_hold_up_the_others(
    log: pytest.LogCaptureFixture,
) -> None:
    """It is tried alone, twice, then said and left out: the text of others is written."""
    bad = said(STREAM, "bad")

    def fault(batch: Sequence[Record]) -> None:
        if bad in batch:
            raise RecordFault("FOREIGN KEY constraint failed")

    store = Store()
    store.fault = fault
    writer = writer_of(store)
    good = [said(STREAM, str(n)) for n in range(5)]
    for record in (*good[:2], bad, *good[2:]):
        writer.put(record)
    store.wait_for(lambda: len(store.written) == 5)
    assert writer.close(PATIENCE) == 0
    assert store.written == good
    assert writer.refused == 1
    assert "belongs nowhere: Said, FOREIGN KEY constraint failed" in log.text
    assert "bad" not in log.text


def test_a_row_that_two_workers_make_at_once_is_made_by_the_second_try() -> None:
    """The first of two collides, and nothing is lost."""
    store = Store()
    collisions = iter([True])

    def fault(batch: Sequence[Record]) -> None:
        if next(collisions, False):
            raise RecordFault("duplicate key")

    store.fault = fault
    writer = writer_of(store)
    writer.put(STREAM)
    store.wait_for(lambda: store.written == [STREAM])
    writer.close(PATIENCE)
    assert writer.refused == 0


def test_a_fault_of_our_own_does_not_end_the_writing(log: pytest.LogCaptureFixture) -> None:
    """It is said and tried again."""
    store = Store()
    faults = iter([True])

    def fault(batch: Sequence[Record]) -> None:
        if next(faults, False):
            raise ZeroDivisionError("a fault")

    store.fault = fault
    writer = writer_of(store)
    writer.put(STREAM)
    assert writer.close(PATIENCE) == 0
    assert store.written == [STREAM]
    assert "tried again: a fault" in log.text


def test_an_end_without_a_database_is_bounded(log: pytest.LogCaptureFixture) -> None:
    """What could not be written is counted, and the process can end."""
    store = Store()
    store.fault = away
    writer = writer_of(store)
    writer.put(STREAM)
    assert writer.close(0.2) == 1
    assert "[DB] 1 records were not written" in log.text


def test_what_comes_after_the_end_is_lost_and_counted(log: pytest.LogCaptureFixture) -> None:
    """A call that outlived the drain: nobody would ever write what it still says."""
    store = Store()
    writer = writer_of(store)
    writer.put(STREAM)
    assert writer.close(PATIENCE) == 0
    assert not writer.put(said(STREAM, "late"))
    assert not writer.put(ended(STREAM))
    assert (writer.lost, writer.waiting, store.written) == (2, 0, [STREAM])
    assert "[DB] the worker has ended: a record is lost lost=1" in log.text


def test_a_writer_that_was_never_started_has_nothing_to_wait_for() -> None:
    """As in a process that only looks at the application."""
    assert RecordWriter(Store()).close(PATIENCE) == 0


class AsTheProcess:
    """A real store, whose errors are told as the records' process tells them."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    def write(self, batch: Sequence[Record]) -> list[Refused]:
        try:
            return self._store.write(batch)
        except IntegrityError as fault:
            raise RecordFault(str(fault.orig)) from None


def test_a_real_store_refuses_what_was_deleted_meanwhile() -> None:
    """A call that is deleted while it goes on costs no other call's text."""
    with engines_at(fresh_sqlite(), "clinic") as engines:
        store = RecordStore(engines, "w1")
        gone, there = started("CA1"), started("CA2")
        store.write([gone, there, said(gone, "0")])
        with engines.writing() as session:
            session.connection().exec_driver_sql("DELETE FROM calls WHERE call_sid = 'CA1'")
        writer = RecordWriter(AsTheProcess(store), gather_seconds=0.0)
        for record in (said(gone, "1"), said(there, "2"), ended(gone), ended(there)):
            writer.put(record)
        writer.start()
        assert writer.close(PATIENCE) == 0
        assert [u.text for u in rows(engines, Utterance)] == ["2"]
        assert writer.refused == 2
