"""Media streams, rule by rule: their messages, their business and the frames of a call."""

from __future__ import annotations

import json
import time
from typing import Any

import media_parts
import pytest
from media_parts import CALL, FRAMES, OTHER_STREAM, STREAM, MediaService, about

from media_ws_ai import EARLY_BYTES, EARLY_FRAMES

# the fixture of this module
service = media_parts.service


# The messages


def test_a_call_from_connected_to_stop(service: MediaService) -> None:
    """Every message of Twilio's in turn: all frames in order, 1000, two lines in the log."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES[:5])
        caller.socket.send(caller.messages.dtmf("5"))
        caller.media(*FRAMES[5:])
        caller.socket.send(caller.messages.mark("m"))
        caller.stop()
        assert caller.ending() == (1000, "the call has ended")
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert service.opened == [(CALL, "default")]
    service.wait_until_all_is_given_back()
    assert service.lines() == [
        f"[WS] connected {about()}",
        f"[WS] closed: 1000 the call has ended {about()} skipped=0 ignored=0",
    ]


def test_unknown_events_are_ignored_and_counted(service: MediaService) -> None:
    """Twilio may add events at any time, before and after `start`: no fault, no line each."""
    with service.call() as caller:
        caller.send({"event": "greeting", "streamSid": STREAM})
        caller.start()
        caller.send({"event": "transcription", "transcription": {"text": "x"}})
        caller.send({"event": "Media", "media": 5})
        caller.media(*FRAMES)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert service.lines("skipped:") == []
    assert len(service.lines("closed: 1000", "skipped=0 ignored=3")) == 1


@pytest.mark.parametrize("kind", [int, str])
def test_numbers_may_be_strings(service: MediaService, kind: type) -> None:
    """Twilio writes numbers both ways, the documentation one and the wire the other."""
    media_format = {"encoding": "audio/x-mulaw", "sampleRate": kind(8000), "channels": kind(1)}
    with service.call() as caller:
        caller.send_start(mediaFormat=media_format)
        for number, frame in enumerate(FRAMES):
            message = json.loads(caller.messages.media(frame))
            message["sequenceNumber"] = kind(number + 2)
            message["media"] |= {"chunk": kind(number + 1), "timestamp": kind(number * 20)}
            caller.send(message)
        caller.send({"event": "dtmf", "sequenceNumber": kind(12), "dtmf": {"digit": kind(5)}})
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.frames == FRAMES
    service.wait_for_ends()
    assert len(service.lines("closed:", "skipped=0 ignored=0")) == 1


# The call's business


PARAMETER = {"tenant": "of-parameter"}
HEADER = {"X-Tenant": "of-header"}


@pytest.mark.parametrize(
    ("path", "parameters", "headers", "tenant"),
    [
        ("/media/of-path?tenant=of-query", PARAMETER, HEADER, "of-path"),
        ("/media?tenant=of-query", PARAMETER, HEADER, "of-parameter"),
        ("/media?tenant=of-query", {"tenant": ""}, HEADER, "of-query"),
        ("/media?tenant=", {}, HEADER, "of-header"),
        ("/media", {"other": "x"}, {}, "default"),
        ("/media", None, {}, "default"),
    ],
)
def test_the_business_comes_from_the_first_place_that_names_it(
    service: MediaService, path: str, parameters: Any, headers: dict[str, str], tenant: str
) -> None:
    """Path, then customParameters.tenant, then ?tenant=, then X-Tenant, then `default`."""
    with service.call(path, headers=headers) as caller:
        caller.start(customParameters=parameters)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.opened == [(CALL, tenant)]
    assert len(service.lines("[WS] connected", about(tenant=tenant))) == 1
    assert len(service.lines("[WS] closed", about(tenant=tenant))) == 1


@pytest.mark.parametrize(
    ("path", "parameters", "headers", "where"),
    [
        ("/media/no%20good", PARAMETER, HEADER, "the path"),
        ("/media?tenant=of-query", {"tenant": "../../x"}, HEADER, "customParameters.tenant"),
        ("/media", {"tenant": 5}, {}, "customParameters.tenant"),
        ("/media?tenant=x%0Ay", {}, HEADER, "?tenant="),
        ("/media", {}, {"X-Tenant": "x" * 65}, "X-Tenant"),
    ],
)
def test_a_business_whose_id_is_none_is_refused_with_1008(
    service: MediaService, path: str, parameters: Any, headers: dict[str, str], where: str
) -> None:
    """What would end up in lines and keys is an id, or the call is not taken for anybody."""
    with service.call(path, headers=headers) as caller:
        caller.start(customParameters=parameters)
        code, reason = caller.ending()
    assert code == 1008
    assert (reason or "").startswith(f"{where}: a business's id is")
    service.wait_for_ends()
    assert service.opened == []
    assert service.registry.live == 0
    assert len(service.lines()) == 1
    assert service.lines(f"[WS] refused: 1008 {where}: ")


# Frames before the session is ready


def test_media_before_start_is_kept_in_order(service: MediaService) -> None:
    """As much as is kept at most: the call's first words reach its session before the next."""
    early = [n.to_bytes(2, "big") * 80 for n in range(EARLY_FRAMES)]
    with service.call() as caller:
        caller.media(*early)
        caller.start()
        caller.media(*FRAMES)
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.frames == early + FRAMES


