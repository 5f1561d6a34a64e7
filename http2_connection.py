"""One HTTP/2 connection to a gRPC server, for many streams that run at once.

Two threads of its own (greenlets in a gevent worker): one reads, and hands what comes to its
streams; the other sends. Streams only note their frames (`http2_client`), under one lock that is
never held while anything waits; the sender comes to its turn when all who had something to say at
this tick have said it, and sends it in one write. That is what makes it cheap: gRPC's own library
pays for a system call, a native thread and several wake-ups a message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from grpc_status import Status, of_reset, unavailable
from http2_client import (
    CANCEL,
    DataCame,
    Event,
    GoAway,
    Headers,
    Http2Client,
    Http2Error,
    ResetCame,
)
from native_threads import brief_lock
from wire import Wire

# Nothing came for so long: ask whether anybody is there, and wait as long again for the answer.
# It is rare (whoever takes audio grants new room for it), so no server minds the pings.
SILENT_SECONDS = 30.0
# What may wait for the network to take it. More of it waits where it can be seen: in the queues.
_UNSENT_BYTES = 256 * 1024
# What the other side may send before it is read: far more than responses ever need
_WINDOW_BYTES = 1024 * 1024


class Stream(Protocol):
    """What the connection needs of a stream. All is called in its reader, and must not wait."""

    def headers_came(self, headers: dict[bytes, bytes]) -> None: ...

    def data_came(self, data: bytes) -> None: ...

    def ended(self, status: Status | None) -> None:
        """It is over; None: in order, so that its headers say how."""


class Http2Connection:
    """The connection that `connect()` makes, which may wait and raise `OSError`.

    `over(status)` is called once, when no new stream may be opened on it any more.
    """

    def __init__(
        self,
        connect: Callable[[], Wire],
        over: Callable[[Http2Connection, Status], None],
        clock: Callable[[], float] = time.monotonic,
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        self._clock = clock
        self.over_at = float("inf")  # when no stream could be opened any more
        self._connect = connect
        self._over = over
        self._thread_class = thread_class
        self._lock = brief_lock()  # of all that is here; never held while anything waits
        self._changed = threading.Condition(self._lock)
        self._waiting = 0  # for a change
        self._unsent = threading.Event()
        self._wire: Wire | None = None
        self._http2 = Http2Client(_WINDOW_BYTES)
        self._streams: dict[int, Stream] = {}
        self._unsent_bytes = 0
        self._silent = False  # a ping has gone out, and nothing came since
        self._status: Status | None = None  # why no stream may be opened any more
        self._closed = False
        self._sender: threading.Thread | None = None
        thread_class(target=self._run, name="http2-read", daemon=True).start()

    # For the streams, in any thread

    def open(
        self, stream: Stream, headers: Headers, is_wanted: Callable[[], bool], first: bytes = b""
    ) -> int | None:
        """Open a stream as soon as the connection is there and has room; its number.

        `first` is sent with the headers, in one write. None once the stream cannot be had, which
        `stream` is not told, or is not wanted any more.
        """
        number: int | None = None
        with self._lock:
            while number is None and self._status is None and is_wanted():
                if self._http2.has_place:
                    number = self._http2.open(headers)
                    self._streams[number] = stream
                    first = self._send_some(number, first)
                    self._wake_sender()
                else:
                    self._wait()
        if number is not None and first:
            self.send(number, first)
        return number

    def send(self, number: int, data: bytes) -> bool:
        """Send `data` on a stream, waiting for room if need be; False if the stream is over."""
        with self._lock:
            while number in self._streams and not self._closed:
                data = self._send_some(number, data)
                if not data:
                    return True
                self._wait()
        return False

    def send_now(self, number: int, data: bytes) -> bool:
        """Send all of `data` if there is room for it now; False if not."""
        with self._lock:
            if number not in self._streams or self._closed:
                return False
            size = len(data)
            if size > self._http2.room(number) or size + self._unsent_bytes > _UNSENT_BYTES:
                return False
            self._http2.send(number, data)
            self._unsent_bytes += size
            if not self._unsent.is_set():  # cheaper than to set it again
                self._unsent.set()
            return True

    def half_close(self, number: int) -> None:
        """Send no more on a stream."""
        with self._lock:
            if number in self._streams and not self._closed:
                self._http2.end(number)
                self._wake_sender()

    def cancel(self, number: int) -> None:
        """Give a stream up; it is told nothing."""
        with self._lock:
            if self._streams.pop(number, None) is not None and not self._closed:
                self._http2.reset(number, CANCEL)
                self._wake_sender()
                self._notify()

    def wake(self) -> None:
        """Somebody who waits here should look again."""
        with self._lock:
            self._notify()

    @property
    def status(self) -> Status | None:
        """Why no stream can be opened any more."""
        return self._status

    @property
    def was_ready(self) -> bool:
        """Whether the other side has ever spoken HTTP/2 on it."""
        return self._http2.is_ready

    @property
    def is_alive(self) -> bool:
        """Whether streams may still run on it."""
        return not self._closed

    def close(self, status: Status) -> None:
        """End it, with all of its streams, at once."""
        with self._lock:
            self._closed = True
            wire = self._wire
        self._finish(status)
        if wire is not None:
            wire.close()

    # With the lock held

    @property
    def _is_used_up(self) -> bool:
        """Whether it was told to go away, and its last stream is over."""
        return self._status is not None and not self._streams

    def _room(self, number: int) -> int:
        return min(self._http2.room(number), _UNSENT_BYTES - self._unsent_bytes)

    def _send_some(self, number: int, data: bytes) -> bytes:
        """Send what there is room for; returns the rest."""
        room = self._room(number)
        if not data or room <= 0:
            return data
        self._send(number, data[:room])
        return data[room:]

    def _send(self, number: int, data: bytes) -> None:
        self._http2.send(number, data)
        self._unsent_bytes += len(data)
        self._wake_sender()

    def _wake_sender(self) -> None:
        if not self._unsent.is_set():  # cheaper than to set it again
            self._unsent.set()

    def _wait(self) -> None:
        self._waiting += 1
        self._changed.wait()
        self._waiting -= 1

    def _notify(self) -> None:
        if self._waiting:
            self._changed.notify_all()

    # The reader

    def _run(self) -> None:
        status = unavailable("the connection was closed")
        wire = None
        try:
            wire = self._wire = self._connect()
            self._sender = self._begin(wire)
            self._read(wire)
        except Http2Error as error:
            status = unavailable(f"HTTP/2: {error}")
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            status = unavailable(error)
        finally:
            self._finish(status)
            if wire is not None:
                wire.close()
                if self._sender is not None:
                    self._sender.join()
                wire.release()

    def _begin(self, wire: Wire) -> threading.Thread:
        with self._lock:
            if self._closed:  # while it was being made
                raise ConnectionAbortedError("the connection was closed")
            self._wake_sender()
        sender = self._thread_class(
            target=self._write, args=(wire,), name="http2-write", daemon=True
        )
        sender.start()
        return sender

    def _read(self, wire: Wire) -> None:
        while not self._closed:
            try:
                data = wire.read()
            except TimeoutError:
                self._check_silence()
                continue
            if not data:
                return
            self._silent = False
            told: list[Callable[[], None]] = []
            with self._lock:
                for event in self._receive(data):
                    self._take(event, told)
                used_up = self._is_used_up
                self._notify()
                if self._http2.has_to_send:  # an answer
                    self._wake_sender()
            for tell in told:
                tell()
            if used_up:
                return

    def _receive(self, data: bytes) -> list[Event]:
        try:
            return self._http2.receive(data)
        except Http2Error:
            self._closed = True  # before anybody else comes to the broken state
            raise

    def _check_silence(self) -> None:
        if self._silent or not self.was_ready:
            raise TimeoutError(f"nothing came for {SILENT_SECONDS * (1 + self._silent):g} s")
        with self._lock:
            if self._streams:
                self._silent = True
                self._http2.ping()
                self._wake_sender()

    def _take(self, event: Event, told: list[Callable[[], None]]) -> None:
        """Note whom to tell what, once the lock is free."""
        if isinstance(event, GoAway):
            self._go_away(event, told)
            return
        stream = self._streams.get(event.stream)
        if stream is None:
            return
        if isinstance(event, ResetCame):
            del self._streams[event.stream]
            told.append(partial(stream.ended, of_reset(event.code)))
            return
        if isinstance(event, DataCame):
            told.append(partial(stream.data_came, event.data))
        else:
            told.append(partial(stream.headers_came, event.headers))
        if event.ended:
            del self._streams[event.stream]
            told.append(partial(stream.ended, None))

    def _go_away(self, goaway: GoAway, told: list[Callable[[], None]]) -> None:
        """No more streams here; those that the other side has taken go on to their end."""
        text = goaway.text or "no reason given"
        status = unavailable(f"Google sent GOAWAY {goaway.code}: {text}")
        for number in [n for n in self._streams if n > goaway.last_stream]:
            stream = self._streams.pop(number)
            told.append(partial(stream.ended, status))
        if self._status is None:
            self.over_at = self._clock()
            self._status = status
            told.append(partial(self._over, self, status))

    def _finish(self, status: Status) -> None:
        with self._lock:
            first = self._status is None
            if first:
                self.over_at = self._clock()
                self._status = status
            streams, self._streams = list(self._streams.values()), {}
            self._closed = True
            self._unsent.set()
            self._changed.notify_all()
        for stream in streams:
            stream.ended(status)
        if first:
            self._over(self, status)

    # The sender

    def _write(self, wire: Wire) -> None:
        try:
            while not self._closed:
                self._unsent.wait()
                self._unsent.clear()
                with self._lock:
                    data = self._http2.data_to_send()
                    size = self._unsent_bytes
                if data:
                    wire.write(data)
                    self._written(size, wire)
        except OSError as error:
            self._finish(unavailable(error))
        finally:
            wire.close()  # the reader ends by it

    def _written(self, size: int, wire: Wire) -> None:
        with self._lock:
            self._unsent_bytes -= size
            used_up = self._is_used_up
            self._notify()
        if used_up:  # the reader would wait for the other side to close it
            wire.close()
