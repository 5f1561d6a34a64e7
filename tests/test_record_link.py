"""A worker and its records' process, for real: what is handed over is written, whatever dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from databases import fresh_sqlite
from record_parts import ended, engines_at, one, rows, said, started

from businesses import Business
from call_records import CallOver
from database import Engines, now
from errors import RecordFault, StoreAway
from models import Call, CallStream, Utterance, Worker
from native_threads import NativeThreads
from record_link import RecordLink
from record_store import RecordStore
from tenant_directory import add_business

PATIENCE = 30.0


class Linked:
    """A link, and what its process said."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self.change = threading.Condition()
        self.ended: list[tuple[str, str]] = []
        self.businesses: list[list[str]] = []
        self.link = RecordLink(NativeThreads(), answer_seconds=PATIENCE)
        self.link.end_call = self._end_call
        self.link.on_businesses = self._on_businesses
        self.link.start()
        assert self.link.wait_for_businesses(PATIENCE)

    def _end_call(self, call_sid: str, reason: str) -> None:
        with self.change:
            self.ended.append((call_sid, reason))
            self.change.notify_all()

    def _on_businesses(self, businesses: list[Business]) -> None:
        with self.change:
            self.businesses.append([business.tenant_id for business in businesses])
            self.change.notify_all()

    def wait_for(self, predicate: Callable[[], bool]) -> None:
        with self.change:
            assert self.change.wait_for(predicate, PATIENCE)

    @property
    def pid(self) -> int:
        return self.link._pid  # whom to kill


@pytest.fixture
def linked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Linked]:
    url = fresh_sqlite()
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("WORKER_LEASE_SECONDS", "600")
    with engines_at(url, "clinic") as engines:
        linked = Linked(engines)
        yield linked
        linked.link.stop(PATIENCE)


def test_what_is_handed_over_is_written(linked: Linked) -> None:
    """With the worker's own id; what belongs nowhere comes back."""
    stream = started()
    refused = linked.link.write([stream, said(stream, "שלום"), started("CA2", "nobody")])
    assert [(one.number, one.why) for one in refused] == [
        (2, "its business is not there (any more)")
    ]
    assert one(linked.engines, Utterance).text == "שלום"
    assert linked.link.write([ended(stream)]) == []
    assert one(linked.engines, Call).outcome == "completed"


def test_businesses_are_told_at_first_and_when_they_change(linked: Linked) -> None:
    """The worker asks nobody."""
    known = linked.link.businesses
    assert known is not None
    assert [business.tenant_id for business in known] == ["clinic"]
    with linked.engines.writing() as session:
        add_business(session, Business("garage"))
    linked.wait_for(lambda: ["clinic", "garage"] in linked.businesses)


def test_the_worker_is_told_of_a_call_that_is_over(linked: Linked) -> None:
    """Another worker wrote so."""
    RecordStore(linked.engines, "other").write([CallOver("CA1", now())])
    linked.wait_for(lambda: bool(linked.ended))
    assert linked.ended == [("CA1", "Twilio says that the call is over")]


def test_a_record_that_cannot_be_written_is_told_from_a_database_that_is_away(
    linked: Linked,
) -> None:
    """The one is left out, the other tried again."""
    stream = started()
    linked.link.write([stream])
    with linked.engines.writing() as session:
        session.connection().exec_driver_sql("DELETE FROM calls")
    with pytest.raises(RecordFault, match="FOREIGN KEY"):
        linked.link.write([said(stream, "x")])
    with linked.engines.writing() as session:
        session.connection().exec_driver_sql("ALTER TABLE calls RENAME TO away")
    with pytest.raises(StoreAway, match="OperationalError: no such table"):
        linked.link.write([started()])
    with linked.engines.writing() as session:
        session.connection().exec_driver_sql("ALTER TABLE away RENAME TO calls")
    assert linked.link.write([started()]) == []


def test_another_process_takes_the_place_of_one_that_died(linked: Linked) -> None:
    """Meanwhile nothing can be written, and that is said; then all goes on, with the same id."""
    stream = started()
    linked.link.write([stream])
    first = linked.pid
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    batch = [said(stream, "after")]
    while True:
        try:
            linked.link.write(batch)
        except StoreAway:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # as the writer pauses
        else:
            break
    assert linked.pid != first
    assert one(linked.engines, Utterance).text == "after"
    assert one(linked.engines, Call).ended_at is None


def test_a_process_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's writer does not wait for ever."""
    url = fresh_sqlite()
    monkeypatch.setenv("DATABASE_URL", url)
    with engines_at(url, "clinic"):
        link = RecordLink(NativeThreads(), answer_seconds=0.3)
        link.start()
        assert link.wait_for_businesses(PATIENCE)
        os.kill(link._pid, signal.SIGSTOP)
        with pytest.raises(StoreAway, match=r"did not answer in 0\.3 s"):
            link.write([started()])
        assert not alive(link._pid)
        link.stop(PATIENCE)


def alive(pid: int) -> bool:
    """Whether it is still there after a while."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)  # nobody tells of another process's end
    return True


def test_an_end_in_order_leaves_nothing_behind(linked: Linked) -> None:
    """No process, no note of the worker."""
    pid = linked.pid
    linked.link.write([started()])
    linked.link.stop(PATIENCE)
    assert not alive(pid)
    assert rows(linked.engines, Worker) == []
    assert one(linked.engines, Call).ended_at is None  # its end is the call's own matter


def test_the_streams_of_a_worker_that_is_gone_are_given_up(linked: Linked) -> None:
    """At once: the process hears the pipe's end. The caller has the lease's time to come back."""
    stream = started()
    linked.link.write([stream, said(stream, "x")])
    os.close(linked.link._to_process)
    linked.link._to_process = os.open(os.devnull, os.O_WRONLY)  # the link closes it once more
    deadline = time.monotonic() + PATIENCE
    while not rows(linked.engines, CallStream)[0].lost:
        assert time.monotonic() < deadline
        time.sleep(0.05)  # a database tells nobody
    call = one(linked.engines, Call)
    assert (call.ended_at, call.reason) == (None, "its worker died")
    assert call.resume_by is not None
