"""The local speech server with faults on order, by the real Google client over real gRPC."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core import exceptions
from speech_client import (
    OpenCall,
    Request,
    audio,
    client_of,
    recognition_config,
    stream,
    streaming_config,
    texts,
)

from frame_echo import FrameEcho, numbered_frame
from speech_recogniser import StreamRecord
from speech_server_faults import BadFault, Fault, parse_fault
from speech_server_rules import TOO_LONG, Limits
from speech_server_thread import SpeechServerThread


@pytest.fixture
def server() -> Iterator[SpeechServerThread]:
    """A server that names frames."""
    with SpeechServerThread(FrameEcho()) as server:
        yield server


def faulty(server: SpeechServerThread, frames: int) -> tuple[OpenCall, StreamRecord]:
    """A call that sends so many frames, half-closes, and has come to its end."""
    number = len(server.streams)
    call = OpenCall(server)
    call.send(*audio(1, range(frames)))
    call.end()
    server.wait_for(lambda: server.streams[number].ended_at is not None)
    return call, server.streams[number]


def open_call(server: SpeechServerThread, frames: int = 25) -> tuple[OpenCall, StreamRecord]:
    """A call that has sent so many frames, and stays open."""
    number = len(server.streams)
    call = OpenCall(server)
    call.send(*audio(1, range(frames)))
    server.wait_for(lambda: len(server.streams[number].frames) == frames)
    return call, server.streams[number]


def stays_so(server: SpeechServerThread, record: StreamRecord) -> None:
    """The stream does not end by itself."""
    with pytest.raises(TimeoutError):
        server.wait_for(lambda: record.ended_at is not None, timeout=0.25)


def recognise(server: SpeechServerThread, frames: int = 5) -> Any:
    """A plain Recognize of so many frames."""
    content = b"".join(numbered_frame(3, seq) for seq in range(frames))
    return client_of(server).recognize(
        config=recognition_config(), audio={"content": content}, retry=None
    )


def error_of(call: OpenCall) -> tuple[str, str]:
    """The code and text that a call ended with."""
    assert isinstance(call.error, exceptions.GoogleAPICallError)
    code: Any = call.error.grpc_status_code
    return code.name, str(call.error.message)


# The moments, each with `die`, and what has arrived and been answered by then.


def test_at_open(server: SpeechServerThread) -> None:
    """The config is read, and nothing else; there is no response."""
    server.order('status=PERMISSION_DENIED text="not yours"')
    call, record = faulty(server, 50)
    assert error_of(call) == ("PERMISSION_DENIED", "not yours")
    assert record.config is not None
    assert (record.messages, record.responses, record.ended) == (0, 0, "fault")
    assert record.status == "PERMISSION_DENIED: not yours"
    assert record.fault == "die status=PERMISSION_DENIED text='not yours'"


def test_at_a_second_of_life(server: SpeechServerThread) -> None:
    """What came before that second is answered and recorded, and the end comes then."""
    server.order("die at=0.3")
    call, record = open_call(server)
    call.join()
    assert error_of(call) == ("UNAVAILABLE", "The service is currently unavailable.")
    assert record.ended_at is not None
    assert 0.3 <= record.ended_at - record.opened_at < 1.0
    assert texts(call.responses, final=False) == ["call 1 frames 0-24"]
    assert record.responses == len(call.responses) == 2
    call.sent.put(None)


def test_at_second_0_no_config_is_awaited(server: SpeechServerThread) -> None:
    """A stream may end before its config was read."""
    server.order("die at=0")
    server.stall()
    call, record = faulty(server, 5)
    assert (error_of(call)[0], record.config) == ("UNAVAILABLE", None)


def test_at_a_second_of_audio(server: SpeechServerThread) -> None:
    """The stream ends behind exactly so much audio, with what that audio yields."""
    server.order("die audio=1")
    call, record = faulty(server, 100)
    assert error_of(call)[0] == "UNAVAILABLE"
    assert record.frames == [(1, seq) for seq in range(50)]
    assert record.messages == 10
    said = texts(call.responses, final=False)
    assert said == ["call 1 frames 0-24", "call 1 frames 0-49"]


def test_at_the_half_close(server: SpeechServerThread) -> None:
    """The end comes instead of the last final; all audio has arrived."""
    server.order("status=INTERNAL at=half-close")
    call, record = faulty(server, 30)
    assert error_of(call)[0] == "INTERNAL"
    assert texts(call.responses, final=True) == []
    assert (len(record.frames), record.ended, record.unreadable_bytes) == (30, "fault", 0)


def test_a_moment_that_never_comes(server: SpeechServerThread) -> None:
    """A stream that ends before its fault's moment is not touched, nor said to have been."""
    server.order("die audio=10")
    call, record = faulty(server, 30)
    assert call.error is None
    assert (record.ended, record.fault) == ("half-closed", "")


