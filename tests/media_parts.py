"""What the tests of media streams share: the blueprint under a threaded server, and callers.

A test module takes the fixture by binding its name, so that it holds in that module alone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket as sockets
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flask_sock
import pytest
from flask import Flask
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri
from werkzeug.serving import make_server

import call_log
import media_ws_ai
from businesses import Business, Businesses
from call_log import CallLog
from call_records import CallParties, StreamCounts
from media_socket import MediaSocket
from registry import CallRegistry, LiveCall
from stream_admission import StreamAdmission
from stream_tokens import StreamTokens
from trust import Door
from twilio_stream import StreamMessages
from utterances import Final

CALL, OTHER_CALL = "CA" + "1" * 32, "CA" + "2" * 32
STREAM, OTHER_STREAM = "MZ" + "1" * 32, "MZ" + "2" * 32
FRAMES = [bytes([n]) * 160 for n in range(1, 11)]
PATIENCE = 10.0  # seconds: how long what must come is waited for


class FakeSession:
    """Keeps what is pushed; `fails` names the method that raises."""

    def __init__(self, change: threading.Condition, fails: str = "") -> None:
        self.frames: list[bytes] = []
        self.taken: list[int | bytes] = []  # frames and the sizes of gaps, in order
        self.closes = 0
        self._change = change
        self._fails = fails

    def push_together(self, frames: list[bytes]) -> None:
        with self._change:
            self.frames += frames
            self.taken += frames
            self._change.notify_all()
        if self._fails == "push_together":
            raise RuntimeError("this session takes no audio")

    def fill_gap(self, size: int) -> None:
        with self._change:
            self.taken.append(size)
        if self._fails == "fill_gap":
            raise RuntimeError("this session fills no gap")

    def has_room(self, frames: int) -> bool:
        return True

    def wait_for_room(self, frames: int) -> bool:
        return True

    def counts(self) -> StreamCounts:
        return StreamCounts(frames=len(self.frames))

    def close(self) -> None:
        with self._change:
            self.closes += 1
            self._change.notify_all()
        if self._fails == "close":
            raise RuntimeError("this session does not close")


class FakeRecord:
    """Keeps how the stream ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []

    def heard(self, delay_ms: int) -> None:
        raise AssertionError("the sessions are made here, and hear nothing")

    def said(self, track: str, final: Final) -> None:
        raise AssertionError("as above")

    def ended(self, code: int, reason: str, session: Any) -> None:
        self.ends.append((code, reason))


class Lines(logging.Handler):
    """The service's log lines, in order."""

    def __init__(self, change: threading.Condition) -> None:
        super().__init__()
        self._change = change
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        with self._change:
            self.lines.append(record.getMessage())
            self._change.notify_all()


class MediaService:
    """The blueprint on a free port, with sessions that are made here.

    `fails` is the method that fails, of the sessions or `open_session` itself; `open_session`
    waits until `may_open` is set. Whatever happens in it wakes those who wait in `wait_for`.
    """

    def __init__(self, log: Lines, change: threading.Condition) -> None:
        # A clock that stands still: what a call's last audio was, its handler alone can say.
        self.registry = CallRegistry(
            2, interval_seconds=1e6, clock=lambda: -1e6, thread_class=self._thread_class()
        )
        self.sessions: list[FakeSession] = []
        self.opened: list[tuple[str, str]] = []  # what sessions were asked for: call, business
        self.tracks: list[str] = []  # and for which track
        self.records: list[FakeRecord] = []
        self.ended = 0  # handlers that have come to their end, flask-sock's part included
        self.fails = ""
        self.may_open = threading.Event()
        self.may_open.set()
        self.port = 0
        self._log = log
        self._change = change

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        app = Flask(__name__)
        app.register_blueprint(
            media_ws_ai.make_blueprint(
                self.registry,
                Door(None),
                StreamAdmission(
                    Businesses([Business("default")]), StreamTokens("a secret"), guarded=False
                ),
                self._open_session,
                self._begin_record,
                CallLog,
            )
        )
        inner = app.wsgi_app

        def counted(environ: Any, start_response: Any) -> Iterable[bytes]:
            try:
                return inner(environ, start_response)
            finally:
                with self._change:
                    self.ended += 1
                    self._change.notify_all()

        app.wsgi_app = counted  # type: ignore[method-assign]  # as Flask documents it
        server = make_server("127.0.0.1", 0, app, threaded=True)
        server.daemon_threads = True  # type: ignore[attr-defined]  # a test that fails must end
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            self.may_open.set()
            self.registry.drain(PATIENCE)
            server.shutdown()
            thread.join()
            server.server_close()

    def _thread_class(self) -> type[threading.Thread]:
        """The registry's threads, kept in `closers` if they close a call."""
        self.closers = closers = list[threading.Thread]()

        class Kept(threading.Thread):
            def start(self) -> None:
                super().start()
                if self.name.startswith("close-"):
                    closers.append(self)

        return Kept

    def _begin_record(self, slot: LiveCall, parties: CallParties) -> FakeRecord:
        record = FakeRecord()
        with self._change:
            self.records.append(record)
        return record

    def _open_session(self, slot: LiveCall, track: str) -> FakeSession:
        with self._change:
            self.opened.append((slot.call_sid, slot.tenant_id))
            self.tracks.append(track)
            self._change.notify_all()
        assert self.may_open.wait(PATIENCE)
        if self.fails == "open_session":
            raise RuntimeError("no session to be had")
        session = FakeSession(self._change, self.fails)
        with self._change:
            self.sessions.append(session)
            self._change.notify_all()
        return session

    @property
    def session(self) -> FakeSession:
        """The only session that was made."""
        [session] = self.sessions
        return session

    def wait_for(self, predicate: Callable[[], bool]) -> None:
        with self._change:
            assert self._change.wait_for(predicate, PATIENCE), "\n".join(self._log.lines)

    def wait_for_ends(self, count: int = 1) -> None:
        """Return when `count` handlers have come to their end: nothing of theirs is to come."""
        self.wait_for(lambda: self.ended >= count)

    def wait_until_all_is_given_back(self) -> None:
        """Return when no slot is taken and each session that was made was closed, once."""
        self.wait_for(lambda: self.registry.live == 0 and all(s.closes for s in self.sessions))
        assert {session.closes for session in self.sessions} <= {1}

    def lines(self, *parts: str) -> list[str]:
        """The log lines so far that have all `parts` in them."""
        with self._change:
            return [line for line in self._log.lines if all(part in line for part in parts)]

    @contextlib.contextmanager
    def call(
        self, path: str = "/media", call_sid: str = CALL, stream_sid: str = STREAM, **options: Any
    ) -> Iterator[Caller]:
        """A stream's open socket; closed at the end, if it is not by then."""
        headers = options.pop("headers", None)
        with connect(
            f"ws://127.0.0.1:{self.port}{path}",
            additional_headers=headers,
            compression=None,
            proxy=None,
            ping_interval=None,
        ) as socket:
            yield Caller(socket, StreamMessages(call_sid, stream_sid, "AC1", **options))


