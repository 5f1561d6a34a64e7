"""Streams of placed calls: what a service may send, forks, callbacks, bad ends."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from placed_calls import CALLER, audio, call, media
from twilio_service import Asked, ServedStream, TwilioService

from twilio_stream import Pacing

BOTH, RELATIVE = 'track="both_tracks"', 'statusCallback="/status"'


@pytest.mark.parametrize(
    ("verb", "sent", "words"),
    [
        ("Start", '{"event":"mark","streamSid":"x","mark":{"name":"m"}}', "31924"),
        ("Connect", '{"event":"media"}', "31951"),
        ("Connect", "hello", "31951"),
    ],
)
def test_messages_that_a_service_must_not_send(verb: str, sent: str, words: str) -> None:
    """They are errors of the protocol."""

    def answer(_: Asked) -> str:
        return f"<{verb}>{media(service.url)}</{verb}><Dial>+1</Dial>"

    def chatter(_: ServedStream, message: dict[str, Any]) -> str | int | None:
        answers: dict[str, str | int] = {"start": sent, "stop": 1000}
        return answers.get(message["event"])

    service = TwilioService(answer, chatter)
    report = call(service)
    assert words in report.errors[0]


def test_a_stream_can_speak_to_the_caller() -> None:
    """On <Connect>: the audio is heard, and a mark comes back."""

    def speak(stream: ServedStream, message: dict[str, Any]) -> str | int | None:
        sid = stream.messages[1]["streamSid"] if len(stream.messages) > 1 else ""
        payload = base64.b64encode(b"x" * 1600).decode()
        if message["event"] == "media" and message["media"]["chunk"] == "1":
            return json.dumps({"event": "media", "streamSid": sid, "media": {"payload": payload}})
        if message["event"] == "media" and message["media"]["chunk"] == "2":
            return json.dumps({"event": "mark", "streamSid": sid, "mark": {"name": "said"}})
        # The mark's answer is the end of this conversation.
        return 1000 if message["event"] in ("mark", "stop") else None

    service = TwilioService(lambda _: f"<Connect>{media(service.url)}</Connect>", speak)
    report = call(service, caller=CALLER * 5, pacing=Pacing(0.002))
    assert service.streams[0].messages[-1]["mark"] == {"name": "said"}
    assert str(report.heard[-1]) == "audio 0.2 s"
    assert report.errors == []


def test_a_call_has_four_forked_tracks_at_most() -> None:
    """A fork beyond them is left out, and told of."""

    def answer(_: Asked) -> str:
        fork = f"<Start>{media(service.url, more=BOTH)}</Start>"
        return fork * 3 + "<Dial>+1</Dial>"

    service = TwilioService(answer)
    report = call(service)
    assert len(service.streams) == 2
    assert "4 forked tracks at most" in report.errors[0]


def test_a_status_callback_needs_a_whole_address() -> None:
    """A relative one is an error, and the stream goes on."""

    def answer(_: Asked) -> str:
        return f"<Connect>{media(service.url, more=RELATIVE)}</Connect>"

    service = TwilioService(answer)
    report = call(service)
    assert audio(service.streams[0]) == b"".join(CALLER)
    assert "'/status' is no service's address" in report.errors[0]


def test_a_refused_stream_is_told_to_its_callback() -> None:
    """stream-error with what went wrong; the next verb is run."""

    def answer(_: Asked) -> str:
        callback = f'statusCallback="{service.url}/status"'
        return f"<Connect>{media(service.url, more=callback)}</Connect><Say>sorry</Say>"

    service = TwilioService(answer, refuse=403)
    report = call(service)
    assert service.statuses[0]["StreamEvent"] == "stream-error"
    assert "HTTP 403" in service.statuses[0]["StreamError"]
    assert report.heard[-1].text == "sorry"
    assert not report.ok


def test_a_restart_of_the_service_is_an_error_if_nothing_carries_on() -> None:
    """A close with 1012 and no stream after it: what came after was lost."""
    service = TwilioService(
        lambda _: f"<Connect>{media(service.url)}</Connect>",
        lambda _, message: 1012 if message["event"] == "media" else None,
    )
    report = call(service, caller=CALLER * 2, pacing=Pacing(0.002))
    assert "with 1012" in report.errors[0]
