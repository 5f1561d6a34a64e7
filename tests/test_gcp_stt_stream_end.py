"""The ends of a call's recognition session: by the call, by Google, and of many calls at once.

Over the real client channel and real gRPC, against a stand-in that can stall, refuse and cut off.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import session_parts
from session_parts import (
    ABOUT,
    PATIENCE,
    Call,
    Lines,
    Script,
    Serve,
    interim,
)
from threads_left import no_thread_left

import speech_messages as messages
from gcp_stt_stream import SessionLimits
from speech_connections import STREAMS_PER_CONNECTION, SpeechConnections
from speech_server_rules import LimitReached, Limits

pytestmark = pytest.mark.usefixtures("transport")

# the fixtures of this module
lines, serve = session_parts.lines, session_parts.serve


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
        on_final=hang_up, limits=SessionLimits(queue_frames=session_parts.ROOM, close_seconds=0.1)
    ).push(5)
    lines.wait_for("session closed")
    google.wait_for(lambda: google.streams[0].ended == "cancelled")
    assert len(call.finals) == 1


def test_a_google_that_never_answers_does_not_hold_the_call(serve: Serve, lines: Lines) -> None:
    """At the deadline the stream is cancelled, here and at the server, and one line says so."""
    google = serve()
    limits = SessionLimits(queue_frames=session_parts.ROOM, close_seconds=0.1)
    call = google.start(limits=limits).push(5)
    google.wait_for(lambda: len(google.arrived()) == 5)
    google.server.stall()
    call.push(session_parts.ROOM).session.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "stt"]
    google.wait_for(lambda: google.server.open_streams == 0)
    assert google.streams[0].ended == "cancelled"
    assert lines.with_("fallback single")
    session = call.session
    assert (session.frames, session.dropped, session.lost) == (255, 0, 255)
    assert lines.lines[-2:] == [
        f"[STT] lost: 5.1 s without text {ABOUT} frames=255",
        f"[STT] session closed {ABOUT} frames=255 dropped=0 seconds=5.1",
    ]


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
    with no_thread_left():
        for number in range(40):
            google.start(number=number).push(5).session.close()
        limits = SessionLimits(close_seconds=0.01)
        calls = [google.start(number=number, limits=limits).push(5) for number in range(40, 50)]
        google.server.stall()
        for call in calls:
            call.session.close()
        google.server.resume()
        google.wait_for(lambda: google.server.open_streams == 0)
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
        f"305 seconds. → new stream {ABOUT}"
    ]


def test_the_old_stream_takes_nothing_of_the_next_ones_audio(serve: Serve, lines: Lines) -> None:
    """Each stream that dies has had the audio without a final, and the next has all of it again."""
    seams = 5
    google = serve(Script(*[[interim("x", 0.1), LimitReached("over")] for _ in range(seams)]))
    call = google.start()
    for seam in range(seams):
        call.push(5)
        google.wait_for(lambda seam=seam: google.streams[seam + 1].config is not None)  # type: ignore[misc]  # its default
    call.push(40).session.close()
    assert [stream.audio_bytes for stream in google.streams][-1] == (5 * seams + 40) * 160
    # what they had is counted, and nothing else of them is kept
    assert call.session.sample().sent_bytes == sum(one.audio_bytes for one in google.streams)
    assert len(call.session._fed[1]) <= 2


def test_a_refused_config_is_not_tried_again(serve: Serve, lines: Lines) -> None:
    """It would be refused for ever: one clear line, and the call lives on without text."""
    google = serve(refuse=lambda config: f"The model {config.model} is not supported.")
    call = google.start().push(5)
    lines.wait_for("streaming failed")
    call.push(session_parts.ROOM + 50).session.close()
    assert len(google.streams) == 1
    session = call.session
    assert (session.frames, session.dropped + session.lost) == (305, 305)
    assert session.lost >= 5
    assert session.transcribed is False
    assert not lines.with_("queue full")  # it is not the queue's fault
    assert lines.with_("streaming failed") == [
        "[STT] streaming failed: 400 INVALID_ARGUMENT: Invalid recognition 'config': "
        "The model default is not supported. → this call is not transcribed: "
        f"check STT_LANGUAGE and STT_MODEL {ABOUT}"
    ]
    assert len(lines.with_("session closed")) == 1
    assert not lines.with_("internal error")


def test_an_error_within_the_stream_ends_it(serve: Serve, lines: Lines) -> None:
    """Google may say what is wrong in a response, and leave the stream open."""
    said = messages.StreamingRecognizeResponse(error={"code": 11, "message": "too slow"})
    google = serve(Script([said]))
    call = google.start().push(5)
    lines.wait_for("[STT] streaming failed: 400 OUT_OF_RANGE: too slow → new stream in 0.1 s")
    google.wait_for(lambda: google.streams[1].audio_bytes == 800)
    call.session.close()
    assert google.streams[0].ended == "cancelled"


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
    assert call.session.dropped + call.session.lost == 5


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
    assert sorted(peers.count(peer) for peer in set(peers)) == [5, STREAMS_PER_CONNECTION]
    with ThreadPoolExecutor(19) as pool:
        list(pool.map(lambda call: call.session.close(), calls))
    assert [call.spoken() for call in calls] == [list(range(5))] * 95
