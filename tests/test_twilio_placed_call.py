"""Placed calls: each verb as Twilio follows it, the loop of actions, and what is an error."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from aiohttp import web
from placed_calls import BUSINESS, CALLER, FAST, NUMBER, audio, call, media
from twilio_service import Asked, ServedStream, TwilioService

from phone_line import SILENT_FRAME
from placed_call_report import Heard, PlacedCallReport
from twilio_placed_call import PlacedCall, place_call
from twilio_stream import Pacing
from twilio_webhooks import sign


def test_a_call_is_announced_streamed_and_told_of() -> None:
    """The webhook's form, the stream with its parameters, the action after it, the status."""

    def answer(asked: Asked) -> str:
        parameter = '<Parameter name="token" value="x"/>'
        stream = media(service.url, inside=parameter)
        return f'<Connect action="/action">{stream}</Connect>' if asked.path == "/voice" else ""

    service = TwilioService(answer)
    report = call(service, caller=CALLER)
    voice, action = service.asked
    assert (voice.method, voice["To"], voice["From"]) == ("POST", NUMBER, "+972500000000")
    assert (voice["Direction"], voice["CallStatus"]) == ("inbound", "ringing")
    assert voice["CallSid"] == report.call_sid
    assert "X-Twilio-Signature" not in voice.headers
    (stream,) = service.streams
    assert stream.start["customParameters"] == {"token": "x"}
    assert (stream.start["callSid"], stream.start["tracks"]) == (report.call_sid, ["inbound"])
    assert stream.start["accountSid"] == voice["AccountSid"]
    assert audio(stream) == b"".join(CALLER)
    assert stream.events()[-1] == "stop"
    assert (action.path, action["CallStatus"]) == ("/action", "completed")
    assert [status["CallStatus"] for status in service.statuses] == ["completed"]
    assert service.statuses[0]["CallDuration"] == "1"
    assert report.webhooks[0][:2] == ("/voice", 200)
    assert "<Connect" in report.webhooks[0].twiml
    assert (report.ok, report.errors, report.unsent_seconds) == (True, [], 0)
    assert [str(heard) for heard in report.heard] == ["ring", "silence 0.8 s"]
    assert [s.close_code for s in report.streams] == [1000]


@pytest.mark.parametrize(
    ("twiml", "heard", "status"),
    [
        ("", [], "completed"),
        ("<Hangup/><Say>no</Say>", [], "completed"),
        ('<Reject reason="busy"/>', ["busy tone"], "busy"),
        ("<Reject/>", ["not in service"], "no-answer"),
        ("<Pause/><Reject/>", ["silence 1.0 s"], "completed"),
        ('<Say language="he-IL">שלום</Say>', ["say (he-IL) שלום"], "completed"),
        ('<Say loop="0">a</Say><Say>b</Say>', ["say (en-US) a"], "completed"),
        (
            '<Play>https://h/a.wav</Play><Pause length="2"/>',
            ["play https://h/a.wav", "silence 2.0 s"],
            "completed",
        ),
    ],
)
def test_what_the_caller_hears(twiml: str, heard: list[str], status: str) -> None:
    """After the ring; and Twilio's word for how the call ended."""
    service = TwilioService(lambda _: twiml)
    report = call(service)
    assert [str(one) for one in report.heard] == ["ring", *heard]
    assert (report.call_status, report.ok) == (status, True)
    assert service.statuses[0]["CallStatus"] == status
    if status != "completed":
        assert service.statuses[0]["CallDuration"] == "0"


def test_speech_that_no_stream_hears_is_lost_and_told_of() -> None:
    """While Twilio speaks, the caller's words go nowhere; the stream begins with the next ones."""

    def answer(_: Asked) -> str:
        return f"<Say>hello</Say><Connect>{media(service.url)}</Connect>"

    service = TwilioService(answer)
    frames = [bytes([n]) * 160 for n in range(80)]
    report = call(service, caller=frames)
    assert audio(service.streams[0]) == b"".join(frames[50:])
    assert service.streams[0].media()[0]["timestamp"] == "0"
    assert report.unsent_seconds == pytest.approx(1.0)
    assert report.ok


def test_a_closed_stream_asks_the_action_and_the_audio_goes_on() -> None:
    """Each stream goes on where the line is; between them words are lost, none comes twice."""

    def answer(asked: Asked) -> str:
        return f'<Connect action="/again?n=1">{media(service.url)}</Connect>'

    def restart_at_the_tenth(stream: ServedStream, message: dict[str, Any]) -> int | None:
        full = message["event"] == "media" and message["media"]["chunk"] == "10"
        return (
            1012
            if full and len(service.streams) < 3
            else 1000
            if message["event"] == "stop"
            else None
        )

    service = TwilioService(answer, restart_at_the_tenth)
    frames = [bytes([n]) * 160 for n in range(200)]
    report = call(service, caller=frames, pacing=Pacing(0.002))
    assert len(service.streams) == 3
    heard = b"".join(audio(stream) for stream in service.streams)
    numbers = list(heard[::160])
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 199
    assert [w.path for w in report.webhooks][:2] == ["/voice", "/again?n=1"]
    assert service.asked[1]["CallStatus"] == "in-progress"
    assert len({stream.stream_sid for stream in report.streams}) == len(service.streams)
    assert report.errors == []


