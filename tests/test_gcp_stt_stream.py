"""The audio of a call's recognition session, over the real client channel and real gRPC.

Every frame is numbered, so what the stand-in got can be accounted for, one by one: in messages of
the right size, while the stream still opens, and when Google does not read.
"""

from __future__ import annotations

import socket
import tracemalloc
from itertools import pairwise

import pytest
import session_parts
from session_parts import (
    ABOUT,
    PATIENCE,
    Call,
    Clock,
    Door,
    HeldThread,
    Lines,
    Serve,
)

import speech_messages as messages
from frame_echo import FrameEcho, frames_said, numbered_frame
from gcp_stt_stream import SessionLimits
from media_ws_ai import BURST_FRAMES
from recognition import Recognition
from settings import Settings
from speech_connections import SpeechConnections
from speech_server_thread import SpeechServerThread
from utterances import Final, Interim

pytestmark = pytest.mark.usefixtures("transport")

# the fixtures of this module
held, lines, serve = session_parts.held, session_parts.lines, session_parts.serve


# The way of the audio


@pytest.mark.parametrize("batch_ms", [20, 100, 240])
def test_frames_that_waited_arrive_once_and_in_order(
    serve: Serve, held: type[HeldThread], batch_ms: int
) -> None:
    """203 frames, in messages of the batch but of 100 ms at the most."""
    google = serve()
    limits = SessionLimits(queue_frames=session_parts.ROOM, batch_ms=batch_ms)
    call = google.start(limits=limits, thread_class=held).push(203)
    held.released.set()
    call.session.close()
    (stream,) = google.streams
    assert max(stream.message_sizes) == min(batch_ms, 100) * 8
    assert stream.frames == [(1, seq) for seq in range(203)]
    assert (stream.unreadable_bytes, stream.ended) == (0, "half-closed")
    assert (call.session.frames, call.session.dropped) == (203, 0)
    assert call.spoken() == list(range(203))


def test_live_audio_is_sent_by_the_batch(serve: Serve) -> None:
    """Frames that come one by one go out in messages of the size that was set."""
    google = serve()
    call = google.start(limits=SessionLimits(batch_ms=240))
    for count in range(1, 5):
        call.push(12)
        google.wait_for(lambda count=count: len(google.arrived()) == 12 * count)  # type: ignore[misc]  # its default
    # the first ones may have waited for the stream to open
    assert list(google.streams[0].message_sizes)[-3:] == [1920] * 3


def test_a_call_in_the_usual_pace_loses_nothing(serve: Serve) -> None:
    """With the default limits, message by message: 16 frames of room are plenty."""
    google = serve()
    call = google.start(limits=SessionLimits())
    for count in range(1, 41):
        call.push(5)
        google.wait_for(lambda count=count: len(google.arrived()) == 5 * count)  # type: ignore[misc]  # its default
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
    """No message passes two batches, however much comes at a time."""
    google = serve()
    google.start().push(size=2000).session.close()
    sizes = list(google.streams[0].message_sizes)
    assert sum(sizes) == 2000
    assert max(sizes) <= 1600
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


def test_frames_pushed_while_the_stream_opens_are_kept(serve: Serve) -> None:
    """However long the first handshake of a process takes: the queue's size is not asked."""
    google = serve()
    door = Door(google.server.address)
    connections = SpeechConnections(None, emulator_host=door.address)
    call = Call(connections, limits=SessionLimits()).push(257)
    assert call.session.dropped == 0
    door.open()
    google.wait_for(lambda: len(google.arrived()) == 257)
    call.session.close()
    assert google.arrived() == call.taken == list(range(257))
    connections.close()
    door.close()


@pytest.mark.parametrize("batch_ms", [20, 100, 500])
def test_the_smallest_queue_that_is_allowed_holds_a_late_read(serve: Serve, batch_ms: int) -> None:
    """All but one frame of a message wait for it, and then comes the most that comes at once."""
    google = serve()
    least = Settings(stt_batch_ms=batch_ms).least_queue_frames
    call = google.start(limits=SessionLimits(queue_frames=least, batch_ms=batch_ms)).push(1)
    google.wait_for(lambda: len(google.arrived()) == 1)
    frame = numbered_frame(1, 1)
    for _ in range(batch_ms // 20 - 1):
        call.session.push_audio(frame)
    call.session.push_together([frame] * BURST_FRAMES)
    assert call.session.dropped == 0


def test_once_the_stream_is_open_the_queue_has_its_own_size(serve: Serve) -> None:
    """The room for the opening is not room for latency later."""
    google = serve(final_every=5)
    call = google.start(limits=SessionLimits(queue_frames=6)).push(5)
    call.wait_for_finals(1)
    google.server.stall()
    call.push(2000)
    google.server.resume()
    call.session.close()
    # what is on its way, in gRPC and the connection, is little: see the stalled Google below
    assert len(call.taken) < 5 + 6 + 100


def test_a_server_that_is_late_gets_every_frame(lines: Lines) -> None:
    """The first streams fail, and it is tried again; what was said meanwhile is not lost."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    connections = SpeechConnections(None, emulator_host=f"127.0.0.1:{port}")
    call = Call(connections).push(100)
    lines.wait_for("[STT] streaming failed: 503 UNAVAILABLE: ")
    assert lines.with_("503 UNAVAILABLE")[0].endswith(f" → new stream in 0.1 s {ABOUT}")
    with SpeechServerThread(FrameEcho(), port=port) as server:
        server.wait_for(lambda: len(server.streams[-1].frames) == 100, PATIENCE)
        call.session.close()
        assert [seq for stream in server.streams for _, seq in stream.frames] == call.taken
    assert call.taken == call.spoken() == list(range(100))
    connections.close()


def test_a_call_that_ends_before_google_was_reached_ends_cleanly(lines: Lines) -> None:
    """Nobody listens there: the close returns in time and says what was lost."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    connections = SpeechConnections(None, emulator_host=address)
    call = Call(connections, limits=SessionLimits(close_seconds=0.2)).push(20)
    lines.wait_for("503 UNAVAILABLE")
    call.session.close()
    connections.close()
    assert (call.session.frames, call.session.dropped, call.session.lost) == (20, 0, 20)
    assert lines.lines[-2:] == [
        f"[STT] lost: 0.4 s without text {ABOUT} frames=20",
        f"[STT] session closed {ABOUT} frames=20 dropped=0 seconds=0.4",
    ]


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
