"""Streaming gRPC calls over HTTP/2 connections of our own, made as with a `grpc.Channel`.

The part of gRPC's channel that a stream to Google needs, at a third of its cost; how that comes
stands in `http2_connection`. The calls are those of gRPC: iterated for responses, cancelled, ended
by a `grpc.RpcError` with gRPC's status codes. A connection is made when the first call needs it,
and another one when that is gone.

Each call has one thread that takes its requests. Whoever iterates waits, as with gRPC.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Self

from grpc_status import CallError, Code, Status, of_headers, unavailable
from http2_client import Headers
from http2_connection import Http2Connection
from native_threads import brief_lock
from wire import Wire

_PREFIX = struct.Struct(">BI")  # of a message: whether it is compressed, its size
_LARGEST_BYTES = 4 * 1024 * 1024  # as gRPC has it by default
# After a connection could not be made, calls fail for so long without another try
_PAUSE_SECONDS = 0.2
# How often a call looks for another connection when the one that it was given goes away
_TRIES = 3

_CANCELLED = Status(Code.CANCELLED, "Locally cancelled by application!")  # in gRPC's words
_CLOSED = Status(Code.CANCELLED, "Channel closed!")


class Http2Channel:
    """Calls to one server. `connect()` makes a connection; it may wait, and raise `OSError`.

    `headers(path)` are those of a call; it may wait, and raise whatever keeps it from them.
    """

    def __init__(
        self,
        connect: Callable[[], Wire],
        headers: Callable[[str], Headers],
        *,
        clock: Callable[[], float] = time.monotonic,
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        self.headers = headers
        self.thread_class = thread_class
        self._connect = connect
        self._clock = clock
        self._lock = threading.Lock()
        self._current: Http2Connection | None = None
        self._old: list[Http2Connection] = []  # whose streams come to their end
        self._closed = False

    def stream_stream(
        self,
        path: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
    ) -> Callable[[Iterator[Any]], StreamCall]:
        """What begins a call of this method with an iterator of its requests."""

        def begin(requests: Iterator[Any]) -> StreamCall:
            if self._closed:
                raise ValueError("Channel closed!")
            return StreamCall(self, path, requests, request_serializer, response_deserializer)

        return begin

    def connection(self) -> Http2Connection:
        """The connection for the next stream; or the one that just failed.

        Raises `RuntimeError` if the channel is closed, or there are no more threads.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("Channel closed!")
            current = self._current
            if current is None or (current.status is not None and not self._just_failed(current)):
                current = self._current = Http2Connection(
                    self._connect, self._over, self._clock, self.thread_class
                )
            return current

    def _just_failed(self, connection: Http2Connection) -> bool:
        return not connection.was_ready and self._clock() - connection.over_at < _PAUSE_SECONDS

    def close(self) -> None:
        """Close the connections; calls on them are cancelled."""
        with self._lock:
            self._closed = True
            connections = [*self._old, *filter(None, [self._current])]
        for connection in connections:
            connection.close(_CLOSED)

    def _over(self, connection: Http2Connection, status: Status) -> None:
        with self._lock:
            self._old = [old for old in self._old if old.is_alive]
            if connection.is_alive:
                self._old.append(connection)


