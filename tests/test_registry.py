"""The registry: the cap, one stream a call, each closed once, and nobody blocked by anybody."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from call_log import CallLog
from errors import CallRefused, CallReplaced, Draining, OverCapacity
from registry import CallRegistry, LiveCall

FOREVER = 60.0


class FakeSession:
    """Notes when it is closed; may fail at that, or hang until it is let go."""

    def __init__(self, *, fails: bool = False, hangs: bool = False) -> None:
        self.closes = 0
        self.closed = threading.Event()
        self.closing = threading.Event()
        self.let_go = threading.Event()
        self._fails = fails
        if not hangs:
            self.let_go.set()

    def close(self) -> None:
        self.closes += 1
        self.closing.set()
        assert self.let_go.wait(FOREVER)
        self.closed.set()
        if self._fails:
            raise ZeroDivisionError("broken on purpose")


class FakeSocket:
    """Notes the close codes it is told; may fail at that."""

    def __init__(self, *, fails: bool = False) -> None:
        self.told: list[tuple[int, str]] = []
        self.hung_up = threading.Event()
        self._fails = fails

    def hang_up(self, code: int, reason: str) -> None:
        self.told.append((code, reason))
        self.hung_up.set()
        if self._fails:
            raise OSError("broken on purpose")


class ParkedThreads:
    """A thread class whose threads start when the test says so; also one that can not start."""

    def __init__(self) -> None:
        self.parked: list[threading.Thread] = []
        self.exhausted = False
        parking = self

        class Parked(threading.Thread):
            def start(self) -> None:
                if parking.exhausted:
                    raise RuntimeError("can't start new thread")
                parking.parked.append(self)

        self.thread_class = Parked

    def named(self, name: str) -> list[threading.Thread]:
        return [thread for thread in self.parked if thread.name == name]

    def run_closers(self) -> None:
        """Run, here and now, the threads that close calls."""
        for thread in [thread for thread in self.parked if thread.name != "reaper"]:
            self.parked.remove(thread)
            thread.run()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def threads() -> ParkedThreads:
    return ParkedThreads()


@pytest.fixture
def registry(clock: Clock, threads: ParkedThreads) -> CallRegistry:
    """Room for three calls; nothing runs in the background until the test runs it."""
    return CallRegistry(3, idle_seconds=120, clock=clock, thread_class=threads.thread_class)


@pytest.fixture
def threaded() -> Iterator[CallRegistry]:
    """Room for three calls, with real threads."""
    registry = CallRegistry(3, interval_seconds=3600)
    yield registry
    registry.drain(0)


@pytest.fixture
def nimble_threads() -> Iterator[None]:
    """Threads take turns as often as the interpreter can, so that a race has its chance."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def open_call(
    registry: CallRegistry, sid: str = "CA1", session: FakeSession | None = None
) -> tuple[LiveCall, FakeSession, FakeSocket]:
    socket, session = FakeSocket(), session or FakeSession()
    slot = registry.take_slot(sid, "T1", hang_up=socket.hang_up)
    registry.register_session(sid, session, "T1", slot=slot)
    return slot, session, socket


