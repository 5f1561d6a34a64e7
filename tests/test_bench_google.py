"""The bench's stand-in for Google: asked by gRPC's own client, and by one without manners."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from bench_case import Google
from bench_frames import stamped_frame
from bench_google import METHOD, audio_of
from bench_http2 import MAX_STREAMS
from hpack import Encoder

import speech_messages as messages

END = 2**62


@pytest.fixture
def stand_in() -> Iterator[Google]:
    with Google() as google:
        yield google


def requests(seconds: float, **config: Any) -> Iterator[bytes]:
    """A stream's messages: as much audio of call 3, in messages of 100 ms."""
    known = {"encoding": messages.MULAW, "sample_rate_hertz": 8000, "language_code": "en-US"}
    streaming = messages.StreamingRecognitionConfig(config=known, interim_results=True, **config)
    yield messages.StreamingRecognizeRequest(streaming_config=streaming).SerializeToString()
    for first in range(0, int(seconds * 50), 5):
        now = time.monotonic_ns()
        audio = b"".join(stamped_frame(3, seq, now) for seq in range(first, first + 5))
        yield messages.StreamingRecognizeRequest(audio_content=audio).SerializeToString()


def open_stream(channel: grpc.Channel, sent: Iterator[bytes]) -> Any:
    return channel.stream_stream(METHOD, _as_it_is, _as_it_is)(sent)


def _as_it_is(data: bytes) -> bytes:
    return data


def test_it_answers_as_google_does(stand_in: Google) -> None:
    """Interims twice a second, a final every 3 s and at the end, each at its time."""
    with grpc.insecure_channel(stand_in.address) as channel:
        answers = [
            messages.StreamingRecognizeResponse.FromString(answer).results[0]
            for answer in open_stream(channel, requests(4.0))
        ]
    ends = [(one.is_final, one.result_end_time.ToMilliseconds() / 1000) for one in answers]
    assert [end for final, end in ends if final] == [3.0, 4.0]
    assert [end for final, end in ends if not final] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.5, 4.0]


def test_it_knows_which_frames_came(stand_in: Google) -> None:
    """All of them, once, in order, with the time that they took."""
    with grpc.insecure_channel(stand_in.address) as channel:
        list(open_stream(channel, requests(2.0)))
    report = stand_in.ask({"do": "report", "begin": 0, "end": END})
    assert (report["received"], report["doubled"], report["disordered"]) == (100, 0, 0)
    assert (report["messages"], report["streams"], report["live"]) == (20, 1, 0)
    assert 0 < report["delay_ms"]["p50"] < 5_000


def test_events_are_for_those_who_ask(stand_in: Google) -> None:
    """Begin and end of speech around each final."""
    with grpc.insecure_channel(stand_in.address) as channel:
        answers = open_stream(channel, requests(3.0, enable_voice_activity_events=True))
        read = messages.StreamingRecognizeResponse.FromString
        kinds = [read(answer).speech_event_type for answer in answers]
    assert kinds[0] == messages.SPEECH_ACTIVITY_BEGIN
    assert kinds[-2:] == [messages.SPEECH_ACTIVITY_END, 0]


def test_wrong_audio_is_refused(stand_in: Google) -> None:
    """INVALID_ARGUMENT, as Google has it; it would not be measured as if it were right."""
    with grpc.insecure_channel(stand_in.address) as channel:
        wrong = messages.StreamingRecognizeRequest(audio_content=b"x").SerializeToString()
        stream = open_stream(channel, iter([wrong]))
        with pytest.raises(grpc.RpcError):
            list(stream)
    assert stream.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert stand_in.ask({"do": "report", "begin": 0, "end": END})["faulty"] == 1


def test_a_connection_carries_a_hundred_streams(stand_in: Google) -> None:
    """gRPC's client keeps the 101st back, without an error, until another one ends."""
    opened, hold = threading.Semaphore(0), threading.Event()

    def held() -> Iterator[bytes]:
        yield from requests(0.5)
        opened.release()
        hold.wait(20)

    with grpc.insecure_channel(stand_in.address) as channel:
        streams = [open_stream(channel, held()) for _ in range(MAX_STREAMS)]
        for _ in streams:
            assert opened.acquire(timeout=20)
        late = open_stream(channel, requests(0.5))
        report = stand_in.ask({"do": "report", "begin": 0, "end": END})
        assert (report["streams"], report["refused"]) == (MAX_STREAMS, 0)
        assert report["most_together"] == MAX_STREAMS
        hold.set()
        for stream in streams:
            list(stream)  # only then is it over for gRPC
        assert len(list(late)) == 2
    assert stand_in.ask({"do": "report", "begin": 0, "end": END})["streams"] == MAX_STREAMS + 1


def test_who_opens_more_is_refused(stand_in: Google) -> None:
    """The 101st stream of a client that does not care is reset."""
    headers = Encoder().encode([(":method", "POST"), (":path", METHOD), (":scheme", "http")])
    host, port = stand_in.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        for number in range(MAX_STREAMS + 1):
            connection.sendall(frame(1, 4, 2 * number + 1, headers))
        reader = connection.makefile("rb")
        kind = -1
        while kind != 3:
            size, kind, number, body = read_frame(reader)
    assert (size, number) == (4, 2 * MAX_STREAMS + 1)
    assert int.from_bytes(body, "big") == 7  # REFUSED_STREAM
    assert stand_in.ask({"do": "report", "begin": 0, "end": END})["refused"] == 1


def frame(kind: int, flags: int, number: int, body: bytes = b"") -> bytes:
    return struct.pack(">HBBBI", len(body) >> 8, len(body) & 0xFF, kind, flags, number) + body


def read_frame(reader: Any) -> tuple[int, int, int, bytes]:
    high, low, kind, _, number = struct.unpack(">HBBBI", reader.read(9))
    size = high << 8 | low
    return size, kind, number, reader.read(size)


def test_audio_is_found_in_a_raw_request() -> None:
    """Of any length, and only where a message holds nothing else."""
    for size in (1, 127, 128, 800, 20_000):
        audio = b"\x12" * size
        raw = messages.StreamingRecognizeRequest(audio_content=audio).SerializeToString()
        assert audio_of(raw) == audio
        assert audio_of(raw + b"\0") is None
    assert audio_of(b"") is None
