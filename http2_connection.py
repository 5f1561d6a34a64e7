"""One HTTP/2 connection to a gRPC server, for many streams that run at once.

Two threads of its own (greenlets in a gevent worker): one reads, and hands what comes to its
streams; the other sends. Streams only put their frames into the state of `h2`, which is done
under one lock that is never held while anything waits; the sender comes to its turn when all who
had something to say at this tick have said it, and sends it in one write. That is what makes it
cheap: gRPC's own library pays for a system call, a native thread and several wake-ups a message.

Source: RFC 9113; the protocol itself is `h2`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error

from grpc_status import Status, of_reset, unavailable
from http2_frames import GoAway, WholeFrames
from wire import Wire

Headers = list[tuple[bytes, bytes]]

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
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        self._connect = connect
        self._over = over
        self._thread_class = thread_class
        self._lock = threading.Lock()  # of all that is here; never held while anything waits
        self._changed = threading.Condition(self._lock)
        self._waiting = 0  # for a change
        self._unsent = threading.Event()
        self._wire: Wire | None = None
        self._h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,  # they are ours
                normalize_outbound_headers=False,
            )
        )
        self._streams: dict[int, Stream] = {}
        self._ready = False
        self._unsent_bytes = 0
        self._silent = False  # a ping has gone out, and nothing came since
        self._status: Status | None = None  # why no stream may be opened any more
        self._closed = False
        self._sender: threading.Thread | None = None
        thread_class(target=self._run, name="http2-read", daemon=True).start()

    # For the streams, in any thread

    def open(self, stream: Stream, headers: Headers, is_wanted: Callable[[], bool]) -> int | None:
        """Open a stream as soon as the connection is there and has room; its number.

        None once it cannot be had, which `stream` is not told, or is not wanted any more.
        """
        with self._lock:
            while self._status is None and is_wanted():
                if self._ready and self._h2.open_outbound_streams < self._most_streams:
                    number = self._h2.get_next_available_stream_id()
                    self._h2.send_headers(number, headers)
                    self._streams[number] = stream
                    self._wake_sender()
                    return number
                self._wait()
        return None

    def send(self, number: int, data: bytes) -> bool:
        """Send `data` on a stream, waiting for room if need be; False if the stream is over."""
        with self._lock:
            while number in self._streams and not self._closed:
                window = self._h2.local_flow_control_window(number)
                room = min(window, _UNSENT_BYTES - self._unsent_bytes)
                if room > 0:
                    self._send(number, data[:room])
                    data = data[room:]
                    if not data:
                        return True
                else:
                    self._wait()
        return False

    def half_close(self, number: int) -> None:
        """Send no more on a stream."""
        with self._lock:
            if number in self._streams and not self._closed:
                self._h2.end_stream(number)
                self._wake_sender()

    def cancel(self, number: int) -> None:
        """Give a stream up; it is told nothing."""
        with self._lock:
            if self._streams.pop(number, None) is not None:
                self._reset(number, ErrorCodes.CANCEL)

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
        return self._ready

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
    def _most_streams(self) -> int:
        return self._h2.remote_settings.max_concurrent_streams

    @property
    def _is_used_up(self) -> bool:
        """Whether it was told to go away, and its last stream is over."""
        return self._status is not None and not self._streams

    def _send(self, number: int, data: bytes) -> None:
        size = self._h2.max_outbound_frame_size
        for at in range(0, len(data), size):
            self._h2.send_data(number, data[at : at + size])
        self._unsent_bytes += len(data)
        self._wake_sender()

    def _reset(self, number: int, code: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(number, code)
        except H2Error:  # it is closed on both sides already
            return
        finally:
            self._notify()
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
        except H2Error as error:
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
            self._h2.local_settings.initial_window_size = _WINDOW_BYTES
            self._h2.local_settings.enable_push = 0
            self._h2.initiate_connection()
            self._h2.increment_flow_control_window(_WINDOW_BYTES)
            self._wake_sender()
        sender = self._thread_class(
            target=self._write, args=(wire,), name="http2-write", daemon=True
        )
        sender.start()
        return sender

    def _read(self, wire: Wire) -> None:
        frames = WholeFrames()
        while not self._closed:
            try:
                data = wire.read()
            except TimeoutError:
                self._check_silence()
                continue
            if not data:
                return
            self._silent = False
            whole, goaways = frames.take(data)
            told: list[Callable[[], None]] = []
            with self._lock:
                for event in self._receive(whole):
                    self._take(event, told)
                for goaway in goaways:
                    self._go_away(goaway, told)
                self._notify()
                self._wake_sender()  # it may have to answer
                used_up = self._is_used_up
            for tell in told:
                tell()
            if used_up:
                return

    def _receive(self, data: bytes) -> list[Event]:
        try:
            return self._h2.receive_data(data)
        except H2Error:
            self._closed = True  # before anybody else comes to the broken state
            raise

    def _check_silence(self) -> None:
        if self._silent or not self._ready:
            raise TimeoutError(f"nothing came for {2 * SILENT_SECONDS:g} s")
        with self._lock:
            if self._streams:
                self._silent = True
                self._h2.ping(bytes(8))
                self._wake_sender()

    def _take(self, event: Event, told: list[Callable[[], None]]) -> None:
        if isinstance(event, DataReceived):
            number = event.stream_id
            self._h2.acknowledge_received_data(event.flow_controlled_length, number)
            stream = self._streams.get(number)
            if stream is not None:
                told.append(partial(stream.data_came, event.data))
        elif isinstance(event, ResponseReceived | TrailersReceived):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                told.append(partial(stream.headers_came, dict(event.headers)))
        elif isinstance(event, StreamEnded):
            self._end(event.stream_id, None, told)
        elif isinstance(event, StreamReset):
            self._end(event.stream_id, of_reset(event.error_code), told)
        elif isinstance(event, RemoteSettingsChanged):
            self._ready = True

    def _end(self, number: int, status: Status | None, told: list[Callable[[], None]]) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            told.append(partial(stream.ended, status))
            if status is None:  # our own half may still be open
                self._reset(number, ErrorCodes.NO_ERROR)

    def _go_away(self, goaway: GoAway, told: list[Callable[[], None]]) -> None:
        """No more streams here; those that the other side has taken go on to their end."""
        text = goaway.text or "no reason given"
        status = unavailable(f"Google sent GOAWAY {goaway.code}: {text}")
        for number in [n for n in self._streams if n > goaway.last_stream]:
            stream = self._streams.pop(number)
            told.append(partial(stream.ended, status))
        if self._status is None:
            self._status = status
            told.append(partial(self._over, self, status))

    def _finish(self, status: Status) -> None:
        with self._lock:
            first = self._status is None
            self._status = self._status or status
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
                    data = self._h2.data_to_send()
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