def test_half_a_frame_is_recorded(server: SpeechServerThread) -> None:
    """What was cut off in the middle of a frame is in the record, as unreadable."""
    server.order("die audio=0.03")
    call = OpenCall(server)
    call.send(Request(audio_content=(numbered_frame(1, 0) + numbered_frame(1, 1))[:250]))
    call.join()
    server.wait_for(lambda: server.streams[0].ended_at is not None)
    record = server.streams[0]
    assert (record.audio_bytes, record.frames, record.unreadable_bytes) == (250, [(1, 0)], 90)
    call.sent.put(None)


# The kinds.


def test_a_stream_may_end_well_too_early(server: SpeechServerThread) -> None:
    """`status=OK` ends a stream without an error, although the client is not done."""
    server.order("status=OK audio=0.5")
    call, record = faulty(server, 50)
    assert (call.error, len(record.frames)) == (None, 25)
    assert (record.ended, record.status) == ("fault", "OK")


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("cut at=0.2", "OUT_OF_RANGE", TOO_LONG),
        ("cut at=0.2 v2", "ABORTED", "Max duration of 5 minutes reached for stream."),
    ],
)
def test_a_cut_is_googles(line: str, code: str, text: str) -> None:
    """A long stream is cut in the words of either version, also at the server's own limit."""
    with SpeechServerThread(FrameEcho(), limits=Limits(max_stream_seconds=0.2)) as server:
        server.order(line)
        call, record = open_call(server)
        call.join()
        assert error_of(call) == (code, text)
        assert (record.ended, record.fault) == ("fault", line)
        call.sent.put(None)


def test_a_mute_stream_takes_all_and_hangs() -> None:
    """Nothing is answered and no limit ends it, not even the half-close; only a cancel does."""
    limits = Limits(max_stream_seconds=0.1, audio_timeout_seconds=0.1)
    with SpeechServerThread(FrameEcho(), limits=limits, faults=["mute"]) as server:
        call, record = open_call(server, 200)
        call.sent.put(None)
        stays_so(server, record)
        assert (call.responses, record.responses, len(record.frames)) == ([], 0, 200)
        call.cancel()
        server.wait_for(lambda: record.ended == "cancelled")
        assert record.fault == "mute"


def test_mute_from_a_moment_on(server: SpeechServerThread) -> None:
    """What came before the moment is answered; the audio after it is still taken."""
    server.order("mute audio=0.5")
    call, record = open_call(server, 100)
    server.wait_for(lambda: record.responses == 2)
    call.send(*audio(1, range(100, 200)))
    server.wait_for(lambda: len(record.frames) == 200)
    assert texts(call.responses, final=False) == ["call 1 frames 0-24"]
    call.cancel()


def test_mute_instead_of_the_last_final(server: SpeechServerThread) -> None:
    """At the half-close a stream can hang where its last final was due."""
    server.order("mute at=half-close")
    call, record = open_call(server)
    call.sent.put(None)
    server.wait_for(lambda: record.fault == "mute at=half-close")
    stays_so(server, record)
    assert texts(call.responses, final=True) == []
    call.cancel()


def test_an_error_in_band(server: SpeechServerThread) -> None:
    """A response carries the error; the stream stays open behind it, and says nothing more."""
    server.order('in-band status=INTERNAL text="lost" audio=0.5')
    call, record = open_call(server, 200)
    server.wait_for(lambda: record.responses == 3)
    call.sent.put(None)
    stays_so(server, record)
    error = call.responses[-1].error
    assert (error.code, error.message, len(call.responses)) == (13, "lost", 3)
    assert not any(response.error.code for response in call.responses[:-1])
    call.cancel()


