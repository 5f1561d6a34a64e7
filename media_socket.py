"""One WebSocket of a live call, read in its handler's own thread.

It takes the place of simple-websocket's server class under flask-sock, which reads each socket in
a thread of its own into an unbounded list, so that a slow handler grows memory instead of leaving
the bytes to TCP. Here a read takes what has come, at most 64 KiB, and nothing is read until the
handler asks again. The protocol is the sans-I/O core of the `websockets` library; what Twilio
sends all the time, whole text messages, is cut out before it (`text_frames`). A live call's socket
is read at the process's common tick (`audio_tick`), in that one's thread as long as nothing comes
but audio: to switch to the handler's thread for each read would cost a fifth more.

A stream on which nothing comes gets a ping now and then: Twilio sends nothing for a silent line,
and Heroku's router cuts a connection off that carried no byte for 55 s, either way.

`receive()` belongs to the handler's thread; `close()` may be called from any.
"""

from __future__ import annotations

import contextlib
import http
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import flask_sock
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from audio_tick import AudioTick, Turn
from text_frames import next_frame, whole_texts

MAX_MESSAGE_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
# How long a peer that neither sends nor reads is waited for, at each end's doing
CLOSE_SECONDS = 2.0
# Silence after which a ping goes out: twice within Heroku's 55 s, should one be late
PING_SECONDS = 25.0


class BinaryMessage:
    """Stands for a binary message, which Twilio never sends: nothing here reads its content."""


BINARY: Final = BinaryMessage()