def test_the_next_verb_follows_a_stream_without_action() -> None:
    """A stream that the service closes gives the line back to the TwiML."""

    def answer(_: Asked) -> str:
        return f"<Connect>{media(service.url)}</Connect><Say>goodbye</Say>"

    service = TwilioService(answer, lambda _, m: 1000 if m["event"] == "start" else None)
    report = call(service, pacing=Pacing(0.002))
    assert report.heard[-1] == Heard("say", "goodbye", "en-US")
    assert report.ok


def test_a_forwarded_call_has_both_tracks() -> None:
    """The fork hears the caller inbound and the business outbound, from the <Dial> on."""

    def answer(asked: Asked) -> str:
        if asked.path == "/dialled":
            return "<Hangup/>"
        callback = f'track="both_tracks" name="fork" statusCallback="{service.url}/stream-status"'
        fork = f"<Start>{media(service.url, more=callback)}</Start>"
        return f'{fork}<Dial action="/dialled">+1</Dial>'

    service = TwilioService(answer)
    report = call(service, business=BUSINESS)
    (stream,) = service.streams
    assert stream.start["tracks"] == ["inbound", "outbound"]
    assert audio(stream, "inbound") == b"".join(CALLER) + SILENT_FRAME * 20
    assert audio(stream, "outbound") == b"".join(BUSINESS)
    numbers = [int(m["sequenceNumber"]) for m in stream.messages[1:]]
    assert numbers == list(range(1, 123))
    assert [m["chunk"] for m in stream.media("outbound")] == [str(n) for n in range(1, 61)]
    assert [str(heard) for heard in report.heard] == ["ring", "dial +1", "talk 1.2 s"]
    assert (service.asked[1]["DialCallStatus"], service.asked[1]["DialCallDuration"]) == (
        "completed",
        "2",
    )
    events = [s["StreamEvent"] for s in service.statuses if s.path == "/stream-status"]
    assert events == ["stream-started", "stream-stopped"]
    assert service.statuses[0]["StreamName"] == "fork"
    assert report.ok


@pytest.mark.parametrize(
    ("dialled", "heard"),
    [("busy", "busy tone"), ("no-answer", "dial +1"), ("failed", "busy tone")],
)
def test_a_business_that_does_not_answer(dialled: Any, heard: str) -> None:
    """The action learns why, and its TwiML is followed."""

    def answer(asked: Asked) -> str:
        done = asked.path == "/dialled"
        return "<Say>later</Say>" if done else '<Dial action="dialled" timeout="1">+1</Dial>'

    service = TwilioService(answer)
    report = call(service, dialled=dialled)
    assert service.asked[1]["DialCallStatus"] == dialled
    assert str(report.heard[-2]) == heard
    assert report.heard[-1].text == "later"


@pytest.mark.parametrize(("track", "kept"), [("inbound_track", CALLER), ("outbound_track", [])])
def test_a_fork_of_one_track(track: str, kept: list[bytes]) -> None:
    """Nothing of the other track is sent; without a business the outbound one is silent."""

    def answer(_: Asked) -> str:
        return f"<Start>{media(service.url, more=f'track={track!r}')}</Start><Dial>+1</Dial>"

    service = TwilioService(answer)
    report = call(service)
    assert service.streams[0].start["tracks"] == [track.removesuffix("_track")]
    assert audio(service.streams[0]) == b"".join(kept or [SILENT_FRAME] * 40)
    assert report.unsent_seconds == pytest.approx(0 if kept else 0.8)


def test_a_fork_without_a_next_verb_ends_with_the_call() -> None:
    """<Start> does not keep a call alive."""
    service = TwilioService(lambda _: f"<Start>{media(service.url)}</Start>")
    report = call(service)
    assert service.streams[0].events() == ["connected", "start", "stop"]
    assert report.seconds == 0


