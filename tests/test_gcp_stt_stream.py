"""A call's recognition session, over the real client channel and real gRPC, against a stand-in.

The stand-in recognises nothing: it names the numbered frames that arrived, or says what a test
has scripted. So every frame and every result can be accounted for, one by one.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, Self

import pytest

import call_log
import speech_messages as messages
from call_log import CallLog
from frame_echo import EchoAnswers, FrameEcho, frames_said, numbered_frame
from gcp_stt_stream import OPENING_FRAMES, Recognition, SessionLimits, StreamingSTTSession
from speech_connections import CALLS_PER_CONNECTION, SpeechConnections
from speech_messages import Message
from speech_recogniser import Sink, StreamRecord
from speech_server_rules import LimitReached, Limits
from speech_server_thread import SpeechServerThread
from utterances import Final, Interim, Utterance

ABOUT = "call=CA1 tenant=T1"
ENGLISH = Recognition("en-US")
ROOMY = SessionLimits(queue_frames=OPENING_FRAMES, partial_debounce_ms=0)
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
        recognition: Recognition = ENGLISH,
        limits: SessionLimits = ROOMY,
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
        self._on_partial, self._on_final = on_partial, on_final
        self.session = StreamingSTTSession(
            connections,
            recognition,
            log=CallLog("CA1", "T1"),
            on_partial=self._hear_partial,
            on_final=self._hear_final,
            limits=limits,
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
        raise AssertionError("a session streams")

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


Start = Callable[..., Call]


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
        self.server = cleanup.enter_context(server)
        self.connections = SpeechConnections(None, emulator_host=server.address)
        cleanup.callback(self.connections.close)
        self._cleanup = cleanup

    def start(self, **options: Any) -> Call:
        opened = len(self.server.streams)
        call = Call(self.connections, **options)
        self._cleanup.callback(call.session.close)
        if "thread_class" not in options:
            self.server.wait_for(lambda: self.server.streams[opened].config is not None)
        return call

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


# The way of the audio


@pytest.mark.parametrize("batch_ms", [20, 100, 240])
def test_all_frames_arrive_once_and_in_order_in_messages_of_the_batch(
    serve: Serve, held: type[HeldThread], batch_ms: int
) -> None:
    """203 frames: every message but the last has exactly the audio that it should."""
    google = serve()
    limits = SessionLimits(queue_frames=OPENING_FRAMES, batch_ms=batch_ms)
    call = google.start(limits=limits, thread_class=held).push(203)
    held.released.set()
    call.session.close()
    (stream,) = google.streams
    whole, rest = divmod(203 * 160, batch_ms * 8)
    assert list(stream.message_sizes) == [batch_ms * 8] * whole + [rest] * (rest > 0)
    assert stream.frames == [(1, seq) for seq in range(203)]
    assert (stream.unreadable_bytes, stream.ended) == (0, "half-closed")
    assert (call.session.frames, call.session.dropped) == (203, 0)
    assert call.spoken() == list(range(203))


def test_a_call_in_the_usual_pace_loses_nothing(serve: Serve) -> None:
    """With the default limits, message by message: 16 frames of room are plenty."""
    google = serve()
    call = google.start(limits=SessionLimits())
    for count in range(1, 41):
        call.push(5)
        google.wait_for(lambda count=count: len(google.arrived()) == 5 * count)  # type: ignore[misc]
    assert google.arrived() == call.taken == list(range(200))
    assert set(google.streams[0].message_sizes) == {800}


def test_frames_of_any_size_arrive_whole(serve: Serve, held: type[HeldThread]) -> None:
    """Twilio promises no size: what comes is sent on unchanged, in messages of 100 ms at most."""
    google = serve()
    call = google.start(thread_class=held)
    sizes = [16 + (n * 97) % 700 for n in range(120)]
    for size in sizes:
        call.push(size=size)
    held.released.set()
    call.session.close()
    (stream,) = google.streams
    assert stream.frames == [(1, seq) for seq in range(120)]
    assert (stream.unreadable_bytes, stream.audio_bytes) == (0, sum(sizes))
    assert max(stream.message_sizes) == 800
    assert call.finals[-1].end_ms == sum(sizes) // 8


def test_a_frame_that_is_larger_than_a_message_is_split(serve: Serve) -> None:
    """No message passes 100 ms, however much comes at a time."""
    google = serve()
    google.start().push(size=2000).session.close()
    assert list(google.streams[0].message_sizes) == [800, 800, 400]
    assert google.streams[0].frames == [(1, 0)]


def test_a_pause_in_the_audio_flushes_a_short_message(serve: Serve) -> None:
    """What was said last is not held back until somebody speaks again."""
    google = serve()
    call = google.start().push(3)
    google.wait_for(lambda: len(google.arrived()) == 3)
    assert list(google.streams[0].message_sizes) == [480]
    call.session.close()


def test_an_empty_frame_is_nothing(serve: Serve) -> None:
    """It is neither queued nor counted, and not a fault."""
    google = serve()
    call = google.start()
    assert call.session.push_audio(b"") is True
    call.session.close()
    assert (call.session.frames, google.streams[0].messages) == (0, 0)


def test_the_stream_is_opened_with_the_calls_recognition(serve: Serve) -> None:
    """Mu-law as it comes, this language and model, interims and voice activity events."""
    google = serve()
    google.start(recognition=Recognition("he-IL", "command_and_search", punctuation=False))
    google.start(recognition=Recognition())
    asked, standard = (stream.config for stream in google.streams)
    assert (asked.config.encoding, asked.config.sample_rate_hertz) == (messages.MULAW, 8000)
    assert asked.config.audio_channel_count == 1
    assert (asked.config.language_code, asked.config.model) == ("he-IL", "command_and_search")
    assert asked.config.enable_automatic_punctuation is False
    assert asked.interim_results is asked.enable_voice_activity_events is True
    assert asked.single_utterance is False
    assert (standard.config.language_code, standard.config.model) == ("iw-IL", "default")
    assert standard.config.enable_automatic_punctuation is True


# A stream that is still being opened


class Door:
    """A port that takes connections and lets nothing through until it is opened."""

    def __init__(self, address: str) -> None:
        self._to = address.rsplit(":", 1)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._sockets: list[socket.socket] = [self._listening]
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        near, _ = self._listening.accept()
        far = socket.create_connection((self._to[0], int(self._to[1])))
        self._sockets += near, far
        for source, sink in ((near, far), (far, near)):
            self._threads.append(threading.Thread(target=self._pass_on, args=(source, sink)))
            self._threads[-1].start()

    def close(self) -> None:
        for one in self._sockets[1:]:
            one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for one in self._sockets:
            one.close()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(65_536):
            sink.sendall(data)


def test_frames_pushed_while_the_stream_opens_are_kept(serve: Serve) -> None:
    """5 s of audio wait for the first handshake of a process, and only what is more is dropped."""
    google = serve()
    door = Door(google.server.address)
    connections = SpeechConnections(None, emulator_host=door.address)
    call = Call(connections).push(OPENING_FRAMES + 7)
    assert call.session.dropped == 7
    door.open()
    google.wait_for(lambda: len(google.arrived()) == OPENING_FRAMES)
    call.session.close()
    assert google.arrived() == call.taken == list(range(OPENING_FRAMES))
    connections.close()
    door.close()


def test_once_the_stream_is_open_the_queue_has_its_own_size(serve: Serve) -> None:
    """The room for the opening is not room for latency later."""
    google = serve()
    call = google.start(limits=SessionLimits(queue_frames=3)).push(5)
    google.wait_for(lambda: len(google.arrived()) == 5)
    google.server.stall()
    call.push(2000)
    google.server.resume()
    call.session.close()
    # what is on its way, in gRPC and the connection, is little: see the stalled Google below
    assert len(call.taken) < 5 + 3 + OPENING_FRAMES // 2


def test_a_server_that_is_late_gets_every_frame(lines: Lines) -> None:
    """The first streams fail, and it is tried again; what was said meanwhile is not lost."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    connections = SpeechConnections(None, emulator_host=f"127.0.0.1:{port}")
    call = Call(connections).push(100)
    lines.wait_for("[STT] streaming failed: 503 UNAVAILABLE: ", 2)
    with SpeechServerThread(FrameEcho(), port=port) as server:
        server.wait_for(lambda: len(server.streams[-1].frames) == 100, PATIENCE)
        call.session.close()
        assert [seq for stream in server.streams for _, seq in stream.frames] == call.taken
    assert call.taken == call.spoken() == list(range(100))
    connections.close()
    pauses = [line.split(" → ")[1] for line in lines.with_("503 UNAVAILABLE")]
    assert pauses[:2] == [f"new stream in 0.1 s {ABOUT}", f"new stream in 0.2 s {ABOUT}"]


