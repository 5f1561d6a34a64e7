"""A speech server for this machine that speaks Google Speech-to-Text v1 over plain gRPC.

For the demo, the tests and a developer at a desk. This module is the gRPC server: it enforces
Google's rules (`speech_server_rules`) on every stream and hands the audio to a recogniser
(`speech_recogniser`). All of it runs on one asyncio event loop, which nothing here may block;
only `stall` and `resume` may be called from other threads. `local_speech_server` is the command
that runs it, `speech_server_thread` runs it inside a test.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

import speech_messages as messages
from speech_messages import Message
from speech_recogniser import Recogniser, RecogniserStream, StreamRecord
from speech_server_rules import (
    Limits,
    Refused,
    SpeechServerError,
    StreamClock,
    StreamEnded,
    read_audio,
    read_config,
    read_recording,
)

SERVICE = "google.cloud.speech.v1.Speech"
# After the end of a stream was decided, how long its last responses may take to be written:
# a client that does not read must not hold a stream open.
LAST_WRITES_SECONDS = 2.0
_MAX_RECORDING_BYTES = 11 * 1024 * 1024  # Google takes 10 MB, and the message around it

_log = logging.getLogger(__name__)
Context = Any  # grpc.aio.ServicerContext, whose stubs know nothing of raw messages


class PortTaken(SpeechServerError):
    """The address cannot be listened on."""


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


class SpeechServer:
    """The gRPC server. Make it, start it and stop it on its event loop.

    `changed` is called on the loop after everything that a waiting test may want to see.
    `keep_records` keeps the record of every stream for ever: for tests only.
    `lookahead_bytes` is how much a client may send that was not read yet: gRPC's own windows
    grow to a minute of telephone audio, behind which a client would not notice a stall.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        limits: Limits | None = None,
        *,
        keep_records: bool = False,
        changed: Callable[[], None] = lambda: None,
        lookahead_bytes: int | None = None,
    ) -> None:
        self.recogniser = recogniser
        self.limits = limits or Limits()
        self.records: list[StreamRecord] = []
        self.live: set[LiveStream] = set()
        self.changed = changed
        self.gate = Gate(asyncio.get_running_loop())
        self._keep_records = keep_records
        options = [
            # Without this a second server shares the port in silence.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _MAX_RECORDING_BYTES),
        ]
        if lookahead_bytes is not None:
            # The probe would widen the window again.
            options += [
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", lookahead_bytes),
            ]
        self._grpc = grpc.aio.server(options=options)
        self._grpc.add_generic_rpc_handlers((self._handlers(),))

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port; raises `PortTaken`."""
        await _check_address(host, port)
        try:
            bound = self._grpc.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:  # grpc's only word for any failure to bind
            raise PortTaken(f"cannot listen on {host}:{port}") from error
        await self._grpc.start()
        return bound

    async def stop(self, grace: float | None = None) -> None:
        """End the live streams (after `grace` seconds) and give everything back."""
        self.gate.open()
        await self._grpc.stop(grace)
        self.recogniser.close()

    def stall(self) -> None:
        """Read nothing more from any stream until `resume`. For any thread."""
        self.gate.close()

    def resume(self) -> None:
        """Read on. For any thread."""
        self.gate.open()

    def _handlers(self) -> Any:
        streaming: Any = grpc.stream_stream_rpc_method_handler(
            self._streaming_recognize,
            request_deserializer=messages.StreamingRecognizeRequest.FromString,
            response_serializer=messages.StreamingRecognizeResponse.SerializeToString,
        )
        plain: Any = grpc.unary_unary_rpc_method_handler(
            self._recognize,
            request_deserializer=messages.RecognizeRequest.FromString,
            response_serializer=messages.RecognizeResponse.SerializeToString,
        )
        methods = {"StreamingRecognize": streaming, "Recognize": plain}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _streaming_recognize(self, _requests: Any, context: Context) -> None:
        # Faults on order belong here and in LiveStream: before a stream is read, or in its way.
        stream = LiveStream(self, context)
        self.live.add(stream)
        if self._keep_records:
            self.records.append(stream.record)
        self.changed()
        try:
            await stream.run()
        finally:
            self.live.discard(stream)
            stream.record.ended_at = asyncio.get_running_loop().time()
            self.changed()
        if stream.verdict is not None:
            await context.abort(grpc.StatusCode[stream.verdict.code], stream.verdict.text)

    async def _recognize(self, request: Message, context: Context) -> Message:
        await self.gate.passed()
        try:
            self.recogniser.check(request.config)
            audio = read_recording(request, self.limits)
        except Refused as refusal:
            await context.abort(grpc.StatusCode[refusal.code], refusal.text)
        results = await self.recogniser.recognise(request.config, audio)
        return messages.RecognizeResponse(results=results)


async def _check_address(host: str, port: int) -> None:
    """Bind once before grpc does, which would say why it failed in its own log only."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from error


