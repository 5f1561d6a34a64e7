"""Media streams, rule by rule: broken messages and conversations, and calls not taken."""

from __future__ import annotations

import json
from typing import Any

import media_parts
import pytest
from media_parts import CALL, FRAMES, OTHER_CALL, OTHER_STREAM, STREAM, MediaService, about

from twilio_stream import StreamMessages

# the fixture of this module
service = media_parts.service


# Broken messages


def media_with(**changes: Any) -> str:
    message = json.loads(StreamMessages(CALL, STREAM, "AC1").media(b"\xff" * 160))
    message["media"] |= changes
    return json.dumps(message)


def media_of(stream_sid: str) -> str:
    return StreamMessages(CALL, stream_sid, "AC1").media(b"\xff" * 160)


FAULTS: dict[str, tuple[str | bytes, str]] = {
    "not JSON": ("hello", "not JSON"),
    "half a message": (media_of(STREAM)[:-40], "not JSON"),
    "not an object": ('["media"]', "not a JSON object"),
    "no event": ("{}", "no event"),
    "binary": (b"\xff" * 160, "a binary message"),
    "not base64": (media_with(payload="not base64!"), "media: Invalid base64"),
    "no payload": ('{"event":"media","media":{}}', "media: Object missing required field"),
    "payload of the wrong kind": (media_with(payload=5), "media: Expected `bytes`, got `int`"),
    "empty payload": (media_with(payload=""), "media without audio: the payload is empty"),
    "other stream": (
        media_of(OTHER_STREAM),
        "media of another stream",
    ),
}


@pytest.mark.parametrize(("message", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_broken_message_is_skipped_with_a_line_and_the_call_goes_on(
    service: MediaService, message: str | bytes, fault: str
) -> None:
    """Between good frames, 25 times: the 1st and the 10th are logged, every good frame arrives."""
    with service.call() as caller:
        caller.start()
        for frame in FRAMES[:5]:
            caller.media(frame)
            for _ in range(5):
                caller.socket.send(message)
        caller.media(*FRAMES[5:])
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    said = service.lines("[WS] skipped:")
    assert [line.rpartition(" ")[2] for line in said] == ["count=1", "count=10"]
    assert all(line.startswith(f"[WS] skipped: {fault}") and about() in line for line in said)
    assert len(service.lines("[WS] closed: 1000", "skipped=25 ignored=0")) == 1


def test_a_message_that_is_not_utf_8_is_skipped(service: MediaService) -> None:
    """A text message with other bytes in it costs that message and not the call."""
    with service.call() as caller:
        caller.start()
        caller.socket.send(b'{"event":"mark","mark":{"name":"\xff"}}', text=True)
        caller.media(*FRAMES)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert len(service.lines("[WS] skipped: not JSON", about())) == 1


def test_each_kind_of_fault_is_named(service: MediaService) -> None:
    """A fault does not hide behind another one that came first, of the same event."""
    with service.call() as caller:
        caller.start()
        for _ in range(2):
            for message, _ in FAULTS.values():
                caller.socket.send(message)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    for fault in ("not JSON", "no event", "a binary message", "media: Invalid base64"):
        assert len(service.lines(f"[WS] skipped: {fault}", "count=1")) == 1
    for fault in ("the payload is empty", "its streamSid is not this one's"):
        assert len(service.lines("[WS] skipped: ", fault, "count=1")) == 1


def test_a_fault_is_logged_shortly_whatever_it_quotes(service: MediaService) -> None:
    """A message of 60 kB does not become a line of 60 kB."""
    with service.call() as caller:
        caller.start()
        caller.socket.send('{"event":"%s","event":"media"}' % ("x" * 60_000))
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    [line] = service.lines("[WS] skipped: media: ")
    assert len(line) < 400


def test_broken_messages_before_start_are_skipped_too(service: MediaService) -> None:
    """Whose they are is not known yet, and the call begins all the same."""
    with service.call() as caller:
        caller.socket.send("hello")
        caller.socket.send('{"event":"start","start":{}}')
        caller.start()
        caller.media(*FRAMES)
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert len(service.lines("[WS] skipped: not JSON call=- tenant=- count=1")) == 1
    assert len(service.lines("[WS] skipped: start: ", "callSid", "call=- tenant=- count=1")) == 1
    assert len(service.lines("[WS] closed: 1000", about(), "skipped=2")) == 1


def test_faults_of_one_call_are_not_noticed_by_another(service: MediaService) -> None:
    """Beside every kind of broken message a good call loses no frame."""
    with service.call(call_sid=OTHER_CALL) as good, service.call() as bad:
        good.start()
        bad.start()
        for (message, _), frame in zip(FAULTS.values(), FRAMES, strict=True):
            bad.socket.send(message)
            good.media(frame)
        bad.send_start(callSid="CA2")
        assert bad.ending()[0] == 1002
        good.stop()
        assert good.ending()[0] == 1000
    service.wait_for_ends(2)
    assert [s.frames for s in service.sessions if s.frames] == [FRAMES]
    service.wait_until_all_is_given_back()


# Broken conversations


def test_a_message_of_more_than_64_kib_is_closed_with_1009(service: MediaService) -> None:
    """64 KiB are taken; one byte more ends the call."""
    padding = "x" * (64 * 1024 - len('{"event":""}'))
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES)
        caller.socket.send(f'{{"event":"{padding}"}}')
        caller.media(*FRAMES)
        service.wait_for(lambda: bool(service.sessions and len(service.session.frames) == 20))
        caller.socket.send(f'{{"event":"{padding}x"}}')
        assert caller.ending()[0] == 1009
    service.wait_for_ends()
    service.wait_until_all_is_given_back()
    assert len(service.lines("[WS] closed: 1009 ", about(), "skipped=0 ignored=1")) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": "audio/L16"},
        {"sampleRate": 16000},
        {"sampleRate": "44100"},
        {"sampleRate": 10**400},
        {"channels": 2},
    ],
    ids=str,
)
def test_audio_of_another_kind_is_refused_with_1003(
    service: MediaService, change: dict[str, Any]
) -> None:
    """Recognised as mu-law at 8 kHz it would be noise: no slot, no session, one line."""
    media_format = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1} | change
    with service.call() as caller:
        caller.start(mediaFormat=media_format)
        code, reason = caller.ending()
    assert code == 1003
    assert (reason or "").startswith("start: audio is ")
    service.wait_for_ends()
    assert (service.opened, service.registry.live) == ([], 0)
    assert [line.partition(" is ")[0] for line in service.lines()] == [
        "[WS] refused: 1003 start: audio"
    ]