class Caller:
    """Twilio's end of one stream: well-formed messages, and any others."""

    def __init__(self, socket: ClientConnection, messages: StreamMessages) -> None:
        self.socket = socket
        self.messages = messages

    def start(self, **changes: Any) -> None:
        """Say `connected` and `start`; `changes` go into the start's body."""
        self.socket.send(self.messages.connected())
        self.send_start(**changes)

    def send_start(self, **changes: Any) -> None:
        message = json.loads(self.messages.start())
        message["start"] |= changes
        self.send(message)

    def media(self, *frames: bytes, track: str | None = None) -> None:
        for frame in frames:
            message = json.loads(self.messages.media(frame))
            if track is not None:
                message["media"]["track"] = track
            self.send(message)

    def media_at(self, timestamp: Any, frame: bytes, **changes: Any) -> None:
        """One frame with a timestamp of the test's own; `changes` go into the media's body."""
        message = json.loads(self.messages.media(frame))
        message["media"] |= {"timestamp": timestamp, **changes}
        self.send(message)

    def stop(self) -> None:
        self.socket.send(self.messages.stop())

    def send(self, message: dict[str, Any]) -> None:
        self.socket.send(json.dumps(message))

    def ending(self) -> tuple[int | None, str | None]:
        """Wait for the socket's close: the code and the reason of the service."""
        with pytest.raises(ConnectionClosed):
            self.socket.recv(PATIENCE)
        return self.socket.close_code, self.socket.close_reason


class RawCaller:
    """Twilio's end with its bytes in hand: what comes after a close frame is seen, too."""

    def __init__(self, port: int) -> None:
        self.protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/media"))
        self.sock = sockets.create_connection(("127.0.0.1", port), PATIENCE)
        self.received = b""
        self._events: list[Event] = []
        self.protocol.send_request(self.protocol.connect())
        self._flush()

    def start(self, *frames: bytes) -> None:
        messages = StreamMessages(CALL, STREAM, "AC1")
        while b"\r\n\r\n" not in self.received:
            self._read()
        media = map(messages.media, frames)
        for message in (messages.connected(), messages.start(), *media):
            self.protocol.send_text(message.encode())
        self._flush()

    def stop(self) -> None:
        self.protocol.send_text(StreamMessages(CALL, STREAM, "AC1").stop().encode())
        self._flush()

    def wait_for_frame(self, opcode: Opcode) -> Frame:
        """Read until a frame of this kind comes."""
        while self._read():
            events = self.protocol.events_received()
            self._events += events
            for event in events:
                if isinstance(event, Frame) and event.opcode is opcode:
                    return event
        raise AssertionError(f"the connection ended without {opcode.name}")

    def after_the_upgrade(self) -> tuple[list[Frame], bytes]:
        """Read to the end: the frames that came, and the bytes that are part of none."""
        while self._read():
            pass
        self.sock.close()
        events = self._events + self.protocol.events_received()
        assert isinstance(events[0], Response)
        frames = [event for event in events if isinstance(event, Frame)]
        size = sum(len(f.serialize(mask=False)) for f in frames)
        return frames, self.received.partition(b"\r\n\r\n")[2][size:]

    def _read(self) -> bool:
        """Take what has come and answer a close, as the protocol has it; False at the end."""
        data = self.sock.recv(65536)
        self.received += data
        if data:
            self.protocol.receive_data(data)
            self._flush()
        return bool(data)

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            with contextlib.suppress(BrokenPipeError):
                self.sock.sendall(data)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[MediaService]:
    change = threading.Condition()
    log = Lines(change)
    level = call_log.logger.level
    call_log.logger.addHandler(log)
    call_log.logger.setLevel(logging.INFO)
    monkeypatch.setattr(flask_sock, "Server", MediaSocket)
    service = MediaService(log, change)
    with service.serving():
        yield service
    call_log.logger.removeHandler(log)
    call_log.logger.setLevel(level)


def about(call_sid: str = CALL, tenant: str = "default") -> str:
    return f"call={call_sid} tenant={tenant}"
