"""A speech server for this machine that speaks Google Speech-to-Text v1 over plain gRPC.

For the demo, the tests and a developer at a desk. This module is the gRPC server: it enforces
Google's rules (`speech_server_rules`) on every stream and hands the audio to a recogniser
(`speech_recogniser`), stream by stream (`speech_server_stream`), with faults where they were
ordered (`speech_server_faults`). All of it runs on one asyncio event loop, which nothing here may
block; only `stall` and `resume` may be called from other threads. `local_speech_server` is the
command that runs it, `speech_server_thread` runs it inside a test.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio

import speech_messages as messages
from speech_messages import Message
from speech_recogniser import NotesRecordings, Recogniser, RecordingRecord, StreamRecord
from speech_server_faults import RECOGNIZE, UNAVAILABLE, BadFault, Fault, Faults
from speech_server_rules import Limits, SpeechServerError, StreamEnded, read_recording
from speech_server_stream import Context, Gate, LiveStream, Surroundings

SERVICE = "google.cloud.speech.v1.Speech"
_MAX_RECORDING_BYTES = 11 * 1024 * 1024  # Google takes 10 MB, and the message around it


class PortTaken(SpeechServerError):
    """The address cannot be listened on."""


class SpeechServer:
    """The gRPC server. Make it, start it and stop it on its event loop.

    `changed` is called on the loop after everything that a waiting test may want to see.
    `keep_records` keeps the record of every stream and recording for ever: for tests only.
    `faults` are those in force from the start, ordered by the loop's time. `fault_for` is asked
    first, on the loop, with the number of the stream that opens (0, 1, 2 ...); None is no fault.
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
        faults: Faults | None = None,
        fault_for: Callable[[int, str], Fault | None] = lambda number, peer: None,
    ) -> None:
        self.recogniser = recogniser
        self.limits = limits or Limits()
        self.faults = faults or Faults()
        self.records: list[StreamRecord] = []
        self.recordings: list[RecordingRecord] = []
        self.live: set[LiveStream] = set()
        self.changed = changed
        self._loop = asyncio.get_running_loop()
        self.gate = Gate(self._loop)
        self._around = Surroundings(self.recogniser, self.limits, self.gate, changed)
        self._fault_for = fault_for
        self._opened = 0
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
        self._around.port = bound
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

    def order(self, faults: Iterable[Fault]) -> None:
        """These faults hold from now on, besides those that hold already. On the loop."""
        for fault in faults:
            self.faults.order(fault, now=self._loop.time())
            if fault.kind == UNAVAILABLE:
                for stream in list(self.live):
                    stream.strike(fault)

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
        stream = LiveStream(self._around, context, self._next_fault(context.peer()))
        self.live.add(stream)
        if self._keep_records:
            self.records.append(stream.record)
        self.changed()
        try:
            await stream.run()
        finally:
            self.live.discard(stream)
            stream.record.ended_at = self._loop.time()
            self.changed()
        if stream.verdict is not None:
            await context.abort(grpc.StatusCode[stream.verdict.code], stream.verdict.text)

    def _next_fault(self, peer: str) -> Fault | None:
        """The fault of the stream that opens now."""
        number, self._opened = self._opened, self._opened + 1
        fault = self._fault_for(number, peer)
        if fault is not None and fault.kind == RECOGNIZE:
            raise BadFault(f"stream {number} cannot get a fault of Recognize calls")
        return fault or self.faults.for_stream(self._loop.time())

    async def _recognize(self, request: Message, context: Context) -> Message:
        audio: bytes = request.audio.content
        record = RecordingRecord(self._loop.time(), request.config, len(audio))
        if self._keep_records:
            self.recordings.append(record)
            if isinstance(self.recogniser, NotesRecordings):
                self.recogniser.note(audio, record)
        self.changed()
        try:
            answer = await self._answer(request, record)
            record.status = "OK"
        except StreamEnded as verdict:
            record.status = str(verdict)
            await context.abort(grpc.StatusCode[verdict.code], verdict.text)
        except asyncio.CancelledError:
            record.status = "CANCELLED"
            raise
        finally:
            self.changed()
        return answer

    async def _answer(self, request: Message, record: RecordingRecord) -> Message:
        """The response to a plain Recognize; raises `StreamEnded` if it is refused."""
        fault = self.faults.for_recognize(self._loop.time())
        if fault is not None:
            record.fault = str(fault)
            raise fault.verdict
        await self.gate.passed()
        self.recogniser.check(request.config)
        audio = read_recording(request, self.limits)
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