def test_unavailable_takes_the_service_away(server: SpeechServerThread) -> None:
    """Live streams end at once; new ones are refused unread, and recordings, until it is over."""
    live, record = open_call(server)
    server.order("unavailable")
    live.join()
    assert error_of(live)[0] == "UNAVAILABLE"
    server.wait_for(lambda: record.ended_at is not None)
    assert (record.ended, record.fault) == ("fault", "unavailable")
    refused, record = faulty(server, 5)
    assert (error_of(refused)[0], record.config, record.ended) == ("UNAVAILABLE", None, "fault")
    with pytest.raises(exceptions.ServiceUnavailable):
        recognise(server)
    server.clear_faults()
    assert stream(server, audio(1, range(5)))
    assert recognise(server).results
    live.sent.put(None)


def test_unavailable_is_over_by_itself(server: SpeechServerThread) -> None:
    """Ordered for some seconds it lasts that long, and not longer."""
    began = time.monotonic()
    server.order("unavailable for=0.4")
    refusals = 0
    while True:
        try:
            recognise(server)
        except exceptions.ServiceUnavailable:
            refusals += 1
        else:
            break
    assert refusals
    assert 0.4 <= time.monotonic() - began < 2.0


def test_a_mute_stream_ends_when_the_service_goes(server: SpeechServerThread) -> None:
    """`unavailable` ends streams that another fault has struck before."""
    server.order("mute next=1")
    call, record = open_call(server)
    server.order("unavailable")
    call.join()
    assert error_of(call)[0] == "UNAVAILABLE"
    assert (record.ended, record.fault) == ("fault", "unavailable")
    call.sent.put(None)


def test_exhausted_refuses_what_is_new(server: SpeechServerThread) -> None:
    """New streams and recordings are refused; a live stream goes on to its end."""
    live, record = open_call(server)
    server.order("exhausted text=quota")
    refused, _ = faulty(server, 5)
    assert error_of(refused) == ("RESOURCE_EXHAUSTED", "quota")
    with pytest.raises(exceptions.ResourceExhausted):
        recognise(server)
    live.send(*audio(1, range(25, 50)))
    live.end()
    assert live.error is None
    assert (len(record.frames), record.fault) == (50, "")


def test_a_reset_comes_without_a_status(server: SpeechServerThread) -> None:
    """The client's connection breaks; what runs on other connections goes on."""
    other, _ = open_call(server)
    server.order("reset at=0.2 next=1")
    call, record = open_call(server)
    call.join()
    code, text = error_of(call)
    assert code == "UNAVAILABLE"
    assert "Connection reset by peer" in text or "Socket closed" in text
    server.wait_for(lambda: record.ended_at is not None)
    assert (record.ended, record.status, record.fault) == ("fault", "", "reset at=0.2 next=1")
    assert len(record.frames) == 25
    other.end()
    assert other.error is None
    call.sent.put(None)


def test_a_reset_takes_the_whole_connection(server: SpeechServerThread) -> None:
    """A stream on the same connection breaks too, and is recorded as its client's loss."""
    client = client_of(server)
    server.order("mute next=1")
    silent = client.transport._grpc_channel.stream_stream(
        "/google.cloud.speech.v1.Speech/StreamingRecognize",
        request_serializer=Request.serialize,
    )(iter([Request(streaming_config=streaming_config())]))
    server.wait_for(lambda: server.streams[0].fault == "mute next=1")
    server.order("reset next=1")
    with pytest.raises(exceptions.ServiceUnavailable):
        list(client.streaming_recognize(streaming_config(), audio(1, range(5)), retry=None))
    server.wait_for(lambda: server.streams[0].ended_at is not None)
    assert [record.ended for record in server.streams] == ["cancelled", "fault"]
    assert silent.code().name == "UNAVAILABLE"
    # The channel makes itself a new connection.
    assert list(client.streaming_recognize(streaming_config(), audio(1, range(5)), retry=None))


def test_a_slow_stream_is_felt_by_the_client(server: SpeechServerThread) -> None:
    """Audio is read at the ordered rate, and the rest stays with the client."""
    server.order("slow rate=2")
    call = OpenCall(server)
    began = time.monotonic()
    call.send(*audio(1, range(500)))
    server.wait_for(lambda: len(server.streams[0].frames) >= 30)
    # Six messages of 100 ms, at twice real time: five pauses of 50 ms.
    assert time.monotonic() - began >= 0.25
    assert call.sent.qsize() > 80
    assert server.streams[0].fault == "slow rate=2"
    call.cancel()