def test_a_call_that_ends_before_google_was_reached_ends_cleanly(lines: Lines) -> None:
    """Nobody listens there: the close returns, says what was lost, and keeps nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    connections = SpeechConnections(None, emulator_host=address)
    call = Call(connections).push(20)
    lines.wait_for("503 UNAVAILABLE")
    call.session.close()
    connections.close()
    assert (call.session.frames, call.session.dropped) == (20, 20)
    assert lines.lines[-1] == f"[STT] session closed {ABOUT} frames=20 dropped=20 seconds=0.4"


# A Google that does not read


def test_a_stalled_google_costs_frames_and_nothing_else(serve: Serve, lines: Lines) -> None:
    """The queue fills, memory stays flat, every frame is accounted for, and the call goes on."""
    google = serve(final_every=5, interim_every=1)
    call = google.start(limits=SessionLimits()).push(5)
    call.wait_for_finals(1)
    google.server.stall()
    call.push(1000)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    call.push(19_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 100_000  # the frames are 3 MB
    assert len(call.session._queue) <= 16
    assert len(call.taken) < 5 + 16 + 100  # what is on its way in gRPC and the connection
    dropped = call.session.dropped
    assert dropped == 20_005 - len(call.taken)

    google.server.resume()
    google.wait_for(lambda: google.arrived() == call.taken)
    call.push(5)
    google.wait_for(lambda: google.arrived() == call.taken)
    call.session.close()
    assert call.taken[-5:] == list(range(20_005, 20_010))
    assert call.session.frames == len(google.arrived()) + call.session.dropped
    assert call.session.dropped == dropped
    assert call.spoken() == call.taken
    assert lines.with_("queue full") == [
        f"[STT] queue full: dropped frame {ABOUT} dropped={n}" for n in (1, 10, 100, 1000, 10_000)
    ]
    # a frame's number says where it is on the call's clock, so the results can be checked by it
    results: list[Final | Interim] = [*call.finals, *call.partials]
    for result in results:
        _, last = frames_said(result.text)[-1]
        assert abs(result.end_ms - 20 * (last + 1)) <= 20
    assert call.finals[-1].end_ms == call.session.now_ms() == 20 * 20_010
    assert all(one.end_ms <= other.start_ms for one, other in pairwise(call.finals))


def test_the_queue_that_stays_full_is_an_overload(serve: Serve, lines: Lines) -> None:
    """Sampled every 5 s on the clock: the third full sample of a minute is the line."""
    google, clock = serve(), Clock()
    call = google.start(limits=SessionLimits(), clock=clock).push(5)
    google.wait_for(lambda: len(google.arrived()) == 5)
    google.server.stall()
    call.push(1000)
    for _ in range(3):
        assert not lines.with_("overload")
        clock.now += 4.9
        call.push()
        clock.now += 0.1
        call.push()
    assert lines.with_("overload") == [
        f"[STT] overload: queue over 12 of 16 in 3 of 3 samples {ABOUT}"
    ]
    google.server.resume()


# The way of the text


def test_partials_are_debounced_and_the_newest_is_not_held_back_for_long(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in 200 ms; finals are never held back; and what was suppressed is known to be spoken."""
    clock = Clock()
    google = serve(
        Script(
            [interim("one", 0.1)],
            [interim("one two", 0.2), final("first", 0.2)],
            [interim("three", 0.3)],
        )
    )
    call = google.start(clock=clock, limits=SessionLimits(partial_debounce_ms=200))
    noticed: list[int] = []
    monkeypatch.setattr(call.session.utterances, "noticed", noticed.append)
    call.push(5)
    call.wait_for_partials(1)
    clock.now += 0.199
    call.push(5)
    call.wait_for_finals(1)
    clock.now += 0.002
    call.push(5)
    call.wait_for_partials(2)
    assert [partial.text for partial in call.partials] == ["one", "three"]
    assert noticed == [100, 200, 300]
    assert call.texts() == ["first"]