def all_at_once(count: int, do: Callable[[int], Any]) -> list[Any]:
    """`do(0)` to `do(count - 1)`, each in its thread, from one barrier; results or exceptions."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Any:
        barrier.wait(10)
        try:
            return do(number)
        except CallRefused as refused:
            return refused

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# The table


def test_a_registered_call_can_be_found_until_it_is_closed(registry: CallRegistry) -> None:
    """register, get and close, by nothing but the CallSid."""
    session = FakeSession()
    call = registry.register_session("CA1", session, tenant_id="T1")
    assert (call.call_sid, call.tenant_id) == ("CA1", "T1")
    assert registry.get_session("CA1") is session
    assert registry.get_session("CA2") is None
    assert registry.live == 1
    assert registry.close_session("CA1") is True
    assert session.closes == 1
    assert registry.get_session("CA1") is None
    assert registry.live == 0
    assert registry.close_session("CA1") is False


def test_a_call_without_a_business_is_the_defaults(registry: CallRegistry) -> None:
    """No name is a name too."""
    assert registry.take_slot("CA1").tenant_id == "default"
    assert registry.take_slot("CA2", "").tenant_id == "default"


def test_a_slot_is_taken_before_there_is_a_session(registry: CallRegistry) -> None:
    """The room is sure before the work begins; a call without a session yet can be closed too."""
    socket = FakeSocket()
    registry.take_slot("CA1", hang_up=socket.hang_up)
    assert registry.live == 1
    assert registry.get_session("CA1") is None
    assert registry.close_session("CA1", code=1001, reason="gone")
    assert socket.told == [(1001, "gone")]
    assert registry.live == 0


def test_over_capacity_is_refused_and_takes_nothing(registry: CallRegistry) -> None:
    """The fourth of three is an OverCapacity, a RuntimeError; room is there again after a close."""
    for n in range(3):
        open_call(registry, f"CA{n}")
    assert registry.full
    with pytest.raises(OverCapacity, match="MAX_CONCURRENT_CALLS is 3"):
        registry.take_slot("CA3")
    with pytest.raises(RuntimeError):
        registry.register_session("CA3", FakeSession())
    assert registry.live == 3
    registry.close_session("CA0")
    assert not registry.full
    registry.take_slot("CA3")
    assert registry.live == 3


@pytest.mark.usefixtures("nimble_threads")
def test_no_race_of_starts_passes_the_cap() -> None:
    """40 calls start at one moment where 7 may: 7 do and 33 are told so, every time."""
    for _ in range(30):
        registry = CallRegistry(7, interval_seconds=3600)
        results = all_at_once(40, lambda n: registry.take_slot(f"CA{n}"))  # noqa: B023  # called at once
        assert sum(isinstance(one, LiveCall) for one in results) == 7
        assert sum(isinstance(one, OverCapacity) for one in results) == 33
        assert registry.live == 7
        registry.drain(FOREVER)


def test_the_cap_is_checked_and_the_slot_taken_in_one_go() -> None:
    """The race, forced: whoever looks at the cap lets another start come in between."""
    rivals: list[Any] = []

    class Cap(int):
        def __le__(self, live: int) -> bool:  # what `live >= cap` asks
            verdict = super().__le__(live)
            if not rivals:
                rivals.append(None)
                thread = threading.Thread(target=rival, daemon=True)
                thread.start()
                # With the lock held it cannot get in; without one it is through in no time.
                came_in.wait(0.1)
                rivals[0] = thread
            return verdict

    came_in = threading.Event()

    def rival() -> None:
        try:
            registry.take_slot("CA2")
        except OverCapacity as refused:
            rivals.append(refused)
        came_in.set()

    registry = CallRegistry(Cap(1), interval_seconds=3600)
    registry.take_slot("CA1")
    rivals[0].join(10)
    assert isinstance(rivals[1], OverCapacity)
    assert registry.live == 1
    registry.drain(FOREVER)


# A second stream of a live call


def test_a_second_stream_takes_the_first_ones_place(
    registry: CallRegistry, threads: ParkedThreads
) -> None:
    """The first is closed, in the background; the second is the call from then on."""
    first, first_session, first_socket = open_call(registry)
    second, second_session, second_socket = open_call(registry)
    assert registry.get_session("CA1") is second_session
    assert registry.live == 1
    threads.run_closers()
    assert first_session.closes == 1
    assert first_socket.told == [(1000, "replaced by a newer stream of this call")]
    assert second_session.closes == 0
    assert second_socket.told == []
    assert first is not second


@pytest.mark.parametrize("closed_before", [False, True])
def test_the_late_end_of_the_first_stream_leaves_the_second(
    registry: CallRegistry, threads: ParkedThreads, closed_before: bool
) -> None:
    """The first handler closes its own slot, by identity, before or after it was closed for it."""
    first, first_session, _ = open_call(registry)
    _, second_session, _ = open_call(registry)
    if closed_before:
        threads.run_closers()
    assert registry.close_session("CA1", slot=first) is not closed_before
    threads.run_closers()
    assert first_session.closes == 1
    assert second_session.closes == 0
    assert registry.get_session("CA1") is second_session
    assert registry.live == 1


def test_a_second_stream_finds_room_when_all_slots_are_taken(registry: CallRegistry) -> None:
    """It takes a slot that its own call has: a full worker must not drop a live call for it."""
    for n in range(3):
        open_call(registry, f"CA{n}")
    _, session, _ = open_call(registry, "CA1")
    assert registry.get_session("CA1") is session
    assert registry.live == 3


def test_a_session_that_comes_too_late_is_not_registered(
    registry: CallRegistry, threads: ParkedThreads
) -> None:
    """Its slot was replaced or closed while it was made: its handler is told, and must close it."""
    replaced = registry.take_slot("CA1")
    _, live_session, _ = open_call(registry, "CA1")
    with pytest.raises(CallReplaced):
        registry.register_session("CA1", FakeSession(), slot=replaced)
    threads.run_closers()
    with pytest.raises(CallReplaced):
        registry.register_session("CA1", FakeSession(), slot=replaced)
    assert registry.get_session("CA1") is live_session

    ended = registry.take_slot("CA2")
    registry.close_session("CA2")
    late = FakeSession()
    with pytest.raises(CallReplaced):
        registry.register_session("CA2", late, slot=ended)
    assert registry.get_session("CA2") is None
    assert late.closes == 0
    assert registry.live == 1


@pytest.mark.usefixtures("nimble_threads")
def test_many_streams_of_one_call_leave_exactly_one() -> None:
    """A doubled webhook, at its worst: one stream lives, each other one is closed once."""
    registry = CallRegistry(1, interval_seconds=3600)
    opened = all_at_once(20, lambda _: open_call_or_late(registry))
    assert registry.live == 1
    survivor = registry.get_session("CA1")
    assert registry.drain(FOREVER) == 0
    assert [socket.told[0][0] for _, _, socket in opened].count(1012) == 1
    assert all(len(socket.told) == 1 for _, _, socket in opened)
    registered = [session for _, session, _ in opened if session is not None]
    assert survivor in registered
    assert all(session.closes == 1 for session in registered)


def open_call_or_late(
    registry: CallRegistry,
) -> tuple[LiveCall, FakeSession | None, FakeSocket]:
    socket, session = FakeSocket(), FakeSession()
    slot = registry.take_slot("CA1", hang_up=socket.hang_up)
    try:
        registry.register_session("CA1", session, slot=slot)
    except CallReplaced:
        return slot, None, socket
    return slot, session, socket


# Closing


@pytest.mark.usefixtures("nimble_threads")
def test_a_call_is_closed_once_however_many_close_it(threaded: CallRegistry) -> None:
    """stop, the socket's end, the reaper and the shutdown may all come at one moment."""
    slot, session, socket = open_call(threaded)
    results = all_at_once(
        30, lambda n: threaded.close_session("CA1", slot=slot if n % 2 else None, code=1000 + n)
    )
    assert results.count(True) == 1
    assert session.closes == 1
    assert len(socket.told) == 1
    assert threaded.live == 0


