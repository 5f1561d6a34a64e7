"""One stream to Google, over real gRPC: what it tells of itself, and that it lets go of all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from session_parts import PATIENCE, Clock
from threads_left import no_thread_left

import speech_connections
from audio_ring import AudioRing
from frame_echo import EchoAnswers, FrameEcho, numbered_frame
from google_stream import GoogleStream, StreamEvent, What, _head
from recognition import Recognition
from speech_connections import SpeechConnection, SpeechConnections
from speech_messages import StreamingRecognizeRequest
from speech_server_thread import SpeechServerThread
from stream_faults import Code, StreamFault
from stream_feed import StreamFeed

pytestmark = pytest.mark.usefixtures("transport")

OPENED, RESPONSE, ENDED = What.OPENED, What.RESPONSE, What.ENDED
FIRST = Recognition("en-US")


@pytest.fixture(params=["h2", "grpc"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both, always: here it is seen that they are alike."""
    monkeypatch.setattr(speech_connections, "DEFAULT_TRANSPORT", request.param)
    name: str = request.param
    return name


class Events(SimpleQueue[Any]):
    """Notes how many leases `connection` has when the end is told."""

    connection: SpeechConnection | None = None
    leases = -1

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item.what is ENDED and self.connection is not None:
            self.leases = self.connection.leases
        super().put(item)


class Scene:
    """A call's ring, a feed and a stream that takes from it, and what happens to the stream."""

    def __init__(
        self,
        connections: SpeechConnections,
        *,
        clock: Callable[[], float] = time.monotonic,
        watched: SpeechConnection | None = None,
    ) -> None:
        self.ring = AudioRing(800, 10**6)
        self.feed = StreamFeed(self.ring, 100)
        self.ring.on_chunk = self.feed.wake
        self.events = Events()
        self.events.connection = watched
        self.stream = GoogleStream(connections, FIRST, self.feed, self.events, clock=clock)

    def push(self, *seqs: int) -> None:
        for seq in seqs:
            self.ring.append(numbered_frame(1, seq), 0.0)

    def hang_up(self) -> None:
        self.ring.close()
        self.feed.finish()

    def next(self) -> StreamEvent:
        event: StreamEvent = self.events.get(timeout=PATIENCE)
        assert event.stream is self.stream
        return event

    def expect(self, what: What) -> StreamEvent:
        event = self.next()
        assert event.what is what
        return event

    def to_the_end(self) -> list[StreamEvent]:
        """What is still to come, up to the end; nothing comes after that."""
        events = [self.next()]
        while events[-1].what is not ENDED:
            events.append(self.next())
        assert self.events.empty()
        return events


Open = Callable[..., Scene]


@pytest.fixture
def server() -> Iterator[SpeechServerThread]:
    with SpeechServerThread(FrameEcho(EchoAnswers(interim_every=5, final_every=0))) as server:
        yield server


@pytest.fixture
def connections(server: SpeechServerThread) -> Iterator[SpeechConnections]:
    connections = SpeechConnections(None, emulator_host=server.address)
    yield connections
    connections.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Neither ours nor gRPC's, however a stream ends."""
    # gRPC's servers have one in a process, for ever
    with no_thread_left(lambda name: "_poll_wrapper" not in name):
        yield


@pytest.fixture
def open_stream(connections: SpeechConnections) -> Iterator[Open]:
    """Opens streams over `connections`."""
    scenes: list[Scene] = []

    def open_stream(over: SpeechConnections | None = None, **options: Any) -> Scene:
        scenes.append(Scene(over or connections, **options))
        return scenes[-1]

    yield open_stream
    for scene in scenes:
        if scene.events.empty():  # where a test has failed, nothing else may hang
            scene.stream.cancel()


