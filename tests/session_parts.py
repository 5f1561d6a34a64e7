"""What the tests of a call's recognition session share: a call, a stand-in of Google, fixtures.

The stand-in recognises nothing: it names the numbered frames that arrived, or says what a test
has scripted. So every frame and every result can be accounted for, one by one.

A test module takes the fixtures by binding their names, so that they hold in it alone: `lines`
is for every test of such a module, and for no other.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, Self

import pytest

import call_log
import speech_messages as messages
from call_log import CallLog
from frame_echo import EchoAnswers, FrameEcho, frames_said, numbered_frame
from gcp_stt_stream import SessionLimits, StreamingSTTSession
from recognition import Recognition
from shared_speech import SharedSpeech
from speech_connections import SpeechConnections
from speech_messages import Message
from speech_recogniser import Sink, StreamRecord
from speech_server_rules import Limits
from speech_server_thread import SpeechServerThread
from utterances import Final, Interim, Utterance

ABOUT = "call=CA1 tenant=T1"
ENGLISH = Recognition("en-US")
ROOM = 250  # frames: 5 s that a test may push at once
ROOMY = SessionLimits(queue_frames=ROOM, partial_debounce_ms=0)
PATIENCE = 10.0  # seconds, for what ought to come at once

OnPartial = Callable[[Interim], None]
OnFinal = Callable[[Final, Utterance], None]


class Heard:
    """Things that threads bring, and a way to wait for what one of them must bring."""

    def __init__(self) -> None:
        self.changed = threading.Condition()

    def note(self, things: list[Any], thing: Any) -> None:
        with self.changed:
            things.append(thing)
            self.changed.notify_all()

    def wait_for(self, predicate: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(predicate, PATIENCE), "it never came"


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._heard = Heard()

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.note(self.lines, record.getMessage())

    def with_(self, part: str) -> list[str]:
        return [line for line in list(self.lines) if part in line]

    def wait_for(self, part: str, times: int = 1) -> None:
        self._heard.wait_for(lambda: len(self.with_(part)) >= times)


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class HeldThread(threading.Thread):
    """A thread that begins when the test lets it: what was pushed before is queued by then."""

    released = threading.Event()

    def run(self) -> None:
        assert self.released.wait(PATIENCE)
        super().run()


class Call:
    """A session, what its listeners heard, and the frames that it took."""

    def __init__(
        self,
        connections: SpeechConnections,
        *,
        number: int = 1,
        tenant_id: str = "T1",
        recognition: Recognition = ENGLISH,
        limits: SessionLimits = ROOMY,
        shared: SharedSpeech | None = None,
        clock: Callable[[], float] = time.monotonic,
        thread_class: type[threading.Thread] = threading.Thread,
        on_partial: OnPartial | None = None,
        on_final: OnFinal | None = None,
    ) -> None:
        self.number = number
        self.heard = Heard()
        self.partials: list[Interim] = []
        self.finals: list[Final] = []
        self.utterances: list[Utterance] = []
        self.taken: list[int] = []
        self.pushed = 0
        self.missing = 0  # of the frames that count as pushed, those that never came
        self._on_partial, self._on_final = on_partial, on_final
        self.session = StreamingSTTSession(
            connections,
            recognition,
            log=CallLog("CA1", tenant_id),
            tenant_id=tenant_id,
            on_partial=self._hear_partial,
            on_final=self._hear_final,
            limits=limits,
            shared=shared,
            clock=clock,
            thread_class=thread_class,
        )

    def _hear_partial(self, interim: Interim) -> None:
        self.heard.note(self.partials, interim)
        if self._on_partial is not None:
            self._on_partial(interim)

    def _hear_final(self, final: Final, utterance: Utterance) -> None:
        self.utterances.append(utterance)
        self.heard.note(self.finals, final)
        if self._on_final is not None:
            self._on_final(final, utterance)

    def push(self, count: int = 1, size: int = 160) -> Self:
        """Push the next frames of the call; `taken` are the numbers of those that were queued."""
        for _ in range(count):
            if self.session.push_audio(numbered_frame(self.number, self.pushed, size)):
                self.taken.append(self.pushed)
            self.pushed += 1
        return self

    def wait_for_partials(self, count: int) -> None:
        self.heard.wait_for(lambda: len(self.partials) >= count)

    def wait_for_finals(self, count: int) -> None:
        self.heard.wait_for(lambda: len(self.finals) >= count)

    def texts(self) -> list[str]:
        return [final.text for final in self.finals]

    def spoken(self) -> list[int]:
        """The numbers of the frames that the finals name."""
        frames = [frame for text in self.texts() for frame in frames_said(text)]
        assert {call for call, _ in frames} <= {self.number}
        return [seq for _, seq in frames]


class Script:
    """A recogniser that answers the n-th message of audio with the n-th list of `answers`.

    An answer may be an exception: the stream ends with it. `at_end` is sent at the half-close.
    """

    name = "script"

    def __init__(self, *answers: list[Any], at_end: list[Message] | None = None) -> None:
        self._answers = iter(answers)
        self._at_end = at_end or []

    def check(self, config: Message) -> None:
        """Anything can be served."""

    def open(self, config: Message, sink: Sink, record: StreamRecord) -> Self:
        self._sink = sink
        return self

    async def recognise(self, config: Message, audio: bytes) -> list[Message]:
        return []  # what a stream did not say is not said by a plain call either

    async def feed(self, audio: bytes) -> None:
        for answer in next(self._answers, []):
            if isinstance(answer, Exception):
                raise answer
            self._sink.send(answer)

    async def finish(self) -> None:
        for answer in self._at_end:
            self._sink.send(answer)

    def cancel(self) -> None:
        """Nothing is delayed."""

    def close(self) -> None:
        """Nothing to give back."""


def interim(text: str, end: float) -> Message:
    return messages.interim(text, end, "en-US", 0.5)


def final(text: str, end: float) -> Message:
    return messages.final(text, end, "en-US", 0.75)


def together(*responses: Message) -> Message:
    """One response with the results of all of these."""
    return messages.StreamingRecognizeResponse(results=[r.results[0] for r in responses])


class Door:
    """A port that takes connections and lets nothing through until it is opened."""

    def __init__(self, address: str) -> None:
        self._to = address.rsplit(":", 1)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._sockets: list[socket.socket] = [self._listening]
        self._threads: list[threading.Thread] = []
        self._keeper: threading.Thread | None = None

    def open(self) -> None:
        near, _ = self._listening.accept()
        far = socket.create_connection((self._to[0], int(self._to[1])))
        self._sockets += near, far
        for source, sink in ((near, far), (far, near)):
            self._threads.append(threading.Thread(target=self._pass_on, args=(source, sink)))
            self._threads[-1].start()

    def keep_open(self) -> None:
        """Let through whoever waits and whoever comes, until the close."""
        self._keeper = threading.Thread(target=self._let_all_in)
        self._keeper.start()

    def _let_all_in(self) -> None:
        while True:
            try:
                self.open()
            except OSError:  # closed
                return

    def close(self) -> None:
        if self._keeper is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._keeper.join(PATIENCE)
        for one in self._sockets[1:]:
            with suppress(OSError):  # the other side has closed it
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for one in self._sockets:
            one.close()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # whoever closes ends both
            while data := source.recv(65_536):
                sink.sendall(data)


@pytest.fixture(autouse=True)
def lines() -> Iterator[Lines]:
    """What the service's logger is given; and no streaming thread outlives its test."""
    handler, level = Lines(), call_log.logger.level
    call_log.logger.addHandler(handler)
    call_log.logger.setLevel(logging.INFO)
    yield handler
    call_log.logger.removeHandler(handler)
    call_log.logger.setLevel(level)
    left = [thread for thread in threading.enumerate() if thread.name.startswith("stt")]
    assert not left


