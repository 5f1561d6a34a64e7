"""One Twilio media stream, played over an open WebSocket exactly as Twilio plays it.

`StreamMessages` builds the messages, `play_stream` plays frames at the pace of a telephone line
and ends the stream in one of three ways. Runs on an asyncio loop, one task a stream. It must
never block the loop (so the frames must be ready to hand) and never raise for what a server
does: that goes into the call's report.
Source: Twilio's documentation, "Media Streams: WebSocket messages".
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

FRAME_SECONDS = 0.020
BYTES_PER_MS = 8  # 8 kHz mu-law, a byte a sample

End = Literal["stop", "close", "cut"]
Track = Literal["inbound", "outbound"]

STALL_SECONDS = 10.0  # how long a server may leave what we send unread
HANG_UP_SECONDS = 2.0  # how long a stream that is cancelled may take to say goodbye
WRITE_LIMIT = 32 * 1024  # bytes waiting in the socket's buffer before a send has to wait
KEPT_MESSAGES = 100  # of what a server sends, this many are kept; all are counted

# Close codes with which a server may end a call that has said `stop`: all its audio was taken.
GOOD_AFTER_STOP = frozenset({1000, 1001, 1005, 1012})


class StreamStalled(Exception):
    """The server has stopped reading, so that nothing more can be sent."""


@dataclass(slots=True)
class _TrackCount:
    """How far one track of a stream is."""

    # The media message is written 50 times a second by each call: everything that does not
    # change is made into JSON once.
    middle: str
    chunk: int = 0
    audio_bytes: int = 0


class StreamMessages:
    """The messages of one stream, of one track or both, in order, as JSON text.

    Counts `sequenceNumber` (over all messages but `connected`), and `chunk` and `timestamp` of
    each track, itself; all three are strings, as Twilio sends them.
    """

    def __init__(
        self,
        call_sid: str,
        stream_sid: str,
        account_sid: str,
        *,
        track: Track = "inbound",
        other_track: Track | None = None,
        custom_parameters: Mapping[str, str] | None = None,
    ) -> None:
        self.tracks: tuple[Track, ...] = (track,) if other_track is None else (track, other_track)
        for name in self.tracks:
            if name not in get_args(Track):
                raise ValueError(f"track is 'inbound' or 'outbound', not {name!r}")
        self.call_sid, self.stream_sid, self.account_sid = call_sid, stream_sid, account_sid
        self._track = track
        self._parameters = dict(custom_parameters or {})
        self._sequence = 0
        self._counts = {
            name: _TrackCount(f'","media":{{"track":{json.dumps(name)},"chunk":"')
            for name in self.tracks
        }
        self._media_end = f'"}},"streamSid":{json.dumps(stream_sid)}}}'

    def connected(self) -> str:
        """The first message: no `streamSid`, no `sequenceNumber`."""
        return '{"event":"connected","protocol":"Call","version":"1.0.0"}'

    def start(self) -> str:
        """The second message, with the ids, the tracks, the parameters and the audio's format."""
        start = {
            "accountSid": self.account_sid,
            "streamSid": self.stream_sid,
            "callSid": self.call_sid,
            "tracks": list(self.tracks),
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self._parameters,
        }
        return self._numbered("start", start)

    def media(self, frame: bytes, track: Track | None = None) -> str:
        """One frame of 8 kHz mu-law; its timestamp is the track's audio before it, in ms."""
        count = self._counts[track or self._track]
        self._sequence += 1
        count.chunk += 1
        timestamp = count.audio_bytes // BYTES_PER_MS
        count.audio_bytes += len(frame)
        payload = base64.b64encode(frame).decode("ascii")
        return (
            f'{{"event":"media","sequenceNumber":"{self._sequence}{count.middle}'
            f'{count.chunk}","timestamp":"{timestamp}","payload":"{payload}{self._media_end}'
        )

    def skip(self, milliseconds: int, track: Track | None = None) -> None:
        """Let time pass without a message, as Twilio does on some silent lines."""
        self._counts[track or self._track].audio_bytes += milliseconds * BYTES_PER_MS

    def dtmf(self, digit: str) -> str:
        """A key that was pressed (bidirectional streams only); note the track's other name."""
        return self._numbered("dtmf", {"track": f"{self._track}_track", "digit": digit})

    def mark(self, name: str) -> str:
        """The answer to a mark of the server's (bidirectional streams only)."""
        return self._numbered("mark", {"name": name})

    def stop(self) -> str:
        """The last message."""
        stop = {"accountSid": self.account_sid, "callSid": self.call_sid}
        return self._numbered("stop", stop)

    def _numbered(self, event: str, body: Mapping[str, object]) -> str:
        self._sequence += 1
        message = {
            "event": event,
            "sequenceNumber": str(self._sequence),
            event: body,
            "streamSid": self.stream_sid,
        }
        return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