def test_the_interims_of_one_response_are_one_text(serve: Serve) -> None:
    """Google splits what it hears into a stable and an unstable part, each with its space."""
    google = serve(Script([together(interim(" I would", 0.05), interim(" like to ", 0.1))]))
    call = google.start().push(5)
    call.wait_for_partials(1)
    (partial,) = call.partials
    assert (partial.text, partial.end_ms, partial.stability) == ("I would like to", 100, 0.5)


def test_every_final_of_a_response_is_heard_and_stripped(serve: Serve) -> None:
    """Not only the first result; an interim beside them is still an interim."""
    response = together(final(" one ", 0.04), final(" two", 0.08), interim(" thr", 0.1))
    google = serve(Script([response], at_end=[final("  ", 0.1), final(" three", 0.1)]))
    call = google.start().push(5)
    call.wait_for_partials(1)
    call.session.close()
    assert call.finals == [
        Final("one", 0, 40, 0.75, call.finals[0].delay_ms),
        Final("two", 40, 80, 0.75, call.finals[1].delay_ms),
        Final("three", 100, 100, 0.75, call.finals[2].delay_ms),
    ]
    assert [partial.text for partial in call.partials] == ["thr"]


def test_the_recognition_delay_counts_from_the_audios_arrival(serve: Serve) -> None:
    """From the arrival of the last audio that the result covers, not of the last that was sent."""
    clock = Clock()
    google = serve(Script([interim("a", 0.1)], [], [interim("b", 0.16), final("c", 0.2)]))
    call = google.start(clock=clock, limits=SessionLimits(queue_frames=OPENING_FRAMES)).push(5)
    call.wait_for_partials(1)
    clock.now += 1.0
    call.push(5)
    google.wait_for(lambda: google.streams[0].messages == 2)
    clock.now += 0.5
    call.push(5)
    call.wait_for_finals(1)
    assert [partial.delay_ms for partial in call.partials] == [0, 540]
    assert call.finals[0].delay_ms == 500