@pytest.fixture
def silent_port() -> Iterator[str]:
    """The address of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def transcripts(events: list[StreamEvent]) -> list[str]:
    results = [r for event in events if event.what is RESPONSE for r in event.response.results]
    return [result.alternatives[0].transcript for result in results]


def is_closed(connection: SpeechConnection) -> bool:
    try:
        connection.streaming_recognize(iter([])).cancel()
    except ValueError:  # "Cannot invoke RPC on closed channel!"
        return True
    return False


def test_a_stream_tells_its_opening_its_answers_and_its_end(
    server: SpeechServerThread, open_stream: Open
) -> None:
    """In this order, each with the stream that it is of; a regular end has no fault."""
    scene = open_stream()
    scene.feed.start(0)
    scene.push(*range(12))
    scene.hang_up()
    scene.expect(OPENED)
    events = scene.to_the_end()
    assert {event.what for event in events[:-1]} == {RESPONSE}
    assert transcripts(events) == [
        "call 1 frames 0-4",
        "call 1 frames 0-9",
        "call 1 frames 0-11",
    ]
    assert events[-1] == StreamEvent(scene.stream, ENDED, None, None)
    assert scene.feed.send_now is None  # who keeps the feed keeps nothing of the stream
    assert server.streams[0].frames == [(1, seq) for seq in range(12)]
    assert server.streams[0].config.config.language_code == "en-US"
    assert server.streams[0].ended == "half-closed"


def test_the_opening_is_told_before_any_audio_is_taken(
    server: SpeechServerThread, open_stream: Open
) -> None:
    """A stream that follows another gets its audio only when it is known to be on its way."""
    clock = Clock(100.0)
    scene = open_stream(clock=clock)
    scene.push(*range(5))
    assert scene.stream.begun_at == 100.0
    scene.expect(OPENED)
    assert scene.stream.opened_at == 100.0
    server.wait_for(lambda: server.streams[0].config is not None)
    assert (scene.feed.sent_bytes, server.streams[0].messages) == (0, 0)
    scene.feed.start(0)
    scene.hang_up()
    assert transcripts(scene.to_the_end())[-1] == "call 1 frames 0-4"


def test_a_stream_that_cannot_connect_is_not_opened(open_stream: Open, silent_port: str) -> None:
    """It has no time of opening, so that somebody else can lose patience; cancel ends it."""
    connections = SpeechConnections(None, emulator_host=silent_port)
    scene = open_stream(connections)
    assert scene.stream.opened_at is None
    scene.stream.cancel()
    [end] = scene.to_the_end()
    assert end.fault is not None
    assert end.fault.code is Code.CANCELLED
    assert scene.stream.opened_at is None
    connections.close()


def test_an_answer_is_noted_before_it_is_told(open_stream: Open) -> None:
    """A stream that answered was healthy; and the speech that was sent so far is answered."""
    scene = open_stream()
    scene.expect(OPENED)
    assert scene.stream.answered is False
    scene.feed.unanswered_loud_bytes = 12_345
    scene.feed.start(0)
    scene.push(*range(5))
    scene.expect(RESPONSE)
    assert scene.stream.answered is True
    assert scene.feed.unanswered_loud_bytes < 12_345
    scene.stream.cancel()
    assert scene.to_the_end()


def test_a_half_close_sends_no_more_and_brings_the_last_finals(
    server: SpeechServerThread, open_stream: Open
) -> None:
    """What comes into the ring afterwards is for the next stream."""
    scene = open_stream()
    scene.feed.start(0)
    scene.push(*range(5))
    server.wait_for(lambda: len(server.streams[0].frames) == 5)
    scene.stream.half_close()
    scene.push(*range(5, 10))
    events = scene.to_the_end()
    assert transcripts(events)[-1] == "call 1 frames 0-4"
    assert events[-1].fault is None
    assert server.streams[0].ended == "half-closed"
    assert len(server.streams[0].frames) == 5
    assert scene.feed.position == 800


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        ("die status=INTERNAL text=broken", Code.INTERNAL, "broken"),
        ("die status=INVALID_ARGUMENT text='no model'", Code.INVALID_ARGUMENT, "no model"),
        ("unavailable text=away", Code.UNAVAILABLE, "away"),
        ("exhausted text=quota", Code.RESOURCE_EXHAUSTED, "quota"),
    ],
)
def test_a_failed_stream_ends_with_googles_words(
    server: SpeechServerThread, open_stream: Open, fault: str, code: grpc.StatusCode, text: str
) -> None:
    """The code and the text, by which it is decided what to do."""
    server.order(fault)
    scene = open_stream()
    assert scene.to_the_end()[-1].fault == StreamFault(code, text)


def test_what_came_before_the_fault_is_told_before_it(
    server: SpeechServerThread, open_stream: Open
) -> None:
    """The finals of a stream that fails later count."""
    server.order("die audio=0.2 status=INTERNAL")
    scene = open_stream()
    scene.feed.start(0)
    scene.push(*range(10))
    events = scene.to_the_end()
    assert transcripts(events)[0] == "call 1 frames 0-4"
    assert events[-1].fault is not None
    assert events[-1].fault.code is Code.INTERNAL


def test_nobody_at_the_address_is_a_fault_as_any_other(open_stream: Open) -> None:
    """The constructor does not raise for what only time can tell."""
    connections = SpeechConnections(None, emulator_host="127.0.0.1:9")
    [end] = open_stream(connections).to_the_end()
    assert end.fault is not None
    assert end.fault.code is Code.UNAVAILABLE
    connections.close()


def test_cancel_ends_a_stream_that_nobody_answers(
    server: SpeechServerThread, open_stream: Open
) -> None:
    """At once, whatever waits on the way; the server hears of it too."""
    scene = open_stream()
    scene.expect(OPENED)
    server.wait_for(lambda: server.streams[0].config is not None)
    server.stall()
    scene.feed.start(0)
    scene.push(*range(200))
    scene.stream.cancel()
    [end] = scene.to_the_end()
    assert end.fault is not None
    assert end.fault.code is Code.CANCELLED
    server.wait_for(lambda: server.streams[0].ended == "cancelled")


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (None, lambda scene: scene.hang_up()),
        (None, lambda scene: scene.stream.half_close()),
        (None, lambda scene: scene.stream.cancel()),
        ("mute", lambda scene: scene.stream.cancel()),
        ("die at=0.05", lambda scene: None),
        ("unavailable", lambda scene: None),
        ("reset at=0.05", lambda scene: None),
    ],
)
def test_the_lease_is_back_when_the_end_is_told(
    server: SpeechServerThread,
    connections: SpeechConnections,
    open_stream: Open,
    fault: str | None,
    end: Callable[[Scene], None],
) -> None:
    """At every end, once; and the feed gives nothing more, so that gRPC's thread can go."""
    if fault is not None:
        server.order(fault)
    connection = connections.lease()
    scene = open_stream(watched=connection)
    scene.feed.start(0)
    scene.push(*range(5))
    end(scene)
    assert scene.to_the_end()
    assert scene.events.leases == connection.leases == 1
    assert scene.feed.take() is None