@dataclass(slots=True)
class CallReport:
    """What became of one call; it is filled in while the call goes on and may be watched."""

    call_sid: str = ""
    stream_sid: str = ""
    tenant: str | None = None
    state: Literal["waiting", "connecting", "playing", "ending", "ended"] = "waiting"
    frames_sent: int = 0
    seconds: float = 0.0  # from the accepted upgrade to the end of playing
    worst_lateness: float = 0.0  # seconds behind its time of the frame that was latest
    close_code: int | None = None  # 1006: the connection broke off without a close frame
    close_reason: str = ""
    closed_by_server: bool = False
    ended_early: bool = False  # the server ended it before it had said its own end
    received: list[str | bytes] = field(default_factory=list)  # the first of what it sent
    received_count: int = 0
    error: str | None = None  # one line that says what failed and how to mend it

    @property
    def ok(self) -> bool:
        """Whether the call came to its end, or the server ended it in good order (1000)."""
        return self.state == "ended" and self.error is None


@dataclass(frozen=True, slots=True)
class Pacing:
    """When frames go out: frame n at `seconds` * n after the first (0: as fast as it goes)."""

    seconds: float = FRAME_SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


async def play_stream(
    socket: ClientConnection,
    messages: StreamMessages,
    frames: Iterable[bytes],
    report: CallReport,
    pacing: Pacing,
    end: End = "stop",
    close_wait: float = 3.0,
    on_frame: Callable[[int, float], None] | None = None,
) -> None:
    """Play one stream over an open socket, from `connected` to the socket's close.

    The arguments are as for `play_call`; what happens is written into `report`.
    """
    await carry_stream(
        socket,
        messages,
        lambda: _send_frames(socket, messages, frames, report, pacing, on_frame),
        report,
        pacing.clock,
        end,
        close_wait,
    )


async def carry_stream(
    socket: ClientConnection,
    messages: StreamMessages,
    send_all: Callable[[], Awaitable[None]],
    report: CallReport,
    clock: Callable[[], float],
    end: End,
    close_wait: float,
    on_message: Callable[[str | bytes], None] | None = None,
) -> None:
    """Send by `send_all` all that comes before the stream's end; end it, and report on it.

    `on_message` gets all that the server sends.
    """
    if end not in get_args(End):
        raise ValueError(f"end is 'stop', 'close' or 'cut', not {end!r}")
    began = clock()
    collecting = asyncio.create_task(_collect(socket, report, on_message))
    stalled = False
    try:
        report.state = "playing"
        await send_all()
        report.seconds, report.state = clock() - began, "ending"
        await _end(socket, messages, end, close_wait)
    except ConnectionClosed:
        report.ended_early = True
    except StreamStalled:
        stalled = True
        socket.transport.abort()
        await socket.wait_closed()
    finally:
        # Also where this task is cancelled (Ctrl-C) or the frames' own iterator fails.
        if report.state == "playing":
            report.seconds = clock() - began
        await _let_go(socket, messages, end if report.state == "playing" else "close")
        await collecting
    _conclude(report, socket, end, stalled)