def test_a_result_without_a_time_covers_all_that_was_sent(serve: Serve) -> None:
    """Google leaves the time out at times; the start of the call is no sensible place for it."""
    untimed = final("here", 0.0)
    untimed.results[0].ClearField("result_end_time")
    google = serve(Script([], [untimed]))
    call = google.start().push(10)
    call.wait_for_finals(1)
    assert call.finals[0].end_ms == 200


def test_a_final_starts_where_its_speech_began(serve: Serve) -> None:
    """The silence since the final before it is no part of it."""
    began = messages.event(messages.SPEECH_ACTIVITY_BEGIN, 0.15)
    call = serve(Script([final("one", 0.04)], [began, final("two", 0.2)])).start().push(10)
    call.wait_for_finals(2)
    assert [(one.start_ms, one.end_ms) for one in call.finals] == [(0, 40), (150, 200)]


def test_an_event_without_a_time_is_now(serve: Serve) -> None:
    """And one at 0 is at 0: the two are not the same, as the utterances by events show."""
    untimed = messages.event(messages.SPEECH_ACTIVITY_BEGIN, 0.0)
    untimed.ClearField("speech_event_time")
    call = serve(Script([], [untimed, final("here", 0.2)])).start().push(10)
    call.wait_for_finals(1)
    assert call.utterances[0].start_ms == 200


