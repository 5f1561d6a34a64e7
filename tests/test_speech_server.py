"""The local speech server, by the real Google client over real gRPC: answers, rules, limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from speech_client import (
    OpenCall,
    Request,
    Response,
    audio,
    client_of,
    recognition_config,
    seconds,
    stream,
    streaming_config,
    texts,
)

from frame_echo import EchoAnswers, FrameEcho, frames_said, numbered_frame
from speech_server import PortTaken
from speech_server_rules import Limits, StreamClock
from speech_server_thread import SpeechServerThread


@pytest.fixture
def server() -> Iterator[SpeechServerThread]:
    """A server that names frames, with Google's own limits."""
    with SpeechServerThread(FrameEcho()) as server:
        yield server


# What comes back.


def test_frames_come_back_as_text_in_order(server: SpeechServerThread) -> None:
    """Interims, finals and the last final at the half-close name exactly the frames sent."""
    responses = stream(server, audio(7, range(205)))
    assert texts(responses, final=True) == ["call 7 frames 0-149", "call 7 frames 150-204"]
    assert texts(responses, final=False)[:2] == ["call 7 frames 0-24", "call 7 frames 0-49"]
    finals = [r for r in responses if texts([r], final=True)]
    assert [seconds(r.results[0].result_end_time) for r in finals] == [3.0, 4.1]


def test_each_response_is_an_event_or_a_result(server: SpeechServerThread) -> None:
    """BEGIN comes before an utterance's results and END right before its final, timed exactly."""
    responses = stream(server, audio(7, range(200)))
    kinds = []
    for response in responses:
        assert bool(response.results) != bool(response.speech_event_type)
        if response.results:
            result = response.results[0]
            kinds.append("final" if result.is_final else "interim")
            assert bool(result.stability) != result.is_final
            assert bool(result.alternatives[0].confidence) == result.is_final
        else:
            at = seconds(response.speech_event_time)
            kinds.append(f"{response.speech_event_type.name[16:]} {at:.1f}")
    first = ["BEGIN 0.0", *["interim"] * 5, "END 3.0", "final"]
    assert kinds == [*first, "BEGIN 3.0", "interim", "interim", "END 4.0", "final"]


def test_only_what_the_config_asks_for(server: SpeechServerThread) -> None:
    """Without interims and events in the config there are finals only."""
    fields = {"interim_results": False, "enable_voice_activity_events": False}
    responses = stream(server, audio(1, range(150)), **fields)
    assert [r.results[0].is_final for r in responses] == [True]


def test_a_delayed_final_keeps_its_place() -> None:
    """With delayed finals, later interims wait behind them and the half-close awaits them."""
    answers = EchoAnswers(interim_every=10, final_every=20, final_delay_seconds=0.05)
    with SpeechServerThread(FrameEcho(answers)) as server:
        responses = stream(server, audio(1, range(50)))
    said = [r.results[0].alternatives[0].transcript[14:] for r in responses if r.results]
    assert said == ["0-9", "0-19", "20-29", "20-39", "40-49", "40-49"]


def test_what_is_recorded(server: SpeechServerThread) -> None:
    """The record has the config, sizes of messages, frames in order, peer and end of a stream."""
    stream(server, audio(9, range(12)))
    server.wait_for(lambda: server.streams[0].ended is not None)
    record = server.streams[0]
    assert record.config.config.language_code == "iw-IL"
    assert list(record.message_sizes) == [800, 800, 320]
    assert record.frames == [(9, seq) for seq in range(12)]
    assert (record.ended, record.status, record.unreadable_bytes) == ("half-closed", "OK", 0)
    assert record.peer.startswith("ipv4:127.0.0.1:")


def test_peers_tell_connections_apart(server: SpeechServerThread) -> None:
    """Streams of one channel have one peer, those of another channel another."""
    one, other = client_of(server), client_of(server)
    for client in (one, one, other):
        list(client.streaming_recognize(streaming_config(), audio(1, range(5)), retry=None))
    peers = [record.peer for record in server.streams]
    assert peers[0] == peers[1] != peers[2]


def test_plain_recognize(server: SpeechServerThread) -> None:
    """The plain method answers a whole recording."""
    content = b"".join(numbered_frame(3, seq) for seq in range(10))
    answer = client_of(server).recognize(
        config=recognition_config(), audio={"content": content}, retry=None
    )
    assert [r.alternatives[0].transcript for r in answer.results] == ["call 3 frames 0-9"]


# Google's rules.


