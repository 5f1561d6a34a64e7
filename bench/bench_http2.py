"""As much of HTTP/2 and gRPC as a stand-in for Google needs, and no more: a server's side, cheap.

grpcio's own server takes 90 µs and more for a message, and a general HTTP/2 library in Python as
much; at 240 calls that would measure the stand-in. This takes a few. It reads HTTP/2's frames
as they lie in the buffer (RFC 9113), advertises 100 streams a connection as Google does and refuses
what is above, grants windows that never fill, and knows one kind of call: a stream of requests
with a stream of responses.

Runs on an asyncio loop and never blocks it. It is for loopback only: a peer that breaks the
protocol is cut off.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from typing import Protocol

from hpack import Decoder, Encoder

MAX_STREAMS = 100

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE = 3, 4
_REFUSED_STREAM = 7
_LARGEST_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65_535
_REPLENISH_AT = 2**24
_HEAD = struct.Struct(">HBBBI")  # length (high, low), type, flags, stream


class Call(Protocol):
    """What is done with one stream of requests."""

    def message(self, data: bytes, came: int) -> None:
        """One request, as protobuf bytes, and when it came (nanoseconds, monotonic)."""

    def end(self) -> None:
        """The peer has half-closed: answer what is left, then `finish()` the stream."""

    def lost(self) -> None:
        """The stream was reset, or its connection broke."""


class Stream:
    """One call's stream of requests, and the way back."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        self._buffer = b""
        self.call: Call | None = None

    @property
    def together(self) -> int:
        """How many streams its connection carries now."""
        return self._connection.streams

    def send(self, message: bytes) -> None:
        """Send one response."""
        self._connection.send_message(self._number, message)

    def finish(self, status: int = 0) -> None:
        """End the call with a gRPC status."""
        self._connection.send_trailers(self._number, status)

    def take(self, data: bytes, came: int) -> None:
        """A piece of requests, cut anywhere."""
        if self._buffer:
            data = self._buffer + data
        at = 0
        while len(data) - at >= 5:
            end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "big")
            if end > len(data):
                break
            if self.call is not None:
                self.call.message(data[at + 5 : end], came)
            at = end
        self._buffer = data[at:]


class Connection(asyncio.Protocol):
    """One peer's connection. `open_call(path, stream)` begins a call."""

    def __init__(self, open_call: Callable[[str, Stream], Call], refused: Callable[[], None]):
        self._open_call = open_call
        self._refused = refused
        self._streams: dict[int, Stream] = {}
        self._decoder, self._encoder = Decoder(), Encoder()
        self._buffer = b""
        self._greeted = False
        self._unacknowledged = 0
        self._window = _FIRST_WINDOW  # what the peer lets us send

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(
            ">HIHI", _MAX_CONCURRENT_STREAMS, MAX_STREAMS, _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW
        )
        self._write(_SETTINGS, 0, 0, settings)
        self._write(_WINDOW, 0, 0, (_LARGEST_WINDOW - _FIRST_WINDOW).to_bytes(4, "big"))

    def connection_lost(self, error: Exception | None) -> None:
        for stream in self._streams.values():
            if stream.call is not None:
                stream.call.lost()
        self._streams.clear()

    def data_received(self, data: bytes) -> None:
        came = time.monotonic_ns()
        if self._buffer:
            data = self._buffer + data
        at = 0
        if not self._greeted:
            if len(data) < len(_PREFACE):
                self._buffer = data
                return
            if not data.startswith(_PREFACE):
                self._transport.abort()
                return
            self._greeted, at = True, len(_PREFACE)
        while len(data) - at >= 9:
            high, low, kind, flags, number = _HEAD.unpack_from(data, at)
            end = at + 9 + (high << 8 | low)
            if end > len(data):
                break
            if kind == _DATA and not flags & _PADDED:  # nearly every frame
                self._data(number, flags, data[at + 9 : end], came)
            else:
                self._control(kind, flags, number, data[at + 9 : end])
            at = end
        self._buffer = data[at:]

    def _data(self, number: int, flags: int, body: bytes, came: int) -> None:
        self._unacknowledged += len(body)
        if self._unacknowledged >= _REPLENISH_AT:
            self._write(_WINDOW, 0, 0, self._unacknowledged.to_bytes(4, "big"))
            self._unacknowledged = 0
        stream = self._streams.get(number)
        if stream is None:  # refused, or over
            return
        if body:
            stream.take(body, came)
        if flags & _END_STREAM and stream.call is not None:
            stream.call.end()

    def _control(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if kind == _HEADERS:
            self._headers(flags, number, body)
        elif kind == _SETTINGS and not flags & _ACK:
            self._write(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._write(_PING, _ACK, 0, body)
        elif kind == _WINDOW and number == 0:
            self._window += int.from_bytes(body, "big")
        elif kind == _RST:
            stream = self._streams.pop(number, None)
            if stream is not None and stream.call is not None:
                stream.call.lost()
        elif kind in (_DATA, _CONTINUATION):  # padded or cut up: no client of the bench does that
            self._transport.abort()

    def _headers(self, flags: int, number: int, body: bytes) -> None:
        if not flags & _END_HEADERS or flags & _PADDED:
            self._transport.abort()
            return
        block = body[5:] if flags & _PRIORITY else body
        # Also of a stream that is refused: the decoder has a state
        headers = {str(name): str(value) for name, value in self._decoder.decode(block)}
        if len(self._streams) >= MAX_STREAMS:
            self._refused()
            self._write(_RST, 0, number, _REFUSED_STREAM.to_bytes(4, "big"))
            return
        stream = self._streams[number] = Stream(self, number)
        answer = [(":status", "200"), ("content-type", "application/grpc")]
        self._write(_HEADERS, _END_HEADERS, number, self._encoder.encode(answer))
        stream.call = self._open_call(headers.get(":path", ""), stream)

    @property
    def streams(self) -> int:
        """How many it carries now."""
        return len(self._streams)

    def send_message(self, number: int, message: bytes) -> None:
        """One response; raises `RuntimeError` if the peer does not take any more."""
        body = b"\0" + len(message).to_bytes(4, "big") + message
        self._window -= len(body)
        if self._window < 0:
            raise RuntimeError("a client of the bench does not read what it is sent")
        self._write(_DATA, 0, number, body)

    def send_trailers(self, number: int, status: int) -> None:
        """The end of a stream."""
        if self._streams.pop(number, None) is not None:
            trailers = self._encoder.encode([("grpc-status", str(status))])
            self._write(_HEADERS, _END_HEADERS | _END_STREAM, number, trailers)

    def _write(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if self._transport.is_closing():  # the peer was quicker
            return
        size = len(body)
        self._transport.write(_HEAD.pack(size >> 8, size & 0xFF, kind, flags, number) + body)
