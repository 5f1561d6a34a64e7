"""Media streams, rule by rule: the blueprint under a threaded server, and a real client."""

from __future__ import annotations

import contextlib
import json
import logging
import socket as sockets
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flask_sock
import pytest
from flask import Flask
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri
from werkzeug.serving import make_server

import call_log
import media_ws_ai
from call_log import CallLog
from media_socket import MediaSocket
from media_ws_ai import EARLY_BYTES, EARLY_FRAMES
from registry import CallRegistry
from twilio_stream import StreamMessages

CALL, OTHER_CALL = "CA" + "1" * 32, "CA" + "2" * 32
STREAM, OTHER_STREAM = "MZ" + "1" * 32, "MZ" + "2" * 32
FRAMES = [bytes([n]) * 160 for n in range(1, 11)]
PATIENCE = 10.0  # seconds: how long what must come is waited for


class FakeSession:
    """Keeps what is pushed; `fails` names the method that raises."""

    def __init__(self, change: threading.Condition, fails: str = "") -> None:
        self.frames: list[bytes] = []
        self.closes = 0
        self._change = change
        self._fails = fails

    def push_audio(self, frame: bytes) -> bool:
        with self._change:
            self.frames.append(frame)
            self._change.notify_all()
        if self._fails == "push_audio":
            raise RuntimeError("this session takes no audio")
        return True

    def close(self) -> None:
        with self._change:
            self.closes += 1
            self._change.notify_all()
        if self._fails == "close":
            raise RuntimeError("this session does not close")


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
            media_ws_ai.make_blueprint(self.registry, self._open_session, CallLog)
        )
        inner = app.wsgi_app

        def counted(environ: Any, start_response: Any) -> Iterable[bytes]:
            try:
                return inner(environ, start_response)
            finally:
                with self._change:
                    self.ended += 1
                    self._change.notify_all()

        app.wsgi_app = counted  # type: ignore[method-assign]
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

    def _open_session(self, call_sid: str, tenant: str, log: CallLog) -> FakeSession:
        with self._change:
            self.opened.append((call_sid, tenant))
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

    def stop(self) -> None:
        self.socket.send(self.messages.stop())

    def send(self, message: dict[str, Any]) -> None:
        self.socket.send(json.dumps(message))

    def ending(self) -> tuple[int | None, str | None]:
        """Wait for the socket's close: the code and the reason of the service."""
        with pytest.raises(ConnectionClosed):
            self.socket.recv(PATIENCE)
        return self.socket.close_code, self.socket.close_reason


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


# The messages


