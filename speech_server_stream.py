"""One StreamingRecognize call of the local speech server, and the fault on order that it got.

Everything runs on the server's event loop and nothing may block it; only a `Gate` may be
closed and opened from other threads. When a fault strikes is `FaultMoment`'s, what it then does
is `LiveStream.strike`'s.

gRPC's server for asyncio cannot reset one HTTP/2 stream: whatever a handler does, the stream
ends with a status, or not at all. So a reset takes the TCP connection, and with it whatever else
runs on it. Clients see UNAVAILABLE "Stream removed (recvmsg:Connection reset by peer (104))",
sometimes with "sendmsg: " if they were writing, or "Stream removed (Socket closed)". What clients
make of a RST_STREAM can be ordered as a status, for example INTERNAL "Received RST_STREAM with
error code 2".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import speech_messages as messages
from connection_reset import reset_connection
from speech_messages import Message
from speech_recogniser import Recogniser, RecogniserStream, StreamRecord
from speech_server_faults import HALF_CLOSE, OPEN, STATUS_CODES, Fault
from speech_server_rules import Limits, StreamClock, StreamEnded, read_audio, read_config

# After the end of a stream was decided, how long its last responses may take to be written:
# a client that does not read must not hold a stream open.
LAST_WRITES_SECONDS = 2.0

# To a reader gRPC's server tells a reset as it tells a half-close, and may do so a little before it
# cancels the handler: of 100 resets it did so with 9 to 18.
RESET_SECONDS = 0.02

_log = logging.getLogger(__name__)
Context = Any  # grpc.aio.ServicerContext, whose stubs know nothing of raw messages


class Gate:
    """Lets readers pass, or holds all of them. `close` and `open` are for any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self._loop = loop
        self._opened = asyncio.Event()

    def close(self) -> None:
        """Hold whoever comes from now on."""
        self.closed = True

    def open(self) -> None:
        """Let everyone pass again."""
        self.closed = False
        self._loop.call_soon_threadsafe(self._opened.set)

    async def passed(self) -> None:
        """Return when the gate is open."""
        while self.closed:
            self._opened.clear()
            await self._opened.wait()


@dataclass
class Surroundings:
    """What all streams of a server share."""

    recogniser: Recogniser
    limits: Limits
    gate: Gate
    changed: Callable[[], None]
    port: int = 0


class FaultMoment:
    """Waits for a fault's moment in a stream's life, and then strikes once."""

    def __init__(self, fault: Fault | None, strike: Callable[[Fault], None]) -> None:
        self._fault = fault
        self._strike = strike
        self._timer: asyncio.TimerHandle | None = None
        if fault is not None and isinstance(fault.at, float | int):
            self._timer = asyncio.get_running_loop().call_later(fault.at, self._struck)

    def opened(self) -> None:
        """The stream was opened; nothing was read yet."""
        if self._fault is not None and self._fault.refuses:
            self._struck()

    def configured(self) -> None:
        """The config was read and accepted."""
        if self._fault is not None and self._fault.at == OPEN:
            self._struck()

    def heard(self, seconds: float) -> None:
        """So much audio came so far."""
        wanted = None if self._fault is None else self._fault.audio
        if wanted is not None and seconds >= wanted:
            self._struck()

    def half_closed(self) -> None:
        """The client has sent all it had."""
        if self._fault is not None and self._fault.at == HALF_CLOSE:
            self._struck()

    def due_now(self, lifetime: float) -> bool:
        """Strike if the fault is due at this age; for a limit that runs out at the same time."""
        at = None if self._fault is None else self._fault.at
        if isinstance(at, float | int) and lifetime >= at:
            self._struck()
            return True
        return False

    def cancel(self) -> None:
        """It will not strike any more."""
        self._fault = None
        if self._timer is not None:
            self._timer.cancel()

    def _struck(self) -> None:
        fault = self._fault
        self.cancel()
        if fault is not None:
            self._strike(fault)