def test_early_frames_are_sorted_out_once_start_has_come(service: MediaService) -> None:
    """Frames of other tracks and streams and empty ones are not smuggled in before `start`."""
    with service.call() as caller:
        caller.media(FRAMES[0])
        caller.media(FRAMES[1], track="outbound")
        caller.send({**json.loads(caller.messages.media(FRAMES[2])), "streamSid": OTHER_STREAM})
        caller.media(b"", FRAMES[3])
        caller.start()
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == [FRAMES[0], FRAMES[3]]
    assert len(service.lines("closed:", "skipped=2 ignored=1")) == 1


@pytest.mark.parametrize(
    "frames",
    [[b"\xff" * 8] * (EARLY_FRAMES + 1), [b"\xff" * 40_000, b"\xff" * (EARLY_BYTES - 39_999)]],
    ids=["too many", "too large"],
)
def test_a_stream_that_never_starts_is_closed_with_1002(
    service: MediaService, frames: list[bytes]
) -> None:
    """What is kept for a `start` that does not come is bounded, in frames and in bytes."""
    with service.call() as caller:
        caller.media(*frames)
        assert caller.ending() == (1002, "5 s of media came, but no start")
    service.wait_for_ends()
    assert service.lines() == ["[WS] refused: 1002 5 s of media came, but no start call=- tenant=-"]


def test_media_that_comes_while_the_session_opens_is_kept_in_order(service: MediaService) -> None:
    """A slow start of the recognition costs no frame."""
    service.may_open.clear()
    with service.call() as caller:
        caller.media(*FRAMES[:3])
        caller.start()
        caller.media(*FRAMES[3:6])
        service.wait_for(lambda: len(service.opened) == 1)
        caller.media(*FRAMES[6:])
        assert service.sessions == []
        service.may_open.set()
        caller.stop()
        assert caller.ending()[0] == 1000
    assert service.session.frames == FRAMES


# What is transcribed


def test_only_the_inbound_track_is_transcribed(service: MediaService) -> None:
    """Both spellings of it, or none; frames of any other track are counted, not mixed in."""
    with service.call() as caller:
        caller.start()
        for frame, track in zip(FRAMES, ["inbound", "outbound", "inbound_track"], strict=False):
            caller.media(frame, track=track)
        caller.media(FRAMES[3], track="outbound_track")
        message = json.loads(caller.messages.media(FRAMES[4]))
        del message["media"]["track"]
        caller.send(message)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == [FRAMES[0], FRAMES[2], FRAMES[4]]
    assert len(service.lines("closed:", "skipped=0 ignored=2")) == 1


def test_audio_keeps_a_call_from_the_reaper(service: MediaService) -> None:
    """The time of the last audio is that of the last media message, of whatever track."""
    began = time.monotonic()
    with service.call() as caller:
        caller.start()
        caller.media(FRAMES[0], track="outbound")
        caller.media(FRAMES[1])
        service.wait_for(lambda: bool(service.sessions and service.session.frames))
        assert service.registry.reap(now=began + 100) == 0
        assert service.registry.reap(now=began + 1e6) == 1
        assert caller.ending() == (1001, "no audio came")
    service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert len(service.lines("[WS] closed: 1001 no audio came", about())) == 1