def test_close_returns_when_the_session_is_closed(threaded: CallRegistry) -> None:
    """Whoever closed it may then count on the last finals having come."""
    _, session, socket = open_call(threaded, session=FakeSession(hangs=True))
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(threaded.close_session, "CA1", code=1012, reason="bye")
        assert session.closing.wait(10)
        assert socket.told == [(1012, "bye")]  # the socket is told first, before the long wait
        assert not closed.done()
        session.let_go.set()
        assert closed.result(10) is True
        assert session.closed.is_set()


def test_a_close_that_hangs_blocks_nobody(threaded: CallRegistry) -> None:
    """The lock is free: calls are taken, found and closed, and the slot is back already."""
    _, hanging, _ = open_call(threaded, "CA1", FakeSession(hangs=True))
    with ThreadPoolExecutor(2) as pool:
        closer = pool.submit(threaded.close_session, "CA1")
        assert hanging.closing.wait(10)

        def others() -> list[Any]:
            for n in range(2, 5):
                open_call(threaded, f"CA{n}")
            found = threaded.get_session("CA2")
            return [
                found is not None,
                threaded.full,
                threaded.close_session("CA2"),
                threaded.close_session("CA1"),
                threaded.live,
            ]

        assert pool.submit(others).result(10) == [True, True, True, False, 2]
        hanging.let_go.set()
        assert closer.result(10) is True


