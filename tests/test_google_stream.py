"""One stream to Google, over real gRPC: what it sends, where its times are, how it lets go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from frame_echo import EchoAnswers, FrameEcho, numbered_frame
from frame_queue import FrameQueue, QueuedFrame
from gcp_stt_stream import Recognition
from google_stream import GoogleStream
from speech_connections import SpeechConnections
from speech_server_thread import SpeechServerThread

MESSAGE = 800
PATIENCE = 10.0


def nothing() -> None:
    """For a stream whose opening nobody waits for."""


@pytest.fixture
def server() -> Iterator[SpeechServerThread]:
    with SpeechServerThread(FrameEcho(EchoAnswers(interim_every=5, final_every=0))) as server:
        yield server


@pytest.fixture
def connections(server: SpeechServerThread) -> Iterator[SpeechConnections]:
    connections = SpeechConnections(None, emulator_host=server.address)
    yield connections
    connections.close()


Open = Callable[..., GoogleStream]


@pytest.fixture
def open_stream(connections: SpeechConnections) -> Open:
    """Opens streams that take from a queue."""
    first = Recognition("en-US").first_request()

    def open_stream(queue: FrameQueue, on_open: Callable[[], None] = nothing) -> GoogleStream:
        return GoogleStream(connections.lease(), first, queue, MESSAGE, on_open)

    return open_stream


def put(queue: FrameQueue, *seqs: int) -> None:
    """Queue the frames of these numbers, each of which came when it was spoken."""
    for seq in seqs:
        assert queue.put(QueuedFrame(numbered_frame(1, seq), (seq + 1) * 160, seq * 0.02))


def results(stream: GoogleStream) -> list[Any]:
    return [response for response in stream.responses() if response.results]


def test_audio_is_wanted_only_when_the_stream_is_on_its_way(
    server: SpeechServerThread, open_stream: Open
) -> None:
    """The opening is told before any frame is taken, so that the queue may keep more till then."""
    queue, queued = FrameQueue(16, MESSAGE), list[int]()
    put(queue, *range(5))
    stream = open_stream(queue, lambda: queued.append(len(queue)))
    queue.close()
    assert len(results(stream)) == 2
    assert queued == [5]
    assert server.streams[0].frames == [(1, seq) for seq in range(5)]


def test_an_answer_is_noted(open_stream: Open) -> None:
    """A stream that answered was healthy, whatever becomes of it."""
    queue = FrameQueue(16, MESSAGE)
    stream = open_stream(queue)
    assert stream.answered is False
    put(queue, *range(5))
    next(stream.responses())
    assert stream.answered is True
    stream.cancel()
    queue.close()


def test_times_are_on_the_calls_clock_across_what_was_dropped(
    server: SpeechServerThread, open_stream: Open
) -> None:
    """Frames 2, 5 and 6 are missing: within a message and between two, the gap is stepped over."""
    queue = FrameQueue(16, MESSAGE)
    put(queue, 0, 1, 3, 4, 7, 8, 9, 10, 11, 12)
    stream = open_stream(queue)
    queue.close()
    results(stream)
    ends = [stream.place(20 * (n + 1)) for n in range(10)]
    assert [place.call_bytes // 160 - 1 for place in ends if place] == [
        0, 1, 3, 4, 7, 8, 9, 10, 11, 12
    ]  # fmt: skip
    assert [round(place.arrived / 0.02) for place in ends if place] == [
        0, 1, 3, 4, 7, 8, 9, 10, 11, 12
    ]  # fmt: skip
    start, end = stream.place(0), stream.place(None)
    assert start is not None
    assert start.call_bytes == 0
    assert end == ends[-1]


def test_before_any_audio_there_is_no_place(open_stream: Open) -> None:
    """A time of a stream that has sent nothing stands nowhere."""
    queue = FrameQueue(16, MESSAGE)
    stream = open_stream(queue)
    assert stream.place(0) is stream.place(100) is stream.place(None) is None
    queue.close()
    assert results(stream) == []


def test_a_stream_that_has_ended_leaves_the_queue_to_the_next(
    server: SpeechServerThread, open_stream: Open
) -> None:
    """Its request iterator, in gRPC's thread, stops waiting and takes nothing more."""
    queue, before = FrameQueue(250, MESSAGE), set(threading.enumerate())
    opened = threading.Event()
    old = open_stream(queue, opened.set)
    assert opened.wait(PATIENCE)
    old.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        list(old.responses())
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    put(queue, *range(50))
    new = open_stream(queue)
    queue.close()
    results(new)
    assert [len(stream.frames) for stream in server.streams] == [0, 50]


def test_cancel_ends_a_stream_that_nobody_answers(
    server: SpeechServerThread, open_stream: Open
) -> None:
    """From another thread, while the responses are waited for; the server hears of it too."""
    queue = FrameQueue(16, MESSAGE)
    stream = open_stream(queue)
    server.wait_for(lambda: server.streams[0].config is not None)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(list, stream.responses())
        server.stall()  # or it may see the half-close of the stream that is over, before the end
        stream.cancel()
        assert isinstance(waiting.exception(PATIENCE), grpc.RpcError)
    server.wait_for(lambda: server.streams[0].ended == "cancelled")