class StreamCall:
    """A call: iterate it for responses, in one thread; `cancel()` it from any."""

    def __init__(
        self,
        channel: Http2Channel,
        path: str,
        requests: Iterator[Any],
        serialize: Callable[[Any], bytes],
        deserialize: Callable[[bytes], Any],
    ) -> None:
        self._channel = channel
        self._path = path
        self._requests = requests
        self._serialize = serialize
        self._deserialize = deserialize
        self._lock = brief_lock()
        self._connection: Http2Connection | None = None
        self._number: int | None = None
        self._heard: SimpleQueue[bytes | None] = SimpleQueue()  # messages, and None at the end
        self._listener: Callable[[Any], None] | None = None
        self._partial = b""
        self._said: Status | None = None  # by the headers
        self._status: Status | None = None  # once it is over
        channel.thread_class(target=self._send_all, name="grpc-send", daemon=True).start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        message = self._heard.get()
        if message is not None and (response := self._read(message)) is not None:
            return response
        self._heard.put(None)  # for whoever asks again
        assert self._status is not None
        if self._status.code is Code.OK:
            raise StopIteration
        raise CallError(self._status)

    def cancel(self) -> None:
        """End it at once, if it is not over."""
        self._give_up(_CANCELLED)

    def hear(self, listener: Callable[[Any], None]) -> None:
        """Have `listener` told each response when it comes; iterating then only waits for the end.

        It is called by the connection's reader and must not wait. Call this before iterating. If
        something has come already, all is left to whoever iterates.
        """
        with self._lock:
            if self._heard.empty():
                self._listener = listener

    def send_now(self, request: bytes) -> bool:
        """Send a request, serialized, without waiting; False if that cannot be done.

        Only while the thread of the requests is waiting for one, after the first.
        """
        connection, number = self._connection, self._number
        if connection is None or number is None:
            return False
        return connection.send_now(number, _message(request))

    def _give_up(self, status: Status) -> None:
        with self._lock:
            if self._status is not None:
                return
            self._status = status
            connection, number = self._connection, self._number
        # before whoever iterates is told, and ends the requests: that would be a half-close
        if connection is not None and number is not None:
            connection.cancel(number)
        elif connection is not None:
            connection.wake()
        self._heard.put(None)

    def _end(self, status: Status) -> None:
        with self._lock:
            if self._status is not None:
                return
            self._status = status
        self._heard.put(None)

    # The thread of the requests

    def _send_all(self) -> None:
        try:
            headers = self._channel.headers(self._path)
        except Exception as error:  # in gRPC's words, by which a refused key is known
            text = f"Getting metadata from plugin failed with error: {error}"
            self._end(unavailable(text))
            return
        try:
            messages = (_message(self._serialize(request)) for request in self._requests)
            connection, number = self._open(headers, next(messages, b""))
            if connection is None or number is None:
                return
            for message in messages:
                if not connection.send(number, message):
                    return
        except Exception:  # whatever it was, it is no regular end of the requests
            self._give_up(Status(Code.UNKNOWN, "Exception iterating requests!"))
            raise
        connection.half_close(number)

    def _open(self, headers: Headers, first: bytes) -> tuple[Http2Connection | None, int | None]:
        status = _CANCELLED
        for _ in range(_TRIES):
            try:
                connection = self._channel.connection()
            except RuntimeError as error:  # closed, or no more threads
                status = unavailable(error)
                break
            with self._lock:
                self._connection = connection
            number = connection.open(self, headers, lambda: self._status is None, first)
            if number is not None:
                with self._lock:
                    self._number = number
                    wanted = self._status is None
                if not wanted:  # cancelled in between
                    connection.cancel(number)
                return connection, number
            status = connection.status or status
            if self._status is not None or not connection.was_ready:
                break
        self._end(status)
        return None, None

    # The connection's reader

    def headers_came(self, headers: dict[bytes, bytes]) -> None:
        self._said = of_headers(headers) or self._said

    def data_came(self, data: bytes) -> None:
        if self._said is not None:  # the body of some proxy's refusal
            return
        data = self._partial + data
        at = 0
        while len(data) - at >= _PREFIX.size:
            compressed, size = _PREFIX.unpack_from(data, at)
            if compressed or size > _LARGEST_BYTES:
                what = "compressed" if compressed else "too large"
                self._give_up(Status(Code.INTERNAL, f"Received a message that is {what}"))
                return
            end = at + _PREFIX.size + size
            if end > len(data):
                break
            self._message_came(data[at + _PREFIX.size : end])
            at = end
        self._partial = data[at:]

    def _message_came(self, message: bytes) -> None:
        with self._lock:
            listener = self._listener
            if listener is None:
                self._heard.put(message)
                return
        if self._status is None and (response := self._read(message)) is not None:
            listener(response)

    def _read(self, message: bytes) -> Any:
        """The response; None, and the call is over, if it cannot be read."""
        try:
            return self._deserialize(message)
        except Exception:  # protobuf's errors are several
            self._give_up(Status(Code.INTERNAL, "Exception deserializing response!"))
        return None

    def ended(self, status: Status | None) -> None:
        status = status or self._said or Status(Code.UNKNOWN, "the stream ended without a status")
        if status.code is Code.OK and self._partial:
            status = Status(Code.INTERNAL, "the stream ended within a message")
        self._end(status)


def _message(data: bytes) -> bytes:
    return _PREFIX.pack(0, len(data)) + data