class Google:
    """A stand-in with connections to it. `start()` makes a call whose stream is open."""

    def __init__(self, server: SpeechServerThread, cleanup: ExitStack) -> None:
        self._cleanup = cleanup.enter_context(ExitStack())
        self.server = self._cleanup.enter_context(server)
        self.connections = SpeechConnections(None, emulator_host=server.address)
        self._cleanup.callback(self.connections.close)

    def start(self, **options: Any) -> Call:
        opened = len(self.server.streams)
        call = Call(self.connections, **options)
        self._cleanup.callback(call.session.close)
        if "thread_class" not in options:
            self.server.wait_for(lambda: self.server.streams[opened].config is not None)
        return call

    def close(self) -> None:
        """End everything before the test's end."""
        self._cleanup.close()

    @property
    def streams(self) -> list[StreamRecord]:
        return self.server.streams

    def wait_for(self, predicate: Callable[[], bool]) -> None:
        self.server.wait_for(predicate, PATIENCE)

    def arrived(self) -> list[int]:
        """The numbers of the frames that came, over all streams."""
        return [seq for stream in self.streams for _, seq in stream.frames]


Serve = Callable[..., Google]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes a stand-in of a recogniser, or of what the echo of frames shall answer."""
    with ExitStack() as cleanup:

        def serve(
            recogniser: Any = None, *, limits: Limits | None = None, **answers: Any
        ) -> Google:
            echo = recogniser or FrameEcho(EchoAnswers(**answers))
            return Google(SpeechServerThread(echo, limits=limits), cleanup)

        yield serve


@pytest.fixture
def held() -> Iterator[type[HeldThread]]:
    """A thread class whose threads begin when `released` is set."""
    HeldThread.released.clear()
    yield HeldThread
    HeldThread.released.set()