class LiveStream:
    """One StreamingRecognize call: a reader, a writer, and a clock that may end both.

    1. The reader takes the config and then audio, and feeds the recogniser.
    2. The recogniser sends responses (this object is its sink); the writer writes them.
    3. Whoever ends the stream settles `_over` once; `run` lets the writer finish, and frees all.

    A mute stream goes on reading, so that the record says what came, and has no limits: it
    ends when its client cancels it, or by `unavailable`.
    """

    def __init__(self, around: Surroundings, context: Context, fault: Fault | None = None) -> None:
        self.verdict: StreamEnded | None = None
        self._around = around
        self._context = context
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self.record = StreamRecord(peer=context.peer(), opened_at=now)
        self._moment = FaultMoment(fault, self.strike)
        self._clock = StreamClock(around.limits, now)
        self._alarm = self._loop.call_at(self._clock.due(), self._ring)
        self._feeding = False
        self._mute = False
        self._rate: float | None = None  # of real time, at which audio is read
        self._next_read = now
        self._audio_bytes = 0
        self._recognition: RecogniserStream | None = None
        self._out: asyncio.Queue[Message | None] = asyncio.Queue()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Serve the stream to its end; raises CancelledError if the client cancels."""
        self._moment.opened()
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        try:
            await self._over.wait()
            await asyncio.wait({writer}, timeout=LAST_WRITES_SECONDS)
        except asyncio.CancelledError:
            if self.record.ended != "fault":
                self.record.ended = "cancelled"
            raise
        finally:
            self._moment.cancel()
            self._alarm.cancel()
            reader.cancel()
            writer.cancel()
            if self._recognition is not None:
                self._recognition.cancel()

    # The recogniser's sink.

    def send(self, response: Message) -> None:
        """Put a response in the writer's queue; after the end it is dropped."""
        if not self._over.is_set() and not self._mute:
            self._out.put_nowait(response)

    def finish(self) -> None:
        """The recogniser has said its last word (a single utterance)."""
        self._end("finished")

    def fail(self, error: BaseException) -> None:
        """The recogniser broke: INTERNAL, with a log line that says why."""
        _log.error("recognition failed", exc_info=error)
        self._end("failed", StreamEnded("INTERNAL", "Internal error encountered."))

    # Faults.

    def strike(self, fault: Fault) -> None:
        """Do to this stream what the fault says, now."""
        if self._over.is_set():
            return
        self.record.fault = str(fault)
        if fault.kind == "mute":
            self._mute = True
        elif fault.kind == "in-band":
            code = STATUS_CODES.index(fault.verdict.code)
            error = {"code": code, "message": fault.verdict.text}
            self.send(messages.StreamingRecognizeResponse(error=error))
            self._mute = True
        elif fault.kind == "slow":
            self._rate = fault.rate
        elif fault.kind == "reset":
            self._reset()
        else:
            self._end("fault", fault.verdict if fault.status != "OK" else None)
        self._around.changed()

    def _reset(self) -> None:
        if reset_connection(self.record.peer, self._around.port):
            self._end("fault")
            self.record.status = ""  # there is nobody left to say one to
        else:
            # Not a TCP connection, or gone already: as near as a status comes to it.
            self._end("fault", StreamEnded("UNAVAILABLE", "Connection reset by peer"))

    # The reader's way.

    async def _read(self) -> None:
        try:
            await self._read_all()
        except StreamEnded as verdict:
            self._end("refused", verdict)
        except Exception as error:  # whatever the recogniser raised must end this stream only
            _log.debug("stream ends with INTERNAL: %r", error)
            self.fail(error)

    async def _read_all(self) -> None:
        request = await self._next()
        if request is not None:
            config = self._begin(request)
            while (request := await self._next()) is not None:
                await self._feed(read_audio(request, self._around.limits), config)
        await asyncio.sleep(RESET_SECONDS)
        if self._over.is_set():
            return
        self._moment.half_closed()
        if self._over.is_set():
            return
        self._alarm.cancel()
        if self._recognition is not None:
            await self._recognition.finish()
        self._end("half-closed")

    def _begin(self, request: Message) -> Message:
        """Take the first message; returns the RecognitionConfig."""
        config = read_config(request)
        self.record.config = config
        self._around.recogniser.check(config.config)
        self._recognition = self._around.recogniser.open(config, self, self.record)
        self._moment.configured()
        self._around.changed()
        return config.config

    async def _next(self) -> Message | None:
        """The next message, or None at the half-close and after the stream's end."""
        await self._around.gate.passed()
        request = await self._context.read()
        # A read that was under way when the gate closed brings one message more: hold it too.
        await self._around.gate.passed()
        if self._over.is_set() or not isinstance(request, messages.StreamingRecognizeRequest):
            return None
        return request

    async def _feed(self, audio: bytes, config: Message) -> None:
        assert self._recognition is not None
        self.record.message_sizes.append(len(audio))
        if audio:
            self._audio_bytes += len(audio)
            self._clock.heard(self._loop.time())
            self._feeding = True
            try:
                await self._recognition.feed(audio)
            finally:
                self._feeding = False
            self._moment.heard(messages.audio_seconds(self._audio_bytes, config))
        self._around.changed()
        await self._pace(messages.audio_seconds(len(audio), config))

    async def _pace(self, seconds: float) -> None:
        """Wait until a slow stream may read on, after so much audio."""
        if self._rate is not None:
            now = self._loop.time()
            self._next_read = max(self._next_read, now) + seconds / self._rate
            self._clock.heard(self._next_read)  # silence until then is this server's own
            await asyncio.sleep(self._next_read - now)

    # The writer's way.

    async def _write(self) -> None:
        while (response := await self._out.get()) is not None:
            await self._context.write(response)
            self.record.responses += 1
            self._around.changed()

    # The end.

    def _ring(self) -> None:
        now = self._loop.time()
        if self._around.gate.closed or self._feeding:
            self._clock.heard(now)  # silence that this server made itself
        limit = self._clock.check(now)
        if limit is None:
            self._alarm = self._loop.call_at(self._clock.due(), self._ring)
        elif not self._moment.due_now(now - self.record.opened_at):
            self._end("limit", limit)

    def _end(self, how: str, verdict: StreamEnded | None = None) -> None:
        if self._over.is_set() or (self._mute and how != "fault"):
            return
        self.record.ended = how
        self.record.status = "OK" if verdict is None else str(verdict)
        self.verdict = verdict
        self._out.put_nowait(None)
        self._over.set()
