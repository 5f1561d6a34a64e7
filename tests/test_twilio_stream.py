"""The messages of a stream, and how a stream is paced and ended."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from stream_server import StreamServer, never_close
from websockets.asyncio.server import ServerConnection

import twilio_stream
from twilio_calls import play_call
from twilio_stream import CallReport, End, StreamMessages

FRAMES = [bytes([n]) * 160 for n in range(5)]


def play(
    server: StreamServer, frames: list[bytes] | Iterator[bytes] = FRAMES, **options: Any
) -> CallReport:
    """Play one call to `server`, and wait until the server has seen its end."""

    async def call() -> CallReport:
        async with server:
            report = await play_call(server.url, frames, **{"pace": 0, **options})
            await server.all_closed.wait()
        return report

    return asyncio.run(call())


def messages(**options: Any) -> StreamMessages:
    return StreamMessages("CA1", "MZ1", "AC1", **options)


class FakeTime:
    """A clock that only `sleep` moves, by `oversleep` seconds more than it was asked to."""

    def __init__(self, oversleep: float = 0.0) -> None:
        self.now = 100.0
        self.oversleep = oversleep

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + (self.oversleep if seconds else 0)
        await asyncio.sleep(0)


def test_messages_have_twilios_shapes() -> None:
    """Each message is exactly as Twilio's documentation shows it, ids in their places."""
    built = messages(custom_parameters={"tenant": 'T "1"'})
    assert json.loads(built.connected()) == {
        "event": "connected",
        "protocol": "Call",
        "version": "1.0.0",
    }
    assert json.loads(built.start()) == {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "streamSid": "MZ1",
            "accountSid": "AC1",
            "callSid": "CA1",
            "tracks": ["inbound"],
            "customParameters": {"tenant": 'T "1"'},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
        "streamSid": "MZ1",
    }
    assert json.loads(built.media(b"\xff" * 160)) == {
        "event": "media",
        "sequenceNumber": "2",
        "media": {
            "track": "inbound",
            "chunk": "1",
            "timestamp": "0",
            "payload": base64.b64encode(b"\xff" * 160).decode(),
        },
        "streamSid": "MZ1",
    }
    assert json.loads(built.dtmf("5")) == {
        "event": "dtmf",
        "sequenceNumber": "3",
        "dtmf": {"track": "inbound_track", "digit": "5"},
        "streamSid": "MZ1",
    }
    assert json.loads(built.mark("greeting")) == {
        "event": "mark",
        "sequenceNumber": "4",
        "mark": {"name": "greeting"},
        "streamSid": "MZ1",
    }
    assert json.loads(built.stop()) == {
        "event": "stop",
        "sequenceNumber": "5",
        "stop": {"accountSid": "AC1", "callSid": "CA1"},
        "streamSid": "MZ1",
    }


def test_messages_count_in_strings() -> None:
    """sequenceNumber, chunk and timestamp grow as strings; the timestamp follows the audio."""
    built = messages(track="outbound")
    built.start()
    media = [json.loads(built.media(frame)) for frame in (b"a" * 160, b"b" * 80, b"c" * 160)]
    assert [m["sequenceNumber"] for m in media] == ["2", "3", "4"]
    assert [m["media"]["chunk"] for m in media] == ["1", "2", "3"]
    assert [m["media"]["timestamp"] for m in media] == ["0", "20", "30"]
    assert {m["media"]["track"] for m in media} == {"outbound"}


def test_messages_refuse_an_unknown_track() -> None:
    """TwiML's `inbound_track` is not the name of a track in the messages."""
    with pytest.raises(ValueError, match="inbound_track"):
        messages(track="inbound_track")


def test_a_call_is_played_in_order() -> None:
    """connected, start, a media message for each frame with its bytes, stop, then the close."""
    server = StreamServer()
    report = play(server, call_sid="CAx", stream_sid="MZx", tenant="T1")
    (stream,) = server.streams
    assert stream.events() == ["connected", "start", *["media"] * 5, "stop"]
    assert [base64.b64decode(m["payload"]) for m in stream.media()] == FRAMES
    start = stream.messages[1]["start"]
    assert (start["callSid"], start["streamSid"]) == ("CAx", "MZx")
    assert start["customParameters"] == {"tenant": "T1"}
    assert (report.call_sid, report.stream_sid, report.tenant) == ("CAx", "MZx", "T1")
    assert (report.frames_sent, report.close_code, report.ok) == (5, 1000, True)
    assert report.closed_by_server
    assert not report.ended_early
    assert report.error is None


