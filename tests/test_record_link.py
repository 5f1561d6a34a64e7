"""A worker and its records' process, for real: what is handed over is written, whatever dies."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from databases import fresh_sqlite
from record_parts import ended, engines_at, one, rows, said, started
from running_service import PROJECT

from businesses import Business
from call_records import CallOver, Record
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
    write_at_last(linked.link, [said(stream, "after")])
    assert linked.pid != first
    assert one(linked.engines, Utterance).text == "after"
    assert one(linked.engines, Call).ended_at is None


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordLink]:
    """A link whose process does nothing any more; it is waited for 0.3 s."""
    url = fresh_sqlite()
    monkeypatch.setenv("DATABASE_URL", url)
    with engines_at(url, "clinic"):
        link = RecordLink(NativeThreads(), answer_seconds=0.3)
        link.start()
        assert link.wait_for_businesses(PATIENCE)
        os.kill(link._pid, signal.SIGSTOP)
        yield link
        link.stop(PATIENCE)


def test_a_process_that_hangs_is_killed(hung: RecordLink) -> None:
    """A worker's writer does not wait for ever."""
    pid = hung._pid
    with pytest.raises(StoreAway, match=r"did not answer in 0\.3 s"):
        hung.write([started()])
    assert not alive(pid)


def more_than_a_pipe_holds() -> list[Record]:
    stream = started()
    return [stream, *(said(stream, "x" * 400) for _ in range(400))]


def test_a_process_that_hangs_while_it_is_sent_to_is_killed(hung: RecordLink) -> None:
    """It has a part of the batch, and would never take the rest."""
    pid = hung._pid
    writing = Beside(lambda: hung.write(more_than_a_pipe_holds()))
    writing.join(PATIENCE)
    assert isinstance(writing.error, StoreAway)
    assert str(writing.error) == "the records' process takes nothing any more"
    assert not alive(pid)


def test_the_end_waits_for_a_sending_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch, hung: RecordLink
) -> None:
    """A worker that drains has little time, whatever its writer waits for."""
    pid = hung._pid
    monkeypatch.setattr(hung, "_answer_seconds", PATIENCE)
    writing = Beside(lambda: hung.write(more_than_a_pipe_holds()))
    deadline = time.monotonic() + PATIENCE
    while not hung._writing.locked():
        assert time.monotonic() < deadline
        time.sleep(0.005)  # a lock tells nobody
    begun = time.monotonic()
    hung.stop(0.2)
    assert time.monotonic() - begun < PATIENCE / 3
    writing.join(PATIENCE)
    assert isinstance(writing.error, StoreAway)
    assert not alive(pid)


# In a process of its own: gevent patches all of it
UNDER_GEVENT = """
import gevent.monkey
gevent.monkey.patch_all()
import os, signal, time, gevent
import native_threads
from gevent_threads import GeventNativeThreads
native = GeventNativeThreads()
native_threads.settle(native)
from errors import StoreAway
from record_link import RecordLink
from record_parts import said, started

link = RecordLink(native)
link.start()
assert link.wait_for_businesses(30)

# another one takes the place of one that died
first, stream = link._pid, started()
os.kill(first, signal.SIGKILL)
with gevent.Timeout(30):
    while True:
        try:
            native.call(link.write, [stream])
        except StoreAway:
            gevent.sleep(0.05)
        else:
            break
assert link._pid not in (0, first)

# the writer hangs at it, and the worker ends
os.kill(link._pid, signal.SIGSTOP)
said_by_writer = []

def write():
    try:
        link.write([said(stream, "x" * 400) for _ in range(400)])
    except StoreAway as error:
        said_by_writer.append(error)

native.start(write, "writer")
while not link._writing.locked():
    gevent.sleep(0.005)
turns = []

def tick():
    while True:
        turns.append(time.monotonic())
        gevent.sleep(0.005)

gevent.spawn(tick)
gevent.sleep(0.05)
before = len(turns)
link.stop(0.5)
assert len(turns) - before > 20, turns
with gevent.Timeout(30):
    while not said_by_writer:
        gevent.sleep(0.005)
print("well")
"""


def test_beside_gevents_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead process is replaced; one that hangs does not stop the loop of a worker that ends."""
    url = fresh_sqlite()
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "tests"))
    with engines_at(url, "clinic"):
        done = subprocess.run(
            [sys.executable, "-c", UNDER_GEVENT],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


class Beside:
    """Does something in a thread; `error` is what it raised."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._do = run
        self.error: StoreAway | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._do()
        except StoreAway as error:
            self.error = error

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive()


class Spawning:
    """A start of processes that fails as often as `failures` says; `failed` counts it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, linked: Linked) -> None:
        self._spawn = NativeThreads().spawn
        self.failures = 0
        self.failed = threading.Semaphore(0)
        monkeypatch.setattr(linked.link._native, "spawn", self)

    def __call__(self, command: list[str]) -> int:
        if self.failures:
            self.failures -= 1
            self.failed.release()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self._spawn(command)


def test_a_process_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, linked: Linked
) -> None:
    """The machine had no room for it for a moment: that must not be the end of all records."""
    spawning = Spawning(monkeypatch, linked)
    spawning.failures = 2
    stream = started()
    linked.link.write([stream])
    before = descriptors()
    os.kill(linked.pid, signal.SIGKILL)
    write_at_last(linked.link, [said(stream, "after")])
    assert spawning.failures == 0
    assert descriptors() == before
    assert one(linked.engines, Utterance).text == "after"


def test_nobody_is_killed_for_a_process_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, linked: Linked
) -> None:
    """Its number may be another one's by now; the end does not wait for another process."""
    spawning = Spawning(monkeypatch, linked)
    spawning.failures = 1_000_000
    os.kill(linked.pid, signal.SIGKILL)
    assert spawning.failed.acquire(timeout=PATIENCE)
    kills: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: kills.append(arguments))
    with pytest.raises(StoreAway, match="is not there"):
        linked.link.write([started()])
    linked.link._kill()
    begun = time.monotonic()
    linked.link.stop(PATIENCE)
    assert time.monotonic() - begun < PATIENCE / 2
    assert kills == []


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/dev/fd"))


def write_at_last(link: RecordLink, batch: list[Record]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            link.write(batch)
        except StoreAway:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # as the writer pauses
        else:
            return


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
