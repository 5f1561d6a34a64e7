"""A media stream of a placed call, from its TwiML to its end, as Twilio runs it.

Listens to the call's `PhoneLine` and sends what it hears, at the line's pace, in a task of its
own (`run`): a server that is slow delays nobody else. It must never raise for what a server
does: that goes into the stream's report.
Source: Twilio's documentation, "TwiML: <Stream>" and "Media Streams: WebSocket messages".
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from websockets.asyncio.client import ClientConnection
from websockets.protocol import State

from phone_line import PhoneLine
from twilio_calls import new_sid, open_socket
from twilio_chaos import StreamChaos
from twilio_stream import FRAME_SECONDS, CallReport, StreamMessages, Track, carry_stream
from twilio_stream import send_message as send
from twilio_webhooks import Form, Webhooks, WrongServiceUrl
from twiml import Method, Stream, TrackName

# Frames that wait for a server that does not read: a second of them; then Twilio discards audio.
WAITING_FRAMES = 50

TRACKS: Mapping[TrackName, tuple[Track, Track | None]] = {
    "inbound_track": ("inbound", None),
    "outbound_track": ("outbound", None),
    "both_tracks": ("inbound", "outbound"),
}

Tell = Callable[[str, Form, Method], Awaitable[None]]  # posts a status callback


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What a stream has from its call."""

    stream: Stream
    call_sid: str
    account_sid: str
    bidirectional: bool  # of <Connect>
    chaos: StreamChaos
    close_wait: float
    second: bool = False  # a socket that there should not be