def test_a_slow_stream_is_not_timed_out() -> None:
    """The silence that slow reading makes is not the client's; all is read in the end."""
    limits = Limits(audio_timeout_seconds=0.1)
    with SpeechServerThread(FrameEcho(), limits=limits, faults=["slow rate=0.5"]) as server:
        call, record = faulty(server, 15)
        assert call.error is None
        assert (len(record.frames), record.ended) == (15, "half-closed")
        assert record.ended_at is not None
        assert record.ended_at - record.opened_at >= 0.6


# The scopes.


def test_only_the_next_streams(server: SpeechServerThread) -> None:
    """The fault is for so many streams; recordings do not count."""
    server.order("die next=2")
    assert recognise(server).results
    ends = [faulty(server, 5)[1].ended for _ in range(3)]
    assert ends == ["fault", "fault", "half-closed"]


def test_a_stream_keeps_its_fault(server: SpeechServerThread) -> None:
    """Clearing is for the streams that open later."""
    server.order("die at=half-close")
    call, _ = open_call(server)
    server.clear_faults()
    call.end()
    assert error_of(call)[0] == "UNAVAILABLE"
    assert faulty(server, 5)[0].error is None


def test_a_test_chooses_for_each_stream(server: SpeechServerThread) -> None:
    """A test's own choice goes by the number of the stream, before what was ordered."""
    asked: list[int] = []

    def choose(number: int, peer: str) -> Fault | None:
        asked.append(number)
        return parse_fault("status=ABORTED") if number == 1 else None

    server.order("status=INTERNAL at=half-close")
    assert error_of(faulty(server, 5)[0])[0] == "INTERNAL"
    server.fault_for = choose
    assert error_of(faulty(server, 5)[0])[0] == "ABORTED"
    assert error_of(faulty(server, 5)[0])[0] == "INTERNAL"
    assert asked == [1, 2]


def test_a_choice_that_no_stream_can_get() -> None:
    """A fault of recordings cannot be chosen for a stream."""
    choice = parse_fault("recognize")
    with SpeechServerThread(FrameEcho(), fault_for=lambda number, peer: choice) as server:
        with pytest.raises(exceptions.Unknown, match="BadFault"):
            stream(server, audio(1, range(5)))
        assert server.streams == []


def test_wrong_orders_are_refused_to_who_orders(server: SpeechServerThread) -> None:
    """The test that orders nonsense hears of it, and nothing of the order holds."""
    with pytest.raises(BadFault, match="explode"):
        server.order("die", "explode")
    assert faulty(server, 5)[0].error is None


# Recordings.


def test_recordings_are_recorded(server: SpeechServerThread) -> None:
    """What came by plain Recognize is on record, with what was answered."""
    recognise(server, 10)
    with pytest.raises(exceptions.InvalidArgument):
        client_of(server).recognize(
            config=recognition_config(language_code=""), audio={"content": b"xyz"}, retry=None
        )
    good, bad = server.recordings
    assert good.frames == [(3, seq) for seq in range(10)]
    assert (good.audio_bytes, good.unreadable_bytes, good.status) == (1600, 0, "OK")
    assert good.config.language_code == "iw-IL"
    assert (bad.frames, bad.audio_bytes, bad.unreadable_bytes) == ([], 3, 3)
    assert bad.status.startswith("INVALID_ARGUMENT: Invalid recognition")
    assert good.at < bad.at
    server.forget_ended()
    server.wait_for(lambda: True)
    server.clear_faults()  # comes after the forgetting
    assert server.recordings == []


def test_a_recording_that_its_client_gives_up(server: SpeechServerThread) -> None:
    """A client that does not wait for the answer is on record as gone."""
    server.stall()
    with pytest.raises(exceptions.DeadlineExceeded):
        client_of(server).recognize(
            config=recognition_config(), audio={"content": b"x"}, retry=None, timeout=0.1
        )
    server.wait_for(lambda: server.recordings[0].status == "CANCELLED")


def test_a_fault_of_recordings(server: SpeechServerThread) -> None:
    """Recordings can be refused alone, and what they held is on record all the same."""
    server.order("recognize status=DEADLINE_EXCEEDED next=1")
    with pytest.raises(exceptions.DeadlineExceeded, match="on order"):
        recognise(server, 10)
    assert stream(server, audio(1, range(5)))
    assert recognise(server).results
    assert [len(r.frames) for r in server.recordings] == [10, 5]
    assert [r.fault for r in server.recordings] == [
        "recognize status=DEADLINE_EXCEEDED next=1", "",
    ]  # fmt: skip