def test_a_call_from_connected_to_stop(service: MediaService) -> None:
    """Every message of Twilio's in turn: all frames in order, 1000, two lines in the log."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES[:5])
        caller.socket.send(caller.messages.dtmf("5"))
        caller.media(*FRAMES[5:])
        caller.socket.send(caller.messages.mark("m"))
        caller.stop()
        assert caller.ending() == (1000, "the call has ended")
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert service.opened == [(CALL, "default")]
    service.wait_until_all_is_given_back()
    assert service.lines() == [
        f"[WS] connected {about()}",
        f"[WS] closed: 1000 the call has ended {about()} skipped=0 ignored=0",
    ]


def test_unknown_events_are_ignored_and_counted(service: MediaService) -> None:
    """Twilio may add events at any time, before and after `start`: no fault, no line each."""
    with service.call() as caller:
        caller.send({"event": "greeting", "streamSid": STREAM})
        caller.start()
        caller.send({"event": "transcription", "transcription": {"text": "x"}})
        caller.send({"event": "Media", "media": 5})
        caller.media(*FRAMES)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert service.lines("skipped:") == []
    assert len(service.lines("closed: 1000", "skipped=0 ignored=3")) == 1


@pytest.mark.parametrize("kind", [int, str])
def test_numbers_may_be_strings(service: MediaService, kind: type) -> None:
    """Twilio writes numbers both ways, the documentation one and the wire the other."""
    media_format = {"encoding": "audio/x-mulaw", "sampleRate": kind(8000), "channels": kind(1)}
    with service.call() as caller:
        caller.send_start(mediaFormat=media_format)
        for number, frame in enumerate(FRAMES):
            message = json.loads(caller.messages.media(frame))
            message["sequenceNumber"] = kind(number + 2)
            message["media"] |= {"chunk": kind(number + 1), "timestamp": kind(number * 20)}
            caller.send(message)
        caller.send({"event": "dtmf", "sequenceNumber": kind(12), "dtmf": {"digit": kind(5)}})
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.frames == FRAMES
    service.wait_for_ends()
    assert len(service.lines("closed:", "skipped=0 ignored=0")) == 1


# The call's business


PARAMETER = {"tenant": "of-parameter"}
HEADER = {"X-Tenant": "of-header"}


@pytest.mark.parametrize(
    ("path", "parameters", "headers", "tenant"),
    [
        ("/media/of-path?tenant=of-query", PARAMETER, HEADER, "of-path"),
        ("/media?tenant=of-query", PARAMETER, HEADER, "of-parameter"),
        ("/media?tenant=of-query", {"tenant": ""}, HEADER, "of-query"),
        ("/media?tenant=", {}, HEADER, "of-header"),
        ("/media", {"other": "x"}, {}, "default"),
        ("/media", None, {}, "default"),
    ],
)
def test_the_business_comes_from_the_first_place_that_names_it(
    service: MediaService, path: str, parameters: Any, headers: dict[str, str], tenant: str
) -> None:
    """Path, then customParameters.tenant, then ?tenant=, then X-Tenant, then `default`."""
    with service.call(path, headers=headers) as caller:
        caller.start(customParameters=parameters)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.opened == [(CALL, tenant)]
    assert len(service.lines("[WS] connected", about(tenant=tenant))) == 1
    assert len(service.lines("[WS] closed", about(tenant=tenant))) == 1


@pytest.mark.parametrize(
    ("path", "parameters", "headers", "where"),
    [
        ("/media/no%20good", PARAMETER, HEADER, "the path"),
        ("/media?tenant=of-query", {"tenant": "../../x"}, HEADER, "customParameters.tenant"),
        ("/media", {"tenant": 5}, {}, "customParameters.tenant"),
        ("/media?tenant=x%0Ay", {}, HEADER, "?tenant="),
        ("/media", {}, {"X-Tenant": "x" * 65}, "X-Tenant"),
    ],
)
def test_a_business_whose_id_is_none_is_refused_with_1008(
    service: MediaService, path: str, parameters: Any, headers: dict[str, str], where: str
) -> None:
    """What would end up in lines and keys is an id, or the call is not taken for anybody."""
    with service.call(path, headers=headers) as caller:
        caller.start(customParameters=parameters)
        code, reason = caller.ending()
    assert code == 1008
    assert (reason or "").startswith(f"{where}: a business's id is")
    service.wait_for_ends()
    assert service.opened == []
    assert service.registry.live == 0
    assert len(service.lines()) == 1
    assert service.lines(f"[WS] refused: 1008 {where}: ")


# Frames before the session is ready


def test_media_before_start_is_kept_in_order(service: MediaService) -> None:
    """As much as is kept at most: the call's first words reach its session before the next."""
    early = [n.to_bytes(2, "big") * 80 for n in range(EARLY_FRAMES)]
    with service.call() as caller:
        caller.media(*early)
        caller.start()
        caller.media(*FRAMES)
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.frames == early + FRAMES


def test_early_frames_are_sorted_out_once_start_has_come(service: MediaService) -> None:
    """Frames of other tracks and streams and empty ones are not smuggled in before `start`."""
    with service.call() as caller:
        caller.media(FRAMES[0])
        caller.media(FRAMES[1], track="outbound")
        caller.send({**json.loads(caller.messages.media(FRAMES[2])), "streamSid": OTHER_STREAM})
        caller.media(b"", FRAMES[3])
        caller.start()
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == [FRAMES[0], FRAMES[3]]
    assert len(service.lines("closed:", "skipped=2 ignored=1")) == 1