class MediaSocket:
    """The server's end of a WebSocket, made from the WSGI environment of its upgrade request.

    Raises `simple_websocket.ConnectionClosed` from `receive()` when the conversation is over,
    because flask-sock expects it. `max_message_bytes`: a longer message closes with 1009.
    `ping_seconds`: a ping goes out after so long without a byte; when, is looked at every
    `close_seconds`. `tick`: when it is read, once `receive()` is told so.
    """

    def __init__(
        self,
        environ: dict[str, Any],
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        close_seconds: float = CLOSE_SECONDS,
        ping_seconds: float = PING_SECONDS,
        tick: AudioTick | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sock, self.mode = _socket_of(environ)
        self._close_seconds = close_seconds
        self._ping_seconds = ping_seconds
        self._clock = clock
        self._silent_since = clock()
        self._lock = threading.Lock()  # the protocol's state, and the order of what is written
        self._protocol = ServerProtocol(state=State.OPEN, max_size=max_message_bytes)
        self._max_message_bytes = max_message_bytes
        self._rest = b""  # a frame that is not whole yet
        self._read_ahead = b""  # read at a tick, and left to the handler
        self._fault: Exception | None = None  # of what took messages at a tick
        self._plain = True  # nothing has come but whole texts and control frames
        self._tick = tick
        self._turn: Turn | None = None
        self._parts: list[bytes] = []
        self._parts_opcode = Opcode.TEXT
        self._hear_until = 0.0
        self._sock.settimeout(close_seconds)
        self._shake_hands(environ)

    def receive(
        self,
        while_idle: Callable[[], None] | None = None,
        *,
        at_tick: Callable[[list[bytes]], bool] | None = None,
    ) -> list[bytes | BinaryMessage]:
        """Wait for text messages and return all that have come, as UTF-8 bytes, in order.

        `at_tick`: none before the next tick. What comes at a tick is offered to it, in the ticks'
        thread, where it must not wait; if it says True it has taken all, and the wait goes on.
        What it has not taken is returned. If none have come at a tick, the next that come are
        returned at once.

        `while_idle` is called every `close_seconds` or so while none come, and may raise to end
        the wait. Raises `ConnectionClosed` once the peer has closed, or has not answered our own
        close within `close_seconds`, or the connection broke. What the peer had sent before it
        saw our close comes first.
        """
        if at_tick is not None:
            self._wait_for_tick(at_tick)
        while self._protocol.state is State.OPEN or self._hears_out():
            messages = self._read()
            if messages:
                return messages
            if while_idle is not None:
                while_idle()
        raise flask_sock.ConnectionClosed(self.close_code, self.close_reason)

    def _wait_for_tick(self, take: Callable[[list[bytes]], bool]) -> None:
        if self._turn is None and self._tick is not None:
            self._turn = self._tick.join()
        if self._turn is not None:
            self._turn.wait(lambda: not self._taken_at_tick(take))
            if self._fault is not None:
                raise self._fault

    def _taken_at_tick(self, take: Callable[[list[bytes]], bool]) -> bool:
        """In the ticks' thread, while the handler waits: whether it need not wake for this read."""
        if not self._plain or self._protocol.state is not State.OPEN:
            return False
        try:
            # The socket does not block, in any of its kinds; its own `recv()` would wait by itself
            data = os.read(self._sock.fileno(), READ_BYTES)
        except OSError:  # nothing there, or nobody: the handler's own read finds out
            return False
        texts, taken = whole_texts(data, self._max_message_bytes)
        if not data or taken < len(data) or self._rest:  # hardly ever
            self._read_ahead = data
            return False
        try:
            if take(texts):
                self._silent_since = self._clock()
                return True
        except Exception as fault:  # it is the handler's, and ends nobody's call but its own
            self._fault = fault
        self._read_ahead = data
        return False

    def _hears_out(self) -> bool:
        return (
            self._protocol.state is State.CLOSING
            and self._protocol.close_rcvd is None
            and self._clock() < self._hear_until
        )

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame, once; from any thread. `receive()` ends with the peer's answer.

        The handler calls `linger()` when it is through.
        """
        with self._lock:
            if self._protocol.state is State.OPEN:
                self._hear_until = self._clock() + self._close_seconds
                self._protocol.send_close(code, _short(reason))
                self._flush()

    def linger(self) -> None:
        """Close if need be, read to the peer's end for a while, and shut the socket down.

        A socket that is closed with bytes unread is reset by the kernel, and the peer would lose
        the close frame that is on its way.
        """
        self.close()
        if self._turn is not None:
            self._turn.leave()
        give_up_at = self._clock() + self._close_seconds
        while self._protocol.state is not State.CLOSED and self._clock() < give_up_at:
            self._read()
        with contextlib.suppress(OSError):  # the peer may be gone already
            self._sock.shutdown(socket.SHUT_RDWR)

    @property
    def close_code(self) -> int:
        """The close code that ended it: ours if we closed, else the peer's; 1006 for neither."""
        close = self._protocol.close_sent or self._protocol.close_rcvd
        return int(close.code) if close is not None else 1006

    @property
    def close_reason(self) -> str:
        close = self._protocol.close_sent or self._protocol.close_rcvd
        return close.reason if close is not None else "the connection broke"

    def _read(self) -> list[bytes | BinaryMessage]:
        messages: list[bytes | BinaryMessage] = []
        data, self._read_ahead = self._read_ahead, b""
        try:
            data = data or self._sock.recv(READ_BYTES)
        except TimeoutError:
            self._ping_if_silent()
            return []
        except OSError:  # reset, or shut down under us: the peer is gone
            data = b""
        at_end = not data
        self._silent_since = self._clock()
        data, taken = self._rest + data, 0
        if self._plain and not at_end:
            texts, taken = whole_texts(data, self._max_message_bytes)
            messages += texts
        self._rest = data[taken:]
        if self._rest or at_end:  # hardly ever
            with self._lock:
                messages += self._take_rest(at_end)
                self._flush()
        return messages

    def _take_rest(self, at_end: bool) -> list[bytes | BinaryMessage]:
        """Let the parser have what is no whole text: a control frame, once it is whole.

        From the first frame on that is neither, and at the end, all is the parser's.
        """
        messages: list[bytes | BinaryMessage] = []
        while self._plain and (end := next_frame(self._rest, self._max_message_bytes)) is not None:
            if end > len(self._rest):
                break
            messages += self._parse(end)
            self._plain = not (self._protocol.close_rcvd or self._protocol.parser_exc)
            if self._plain:
                texts, taken = whole_texts(self._rest, self._max_message_bytes)
                messages += texts
                self._rest = self._rest[taken:]
        else:
            self._plain = False
        if at_end or not self._plain:
            messages += self._parse(len(self._rest))
        if at_end:
            self._protocol.receive_eof()
        return messages

    def _parse(self, size: int) -> list[bytes | BinaryMessage]:
        data, self._rest = self._rest[:size], self._rest[size:]
        self._protocol.receive_data(data)
        return self._messages()

    def _ping_if_silent(self) -> None:
        with self._lock:
            if self._protocol.state is not State.OPEN:
                return
            now = self._clock()
            if now - self._silent_since >= self._ping_seconds:
                self._silent_since = now
                self._protocol.send_ping(b"")
                self._flush()

    def _messages(self) -> list[bytes | BinaryMessage]:
        messages: list[bytes | BinaryMessage] = []
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)  # the handshake is behind us
            opcode = frame.opcode
            if opcode is Opcode.TEXT and frame.fin:  # nearly every frame
                messages.append(frame.data)  # type: ignore[arg-type]  # bytes when received
            elif opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._join(frame, messages)
        return messages

    def _join(self, frame: Frame, messages: list[bytes | BinaryMessage]) -> None:
        if frame.opcode is not Opcode.CONT:
            self._parts, self._parts_opcode = [], frame.opcode
        if frame.data:  # empty ones are counted by no limit
            self._parts.append(bytes(frame.data))
        if frame.fin:
            messages.append(b"".join(self._parts) if self._parts_opcode is Opcode.TEXT else BINARY)
            self._parts = []

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            try:
                if data:
                    self._sock.sendall(data)
                else:
                    self._sock.shutdown(socket.SHUT_WR)
            except OSError:  # the peer is gone, or takes nothing; the next read says so
                with contextlib.suppress(OSError):  # nothing may follow on half a frame
                    self._sock.shutdown(socket.SHUT_RDWR)
                return

    def _shake_hands(self, environ: dict[str, Any]) -> None:
        """Answer the upgrade request that the WSGI server has already read (RFC 6455, 4.2)."""
        headers = Headers()
        for key, value in environ.items():
            if key.startswith("HTTP_"):
                headers[key[5:].replace("_", "-").title()] = value
        response = self._protocol.accept(Request(environ.get("PATH_INFO", "/"), headers))
        try:
            self._sock.sendall(response.serialize())
        except OSError:  # the peer is gone; no exception may reach flask-sock
            self._protocol.state = State.CLOSED
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self._protocol.state = State.CLOSED


def _socket_of(environ: dict[str, Any]) -> tuple[socket.socket, str]:
    """The connection under a WSGI request, and the name flask-sock has for the server there."""
    for mode in ("gunicorn", "werkzeug"):
        sock = environ.get(f"{mode}.socket")
        if sock is not None:
            return sock, mode
    raise RuntimeError("no socket in the WSGI environment: run under gunicorn or flask run")


def _short(reason: str) -> str:
    """`reason` cut to the 123 bytes that a close frame has room for (RFC 6455, 5.5)."""
    return reason.encode()[:123].decode(errors="ignore")
