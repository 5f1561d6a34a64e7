"""Malformed messages against the real service, with a good call beside them.

Hundreds in `make test`, thousands in `make soak`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import itertools
import json
import secrets
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from running_service import RunningService
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from frame_echo import FrameEcho, numbered_frame
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, new_sid, play_calls
from twilio_stream import CallReport, StreamMessages

MESSAGES = 20  # of a conversation
GOOD, BAD = 1, 2  # the calls' numbers in their frames
PATIENCE = 10.0  # seconds: how long what must come is waited for

# What is sent


TEXTS = st.text(max_size=40)
HUGE = st.sampled_from([10**400, -(10**400), 2**63, -(2**63) - 1, 1e308, -1, 0, 0.5, "9" * 5000])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | HUGE
VALUES = st.recursive(
    SCALARS,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3),
    max_leaves=6,
)
NOT_BASE64 = st.sampled_from(["!", "YWI", "YW=I", "====", "_-_-", "/w==\n", " /w==", "\ud800"])


def valid_messages() -> list[dict[str, Any]]:
    """One of each kind, as Twilio writes them."""
    twilio = StreamMessages("CA" + "0" * 32, "MZ" + "0" * 32, "AC1", custom_parameters={"a": "b"})
    frame = numbered_frame(BAD, 0)
    texts = [twilio.connected(), twilio.start(), twilio.media(frame), twilio.media(frame)]
    texts += [twilio.dtmf("5"), twilio.mark("m"), twilio.stop()]
    return [json.loads(text) for text in texts]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field in a message."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid message with a field missing or of the wrong kind, cut short, or damaged."""
    message = copy.deepcopy(draw(st.sampled_from(valid_messages())))
    *path, last = draw(st.sampled_from(list(places(message))))
    inner = message
    for key in path:
        inner = inner[key]
    how = draw(st.sampled_from(["missing", "wrong", "huge", "surrogate", "cut", "bytes", "twice"]))
    if how == "missing":
        del inner[last]
    elif how in ("wrong", "huge"):
        inner[last] = draw(VALUES if how == "wrong" else HUGE)
    elif how == "surrogate":
        inner[last] = draw(st.sampled_from(["\ud800", "\udfff\ud800", "a\udc00"]))
    text = json.dumps(message).encode()
    if how == "cut":
        return text[: draw(st.integers(0, len(text) - 1))]
    if how == "bytes":
        at = draw(st.integers(0, len(text) - 1))
        return text[:at] + draw(st.binary(min_size=1, max_size=3)) + text[at + 1 :]
    if how == "twice":
        return b'{"event":' + json.dumps(draw(TEXTS)).encode() + b"," + text[1:]
    return text


@st.composite
def bad_media(draw: st.DrawFn) -> bytes:
    """A media message with a payload that is none, or one that is no frame of 20 ms."""
    if draw(st.booleans()):
        payload = draw(NOT_BASE64 | TEXTS)
    else:
        audio = draw(st.binary(max_size=30)) * draw(st.sampled_from([0, 1, 100, 1500]))
        payload = base64.b64encode(audio).decode()
    return json.dumps({"event": "media", "media": {"payload": payload}}).encode()


@st.composite
def nested(draw: st.DrawFn) -> bytes:
    """Brackets as deep as a message can hold, on their own or where a value is expected."""
    depth = draw(st.sampled_from([100, 1000, 5000, 30_000]))
    deep = draw(st.sampled_from([b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth]))
    before = [b"", b'{"event":', b'{"event":"media","media":', b'{"event":"x","y":']
    before += [b'{"event":"start","start":{"callSid":"CA1","customParameters":']
    return (draw(st.sampled_from(before)) + deep)[:65_000]


def too_long(size: int) -> bytes:
    return b'{"event":"%s"}' % (b"x" * size)


TEXT_MESSAGES = st.one_of(
    mutated(),
    mutated(),
    mutated(),
    bad_media(),
    nested(),
    st.binary(max_size=200),
    TEXTS.map(str.encode),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([60_000, 60_000, 60_000, 66_000]).map(too_long),
)
# A message, and whether it is sent as text
Malformed = tuple[bytes, bool]
MALFORMED = st.tuples(TEXT_MESSAGES, st.sampled_from([True, True, True, True, False]))


# How it is sent