def test_a_listener_that_raises_does_not_end_the_recognition(serve: Serve, lines: Lines) -> None:
    """Its fault is in the log, with the call's name; the next results come all the same."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    google = serve(interim_every=2, final_every=5)
    call = google.start(on_partial=fail, on_final=fail).push(20)
    call.wait_for_finals(4)
    call.session.close()
    assert call.spoken() == list(range(20))
    assert len(call.partials) == 8
    assert lines.with_("internal error") == [f"[STT] internal error {ABOUT}"] * 12
    assert [utterance.text for utterance in call.utterances] == call.texts()


# Utterances


def test_googles_events_open_and_close_utterances(serve: Serve) -> None:
    """Each final lands in the utterance in whose time it was spoken, with its start and end."""
    google = serve(final_every=10, final_delay_seconds=0.02)
    call = google.start()
    for count in (1, 2, 3):
        call.push(10)
        call.wait_for_finals(count)
    call.session.close()
    times = [(utterance.start_ms, utterance.end_ms) for utterance in call.utterances]
    assert times == [(0, 200), (200, 400), (400, 600)]
    assert [utterance.text for utterance in call.utterances] == [
        "call 1 frames 0-9",
        "call 1 frames 10-19",
        "call 1 frames 20-29",
    ]


def test_an_utterance_by_hand_has_what_was_said_in_it(serve: Serve) -> None:
    """begin() and end() from another thread, with a final that is still on its way at the end."""
    google = serve(interim_every=5, final_every=20, final_delay_seconds=0.2)
    call = google.start().push(20)
    call.wait_for_finals(1)
    heard: list[Interim] = []
    utterance = call.session.utterances.begin(heard.append)
    call.push(20)
    google.wait_for(lambda: len(google.arrived()) == 40)
    call.wait_for_partials(6)
    assert call.session.utterances.end(PATIENCE) == "call 1 frames 20-39"
    assert (utterance.start_ms, utterance.end_ms) == (400, 800)
    assert [one.text for one in heard] == [f"call 1 frames 20-{n}" for n in (24, 29, 34)]


def test_the_utterance_that_the_hang_up_cuts_has_its_text(serve: Serve) -> None:
    """The last final comes by the half-close; who asks after the close still gets the text."""
    call = serve(final_every=0).start()
    call.session.utterances.begin()
    call.push(12).session.close()
    assert call.session.utterances.current is None
    assert call.session.utterances.end() == "call 1 frames 0-11"


# The end of the call


def test_close_flushes_the_audio_and_waits_for_the_last_finals(serve: Serve, lines: Lines) -> None:
    """What is queued goes out, the stream is half-closed, and the late final is heard."""
    google = serve(final_every=10, final_delay_seconds=0.2)
    call = google.start().push(33)
    call.session.close()
    assert call.spoken() == list(range(33))
    (stream,) = google.streams
    assert (stream.ended, stream.status) == ("half-closed", "OK")
    assert not [thread for thread in threading.enumerate() if thread.name == "stt"]
    assert lines.lines == [
        f"[STT] session started {ABOUT}",
        f"[STT] session closed {ABOUT} frames=33 dropped=0 seconds=0.7",
    ]


def test_a_call_without_audio_ends_at_once(serve: Serve) -> None:
    """The first message alone opens the stream, and the half-close ends it."""
    google = serve()
    google.start().session.close()
    assert (google.streams[0].ended, google.streams[0].messages) == ("half-closed", 0)


def test_close_twice_is_one_close(serve: Serve, lines: Lines) -> None:
    """The second returns at once and says nothing."""
    call = serve().start().push(5)
    call.session.close()
    call.session.close()
    assert len(lines.with_("session closed")) == 1


def test_close_from_two_threads_at_once_is_one_close(serve: Serve, lines: Lines) -> None:
    """Both return when it is over, and both find the last final heard."""
    call = serve(final_every=0, final_delay_seconds=0.1).start().push(5)
    barrier = threading.Barrier(2)

    def close() -> list[str]:
        barrier.wait(PATIENCE)
        call.session.close()
        return call.texts()

    with ThreadPoolExecutor(2) as pool:
        closing = [pool.submit(close) for _ in range(2)]
        assert [one.result(PATIENCE) for one in closing] == [["call 1 frames 0-4"]] * 2
    assert len(lines.with_("session closed")) == 1


def test_close_from_within_a_callback_closes(serve: Serve, lines: Lines) -> None:
    """A listener may hang up: it is not held, the rest is flushed, and the line is logged."""

    def hang_up(*_: object) -> None:
        call.session.close()

    google = serve(final_every=5)
    call: Call = google.start(on_final=hang_up).push(13)
    lines.wait_for("session closed")
    call.session.close()
    assert call.spoken() == list(range(13))
    assert google.streams[0].ended == "half-closed"
    assert lines.with_("session closed") == [
        f"[STT] session closed {ABOUT} frames=13 dropped=0 seconds=0.3"
    ]
    assert not lines.with_("internal error")


def test_close_from_within_a_callback_has_its_deadline_too(serve: Serve, lines: Lines) -> None:
    """A Google that stalls then holds neither the thread nor the stream."""

    def hang_up(*_: object) -> None:
        google.server.stall()
        call.session.close()

    google = serve(final_every=5)
    call = google.start(
        on_final=hang_up, limits=SessionLimits(queue_frames=OPENING_FRAMES, close_seconds=0.1)
    ).push(5)
    lines.wait_for("session closed")
    google.wait_for(lambda: google.streams[0].ended == "cancelled")
    assert len(call.finals) == 1


def test_a_google_that_never_answers_does_not_hold_the_call(serve: Serve, lines: Lines) -> None:
    """At the deadline the stream is cancelled, here and at the server, and one line says so."""
    google = serve()
    limits = SessionLimits(queue_frames=OPENING_FRAMES, close_seconds=0.1)
    call = google.start(limits=limits).push(5)
    google.wait_for(lambda: len(google.arrived()) == 5)
    google.server.stall()
    call.push(OPENING_FRAMES).session.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "stt"]
    google.wait_for(lambda: google.server.open_streams == 0)
    assert google.streams[0].ended == "cancelled"
    assert lines.with_("streaming failed") == [
        "[STT] streaming failed: no end within 0.1 s of the call's → "
        f"what has no final yet is lost {ABOUT}"
    ]
    # what never left the queue is counted as dropped; a little was on its way
    session = call.session
    assert 100 < session.dropped <= OPENING_FRAMES
    assert lines.lines[-1] == (
        f"[STT] session closed {ABOUT} frames=255 dropped={session.dropped} seconds=5.1"
    )


def test_nothing_is_queued_after_the_close(serve: Serve, lines: Lines) -> None:
    """Frames still come from the socket for a moment: they are neither sent nor counted."""
    google = serve()
    call = google.start().push(5)
    call.session.close()
    call.push(50)
    assert call.taken == google.arrived() == list(range(5))
    assert (call.session.frames, call.session.dropped, call.session.now_ms()) == (5, 0, 100)
    assert not lines.with_("queue full")


def test_fifty_calls_leave_nothing_behind(serve: Serve) -> None:
    """No thread, no stream, no lease: whether they end by themselves or are cut off."""
    google = serve()
    google.start().push(5).session.close()
    before = set(threading.enumerate())
    for number in range(40):
        google.start(number=number).push(5).session.close()
    limits = SessionLimits(close_seconds=0.01)
    calls = [google.start(number=number, limits=limits).push(5) for number in range(40, 50)]
    google.server.stall()
    for call in calls:
        call.session.close()
    google.server.resume()
    google.wait_for(lambda: google.server.open_streams == 0)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread.name
    assert len(google.streams) == 51
    connection = google.connections.lease()
    assert connection.leases == 1
    google.connections.release(connection)


# A stream that Google ends


def test_the_call_outlives_googles_limit_on_a_stream(serve: Serve, lines: Lines) -> None:
    """After 305 s, here less, another stream goes on, with its results on the call's clock."""
    google = serve(final_every=5, limits=Limits(max_stream_seconds=1.0))
    call = google.start().push(5)
    call.wait_for_finals(1)
    google.wait_for(lambda: google.streams[1].config is not None)
    call.push(15)
    call.wait_for_finals(4)
    call.session.close()
    assert [stream.ended for stream in google.streams] == ["limit", "half-closed"]
    assert google.streams[1].frames == [(1, seq) for seq in range(5, 20)]
    assert [(one.start_ms, one.end_ms) for one in call.finals] == [
        (0, 100), (100, 200), (200, 300), (300, 400)
    ]  # fmt: skip
    assert lines.with_("streaming failed") == [
        "[STT] streaming failed: 400 OUT_OF_RANGE: Exceeded maximum allowed stream duration of "
        f"305 seconds. → new stream in 0.1 s {ABOUT}"
    ]


