"""Media streams, rule by rule: audio that never came is told to the session, where it is missing.

The sizes of gaps are bytes: 8 are a millisecond.
"""

from __future__ import annotations

import json
from typing import Any

import media_parts
import pytest
from media_parts import CALL, FRAMES, OTHER_STREAM, MediaService

# the fixture of this module
service = media_parts.service

A, B, C, D = FRAMES[:4]


def test_a_line_that_is_never_silent_has_no_gap(service: MediaService) -> None:
    """Frame upon frame, before `start` and after it."""
    with service.call() as caller:
        caller.media(*FRAMES[:3])
        caller.start()
        caller.media(*FRAMES[3:])
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.taken == FRAMES


def test_a_gap_is_told_right_before_the_frame_that_follows_it(service: MediaService) -> None:
    """Of whole frames or not, each once; what Twilio leaves out at the end is nobody's gap."""
    with service.call() as caller:
        caller.start()
        caller.media(A, B)
        caller.messages.skip(100)
        caller.media(C)
        caller.messages.skip(33)
        caller.media(D, A)
        caller.messages.skip(1000)
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.taken == [A, B, 800, C, 264, D, A]


def test_frames_of_any_size_count_by_their_audio(service: MediaService) -> None:
    """Twilio does not promise 20 ms."""
    long, short = b"\x01" * 400, b"\x02" * 80
    with service.call() as caller:
        caller.start()
        caller.media(long, short, long)
        caller.messages.skip(50)
        caller.media(short, long)
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.taken == [long, short, long, 400, short, long]


def test_silence_before_the_first_frame_is_a_gap(service: MediaService) -> None:
    """A stream's time begins at its start, not at its first frame."""
    with service.call() as caller:
        caller.start()
        caller.messages.skip(3000)
        caller.media(A, B)
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.taken == [24_000, A, B]


def test_early_frames_keep_their_gaps(service: MediaService) -> None:
    """Before `start`, and from the last frame before it to the first one after."""
    with service.call() as caller:
        caller.messages.skip(40)
        caller.media(A)
        caller.messages.skip(60)
        caller.media(B)
        caller.start()
        caller.messages.skip(80)
        caller.media(C)
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.taken == [320, A, 480, B, 640, C]


@pytest.mark.parametrize(
    "timestamp",
    [*("", "soon", "-20", -20, 90.5, 86_400_001, "86400001", 10**30), *(None, True, [], {"a": 9})],
    ids=repr,
)
def test_a_timestamp_that_is_none_costs_neither_frame_nor_clock(
    service: MediaService, timestamp: Any
) -> None:
    """It is no fault of the message; a gap is told by the next timestamp that is one."""
    with service.call() as caller:
        caller.media_at(timestamp, A)
        caller.start()
        caller.media_at(timestamp, B)
        caller.media_at("40", C)
        caller.media_at(timestamp, A)
        caller.media_at("100", D)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.taken == [A, B, C, A, 160, D]
    assert len(service.lines("closed: 1000", "skipped=0 ignored=0")) == 1


def test_a_message_without_a_timestamp_is_the_next_frame(service: MediaService) -> None:
    """What a stand-in of Twilio's leaves out, all along or now and then."""
    with service.call() as caller:
        caller.start()
        for frame in (A, B):
            message = json.loads(caller.messages.media(frame))
            del message["media"]["timestamp"]
            caller.send(message)
        caller.media(C)
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.taken == [A, B, C]


def test_doubled_messages_and_old_ones_are_taken_as_they_come(service: MediaService) -> None:
    """No gap is made of them, and the next real one is measured from all audio that came."""
    with service.call() as caller:
        caller.start()
        for timestamp, frame in ((0, A), (20, B), (20, B), (0, C), (160, D)):
            caller.media_at(timestamp, frame)
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.taken == [A, B, B, C, 640, D]


def test_only_the_streams_own_inbound_audio_moves_its_clock(service: MediaService) -> None:
    """Frames of another track or stream, and messages without audio, say nothing about it."""
    with service.call() as caller:
        caller.start()
        caller.media_at(0, A)
        caller.media_at(5000, A, track="outbound")
        caller.media_at(5000, A, payload="")
        other = json.loads(caller.messages.media(A)) | {"streamSid": OTHER_STREAM}
        caller.send(other | {"media": other["media"] | {"timestamp": 5000}})
        caller.media_at(20, B)
        caller.media_at(40, C, track="inbound_track")
        caller.media_at(100, D)
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.taken == [A, B, C, 320, D]


def test_a_frame_that_cannot_be_read_is_a_gap(service: MediaService) -> None:
    """Its audio is lost, and its time is not."""
    with service.call() as caller:
        caller.start()
        caller.media_at(0, A)
        caller.media_at(20, B, payload="not base64!")
        caller.media_at(40, C)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.taken == [A, 160, C]
    assert len(service.lines("closed: 1000", "skipped=1 ignored=0")) == 1


def test_a_stream_that_replaces_another_has_a_clock_of_its_own(service: MediaService) -> None:
    """Its timestamps begin at 0 again, and so does what they are measured by."""
    with service.call() as first, service.call(stream_sid=OTHER_STREAM) as second:
        first.start()
        first.messages.skip(1000)
        first.media(A, B)
        service.wait_for(lambda: bool(service.sessions and len(service.session.frames) == 2))
        second.start()
        assert first.ending()[0] == 1000
        second.messages.skip(100)
        second.media(C, D)
        second.stop()
        assert second.ending()[0] == 1000
    service.wait_for_ends(2)
    assert [call_sid for call_sid, _ in service.opened] == [CALL, CALL]
    assert [session.taken for session in service.sessions] == [[8_000, A, B], [800, C, D]]


def test_a_session_that_fails_to_fill_a_gap_ends_its_call(service: MediaService) -> None:
    """1011 and everything given back, as for any other fault of a session's."""
    service.fails = "fill_gap"
    with service.call() as caller:
        caller.start()
        caller.messages.skip(100)
        caller.media(A)
        assert caller.ending()[0] == 1011
    service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert service.session.taken == [800]