@pytest.mark.parametrize(
    "frames",
    [[b"\xff" * 8] * (EARLY_FRAMES + 1), [b"\xff" * 40_000, b"\xff" * (EARLY_BYTES - 39_999)]],
    ids=["too many", "too large"],
)
def test_a_stream_that_never_starts_is_closed_with_1002(
    service: MediaService, frames: list[bytes]
) -> None:
    """What is kept for a `start` that does not come is bounded, in frames and in bytes."""
    with service.call() as caller:
        caller.media(*frames)
        assert caller.ending() == (1002, "5 s of media came, but no start")
    service.wait_for_ends()
    assert service.lines() == ["[WS] refused: 1002 5 s of media came, but no start call=- tenant=-"]


def test_media_that_comes_while_the_session_opens_is_kept_in_order(service: MediaService) -> None:
    """A slow start of the recognition costs no frame."""
    service.may_open.clear()
    with service.call() as caller:
        caller.media(*FRAMES[:3])
        caller.start()
        caller.media(*FRAMES[3:6])
        service.wait_for(lambda: len(service.opened) == 1)
        caller.media(*FRAMES[6:])
        assert service.sessions == []
        service.may_open.set()
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.frames == FRAMES


# What is transcribed


def test_only_the_inbound_track_is_transcribed(service: MediaService) -> None:
    """Both spellings of it, or none; frames of any other track are counted, not mixed in."""
    with service.call() as caller:
        caller.start()
        for frame, track in zip(FRAMES, ["inbound", "outbound", "inbound_track"], strict=False):
            caller.media(frame, track=track)
        caller.media(FRAMES[3], track="outbound_track")
        message = json.loads(caller.messages.media(FRAMES[4]))
        del message["media"]["track"]
        caller.send(message)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == [FRAMES[0], FRAMES[2], FRAMES[4]]
    assert len(service.lines("closed:", "skipped=0 ignored=2")) == 1


def test_audio_keeps_a_call_from_the_reaper(service: MediaService) -> None:
    """The time of the last audio is that of the last media message, of whatever track."""
    began = time.monotonic()
    with service.call() as caller:
        caller.start()
        caller.media(FRAMES[0], track="outbound")
        caller.media(FRAMES[1])
        service.wait_for(lambda: bool(service.sessions and service.session.frames))
        assert service.registry.reap(now=began + 100) == 0
        assert service.registry.reap(now=began + 1e6) == 1
        assert caller.ending() == (1001, "no audio came")
    service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert len(service.lines("[WS] closed: 1001 no audio came", about())) == 1


# Broken messages


def media_with(**changes: Any) -> str:
    message = json.loads(StreamMessages(CALL, STREAM, "AC1").media(b"\xff" * 160))
    message["media"] |= changes
    return json.dumps(message)


def media_of(stream_sid: str) -> str:
    return StreamMessages(CALL, stream_sid, "AC1").media(b"\xff" * 160)


FAULTS: dict[str, tuple[str | bytes, str]] = {
    "not JSON": ("hello", "not JSON"),
    "half a message": (media_of(STREAM)[:-40], "not JSON"),
    "not an object": ('["media"]', "not a JSON object"),
    "no event": ("{}", "no event"),
    "binary": (b"\xff" * 160, "a binary message"),
    "not base64": (media_with(payload="not base64!"), "media: Invalid base64"),
    "no payload": ('{"event":"media","media":{}}', "media: Object missing required field"),
    "payload of the wrong kind": (media_with(payload=5), "media: Expected `bytes`, got `int`"),
    "empty payload": (media_with(payload=""), "media without audio: the payload is empty"),
    "other stream": (
        media_of(OTHER_STREAM),
        "media of another stream",
    ),
}