def test_the_old_stream_takes_nothing_of_the_next_ones_audio(serve: Serve, lines: Lines) -> None:
    """Its request iterator still waits in the queue when it ends; it must not eat a chunk."""
    seams = 5
    google = serve(Script(*[[interim("x", 0.1), LimitReached("over")] for _ in range(seams)]))
    call = google.start()
    for seam in range(seams):
        call.push(5)
        google.wait_for(lambda seam=seam: google.streams[seam + 1].config is not None)  # type: ignore[misc]
    call.push(40).session.close()
    assert [stream.audio_bytes for stream in google.streams] == [800] * seams + [6400]
    # each of them had answered, so the next was not put off for longer
    assert len(lines.with_(f"new stream in 0.1 s {ABOUT}")) == seams


def test_a_refused_config_is_not_tried_again(serve: Serve, lines: Lines) -> None:
    """It would be refused for ever: one clear line, and the call lives on without text."""
    google = serve(refuse=lambda config: f"The model {config.model} is not supported.")
    call = google.start().push(5)
    lines.wait_for("streaming failed")
    call.push(OPENING_FRAMES + 50).session.close()
    assert len(google.streams) == 1
    counted = lines.lines[-1].split(" dropped=")[1].split()[0]
    assert int(counted) in (300, 305)  # the first five may have been on their way to Google
    assert not lines.with_("queue full")  # it is not the queue's fault
    assert lines.with_("streaming failed") == [
        "[STT] streaming failed: 400 INVALID_ARGUMENT: Invalid recognition 'config': "
        f"The model default is not supported. → this call is not transcribed {ABOUT}"
    ]
    assert len(lines.with_("session closed")) == 1
    assert not lines.with_("internal error")