@pytest.mark.parametrize("call_sid", ["", "CA 1", "CA1\nCA2", "x" * 65])
def test_a_start_without_a_call_id_is_closed_with_1002(
    service: MediaService, call_sid: str
) -> None:
    """An id that is none could not be told apart in the log, nor in the registry."""
    with service.call() as caller:
        caller.start(callSid=call_sid)
        assert caller.ending() == (1002, "start: callSid is not an id of letters and digits")
    service.wait_for_ends()
    assert (service.opened, service.registry.live) == ([], 0)
    assert len(service.lines()) == 1


def test_a_stop_before_start_is_closed_with_1002(service: MediaService) -> None:
    """There is no call that it could end."""
    with service.call() as caller:
        caller.socket.send(caller.messages.connected())
        caller.stop()
        assert caller.ending() == (1002, "stop came before start")
    service.wait_for_ends()
    assert service.opened == []
    assert service.lines() == ["[WS] refused: 1002 stop came before start call=- tenant=-"]


def test_a_second_start_of_the_same_call_is_skipped(service: MediaService) -> None:
    """It opens no second session, and the frames go on to the first."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES[:5])
        caller.send_start()
        caller.media(*FRAMES[5:])
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.session.frames == FRAMES
    assert len(service.lines("[WS] skipped: a second start", about(), "count=1")) == 1
    assert len(service.lines("[WS] connected")) == 1


def test_a_second_start_for_another_call_is_closed_with_1002(service: MediaService) -> None:
    """One socket is one call: nobody's words may go to another's session."""
    with service.call() as caller:
        caller.start()
        caller.media(*FRAMES)
        caller.send_start(callSid=OTHER_CALL)
        assert caller.ending() == (1002, "a second start, for another call")
    service.wait_for_ends()
    assert service.opened == [(CALL, "default")]
    assert service.session.frames == FRAMES
    service.wait_until_all_is_given_back()
    assert service.lines()[1:] == [f"[WS] refused: 1002 a second start, for another call {about()}"]


# Calls that are not taken


def test_over_capacity_is_refused_with_1013(service: MediaService) -> None:
    """One line, no session and no slot; the live calls go on, and an end makes room."""
    with service.call() as first, service.call(call_sid="CA2") as second:
        first.start()
        second.start()
        service.wait_for(lambda: len(service.sessions) == 2)
        for number in (1, 2):
            with service.call(call_sid=OTHER_CALL) as third:
                third.start()
                code, reason = third.ending()
            assert (code, reason) == (1013, "2 calls are live, MAX_CONCURRENT_CALLS is 2")
            service.wait_for_ends(number)
        assert len(service.opened) == service.registry.live == 2
        assert [line.partition(":")[0] for line in service.lines(OTHER_CALL)] == [
            "[WS] refused",
            "[WS] refused",
        ]
        first.stop()
        assert first.ending()[0] == 1000
        service.wait_for_ends(3)
        with service.call(call_sid=OTHER_CALL) as third:
            third.start()
            third.stop()
            assert third.ending()[0] == 1000
        second.media(*FRAMES)
        second.stop()
        assert second.ending()[0] == 1000
    service.wait_for_ends(5)
    assert [session.frames for session in service.sessions].count(FRAMES) == 1
    service.wait_until_all_is_given_back()


def test_a_draining_worker_refuses_with_1012(service: MediaService) -> None:
    """1012 sends Twilio to another worker; no slot is taken in this one."""
    assert service.registry.drain(0) == 0
    with service.call() as caller:
        caller.start()
        assert caller.ending() == (1012, "this worker is shutting down")
    service.wait_for_ends()
    assert (service.opened, service.registry.live) == ([], 0)
    assert service.lines() == [f"[WS] refused: 1012 this worker is shutting down {about()}"]