@pytest.mark.parametrize(("message", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_broken_message_is_skipped_with_a_line_and_the_call_goes_on(
    service: MediaService, message: str | bytes, fault: str
) -> None:
    """Between good frames, 25 times: the 1st and the 10th are logged, every good frame arrives."""
    with service.call() as caller:
        caller.start()
        for frame in FRAMES[:5]:
            caller.media(frame)
            for _ in range(5):
                caller.socket.send(message)
        caller.media(*FRAMES[5:])
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    said = service.lines("[WS] skipped:")
    assert [line.rpartition(" ")[2] for line in said] == ["count=1", "count=10"]
    assert all(line.startswith(f"[WS] skipped: {fault}") and about() in line for line in said)
    assert len(service.lines("[WS] closed: 1000", "skipped=25 ignored=0")) == 1


def test_a_message_that_is_not_utf_8_is_skipped(service: MediaService) -> None:
    """A text message with other bytes in it costs that message and not the call."""
    with service.call() as caller:
        caller.start()
        caller.socket.send(b'{"event":"mark","mark":{"name":"\xff"}}', text=True)
        caller.media(*FRAMES)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert len(service.lines("[WS] skipped: not JSON", about())) == 1


def test_each_kind_of_fault_is_named(service: MediaService) -> None:
    """A fault does not hide behind another one that came first, of the same event."""
    with service.call() as caller:
        caller.start()
        for _ in range(2):
            for message, _ in FAULTS.values():
                caller.socket.send(message)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    for fault in ("not JSON", "no event", "a binary message", "media: Invalid base64"):
        assert len(service.lines(f"[WS] skipped: {fault}", "count=1")) == 1
    for fault in ("the payload is empty", "its streamSid is not this one's"):
        assert len(service.lines("[WS] skipped: ", fault, "count=1")) == 1


def test_a_fault_is_logged_shortly_whatever_it_quotes(service: MediaService) -> None:
    """A message of 60 kB does not become a line of 60 kB."""
    with service.call() as caller:
        caller.start()
        caller.socket.send('{"event":"%s","event":"media"}' % ("x" * 60_000))
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    [line] = service.lines("[WS] skipped: media: ")
    assert len(line) < 400


def test_broken_messages_before_start_are_skipped_too(service: MediaService) -> None:
    """Whose they are is not known yet, and the call begins all the same."""
    with service.call() as caller:
        caller.socket.send("hello")
        caller.socket.send('{"event":"start","start":{}}')
        caller.start()
        caller.media(*FRAMES)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert len(service.lines("[WS] skipped: not JSON call=- tenant=- count=1")) == 1
    assert len(service.lines("[WS] skipped: start: ", "callSid", "call=- tenant=- count=1")) == 1
    assert len(service.lines("[WS] closed: 1000", about(), "skipped=2")) == 1


# Broken conversations


def test_a_message_of_more_than_64_kib_is_closed_with_1009(service: MediaService) -> None:
    """64 KiB are taken; one byte more ends the call."""
    padding = "x" * (64 * 1024 - len('{"event":""}'))
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES)
        caller.socket.send(f'{{"event":"{padding}"}}')
        caller.media(*FRAMES)
        service.wait_for(lambda: bool(service.sessions and len(service.session.frames) == 20))
        caller.socket.send(f'{{"event":"{padding}x"}}')
        assert caller.ending()[0] == 1009
    service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert len(service.lines("[WS] closed: 1009 ", about(), "skipped=0 ignored=1")) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": "audio/L16"},
        {"sampleRate": 16000},
        {"sampleRate": "44100"},
        {"sampleRate": 10**400},
        {"channels": 2},
    ],
    ids=str,
)
def test_audio_of_another_kind_is_refused_with_1003(
    service: MediaService, change: dict[str, Any]
) -> None:
    """Recognised as mu-law at 8 kHz it would be noise: no slot, no session, one line."""
    media_format = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1} | change
    with service.call() as caller:
        caller.start(mediaFormat=media_format)
        code, reason = caller.ending()
    assert code == 1003
    assert (reason or "").startswith("start: audio is ")
    service.wait_for_ends()
    assert (service.opened, service.registry.live) == ([], 0)
    assert [line.partition(" is ")[0] for line in service.lines()] == [
        "[WS] refused: 1003 start: audio"
    ]