class NoConnection:
    """Connections of which none can be had; a release would be one too many."""

    def lease(self) -> SpeechConnection:
        raise OSError("no connection")


def test_without_a_connection_there_is_no_stream() -> None:
    """What `lease()` raises comes through, and there is nothing to give back."""
    connections: Any = NoConnection()
    with pytest.raises(OSError, match="no connection"):
        Scene(connections)


def test_a_call_that_raises_gives_the_lease_back(connections: SpeechConnections) -> None:
    """A channel that somebody has closed, for example."""
    connection = connections.lease()
    connection.close()
    with pytest.raises(ValueError, match=r"(?i)closed"):
        Scene(connections)
    assert connection.leases == 1


class NoThread(threading.Thread):
    """A thread for which the process has no room."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_a_stream_that_nobody_can_read_is_ended(
    server: SpeechServerThread, connections: SpeechConnections
) -> None:
    """It must not stay open at Google, nor hold gRPC's thread in its feed."""
    connection = connections.lease()
    feed = StreamFeed(AudioRing(800, 10**6), 100)
    with pytest.raises(RuntimeError, match="new thread"):
        GoogleStream(connections, FIRST, feed, SimpleQueue(), thread_class=NoThread)
    assert connection.leases == 1
    assert feed.take() is None
    server.wait_for(lambda: all(stream.ended is not None for stream in server.streams))


def test_a_distrusted_connection_is_for_this_stream_only(
    connections: SpeechConnections, open_stream: Open
) -> None:
    """The next one gets another; this one goes on, and its end closes the connection."""
    scene = open_stream()
    scene.expect(OPENED)
    old = connections.lease()
    connections.release(old)
    scene.stream.distrust_connection()
    new = connections.lease()
    assert new is not old
    scene.feed.start(0)
    scene.push(*range(5))
    scene.hang_up()
    assert not is_closed(old)
    assert transcripts(scene.to_the_end())[-1] == "call 1 frames 0-4"
    assert is_closed(old)
    assert not is_closed(new)


def test_a_connection_can_be_distrusted_after_the_stream(
    connections: SpeechConnections, open_stream: Open
) -> None:
    """A stream is cancelled first, and may be over before its connection is blamed."""
    scene = open_stream()
    old = connections.lease()
    connections.release(old)
    scene.stream.cancel()
    assert scene.to_the_end()
    scene.stream.distrust_connection()
    assert connections.lease() is not old
    assert is_closed(old)


@pytest.mark.parametrize("size", [1, 127, 160, 800, 16_000])
def test_a_request_is_its_head_and_the_audio(size: int) -> None:
    """What is sent at once is what protobuf makes of the same audio."""
    audio = bytes(index % 251 for index in range(size))
    whole = StreamingRecognizeRequest(audio_content=audio).SerializeToString()
    assert _head(size) + audio == whole