async def _send_frames(
    socket: ClientConnection,
    messages: StreamMessages,
    frames: Iterable[bytes],
    report: CallReport,
    pacing: Pacing,
    on_frame: Callable[[int, float], None] | None,
) -> None:
    clock, sleep = pacing.clock, pacing.sleep
    await send_message(socket, messages.connected())
    await send_message(socket, messages.start())
    began = clock()
    for number, frame in enumerate(frames):
        due = began + number * pacing.seconds
        # A frame that is late goes out at once, but other calls get their turn in between.
        await sleep(max(0.0, due - clock()))
        if not frame:
            messages.skip(round(FRAME_SECONDS * 1000))
            continue
        now = clock()
        await send_message(socket, messages.media(frame))
        report.frames_sent += 1
        if pacing.seconds:
            report.worst_lateness = max(report.worst_lateness, now - due)
        if on_frame is not None:
            on_frame(number, now)


async def send_message(socket: ClientConnection, message: str) -> None:
    # Only a send that may have to wait gets a deadline: a timer for each frame would cost more
    # than the frame. 16 bytes is more than a WebSocket header and its mask.
    if socket.transport.get_write_buffer_size() + len(message) + 16 <= WRITE_LIMIT:
        await socket.send(message)
        return
    try:
        async with asyncio.timeout(STALL_SECONDS):
            await socket.send(message)
    except TimeoutError:
        raise StreamStalled from None


async def _end(
    socket: ClientConnection, messages: StreamMessages, end: End, close_wait: float
) -> None:
    """End an open stream in the way that is asked for, and wait until the socket is closed."""
    if end == "cut":
        socket.transport.abort()
        await socket.wait_closed()
        return
    if end == "stop":
        await send_message(socket, messages.stop())
        # The server closes first if it does so in time: then its close code tells how it went.
        try:
            async with asyncio.timeout(close_wait):
                await socket.wait_closed()
        except TimeoutError:
            pass
    await socket.close()


async def _let_go(socket: ClientConnection, messages: StreamMessages, end: End) -> None:
    """Close a socket that is still open because its stream was interrupted."""
    if socket.state is State.OPEN:
        try:
            async with asyncio.timeout(HANG_UP_SECONDS):
                await _end(socket, messages, end, close_wait=0)
        except (TimeoutError, ConnectionClosed, StreamStalled):
            pass  # it is cut off below
    socket.transport.abort()
    await socket.wait_closed()


async def _collect(
    socket: ClientConnection,
    report: CallReport,
    on_message: Callable[[str | bytes], None] | None,
) -> None:
    """Read what the server sends until the socket is closed; the first of it is kept."""
    try:
        while True:
            message = await socket.recv()
            report.received_count += 1
            if len(report.received) < KEPT_MESSAGES:
                report.received.append(message)
            if on_message is not None:
                on_message(message)
    except ConnectionClosed:
        return


def _conclude(report: CallReport, socket: ClientConnection, end: End, stalled: bool) -> None:
    """Write how the socket was closed into `report`, and the error if that is one."""
    report.close_code, report.close_reason = socket.close_code, socket.close_reason or ""
    protocol = socket.protocol
    report.closed_by_server = protocol.close_rcvd is not None and (
        protocol.close_sent is None or bool(protocol.close_rcvd_then_sent)
    )
    code, frames = report.close_code, report.frames_sent
    how = f"{code} {report.close_reason}".rstrip()
    if stalled:
        report.error = (
            f"the server read nothing for {STALL_SECONDS:g} s, after {frames} frames:"
            " see whether it hangs"
        )
    elif report.ended_early and not report.closed_by_server:
        report.error = f"the connection broke off after {frames} frames: see the service's log"
    elif report.ended_early and code != 1000:
        report.error = f"the server closed the call after {frames} frames with {how}"
    elif end != "cut" and code == 1006:
        report.error = f"the server did not close the socket properly after `{end}`"
    elif end == "stop" and code not in GOOD_AFTER_STOP:
        report.error = f"the server ended the call badly, after `stop`, with {how}"