@pytest.mark.parametrize("call_sid", ["", "CA 1", "CA1\nCA2", "x" * 65])
def test_a_start_without_a_call_id_is_closed_with_1002(
    service: MediaService, call_sid: str
) -> None:
    """An id that is none could not be told apart in the log, nor in the registry."""
    with service.call() as caller:
        caller.start(callSid=call_sid)
        assert caller.ending() == (1002, "start: callSid is not an id of letters and digits")
    service.wait_for_ends()
    assert (service.opened, service.registry.live) == ([], 0)
    assert len(service.lines()) == 1


def test_a_stop_before_start_is_closed_with_1002(service: MediaService) -> None:
    """There is no call that it could end."""
    with service.call() as caller:
        caller.socket.send(caller.messages.connected())
        caller.stop()
        assert caller.ending() == (1002, "stop came before start")
    service.wait_for_ends()
    assert service.opened == []
    assert service.lines() == ["[WS] refused: 1002 stop came before start call=- tenant=-"]


def test_a_second_start_of_the_same_call_is_skipped(service: MediaService) -> None:
    """It opens no second session, and the frames go on to the first."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES[:5])
        caller.send_start()
        caller.media(*FRAMES[5:])
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert len(service.lines("[WS] skipped: a second start", about(), "count=1")) == 1
    assert len(service.lines("[WS] connected")) == 1


def test_a_second_start_for_another_call_is_closed_with_1002(service: MediaService) -> None:
    """One socket is one call: nobody's words may go to another's session."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES)
        caller.send_start(callSid=OTHER_CALL)
        assert caller.ending() == (1002, "a second start, for another call")
    service.wait_for_ends()
    assert service.opened == [(CALL, "default")]
    assert service.session.frames == FRAMES
    service.wait_until_all_is_given_back()
    assert service.lines()[1:] == [f"[WS] refused: 1002 a second start, for another call {about()}"]


# Calls that are not taken


def test_over_capacity_is_refused_with_1013(service: MediaService) -> None:
    """One line, no session and no slot; the live calls go on, and an end makes room."""
    with service.call() as first, service.call(call_sid="CA2") as second:
        first.start()
        second.start()
        service.wait_for(lambda: len(service.sessions) == 2)
        for number in (1, 2):
            with service.call(call_sid=OTHER_CALL) as third:
                third.start()
                code, reason = third.ending()
            assert (code, reason) == (1013, "2 calls are live, MAX_CONCURRENT_CALLS is 2")
            service.wait_for_ends(number)
        assert len(service.opened) == service.registry.live == 2
        assert [line.partition(":")[0] for line in service.lines(OTHER_CALL)] == [
            "[WS] refused",
            "[WS] refused",
        ]
        first.stop()
        assert first.ending()[0] == 1000
        service.wait_for_ends(3)
        with service.call(call_sid=OTHER_CALL) as third:
            third.start()
            third.stop()
            assert third.ending()[0] == 1000
        second.media(*FRAMES)
        second.stop()
        assert second.ending()[0] == 1000
    service.wait_for_ends(5)
    assert [session.frames for session in service.sessions].count(FRAMES) == 1
    service.wait_until_all_is_given_back()