def raw_stream(server: SpeechServerThread, requests: Iterable[Request]) -> None:
    """A stream whose every message the test makes, the first included."""
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(
            "/google.cloud.speech.v1.Speech/StreamingRecognize",
            request_serializer=Request.serialize,
            response_deserializer=Response.deserialize,
        )
        list(call(iter(requests), timeout=10))


CONFIG = Request(streaming_config=streaming_config())


@pytest.mark.parametrize(
    ("requests", "text"),
    [
        ([Request(audio_content=b"x")], "Malordered Data Received. Expected streaming_config"),
        ([Request()], "Malordered Data Received. Expected streaming_config"),
        ([CONFIG, CONFIG], "Malordered Data Received. Expected audio_content"),
        ([CONFIG, Request()], "Malordered Data Received. Expected audio_content none was set."),
        (
            [CONFIG, Request(audio_content=bytes(25_601))],
            "maximum of 25600 bytes. Received audio of 25601 bytes instead.",
        ),
    ],
)
def test_messages_that_google_refuses(
    server: SpeechServerThread, requests: list[Request], text: str
) -> None:
    """Messages out of order and messages that are too big end the stream, and say why."""
    with pytest.raises(grpc.RpcError) as refusal:
        raw_stream(server, requests)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert text in str(refusal.value.details())
    server.wait_for(lambda: server.streams[0].ended == "refused")


def test_the_biggest_message_is_taken(server: SpeechServerThread) -> None:
    """25,600 bytes are still one message."""
    raw_stream(server, [CONFIG, Request(audio_content=b"".join(_frames(160)))])
    assert list(server.streams[0].message_sizes) == [25_600]


def _frames(count: int) -> Iterator[bytes]:
    return (numbered_frame(1, seq) for seq in range(count))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"encoding": "FLAC"}, "bad encoding"),
        ({"encoding": 0}, "bad encoding"),
        ({"sample_rate_hertz": 0}, "bad sample rate"),
        ({"language_code": ""}, "bad language code"),
        ({"audio_channel_count": 2}, "one audio channel"),
    ],
)
def test_configs_that_cannot_be_served(
    server: SpeechServerThread, fields: dict[str, Any], text: str
) -> None:
    """A config without what recognition needs is refused in both methods, with the reason."""
    config = recognition_config(**fields)
    with pytest.raises(exceptions.InvalidArgument, match=f"Invalid recognition.*{text}"):
        stream(server, audio(1, range(5)), config=config)
    with pytest.raises(exceptions.InvalidArgument, match=text):
        client_of(server).recognize(config=config, audio={"content": b"x"}, retry=None)


def test_a_config_refused_by_the_test() -> None:
    """The echo can refuse a model for a language as Google does."""
    reason = "The requested model is currently not supported for language : iw-IL."
    answers = EchoAnswers(refuse=lambda c: reason if c.model == "phone_call" else None)
    with SpeechServerThread(FrameEcho(answers)) as server:
        with pytest.raises(exceptions.InvalidArgument, match="not supported for language"):
            stream(server, audio(1, range(5)), config=recognition_config(model="phone_call"))
        assert texts(stream(server, audio(1, range(5))), final=True)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"uri": "gs://bucket/call.wav"}, "uri"),
        ({}, "content"),
        ({"content": bytes(61 * 8000)}, "Sync input too long"),
    ],
)
def test_recordings_that_cannot_be_served(
    server: SpeechServerThread, source: dict[str, Any], text: str
) -> None:
    """The plain method refuses a URI, nothing, and more than a minute."""
    with pytest.raises(exceptions.InvalidArgument, match=text):
        client_of(server).recognize(config=recognition_config(), audio=source, retry=None)


# Limits of time.


def test_a_stream_ends_at_its_longest() -> None:
    """A stream that goes on too long ends with OUT_OF_RANGE in Google's words."""
    with SpeechServerThread(FrameEcho(), limits=Limits(max_stream_seconds=0.2)) as server:
        call = OpenCall(server)
        call.send(*audio(1, range(10)))
        call.join()
        assert isinstance(call.error, exceptions.OutOfRange)
        assert "maximum allowed stream duration of 305 seconds" in call.error.message
        assert server.streams[0].ended == "limit"
        call.sent.put(None)


def test_a_stream_without_audio_ends() -> None:
    """A stream whose audio stops ends with OUT_OF_RANGE in Google's words."""
    with SpeechServerThread(FrameEcho(), limits=Limits(audio_timeout_seconds=0.2)) as server:
        call = OpenCall(server)
        call.join()
        assert isinstance(call.error, exceptions.OutOfRange)
        assert "Audio Timeout Error: Long duration elapsed" in call.error.message
        call.sent.put(None)