def test_a_replaced_stream_that_hangs_does_not_hold_up_the_new_one(threaded: CallRegistry) -> None:
    """The second stream of a call starts while the first one's close is still waiting."""
    _, hanging, _ = open_call(threaded, "CA1", FakeSession(hangs=True))
    _, session, _ = open_call(threaded, "CA1")
    assert hanging.closing.wait(10)
    assert not hanging.closed.is_set()
    assert threaded.get_session("CA1") is session
    hanging.let_go.set()


@pytest.mark.parametrize(("socket_fails", "session_fails"), [(True, False), (False, True)])
def test_a_close_that_fails_gives_the_slot_back(
    registry: CallRegistry, socket_fails: bool, session_fails: bool
) -> None:
    """A socket's failure does not keep the session open, and none of both keeps the slot."""
    socket, session = FakeSocket(fails=socket_fails), FakeSession(fails=session_fails)
    slot = registry.take_slot("CA1", hang_up=socket.hang_up)
    registry.register_session("CA1", session, slot=slot)
    assert registry.close_session("CA1", slot=slot) is True
    assert (len(socket.told), session.closes) == (1, 1)
    assert registry.live == 0
    assert registry.drain(0) == 0


def test_a_thread_killed_in_a_close_is_not_waited_for(registry: CallRegistry) -> None:
    """gevent's GreenletExit is no Exception; the drain must not count that call for ever."""

    class Killed(FakeSession):
        def close(self) -> None:
            raise GeneratorExit

    open_call(registry, session=Killed())
    with pytest.raises(GeneratorExit):
        registry.close_session("CA1")
    assert registry.live == 0
    assert registry.drain(0) == 0


def test_without_a_thread_to_spare_calls_are_closed_all_the_same(
    registry: CallRegistry, threads: ParkedThreads, clock: Clock
) -> None:
    """At a system's limit, or while the interpreter shuts down, no thread starts any more."""
    _, first, _ = open_call(registry, "CA1")
    threads.exhausted = True
    _, second, _ = open_call(registry, "CA1")
    assert (first.closes, second.closes) == (1, 0)
    clock.now += 121
    _, third, _ = open_call(registry, "CA3")
    assert registry.reap() == 1
    assert second.closes == 1
    assert registry.drain(FOREVER) == 0
    assert third.closes == 1


# The reaper


def test_the_reaper_closes_calls_without_audio_for_too_long(
    registry: CallRegistry, threads: ParkedThreads, clock: Clock
) -> None:
    """Longer than REAPER_IDLE_SECONDS, not just as long; audio keeps a call alive."""
    _, dead, dead_socket = open_call(registry, "CA1")
    alive, session, _ = open_call(registry, "CA2")
    clock.now += 120
    assert registry.reap() == 0
    alive.last_audio = clock.now
    assert registry.reap(clock.now + 0.5) == 1
    threads.run_closers()
    assert dead.closes == 1
    assert dead_socket.told[0][0] == 1001
    assert session.closes == 0
    assert registry.live == 1
    clock.now += 121
    assert registry.reap() == 1  # by its own clock
    threads.run_closers()
    assert registry.live == 0


def test_the_reaper_names_the_call_and_how_long_it_was_idle(
    registry: CallRegistry, clock: Clock
) -> None:
    """A person who reads the log must see which call died."""
    told: list[float] = []

    class Log(CallLog):
        def reaped(self, idle_seconds: float) -> None:
            told.append(idle_seconds)

    registry.take_slot("CA1", log=Log("CA1", "T1"))
    clock.now += 121
    registry.reap()
    assert told == [121]


