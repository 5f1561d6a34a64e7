"""Media streams, rule by rule: how calls end, by the caller's doing and by faults of our own."""

from __future__ import annotations

import socket as sockets
import struct
from collections.abc import Callable

import media_parts
import pytest
from media_parts import CALL, FRAMES, OTHER_STREAM, PATIENCE, Caller, MediaService, RawCaller, about
from websockets.frames import Close, Opcode

from media_socket import MediaSocket

# the fixture of this module
service = media_parts.service


# Faults of our own


@pytest.mark.parametrize(
    ("fails", "code"), [("open_session", 1011), ("push_together", 1011), ("close", 1000)]
)
def test_a_failing_session_ends_its_call_and_nothing_else(
    service: MediaService, fails: str, code: int
) -> None:
    """1011, the slot given back, the session closed, and no HTTP error in the WebSocket."""
    service.fails = fails
    caller = RawCaller(service.port)
    caller.start(FRAMES[0])
    if fails == "close":
        caller.stop()
    frames, rest = caller.after_the_upgrade()
    assert [frame.opcode for frame in frames] == [Opcode.CLOSE]
    assert Close.parse(bytes(frames[0].data)).code == code
    assert rest == b""
    service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert len(service.lines("] internal error ", about())) == 1
    assert len(service.lines(f"[WS] closed: {code} ", about())) == 1

    service.fails = ""
    with service.call() as sound:
        sound.start()
        sound.media(*FRAMES)
        sound.stop()
        assert sound.ending()[0] == 1000
    assert service.sessions[-1].frames == FRAMES


def test_a_close_that_fails_gives_back_the_slot(
    service: MediaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of an end is taken, whatever the one before it did."""

    close = MediaSocket.close
    failures: list[int] = []

    def fail_once(socket: MediaSocket, code: int = 1000, reason: str = "") -> None:
        if not failures:
            failures.append(code)
            raise RuntimeError("this socket does not close")
        close(socket, code, reason)

    with service.call() as caller:
        caller.start()
        service.wait_for(lambda: len(service.sessions) == 1)
        monkeypatch.setattr(MediaSocket, "close", fail_once)
        caller.stop()
        assert caller.ending() == (1000, "the call has ended")
    service.wait_for_ends()
    assert failures == [1000]
    service.wait_until_all_is_given_back()
    assert len(service.lines("[WS] closed: 1000 ", about())) == 1


# The ends of a call


def stop(caller: Caller) -> None:
    caller.stop()
    caller.ending()


def close(caller: Caller) -> None:
    caller.socket.close(1001, "going away")


def abort(caller: Caller) -> None:
    """Vanish, as a machine does that lost its power and came back: the kernel sends a reset."""
    linger = struct.pack("ii", 1, 0)
    caller.socket.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, linger)
    caller.socket.close_socket()


ENDS = [
    (stop, "1000 the call has ended"),
    (close, "1001 going away"),
    (abort, "1006 the connection broke"),
]


@pytest.mark.parametrize(("end", "says"), ENDS)
def test_however_a_call_ends_its_session_is_closed_and_its_slot_given_back(
    service: MediaService, end: Callable[[Caller], None], says: str
) -> None:
    """By `stop`, by a close, by a cut connection: all its frames were taken, and it is logged."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES)
        service.wait_for(lambda: bool(service.sessions and len(service.session.frames) == 10))
        assert service.registry.get_session(CALL) is not None
        assert (service.registry.live, service.session.closes) == (1, 0)
        end(caller)
        service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert service.session.frames == FRAMES
    assert service.lines() == [
        f"[WS] connected {about()}",
        f"[WS] closed: {says} {about()} skipped=0 ignored=0",
    ]


@pytest.mark.parametrize(("end", "says"), ENDS[1:])
def test_a_socket_that_never_starts_ends_quietly(
    service: MediaService, end: Callable[[Caller], None], says: str
) -> None:
    """It has neither slot nor session; its one line says how it ended."""
    with service.call() as caller:
        caller.socket.send(caller.messages.connected())
        end(caller)
        service.wait_for_ends()
    assert (service.opened, service.registry.live) == ([], 0)
    assert service.lines() == [f"[WS] closed: {says} call=- tenant=- skipped=0 ignored=0"]


def test_a_second_stream_of_a_live_call_takes_the_first_ones_place(
    service: MediaService,
) -> None:
    """The first is closed; its end leaves the second with its session and its slot."""
    with service.call() as first, service.call(stream_sid=OTHER_STREAM) as second:
        first.start()
        first.media(*FRAMES[:5])
        service.wait_for(lambda: bool(service.sessions and len(service.session.frames) == 5))
        first_ones = service.registry.get_session(CALL)
        second.start()
        assert first.ending() == (1000, "replaced by a newer stream of this call")
        service.wait_for_ends(1)
        service.wait_for(lambda: len(service.sessions) == 2 and service.sessions[0].closes == 1)
        assert service.sessions[1].closes == 0
        assert service.registry.live == 1
        assert service.registry.get_session(CALL) not in (None, first_ones)
        second.media(*FRAMES[5:])
        second.stop()
        assert second.ending() == (1000, "the call has ended")
    service.wait_for_ends(2)
    assert [session.frames for session in service.sessions] == [FRAMES[:5], FRAMES[5:]]
    service.wait_until_all_is_given_back()


def test_a_stream_that_is_replaced_while_its_session_opens_closes_that_session(
    service: MediaService,
) -> None:
    """The session that comes too late for its slot is closed, and the newer stream's is not."""
    service.may_open.clear()
    with service.call() as first, service.call(stream_sid=OTHER_STREAM) as second:
        first.start()
        service.wait_for(lambda: len(service.opened) == 1)
        second.start()
        service.wait_for(lambda: len(service.opened) == 2)
        [closer] = service.closers
        closer.join(PATIENCE)
        service.may_open.set()
        assert first.ending()[0] == 1000
        service.wait_for_ends(1)
        service.wait_for(lambda: len(service.sessions) == 2)
        assert sorted(session.closes for session in service.sessions) == [0, 1]
        second.media(*FRAMES)
        second.stop()
        assert second.ending()[0] == 1000
    service.wait_for_ends(2)
    assert sorted(session.frames for session in service.sessions) == [[], FRAMES]
    assert len(service.lines("[WS] closed: 1000 ", about(), "skipped=0")) == 2
    assert service.lines("internal error") == []
    service.wait_until_all_is_given_back()
    assert service.lines("refused") == []


def test_a_drain_ends_live_calls_with_1012(service: MediaService) -> None:
    """Whatever the handler was doing: the socket is told, the session closed once."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES)
        service.wait_for(lambda: bool(service.sessions and len(service.session.frames) == 10))
        assert service.registry.drain(PATIENCE) == 0
        assert caller.ending() == (1012, "service restart")
    service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert len(service.lines(f"[WS] closed: 1012 service restart {about()}")) == 1