class BadCaller:
    """Sends malformed messages, each on an open socket: a socket that was closed is replaced.

    `sent` counts the messages that the service has read.
    """

    def __init__(self, url: str) -> None:
        self.sent = 0
        self.close_codes: list[int | None] = []
        self._url = url
        self._socket: ClientConnection | None = None
        self._open_now = contextlib.ExitStack()

    def converse(self, messages: list[Malformed], start_at: int) -> None:
        """One conversation; a valid `start` comes before the message number `start_at`."""
        for number, (message, as_text) in enumerate(messages):
            if number == start_at:
                self._deliver(self._start(), True)
            if not self._deliver(message, as_text):
                # It came too late for a socket that the one before had closed, or it is itself
                # a reason to close: on a fresh socket it is read in any case.
                self._open()
                if number >= start_at:
                    self._deliver(self._start(), True)
                self._deliver(message, as_text)
            self.sent += 1
        self.hang_up()

    def hang_up(self) -> None:
        if self._socket is not None:
            self._open_now.close()
            self.close_codes.append(self._socket.close_code)
            self._socket = None

    def _open(self) -> ClientConnection:
        self.hang_up()
        self._socket = self._open_now.enter_context(
            connect(
                self._url, compression=None, proxy=None, ping_interval=None, close_timeout=PATIENCE
            )
        )
        return self._socket

    def _deliver(self, message: bytes, as_text: bool) -> bool:
        """Send; whether the service has read it, which it shows by answering a ping."""
        socket = self._socket or self._open()
        with contextlib.suppress(ConnectionClosed):
            socket.send(message, text=as_text)
            answered = socket.ping(ack_on_close=True)
            assert answered.wait(PATIENCE), "the service reads no more"
        return socket.state is State.OPEN

    def _start(self) -> bytes:
        return StreamMessages(new_sid("CA"), "MZ" + "0" * 32, "AC1").start().encode()


class GoodCall:
    """A call that goes on in a thread until it is told to stop."""

    def __init__(self, url: str) -> None:
        self.call_sid = new_sid("CA")
        self._url = url
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._playing: Future[list[CallReport]] = self._pool.submit(self._play)

    def finish(self) -> CallReport:
        self._stop.set()
        with self._pool:
            [report] = self._playing.result()
        return report

    def _play(self) -> list[CallReport]:
        call = PlannedCall(self._frames(), tenant="good", call_sid=self.call_sid)
        return asyncio.run(play_calls(self._url, [call], close_wait=PATIENCE))

    def _frames(self) -> Iterator[bytes]:
        for seq in itertools.count():
            if self._stop.is_set():
                return
            yield numbered_frame(GOOD, seq)


def calls_left(service: RunningService) -> int:
    """How many calls are live, once the last sockets have ended or have had the time to."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with urllib.request.urlopen(f"{service.address}/readyz") as answer:
            calls = int(json.load(answer)["calls"])
        if calls == 0 or time.monotonic() > deadline:
            return calls
        time.sleep(0.05)  # the worker is another process: there is nothing to wait on


@pytest.mark.parametrize("conversations", [30, pytest.param(110, marks=pytest.mark.soak)])
def test_malformed_messages_cost_a_good_call_nothing(conversations: int) -> None:
    """Each before and after `start`: the good call beside them loses no frame."""
    seed = secrets.randbits(64)
    print(f"hypothesis seed: {seed}")

    with (
        SpeechServerThread(FrameEcho()) as google,
        RunningService(SPEECH_EMULATOR_HOST=google.address, WEB_CONCURRENCY=1) as service,
    ):
        [worker] = service.workers()
        bad = BadCaller(service.url)

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=conversations,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),  # what fails depends on what came before
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            st.lists(MALFORMED, min_size=MESSAGES, max_size=MESSAGES),
            st.integers(0, MESSAGES),
        )
        def converse(messages: list[Malformed], start_at: int) -> None:
            bad.converse(messages, start_at)
            assert service.count("internal error") == service.count("Traceback") == 0

        good = GoodCall(service.url)
        try:
            service.wait_for_line("[STT] session started", good.call_sid)
            converse()
        finally:
            bad.hang_up()
            report = good.finish()

        assert bad.sent >= 0.9 * conversations * MESSAGES
        assert (report.error, report.close_code) == (None, 1000)
        assert calls_left(service) == 0
        assert service.workers() == [worker]
        google.wait_for(lambda: google.open_streams == 0, PATIENCE)
        service.wait_for_line("session closed", good.call_sid, f"frames={report.frames_sent} ")
        assert service.count("internal error") == service.count("Traceback") == 0, service.log
        assert service.count("dropped frame", good.call_sid) == 0

    [heard] = [record.frames for record in google.streams if (GOOD, 0) in record.frames]
    assert heard == [(GOOD, seq) for seq in range(report.frames_sent)]
    # Bad messages of every sort were among them, and were treated as such.
    assert {1002, 1009} <= set(bad.close_codes) <= {1000, 1002, 1003, 1008, 1009}
    assert service.count("[WS] skipped: not JSON") > 0
    assert service.count("[WS] skipped: a binary message") > 0