def test_a_fault_in_one_call_does_not_end_the_reapers_round(
    registry: CallRegistry, threads: ParkedThreads, clock: Clock
) -> None:
    """The calls after it are closed as well, and the next round comes."""
    crashes: list[str] = []

    class BrokenLog(CallLog):
        def reaped(self, idle_seconds: float) -> None:
            raise ZeroDivisionError

        def crashed(self, where: str) -> None:
            crashes.append(where)

    registry.take_slot("CA1", log=BrokenLog("CA1", "T1"))
    _, second, _ = open_call(registry, "CA2", FakeSession(fails=True))
    _, third, _ = open_call(registry, "CA3")
    clock.now += 121
    registry.reap()
    threads.run_closers()
    assert crashes == ["REAPER"]
    assert (second.closes, third.closes) == (1, 1)


def test_the_reaper_goes_round_and_survives_a_round_that_fails() -> None:
    """The thread itself: it comes again after an error, and ends with the drain."""
    rounds: list[int] = []
    came_again = threading.Event()

    class Registry(CallRegistry):
        def reap(self, now: float | None = None) -> int:
            rounds.append(len(rounds))
            if len(rounds) == 1:
                raise ZeroDivisionError("broken on purpose")
            came_again.set()
            return 0

    started: list[threading.Thread] = []

    class Noted(threading.Thread):
        def start(self) -> None:
            started.append(self)
            super().start()

    registry = Registry(3, interval_seconds=0.001, thread_class=Noted)
    registry.take_slot("CA1")
    assert came_again.wait(10)
    registry.drain(FOREVER)
    reaper = next(thread for thread in started if thread.name == "reaper")
    reaper.join(10)
    assert not reaper.is_alive()