class LiveStream:
    """One StreamingRecognize call: a reader, a writer, and a clock that may end both.

    1. The reader takes the config and then audio, and feeds the recogniser.
    2. The recogniser sends responses (this object is its sink); the writer writes them.
    3. Whoever ends the stream settles `_over` once; `run` lets the writer finish, and frees all.
    """

    def __init__(self, server: SpeechServer, context: Context) -> None:
        self.verdict: StreamEnded | None = None
        self._server = server
        self._context = context
        self._loop = asyncio.get_running_loop()
        self.record = StreamRecord(peer=context.peer(), opened_at=self._loop.time())
        self._clock = StreamClock(server.limits, self._loop.time())
        self._alarm = self._loop.call_at(self._clock.due(), self._ring)
        self._feeding = False
        self._recognition: RecogniserStream | None = None
        self._out: asyncio.Queue[Message | None] = asyncio.Queue()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Serve the stream to its end; raises CancelledError if the client cancels."""
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        try:
            await self._over.wait()
            await asyncio.wait({writer}, timeout=LAST_WRITES_SECONDS)
        except asyncio.CancelledError:
            self.record.ended = "cancelled"
            raise
        finally:
            self._alarm.cancel()
            reader.cancel()
            writer.cancel()
            if self._recognition is not None:
                self._recognition.cancel()

    # The recogniser's sink.

    def send(self, response: Message) -> None:
        """Put a response in the writer's queue; after the end it is dropped."""
        if not self._over.is_set():
            self._out.put_nowait(response)

    def finish(self) -> None:
        """The recogniser has said its last word (a single utterance)."""
        self._end("finished")

    def fail(self, error: BaseException) -> None:
        """The recogniser broke: INTERNAL, with a log line that says why."""
        _log.error("recognition failed", exc_info=error)
        self._end("failed", StreamEnded("INTERNAL", "Internal error encountered."))

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
        if request is None:
            self._end("half-closed")
            return
        config = read_config(request)
        self.record.config = config
        self._server.recogniser.check(config.config)
        self._recognition = self._server.recogniser.open(config, self, self.record)
        self._server.changed()
        while (request := await self._next()) is not None:
            await self._feed(read_audio(request, self._server.limits), self._recognition)
        self._alarm.cancel()
        await self._recognition.finish()
        self._end("half-closed")

    async def _next(self) -> Message | None:
        """The next message, or None at the half-close."""
        await self._server.gate.passed()
        request = await self._context.read()
        # A read that was under way when the gate closed brings one message more: hold it too.
        await self._server.gate.passed()
        return request if isinstance(request, messages.StreamingRecognizeRequest) else None

    async def _feed(self, audio: bytes, recognition: RecogniserStream) -> None:
        self.record.message_sizes.append(len(audio))
        if audio:
            self._clock.heard(self._loop.time())
            self._feeding = True
            try:
                await recognition.feed(audio)
            finally:
                self._feeding = False
        self._server.changed()

    # The writer's way.

    async def _write(self) -> None:
        while (response := await self._out.get()) is not None:
            await self._context.write(response)
            self.record.responses += 1
            self._server.changed()

    # The end.

    def _ring(self) -> None:
        now = self._loop.time()
        if self._server.gate.closed or self._feeding:
            self._clock.heard(now)  # silence that this server made itself
        limit = self._clock.check(now)
        if limit is None:
            self._alarm = self._loop.call_at(self._clock.due(), self._ring)
        else:
            self._end("limit", limit)

    def _end(self, how: str, verdict: StreamEnded | None = None) -> None:
        if self._over.is_set():
            return
        self.record.ended = how
        self.record.status = "OK" if verdict is None else str(verdict)
        self.verdict = verdict
        self._out.put_nowait(None)
        self._over.set()