class PlacedStream:
    """One stream: start `run` as a task; `settled` and `ended` tell how far it is."""

    def __init__(self, plan: StreamPlan, line: PhoneLine, webhooks: Webhooks, tell: Tell) -> None:
        self.plan = plan
        self.report = CallReport(call_sid=plan.call_sid, stream_sid=new_sid("MZ"))
        self.settled = asyncio.Event()  # it is on the line, or will never be
        self.ended = asyncio.Event()
        self.discarded = 0  # frames for which a server that does not read left no room
        self.heard_frames = 0.0  # what the service played to the caller
        self._line, self._webhooks, self._tell_service = line, webhooks, tell
        track, other = TRACKS[plan.stream.track]
        self._messages = StreamMessages(
            plan.call_sid,
            self.report.stream_sid,
            plan.account_sid,
            track=track,
            other_track=other,
            custom_parameters=plan.stream.parameters,
        )
        self._waiting: deque[tuple[int, Mapping[Track, bytes]]] = deque()
        self._answers: deque[str] = deque()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._over = False
        self._fault: str | None = None

    @property
    def track_count(self) -> int:
        return len(self._messages.tracks)

    async def run(self) -> None:
        """Open the stream, send what is heard until `hang_up` or the server's end, and tell."""
        try:
            socket = await self._open()
            if socket is None:
                await self._tell("stream-error", self.report.error or "")
                return
            started = asyncio.create_task(self._tell("stream-started"))
            try:
                await self._carry(socket)
            finally:
                self._leave()
            await started
            await self._tell("stream-stopped")
        finally:
            self._leave()

    def hang_up(self) -> None:
        """The call is over, or the line is no longer the stream's: end it in good order."""
        self._line.leave(self)
        self._over = True
        self._news.set()

    async def hear(self, position: int, frames: Mapping[Track, bytes]) -> None:
        """Take 20 ms of the line; they are sent by `run`."""
        if self.ended.is_set():
            return
        if len(self._waiting) >= WAITING_FRAMES:
            if self._line.pacing.seconds:
                self.discarded += 1
                return
            self._room.clear()
            await self._room.wait()
        self._waiting.append((position, frames))
        self._news.set()

    def _leave(self) -> None:
        self._line.leave(self)
        self.report.state = "ended"
        self._room.set()
        self.settled.set()
        self.ended.set()
        self._line.wake()

    async def _open(self) -> ClientConnection | None:
        self.report.state = "connecting"
        try:
            target = self._webhooks.address.socket(self.plan.stream.url)
        except WrongServiceUrl as error:
            self.report.error = str(error)
            return None
        # Twilio signs the address as it calls it: without the query, and with no parameters.
        signed = self.plan.stream.url.partition("#")[0].partition("?")[0]
        headers = target.headers | self._webhooks.signature(signed)
        return await open_socket(target.url, headers, self.plan.close_wait, self.report, target.at)

    async def _carry(self, socket: ClientConnection) -> None:
        await carry_stream(
            socket,
            self._messages,
            lambda: self._send_all(socket),
            self.report,
            self._line.pacing.clock,
            self.plan.chaos.end,
            self.plan.close_wait,
            self._take,
        )
        if self.report.error is None:
            self.report.error = self._fault
        if self.report.error is None and self.discarded:
            self.report.error = f"error 31930, congestion: {self.discarded} frames were discarded"

    async def _send_all(self, socket: ClientConnection) -> None:
        watching = asyncio.create_task(self._watch(socket))
        chaos = self.plan.chaos
        try:
            await send(socket, self._messages.connected())
            for text in chaos.start(self._messages.start()):
                await send(socket, text)
            if not self._over:
                self._line.listeners.append(self)
            self.settled.set()
            while await self._has_more(socket):
                while self._answers:
                    await send(socket, self._answers.popleft())
                while self._waiting:
                    await self._send_heard(socket, *self._waiting.popleft())
                    self._room.set()
                    if chaos.cut_after is not None and self.report.frames_sent >= chaos.cut_after:
                        return
            self._line.leave(self)
            for track in self._messages.tracks:
                await self._send_frames(socket, track, chaos.rest(track))
            for text in chaos.last():
                await send(socket, text)
        finally:
            watching.cancel()

    async def _has_more(self, socket: ClientConnection) -> bool:
        """Wait until there is something to do; False when the stream is to be ended by us."""
        while not self._waiting and not self._answers:
            if socket.state is not State.OPEN:
                await socket.wait_closed()
                raise socket.protocol.close_exc
            if self._over:
                return False
            self._news.clear()
            await self._news.wait()
        return True

    async def _watch(self, socket: ClientConnection) -> None:
        await socket.wait_closed()
        self._news.set()
        self._room.set()

    async def _send_heard(
        self, socket: ClientConnection, position: int, frames: Mapping[Track, bytes]
    ) -> None:
        gap = self.plan.chaos.is_gap()
        for track in self._messages.tracks:
            frame = b"" if gap else frames[track]
            if not frame:
                await self._send_frames(socket, track, self.plan.chaos.rest(track))
                self._messages.skip(round(FRAME_SECONDS * 1000), track)
            else:
                await self._send_frames(socket, track, self.plan.chaos.frames(track, frame))
        # A socket that should not be there keeps nothing from being lost.
        if "inbound" in self._messages.tracks and not gap and not self.plan.second:
            self._line.mark_sent(position)

    async def _send_frames(
        self, socket: ClientConnection, track: Track, frames: list[bytes]
    ) -> None:
        for frame in frames:
            for text in self.plan.chaos.media(self._messages.media(frame, track)):
                await send(socket, text)
            self.report.frames_sent += 1

    def _take(self, message: str | bytes) -> None:
        """What the service sends: errors of its own making, audio for the caller, marks."""
        if not self.plan.bidirectional:
            self._fault = self._fault or (
                "error 31924, protocol: the service sent a message on a <Start> stream"
            )
            return
        if isinstance(message, bytes):
            self._fault = self._fault or "error 31950: the service sent binary"
            return
        try:
            content = json.loads(message)
            event, stream_sid = content["event"], content["streamSid"]
            if event not in ("media", "mark", "clear") or stream_sid != self.report.stream_sid:
                raise ValueError
            if event == "media":
                self.heard_frames += len(content["media"]["payload"]) * 3 / 4 / 160
            elif event == "mark":
                # Nothing is played here, so what was sent before the mark has been heard.
                self._answers.append(self._messages.mark(content["mark"]["name"]))
                self._news.set()
        except (ValueError, TypeError, KeyError):
            self._fault = self._fault or "error 31951: the service sent a message of a wrong shape"

    async def _tell(self, event: str, error: str = "") -> None:
        stream = self.plan.stream
        if not stream.status_callback or self.plan.second:
            return
        form = [
            ("AccountSid", self.plan.account_sid),
            ("CallSid", self.plan.call_sid),
            ("StreamSid", self.report.stream_sid),
            ("StreamName", stream.name or self.report.stream_sid),
            ("StreamEvent", event),
            ("Timestamp", datetime.now(UTC).isoformat(timespec="milliseconds")),
        ]
        if error:
            form.append(("StreamError", error))
        await self._tell_service(stream.status_callback, form, stream.status_callback_method)