def test_there_is_one_reaper_a_process_and_none_before_the_first_call(
    threads: ParkedThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread does not survive a fork: the child's first call starts the child's own reaper."""
    registry = CallRegistry(100, thread_class=threads.thread_class)
    assert threads.parked == []
    for n in range(5):
        registry.take_slot(f"CA{n}")
    assert len(threads.named("reaper")) == 1
    assert threads.named("reaper")[0].daemon
    monkeypatch.setattr(os, "getpid", lambda: -1)
    registry.take_slot("CA5")
    registry.take_slot("CA6")
    assert len(threads.named("reaper")) == 2


@pytest.mark.usefixtures("nimble_threads")
def test_first_calls_that_race_start_one_reaper(threads: ParkedThreads) -> None:
    """Ten calls come to a fresh worker at one moment."""
    registry = CallRegistry(100, thread_class=threads.thread_class)
    all_at_once(10, lambda n: registry.take_slot(f"CA{n}"))
    assert len(threads.named("reaper")) == 1


def test_a_reaper_that_cannot_start_takes_no_slot(
    registry: CallRegistry, threads: ParkedThreads
) -> None:
    """The error goes to that call alone; the next one tries to start the reaper again."""
    threads.exhausted = True
    with pytest.raises(RuntimeError, match="new thread"):
        registry.take_slot("CA1")
    assert registry.live == 0
    threads.exhausted = False
    registry.take_slot("CA1")
    assert len(threads.named("reaper")) == 1


# The shutdown


def test_a_drain_refuses_new_calls_and_closes_the_live_ones(threaded: CallRegistry) -> None:
    """Each socket is told 1012, each session is closed, and nobody comes in any more."""
    opened = [open_call(threaded, f"CA{n}") for n in range(3)]
    assert not threaded.draining
    assert threaded.drain(FOREVER) == 0
    assert threaded.draining
    assert threaded.live == 0
    assert [socket.told for _, _, socket in opened] == [[(1012, "service restart")]] * 3
    assert all(session.closes == 1 for _, session, _ in opened)
    with pytest.raises(Draining):
        threaded.take_slot("CA9")
    with pytest.raises(CallRefused) as refused:
        threaded.register_session("CA9", FakeSession())
    assert refused.value.close_code == 1012
    assert threaded.drain(FOREVER) == 0


def test_a_drain_closes_all_calls_at_once(threaded: CallRegistry) -> None:
    """No close waits for another: every one is in the midst of it before any has ended."""
    together = threading.Barrier(3)

    class Meeting(FakeSession):
        def close(self) -> None:
            together.wait(10)
            super().close()

    sessions = [open_call(threaded, f"CA{n}", Meeting())[1] for n in range(3)]
    assert threaded.drain(FOREVER) == 0
    assert all(session.closed.is_set() for session in sessions)


def test_a_drain_says_how_many_calls_are_left_at_its_deadline(threaded: CallRegistry) -> None:
    """A session that hangs is counted and not waited for; it may be asked for again."""
    _, hanging, socket = open_call(threaded, "CA1", FakeSession(hangs=True))
    _, quick, _ = open_call(threaded, "CA2")
    while (left := threaded.drain(0.01)) > 1:
        pass
    assert left == 1
    assert quick.closed.wait(10)
    assert hanging.closing.wait(10)
    assert socket.told == [(1012, "service restart")]
    hanging.let_go.set()
    assert threaded.drain(FOREVER) == 0
    assert hanging.closes == 1


def test_a_drain_waits_for_closes_that_others_began(threaded: CallRegistry) -> None:
    """A call whose own handler is closing it holds no slot any more, but is not yet ended."""
    _, session, _ = open_call(threaded, session=FakeSession(hangs=True))
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(threaded.close_session, "CA1")
        assert session.closing.wait(10)
        assert threaded.live == 0
        assert threaded.drain(0) == 1
        session.let_go.set()
        assert threaded.drain(FOREVER) == 0
        assert closing.result(10) is True
    assert session.closes == 1


def test_handlers_can_end_their_calls_during_a_drain(threaded: CallRegistry) -> None:
    """The drain waits without the lock, or no handler could come to an end."""
    slot, session, socket = open_call(threaded, session=FakeSession(hangs=True))
    with ThreadPoolExecutor(2) as pool:
        drain = pool.submit(threaded.drain, FOREVER)
        assert socket.hung_up.wait(10)
        late = pool.submit(threaded.close_session, "CA1", slot=slot)
        assert late.result(10) is False
        session.let_go.set()
        assert drain.result(10) == 0


@pytest.mark.usefixtures("nimble_threads")
def test_after_many_calls_at_once_every_slot_is_back() -> None:
    """Starts, ends, second streams, failures and the reaper, all over each other: none is left."""
    registry = CallRegistry(10, interval_seconds=0.001, idle_seconds=1e9)
    sessions: list[FakeSession] = []

    def live(number: int) -> None:
        for turn in range(20):
            sid = f"CA{(number + turn) % 15}"
            session = FakeSession(fails=turn % 3 == 0)
            socket = FakeSocket(fails=turn % 4 == 0)
            try:
                slot = registry.take_slot(sid, hang_up=socket.hang_up)
            except OverCapacity:
                continue
            try:
                registry.register_session(sid, session, slot=slot)
                sessions.append(session)
            except CallReplaced:
                pass
            assert registry.live <= 10
            registry.close_session(sid, slot=slot)

    all_at_once(16, live)
    assert registry.live == 0
    assert registry.drain(FOREVER) == 0
    assert sessions
    assert all(session.closes == 1 for session in sessions)


def test_calls_are_counted_by_business_and_ends_by_code(registry: CallRegistry) -> None:
    """Who is live now, and how those that are not were closed: each once."""
    for number, tenant in enumerate(("clinic", "clinic", "garage")):
        registry.take_slot(f"CA{number}", tenant)
    assert registry.live_by_tenant() == {"clinic": 2, "garage": 1}
    registry.close_session("CA0", code=1006)
    registry.close_session("CA0", code=1006)
    registry.close_session("CA2")
    assert registry.live_by_tenant() == {"clinic": 1}
    assert registry.ended_by_code() == {1006: 1, 1000: 1}