def test_frames_go_out_at_their_times_without_drift() -> None:
    """Frame n goes out 20 ms * n after the first, however much each sleep oversleeps."""
    time = FakeTime(oversleep=0.004)
    sent: list[tuple[int, float]] = []
    report = play(
        StreamServer(),
        [b"x" * 160] * 200,
        pace=0.020,
        clock=time.clock,
        sleep=time.sleep,
        on_frame=lambda number, now: sent.append((number, now)),
    )
    assert [number for number, _ in sent] == list(range(200))
    assert sent[0][1] == pytest.approx(100.0)
    for number, now in sent[1:]:
        assert now == pytest.approx(100.0 + number * 0.020 + 0.004)
    assert report.worst_lateness == pytest.approx(0.004)
    assert report.seconds == pytest.approx(199 * 0.020 + 0.004)


def test_late_frames_catch_up() -> None:
    """After a halt of 90 ms the frames that are due go at once, and the pace is found again."""
    time = FakeTime()
    sent: list[float] = []

    def frames() -> Iterator[bytes]:
        for number in range(10):
            if number == 3:
                time.now += 0.090
            yield b"x" * 160

    report = play(
        StreamServer(),
        frames(),
        pace=0.020,
        clock=time.clock,
        sleep=time.sleep,
        on_frame=lambda _, now: sent.append(round(now - 100.0, 6)),
    )
    # Frame 3 was asked for at 40 ms and came at 130.
    assert sent == [0, 0.02, 0.04, 0.13, 0.13, 0.13, 0.13, 0.14, 0.16, 0.18]
    assert report.worst_lateness == pytest.approx(0.070)


def test_an_empty_frame_is_time_without_a_message() -> None:
    """A gap sends nothing, but the next frame's timestamp and moment count it."""
    time = FakeTime()
    sent: list[float] = []
    server = StreamServer()
    report = play(
        server,
        [b"a" * 160, b"", b"b" * 160],
        pace=0.020,
        clock=time.clock,
        sleep=time.sleep,
        on_frame=lambda _, now: sent.append(round(now - 100.0, 6)),
    )
    media = server.streams[0].media()
    assert [(m["chunk"], m["timestamp"]) for m in media] == [("1", "0"), ("2", "40")]
    assert sent == [0, 0.04]
    assert report.frames_sent == 2


@pytest.mark.parametrize(
    ("end", "last", "code"),
    [("stop", "stop", 1000), ("close", "media", 1000), ("cut", "media", 1006)],
)
def test_each_way_of_ending(end: End, last: str, code: int) -> None:
    """`stop` says so, `close` only closes the WebSocket, `cut` breaks the connection off."""
    server = StreamServer()
    report = play(server, end=end)
    assert server.streams[0].events()[-1] == last
    assert server.streams[0].close_code == code
    assert (report.close_code, report.ok, report.frames_sent) == (code, True, 5)


def test_an_unknown_end_is_refused() -> None:
    """A way of ending that does not exist is a mistake of the caller's, and raises."""
    with pytest.raises(ValueError, match="'stop', 'close' or 'cut'"):
        play(StreamServer(), end="hang up")


def test_it_closes_itself_when_the_server_does_not() -> None:
    """After `stop` and the wait, the simulator closes with 1000, as Twilio does."""
    server = StreamServer(never_close)
    report = play(server, close_wait=0.05)
    assert server.streams[0].events()[-1] == "stop"
    assert server.streams[0].close_code == 1000
    assert (report.close_code, report.closed_by_server, report.ok) == (1000, False, True)


