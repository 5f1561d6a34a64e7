"""Troubles on purpose: each kind is seen by the service, and the same seed brings the same."""

from __future__ import annotations

import base64
from collections import Counter
from itertools import pairwise

import pytest
from placed_calls import CALLER, audio, call, media
from twilio_service import Asked, ServedStream, TwilioService

from placed_call_report import PlacedCallReport
from twilio_chaos import KINDS, Chaos, ChaosKind, StreamChaos, read_kinds
from twilio_stream import Pacing

LONG = [bytes([n % 256]) * 160 for n in range(200)]
SPOKEN = b"".join(LONG)


def troubled(
    kind: ChaosKind, *, pacing: Pacing | None = None, seed: int = 0
) -> tuple[TwilioService, PlacedCallReport]:
    """A call of four seconds with one kind of trouble, whose action opens another stream."""

    def answer(asked: Asked) -> str:
        action = 'action="/again"' if kind == "cut" else ""
        return f"<Connect {action}>{media(service.url)}</Connect>"

    service = TwilioService(answer)
    chaos = Chaos(frozenset([kind]), seed)
    report = call(service, caller=LONG, chaos=chaos, pacing=pacing or Pacing(0))
    assert report.ok, report.errors
    return service, report


def numbers(stream: ServedStream, key: str) -> list[int]:
    return [int(frame[key]) for frame in stream.media()]


def test_doubled_webhooks() -> None:
    """The same form twice, and one stream."""
    service, report = troubled("doubled-webhook")
    first, second = service.asked
    assert (first.path, first.form) == (second.path, second.form)
    assert len(service.streams) == len(report.streams) == 1
    assert len(report.webhooks) == 2


def test_two_sockets_for_one_call() -> None:
    """Two streams of one call, each with all the audio; only the first is reported as one."""
    service, report = troubled("two-sockets")
    assert {stream.start["callSid"] for stream in service.streams} == {report.call_sid}
    assert len({stream.start["streamSid"] for stream in service.streams}) == 2
    assert [audio(stream) for stream in service.streams] == [SPOKEN, SPOKEN]
    assert (len(report.streams), len(report.second_sockets)) == (1, 1)
    assert report.unsent_seconds == 0


def test_no_stop() -> None:
    """The socket is closed after the last frame."""
    service, _ = troubled("no-stop")
    assert service.streams[0].events()[-1] == "media"
    assert service.streams[0].close_code == 1000


def test_frames_of_other_sizes() -> None:
    """All the audio, in other pieces, with timestamps that fit."""
    service, _ = troubled("odd-frames")
    (stream,) = service.streams
    sizes = [len(base64.b64decode(frame["payload"])) for frame in stream.media()]
    assert audio(stream) == SPOKEN
    assert len(set(sizes)) > 20
    assert numbers(stream, "timestamp") == [sum(sizes[:n]) // 8 for n in range(len(sizes))]


def test_gaps_in_timestamps() -> None:
    """Frames are missing, timestamps go on, and the loss is reported."""
    service, report = troubled("gaps")
    times = numbers(service.streams[0], "timestamp")
    steps = [after - before for before, after in pairwise(times)]
    assert set(steps) > {20}
    assert all(step % 20 == 0 for step in steps)
    missing = sum(step // 20 - 1 for step in steps)
    assert missing + len(times) <= 200
    assert report.unsent_seconds == pytest.approx((200 - len(times)) * 0.02)


def test_bursts() -> None:
    """Nothing for at least ten frames' time, then all that was spoken in it."""
    service, _ = troubled("bursts", pacing=Pacing(0.002))
    (stream,) = service.streams
    pauses = [after - before for before, after in pairwise(stream.times)]
    assert max(pauses) >= 0.015
    assert SPOKEN.endswith(audio(stream))  # what was spoken before the stream was open is gone
    assert len(audio(stream)) > len(SPOKEN) / 2


def test_reordered_sequence_numbers() -> None:
    """Neighbours change places now and then; each number comes once."""
    service, _ = troubled("reordered")
    order = [int(message["sequenceNumber"]) for message in service.streams[0].messages[1:]]
    assert order != sorted(order)
    assert sorted(order) == list(range(1, 203))
    assert all(abs(number - place) <= 1 for place, number in enumerate(order, 1))


def test_media_at_the_heels_of_start() -> None:
    """`start` comes as late as its tenth frame."""
    service, _ = troubled("early-media", pacing=Pacing(0.004))
    (stream,) = service.streams
    assert stream.events()[:3] == ["connected", "start", "media"]
    assert (
        stream.times[1] - stream.times[0] >= 0.010
    )  # nine times 4 ms, less what a late start catches up
    assert SPOKEN.endswith(audio(stream))


def test_a_cut_connection() -> None:
    """The first stream breaks off early without a close; the action's one goes on to the end."""
    service, report = troubled("cut", pacing=Pacing(0.004))
    first, second = service.streams
    assert first.events()[-1] == "media"
    assert first.close_code == 1006
    assert 1 <= len(first.media()) <= 50
    assert second.events()[-1] == "stop"
    assert [stream.close_code for stream in report.streams] == [1006, 1000]
    assert audio(second)[-160:] == SPOKEN[-160:]


def test_all_at_once() -> None:
    """Every kind in one call is still a call."""

    def answer(asked: Asked) -> str:
        return f'<Connect action="/again">{media(service.url)}</Connect>'

    service = TwilioService(answer)
    report = call(service, caller=LONG, chaos=Chaos(), pacing=Pacing(0.002))
    assert report.ok, report.errors
    assert len(report.second_sockets) == len(report.streams) >= 2
    assert Counter(asked.path for asked in service.asked)["/voice"] == 2


def test_the_services_own_faults_still_count() -> None:
    """A close with 1011 fails a call, whatever else is done to it."""

    def answer(_: Asked) -> str:
        return f"<Connect>{media(service.url)}</Connect>"

    service = TwilioService(answer, lambda _, m: 1011 if m["event"] == "start" else None)
    report = call(service, chaos=Chaos(frozenset(["gaps"])), pacing=Pacing(0.002))
    assert "1011" in report.errors[0]


def test_a_seed_is_a_trouble() -> None:
    """The same for the same seed and stream, another for another."""

    def sizes(seed: int, number: int) -> list[int]:
        chaos = StreamChaos(Chaos(frozenset(["odd-frames"]), seed), number)
        return [len(piece) for frame in CALLER for piece in chaos.frames("inbound", frame)]

    assert sizes(1, 0) == sizes(1, 0)
    assert sizes(1, 0) != sizes(1, 1) != sizes(2, 1)


def test_kinds_are_read() -> None:
    """From a list with commas; what is none is refused with the list of all."""
    assert read_kinds("cut, gaps") == {"cut", "gaps"}
    assert read_kinds("all") == set(KINDS)
    with pytest.raises(ValueError, match=r"'fire' is no kind of chaos: they are doubled-webhook"):
        read_kinds("fire")