def test_a_draining_worker_refuses_with_1012(service: MediaService) -> None:
    """1012 sends Twilio to another worker; no slot is taken in this one."""
    assert service.registry.drain(0) == 0
    with service.call() as caller:
        caller.start()
        assert caller.ending() == (1012, "this worker is shutting down")
    service.wait_for_ends()
    assert (service.opened, service.registry.live) == ([], 0)
    assert service.lines() == [f"[WS] refused: 1012 this worker is shutting down {about()}"]


# Faults of our own


class RawCaller:
    """Twilio's end with its bytes in hand: what comes after a close frame is seen, too."""

    def __init__(self, port: int) -> None:
        self.protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/media"))
        self.sock = sockets.create_connection(("127.0.0.1", port), PATIENCE)
        self.received = b""
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

    def after_the_upgrade(self) -> tuple[list[Frame], bytes]:
        """Read to the end: the frames that came, and the bytes that are part of none."""
        while self._read():
            pass
        self.sock.close()
        events = self.protocol.events_received()
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


@pytest.mark.parametrize(
    ("fails", "code"), [("open_session", 1011), ("push_audio", 1011), ("close", 1000)]
)
def test_a_failing_session_ends_its_call_and_nothing_else(
    service: MediaService, fails: str, code: int
) -> None:
    """1011, the slot given back, the session closed, and no HTTP error in the WebSocket."""
    service.fails = fails
    caller = RawCaller(service.port)
    caller.start(FRAMES[0])
    if fails == "close":
        caller.stop()
    frames, rest = caller.after_the_upgrade()
    assert [frame.opcode for frame in frames] == [Opcode.CLOSE]
    assert Close.parse(bytes(frames[0].data)).code == code
    assert rest == b""
    service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert len(service.lines("] internal error ", about())) == 1
    assert len(service.lines(f"[WS] closed: {code} ", about())) == 1

    service.fails = ""
    with service.call() as sound:
        sound.start()
        sound.media(*FRAMES)
        sound.stop()
        assert sound.ending()[0] == 1000
    assert service.sessions[-1].frames == FRAMES