@pytest.mark.parametrize(("code", "ok"), [(1000, True), (1012, False), (1011, False)])
def test_a_server_that_closes_in_mid_call_stops_the_playing(code: int, ok: bool) -> None:
    """Playing ends, and all but a close with 1000 is an error that tells code and reason."""

    async def close_at_the_second(socket: ServerConnection, message: dict[str, Any]) -> None:
        if message["event"] == "media" and message["media"]["chunk"] == "2":
            await socket.close(code, "no more")

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 160

    server = StreamServer(close_at_the_second)
    report = play(server, endless())
    assert (report.close_code, report.close_reason) == (code, "no more")
    assert report.ended_early
    assert report.closed_by_server
    assert report.ok is ok
    assert ok or f"{code} no more" in str(report.error)
    assert "stop" not in server.streams[0].events()


def test_a_connection_that_breaks_is_an_error() -> None:
    """A server that vanishes without a close frame is told of in one line."""

    async def vanish(socket: ServerConnection, message: dict[str, Any]) -> None:
        if message["event"] == "media":
            socket.transport.abort()

    report = play(StreamServer(vanish), iter(lambda: b"x" * 160, b""))
    assert report.close_code == 1006
    assert "broke off" in str(report.error)
    assert not report.ok


def test_a_bad_close_after_stop_is_an_error() -> None:
    """A service that fails while it finishes a call must not look as if all were well."""

    async def fail_at_stop(socket: ServerConnection, message: dict[str, Any]) -> None:
        if message["event"] == "stop":
            await socket.close(1011, "internal error")

    report = play(StreamServer(fail_at_stop))
    assert not report.ended_early
    assert "1011 internal error" in str(report.error)


def test_what_the_server_sends_is_kept_and_counted() -> None:
    """Text and bytes are recorded, the first hundred of them; nothing is answered."""

    async def chatter(socket: ServerConnection, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            await socket.send('{"event":"clear","streamSid":"MZ1"}')
            for _ in range(150):
                await socket.send(b"\x00")
        elif message["event"] == "stop":
            await socket.close()

    report = play(StreamServer(chatter))
    assert report.received[:2] == ['{"event":"clear","streamSid":"MZ1"}', b"\x00"]
    assert len(report.received) == 100
    assert report.received_count == 151
    assert report.ok


def test_a_server_that_sends_what_is_no_text_is_told_of() -> None:
    """A text message that is not UTF-8 closes the call with 1007, without a stack trace."""

    async def garble(socket: ServerConnection, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            await socket.send(b"\xff\xfe", text=True)

    report = play(StreamServer(garble), iter(lambda: b"x" * 160, b""))
    assert not report.ok
    assert report.ended_early


def test_a_server_that_stops_reading_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A send that finds no room for too long ends the call instead of hanging for ever."""
    monkeypatch.setattr(twilio_stream, "STALL_SECONDS", 0.05)

    async def call() -> CallReport:
        given_up = asyncio.Event()

        async def hang(_: ServerConnection, message: dict[str, Any]) -> None:
            if message["event"] == "start":
                await given_up.wait()

        async with StreamServer(hang) as server:
            report = await play_call(server.url, iter(lambda: b"x" * 160, b""), pace=0)
            given_up.set()
            await server.all_closed.wait()
        return report

    report = asyncio.run(call())
    assert "read nothing" in str(report.error)
    assert not report.ok


def test_a_cancelled_call_hangs_up() -> None:
    """Cancelling (Ctrl-C) sends `stop` and closes before the cancellation goes on."""

    async def cancel_in_mid_call() -> StreamServer:
        async with StreamServer() as server:
            task = asyncio.create_task(play_call(server.url, [b"x" * 160] * 1000, pace=60.0))
            await server.media_arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.all_closed.wait()
        return server

    server = asyncio.run(cancel_in_mid_call())
    assert server.streams[0].events() == ["connected", "start", "media", "stop"]
    assert server.streams[0].close_code == 1000


def test_frames_that_fail_end_the_call_and_raise() -> None:
    """An error of the caller's own frames reaches the caller, and the socket is closed."""

    def broken() -> Iterator[bytes]:
        yield b"x" * 160
        raise RuntimeError("no more tape")

    server = StreamServer()

    async def call() -> None:
        async with server:
            with pytest.raises(RuntimeError, match="no more tape"):
                await play_call(server.url, broken(), pace=0)
            await server.all_closed.wait()

    asyncio.run(call())
    assert server.streams[0].close_code == 1000