def test_audio_puts_the_timeout_off() -> None:
    """The clock of silence begins anew with each audio; the clock of the stream does not."""
    clock = StreamClock(Limits(), now=100.0)
    assert clock.due() == 110.0
    clock.heard(109.0)
    assert clock.check(118.9) is None
    silent = clock.check(119.0)
    assert silent is not None
    assert (silent.code, silent.text[:13]) == ("OUT_OF_RANGE", "Audio Timeout")
    clock.heard(400.0)
    assert clock.due() == 405.0
    longest = clock.check(405.0)
    assert longest is not None
    assert "305 seconds" in longest.text


# Life of a stream.


def test_cancelled_streams_leave_nothing_behind(server: SpeechServerThread) -> None:
    """A client that goes away in the middle is recorded as cancelled, and its stream is freed."""
    calls = [OpenCall(server) for _ in range(10)]
    for number, call in enumerate(calls):
        call.send(*audio(number, range(25)))
    server.wait_for(lambda: sum(len(r.frames) for r in server.streams) == 250)
    assert server.open_streams == 10
    for call in calls:
        call.cancel()
    server.wait_for(lambda: server.open_streams == 0)
    assert {record.ended for record in server.streams} == {"cancelled"}


def test_stall_and_resume() -> None:
    """A stalled server takes no audio and times nothing out; resumed, it takes all of it."""
    with SpeechServerThread(FrameEcho(), limits=Limits(audio_timeout_seconds=1.0)) as server:
        call = OpenCall(server)
        call.send(*audio(1, range(25)))
        server.wait_for(lambda: len(server.streams[0].frames) == 25)
        server.stall()
        call.send(*audio(1, range(25, 50)))
        with pytest.raises(TimeoutError):
            server.wait_for(lambda: len(server.streams[0].frames) > 25, timeout=1.2)
        server.resume()
        call.end()
        assert call.error is None
        assert server.streams[0].frames == [(1, seq) for seq in range(50)]
        assert frames_said(texts(call.responses, final=True)[-1]) == server.streams[0].frames


def test_a_stall_is_felt_by_the_client(server: SpeechServerThread) -> None:
    """A stalled server takes a few messages at most off its client's hands."""
    call = OpenCall(server)
    call.send(*audio(1, range(50)))
    server.wait_for(lambda: len(server.streams[0].frames) == 50)
    server.stall()
    call.send(*audio(1, range(50, 1050)))
    with pytest.raises(TimeoutError):
        server.wait_for(lambda: call.sent.qsize() < 190, timeout=0.3)
    server.resume()
    call.end()
    assert server.streams[0].frames == [(1, seq) for seq in range(1050)]


def test_many_streams_at_once(server: SpeechServerThread) -> None:
    """Sixty streams at once each get their own frames back, none lost or mixed."""
    calls = [OpenCall(server) for _ in range(60)]
    for number, call in enumerate(calls):
        call.send(*audio(number, range(100)))
    for number, call in enumerate(calls):
        call.end()
        assert texts(call.responses, final=True) == [f"call {number} frames 0-99"]
    server.wait_for(lambda: server.open_streams == 0)


def test_a_broken_recogniser_ends_its_stream_only(
    server: SpeechServerThread, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in recognition is INTERNAL for that stream; the next stream is served."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr("frame_echo.EchoStream.feed", broken)
        with pytest.raises(exceptions.InternalServerError):
            stream(server, audio(1, range(5)))
    assert server.streams[0].ended == "failed"
    assert "broken on purpose" in caplog.text
    assert texts(stream(server, audio(1, range(5))), final=True)


def test_records_of_ended_streams_can_be_dropped(server: SpeechServerThread) -> None:
    """A long run may forget what has ended, and only that."""
    stream(server, audio(1, range(5)))
    call = OpenCall(server)
    call.send(*audio(2, range(5)))
    server.wait_for(lambda: len(server.streams) == 2 and server.open_streams == 1)
    server.forget_ended()
    call.send(*audio(2, range(5, 10)))
    server.wait_for(lambda: len(server.streams) == 1 and len(server.streams[0].frames) == 10)
    call.end()


def test_a_port_in_use_is_said(server: SpeechServerThread) -> None:
    """A second server on the same port does not start, and says why."""
    port = int(server.address.split(":")[1])
    with pytest.raises(PortTaken, match="in use"), SpeechServerThread(FrameEcho(), port=port):
        pass