def test_redirects_are_followed_with_their_method() -> None:
    """A GET has the form in its query, relative to the document."""

    def answer(asked: Asked) -> str:
        if asked.path == "/voice":
            return '<Redirect method="GET">next?a=1</Redirect><Say>never</Say>'
        return "<Say>there</Say>"

    service = TwilioService(answer)
    report = call(service, options={"auth_token": "t"})
    following = service.asked[1]
    assert (following.method, following.form) == ("GET", [])
    assert following.path.startswith("/next?a=1&CallSid=CA")
    signature = sign("t", service.url + following.path)
    assert following.headers["X-Twilio-Signature"] == signature
    assert [h.text for h in report.heard if h.kind == "say"] == ["there"]


def test_redirects_in_a_circle_are_bounded() -> None:
    """Ten documents without time between, then the call is broken off."""
    service = TwilioService(lambda _: "<Redirect>/voice</Redirect>")
    report = call(service)
    assert len(service.asked) == 10
    assert "goes round in circles" in report.errors[0]
    assert report.heard[-1] == Heard("application error")
    assert not report.ok


def test_a_stream_that_is_refused_over_and_over_is_bounded() -> None:
    """An action that only opens what is refused does not run for ever."""

    def answer(_: Asked) -> str:
        return f'<Connect action="/voice">{media(service.url)}</Connect>'

    service = TwilioService(answer, refuse=503)
    report = call(service)
    assert len(report.streams) == 10
    assert "HTTP 503" in report.errors[1]


def test_requests_are_signed_for_the_public_address() -> None:
    """Webhook, upgrade and status carry Twilio's signature over what Twilio calls."""

    def answer(_: Asked) -> str:
        return '<Connect><Stream url="wss://tamlil.example/media?token=1"/></Connect>'

    service = TwilioService(answer)
    options = {"public_url": "https://tamlil.example", "auth_token": "secret"}
    report = call(service, options=options)
    assert report.ok
    for asked, path in ((service.asked[0], "/voice"), (service.statuses[0], "/status")):
        wanted = sign("secret", f"https://tamlil.example{path}", asked.form)
        assert asked.headers["X-Twilio-Signature"] == wanted
        assert asked.headers["Host"] == "tamlil.example"
        assert asked.headers["X-Forwarded-Proto"] == "https"
    (stream,) = service.streams
    assert stream.path == "/media"
    assert stream.headers["Host"] == "tamlil.example"
    upgrade = sign("secret", "wss://tamlil.example/media")
    assert stream.headers["X-Twilio-Signature"] == upgrade


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (web.Response(text="<Response>", content_type="text/xml"), "error 12100"),
        (web.Response(text="{}", content_type="application/json"), "error 12300"),
        (web.Response(status=500, text="no"), "error 11200.*HTTP 500"),
        (web.Response(text=" " * 70_000, content_type="text/xml"), "error 11750"),
    ],
)
def test_answers_that_cannot_be_followed(answer: web.Response, words: str) -> None:
    """The caller hears Twilio's apology, and the report has the error's number."""
    report = call(TwilioService(lambda _: answer))
    assert [str(h) for h in report.heard] == ["ring", "application error"]
    (error,) = report.errors
    assert re.search(words, error)
    assert report.call_status == "failed"


def test_a_service_that_is_not_there() -> None:
    """Neither the webhook nor the status comes through; nothing is raised."""

    async def placed() -> PlacedCallReport:
        async with TwilioService(lambda _: "") as service:
            url = service.url
        return await place_call(url, PlacedCall(NUMBER), pacing=FAST)

    report = asyncio.run(placed())
    assert report.webhooks[0][:2] == ("/voice", 0)
    assert "error 11200" in report.errors[0]
    assert "a status callback failed" in report.errors[1]


def test_many_calls_at_once_are_apart() -> None:
    """Each has its own ids, stream and report."""

    async def placed() -> list[PlacedCallReport]:
        async with service:
            plans = [PlacedCall(f"+{n}", tracks={"inbound": CALLER[: n + 1]}) for n in range(10)]
            return await asyncio.gather(
                *(place_call(service.url, plan, pacing=FAST) for plan in plans)
            )

    service = TwilioService(lambda _: f"<Connect>{media(service.url)}</Connect>")
    reports = asyncio.run(placed())
    assert [report.streams[0].frames_sent for report in reports] == list(range(1, 11))
    assert {s.start["callSid"] for s in service.streams} == {r.call_sid for r in reports}


def test_a_cancelled_call_hangs_up() -> None:
    """The stream gets its `stop`, and the status is told, before the cancellation goes on."""

    async def placed() -> None:
        async with service:
            plan = PlacedCall(NUMBER, tracks={"inbound": CALLER * 100})
            task = asyncio.create_task(place_call(service.url, plan))
            await service.media_arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await service.all_closed.wait()

    service = TwilioService(lambda _: f"<Connect>{media(service.url)}</Connect>")
    asyncio.run(placed())
    assert service.streams[0].events()[-1] == "stop"
    assert service.statuses[0]["CallStatus"] == "completed"