def test_a_close_that_fails_gives_back_the_slot(
    service: MediaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of an end is taken, whatever the one before it did."""

    close = MediaSocket.close
    failures: list[int] = []

    def fail_once(socket: MediaSocket, code: int = 1000, reason: str = "") -> None:
        if not failures:
            failures.append(code)
            raise RuntimeError("this socket does not close")
        close(socket, code, reason)

    with service.call() as caller:
        caller.start()
        service.wait_for(lambda: len(service.sessions) == 1)
        monkeypatch.setattr(MediaSocket, "close", fail_once)
        caller.stop()
        assert caller.ending() == (1000, "the call has ended")
    service.wait_for_ends()
    assert failures == [1000]
    service.wait_until_all_is_given_back()
    assert len(service.lines("[WS] closed: 1000 ", about())) == 1


# The ends of a call


def stop(caller: Caller) -> None:
    caller.stop()
    caller.ending()


def close(caller: Caller) -> None:
    caller.socket.close(1001, "going away")


def abort(caller: Caller) -> None:
    """Vanish, as a machine does that lost its power and came back: the kernel sends a reset."""
    linger = struct.pack("ii", 1, 0)
    caller.socket.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, linger)
    caller.socket.close_socket()


ENDS = [
    (stop, "1000 the call has ended"),
    (close, "1001 going away"),
    (abort, "1006 the connection broke"),
]


@pytest.mark.parametrize(("end", "says"), ENDS)
def test_however_a_call_ends_its_session_is_closed_and_its_slot_given_back(
    service: MediaService, end: Callable[[Caller], None], says: str
) -> None:
    """By `stop`, by a close, by a cut connection: all its frames were taken, and it is logged."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES)
        service.wait_for(lambda: bool(service.sessions and len(service.session.frames) == 10))
        assert service.registry.get_session(CALL) is service.session
        assert (service.registry.live, service.session.closes) == (1, 0)
        end(caller)
        service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert service.session.frames == FRAMES
    assert service.lines() == [
        f"[WS] connected {about()}",
        f"[WS] closed: {says} {about()} skipped=0 ignored=0",
    ]


@pytest.mark.parametrize(("end", "says"), ENDS[1:])
def test_a_socket_that_never_starts_ends_quietly(
    service: MediaService, end: Callable[[Caller], None], says: str
) -> None:
    """It has neither slot nor session; its one line says how it ended."""
    with service.call() as caller:
        caller.socket.send(caller.messages.connected())
        end(caller)
        service.wait_for_ends()
    assert (service.opened, service.registry.live) == ([], 0)
    assert service.lines() == [f"[WS] closed: {says} call=- tenant=- skipped=0 ignored=0"]


def test_a_second_stream_of_a_live_call_takes_the_first_ones_place(
    service: MediaService,
) -> None:
    """The first is closed; its end leaves the second with its session and its slot."""
    with service.call() as first, service.call(stream_sid=OTHER_STREAM) as second:
        first.start()
        first.media(*FRAMES[:5])
        service.wait_for(lambda: bool(service.sessions and len(service.session.frames) == 5))
        second.start()
        assert first.ending() == (1000, "replaced by a newer stream of this call")
        service.wait_for_ends(1)
        service.wait_for(lambda: len(service.sessions) == 2 and service.sessions[0].closes == 1)
        assert service.sessions[1].closes == 0
        assert service.registry.live == 1
        assert service.registry.get_session(CALL) is service.sessions[1]
        second.media(*FRAMES[5:])
        second.stop()
        assert second.ending() == (1000, "the call has ended")
    service.wait_for_ends(2)
    assert [session.frames for session in service.sessions] == [FRAMES[:5], FRAMES[5:]]
    service.wait_until_all_is_given_back()


def test_a_stream_that_is_replaced_while_its_session_opens_closes_that_session(
    service: MediaService,
) -> None:
    """The session that comes too late for its slot is closed, and the newer stream's is not."""
    service.may_open.clear()
    with service.call() as first, service.call(stream_sid=OTHER_STREAM) as second:
        first.start()
        service.wait_for(lambda: len(service.opened) == 1)
        second.start()
        service.wait_for(lambda: len(service.opened) == 2)
        [closer] = service.closers
        closer.join(PATIENCE)
        service.may_open.set()
        assert first.ending()[0] == 1000
        service.wait_for_ends(1)
        service.wait_for(lambda: len(service.sessions) == 2)
        assert sorted(session.closes for session in service.sessions) == [0, 1]
        second.media(*FRAMES)
        second.stop()
        assert second.ending()[0] == 1000
    service.wait_for_ends(2)
    assert sorted(session.frames for session in service.sessions) == [[], FRAMES]
    service.wait_until_all_is_given_back()
    assert service.lines("refused") == []


def test_a_drain_ends_live_calls_with_1012(service: MediaService) -> None:
    """Whatever the handler was doing: the socket is told, the session closed once."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES)
        service.wait_for(lambda: bool(service.sessions and len(service.session.frames) == 10))
        assert service.registry.drain(PATIENCE) == 0
        assert caller.ending() == (1012, "service restart")
    service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert len(service.lines(f"[WS] closed: 1012 service restart {about()}")) == 1


def test_faults_of_one_call_are_not_noticed_by_another(service: MediaService) -> None:
    """Beside every kind of broken message a good call loses no frame."""
    with service.call(call_sid=OTHER_CALL) as good, service.call() as bad:
        good.start()
        bad.start()
        for (message, _), frame in zip(FAULTS.values(), FRAMES, strict=True):
            bad.socket.send(message)
            good.media(frame)
        bad.send_start(callSid="CA2")
        assert bad.ending()[0] == 1002
        good.stop()
        assert good.ending()[0] == 1000
    service.wait_for_ends(2)
    assert [s.frames for s in service.sessions if s.frames] == [FRAMES]
    service.wait_until_all_is_given_back()