def test_an_error_within_the_stream_is_logged(serve: Serve, lines: Lines) -> None:
    """Google may say what is wrong in a response before it ends the stream."""
    said = messages.StreamingRecognizeResponse(error={"code": 11, "message": "too slow"})
    serve(Script([said])).start().push(5)
    lines.wait_for("[STT] streaming failed: 11 too slow → waiting for the stream's end")


def test_a_connection_that_cannot_be_made_is_in_the_log(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call goes on without text, whoever waits for an utterance is let go, and it closes."""
    connections = SpeechConnections(None, emulator_host="127.0.0.1:9")

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(connections, "lease", fail)
    call = Call(connections).push(5)
    lines.wait_for("internal error")
    call.session.close()
    assert lines.lines[-1] == f"[STT] session closed {ABOUT} frames=5 dropped=5 seconds=0.1"


# Many calls


def test_no_connection_carries_more_than_90_streams(serve: Serve) -> None:
    """95 calls at once: the 101st stream of a connection would hang, so the 91st has another."""
    google = serve()
    calls = [Call(google.connections, number=number) for number in range(95)]
    for call in calls:
        call.push(5)
    google.wait_for(lambda: sum(len(stream.frames) for stream in google.streams) == 5 * 95)
    peers = [stream.peer for stream in google.streams]
    assert google.server.open_streams == 95
    assert sorted(peers.count(peer) for peer in set(peers)) == [5, CALLS_PER_CONNECTION]
    with ThreadPoolExecutor(19) as pool:
        list(pool.map(lambda call: call.session.close(), calls))
    assert [call.spoken() for call in calls] == [list(range(5))] * 95
