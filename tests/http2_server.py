"""An HTTP/2 server that does what a test says, on the `h2` library: a second opinion on ours."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes, Settings

PATIENCE = 10.0
Answer = Callable[["Http2Server", Event], None]
OK = [(":status", "200"), ("content-type", "application/grpc")]


def message(data: bytes) -> bytes:
    """`data` as a message of gRPC's."""
    return struct.pack(">BI", 0, len(data)) + data


class Http2Server:
    """Serves connections, one after the other, on a free port while it is entered.

    `answer(server, event)` is called for each event of `h2`, in the server's thread, and may use
    `h2` of the connection; what that has to send is sent then. `window`: what a stream may send
    before it is given more, and nobody gives it any but `answer`; None: as much as comes.
    `greeting` is said in place of HTTP/2's.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        window: int | None = None,
        settings: dict[Any, int] | None = None,
        greeting: bytes = b"",
    ) -> None:
        self.h2 = H2Connection()  # of the last connection
        self.events: list[Event] = []
        self.connections = 0
        self._answer = answer
        self._window = window
        self._settings = settings or {}
        self._greeting = greeting
        self._changed = threading.Condition()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._sock: socket.socket | None = None
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        self._listening.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        self._thread.join(PATIENCE)
        self._listening.close()

    def wait_for(self, predicate: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(predicate, PATIENCE), self.events

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of this kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def data(self) -> bytes:
        return b"".join(event.data for event in self.of(DataReceived))

    def do(self, act: Callable[[H2Connection], None]) -> None:
        """Do something of the server's own accord, from another thread."""
        with self._changed:
            act(self.h2)
            self._send()

    def hang_up(self) -> None:
        """Cut the connection off."""
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is gone
                return

    def _serve(self) -> None:
        while not self._over:
            try:
                self._sock, _ = self._listening.accept()
            except OSError:  # closed
                return
            with self._sock:
                self._converse(self._sock)

    def _converse(self, sock: socket.socket) -> None:
        with self._changed:
            self.connections += 1
            self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
            values = dict(self._settings)
            if self._window is not None:
                values[SettingCodes.INITIAL_WINDOW_SIZE] = self._window
            self.h2.local_settings = Settings(client=False, initial_values=values)
            self.h2.initiate_connection()
            if self._greeting:
                self.h2.clear_outbound_data_buffer()
                sock.sendall(self._greeting)
            self._send()
        while True:
            try:
                data = sock.recv(65536)
            except OSError:  # reset
                return
            if not data:
                return
            with self._changed:
                for event in self.h2.receive_data(data):
                    self.events.append(event)
                    # a stream that was reset by the answer to an event before this one
                    with contextlib.suppress(StreamClosedError):
                        if isinstance(event, DataReceived) and self._window is None:
                            self.h2.acknowledge_received_data(
                                event.flow_controlled_length, event.stream_id
                            )
                        self._answer(self, event)
                self._changed.notify_all()
                try:
                    self._send()
                except OSError:  # the client is gone
                    return

    def _send(self) -> None:
        data = self.h2.data_to_send()
        if data and self._sock is not None:
            self._sock.sendall(data)


def nothing(server: Http2Server, event: Event) -> None:
    """Never answers."""


def echo(server: Http2Server, event: Event) -> None:
    """Sends back what comes, and ends in order after the half-close."""
    if isinstance(event, RequestReceived):
        server.h2.send_headers(event.stream_id, OK)
    elif isinstance(event, DataReceived) and event.data:
        server.h2.send_data(event.stream_id, event.data)
    elif isinstance(event, StreamEnded):
        server.h2.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)


__all__ = ["Event", "Http2Server", "StreamReset", "echo", "message", "nothing"]
