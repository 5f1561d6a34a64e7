"""What surprises about a call's close, its failures and its callbacks, fact by fact.

Against the service as it is deployed; each test is named after one fact.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from front_door_parts import Twilio, call_form, guarded_service, live_calls, verbs
from guarded_calls import (
    BUSINESSES,
    CLINIC,
    GARAGE,
    NUMBERS,
    SHOP,
    heard,
    live_stream,
    place,
    spoken,
    whole,
)
from running_service import RunningService

from speech_server_thread import SpeechServerThread
from twilio_stream import Pacing

IDLE_SECONDS = 0.6


@pytest.fixture(scope="module")
def impatient(speech: SpeechServerThread) -> Iterator[RunningService]:
    """A service that closes a silent stream after a moment."""
    with guarded_service(
        speech.address,
        BUSINESSES=json.dumps(BUSINESSES),
        REAPER_INTERVAL_SECONDS=0.1,
        REAPER_IDLE_SECONDS=IDLE_SECONDS,
    ) as service:
        yield service


@pytest.fixture
def twilio(guarded: RunningService) -> Iterator[Twilio]:
    twilio = Twilio(guarded.port)
    yield twilio
    twilio.close()


# Close


def test_when_we_close_a_connect_stream_its_action_is_asked(impatient: RunningService) -> None:
    """Without one Twilio would hang up: ours opens the next stream, and the call goes on."""
    caller = [b""] * 100 + spoken(next(NUMBERS), 40)  # silence: closed, and again
    report = place(impatient, CLINIC, caller, pacing=Pacing())
    assert report.streams[0].close_code == 1001
    assert report.streams[-1].frames_sent > 0
    assert [webhook.path.partition("?")[0] for webhook in report.webhooks[:2]] == [
        "/voice",
        "/voice/next",
    ]
    assert verbs(report.webhooks[1].twiml) == ["Connect"]
    assert report.errors == []


def test_a_start_stream_does_not_hold_the_call(
    guarded: RunningService, speech: SpeechServerThread
) -> None:
    """With no verb after it the call would be over at once: a <Dial> keeps it, both sides heard."""
    caller, business = next(NUMBERS), next(NUMBERS)
    report = place(guarded, GARAGE, spoken(caller, 50), spoken(business, 60))
    assert verbs(report.webhooks[0].twiml) == ["Start", "Dial"]
    assert (report.call_status, report.errors) == ("completed", [])
    guarded.wait_for(
        lambda lines: sum("session closed" in x and report.call_sid in x for x in lines) == 2
    )
    # the line begins before the stream does, and the caller is silent until the business is
    [inbound], [outbound] = heard(speech, caller), heard(speech, business)
    assert inbound == whole(caller, 50)[-len(inbound) :]
    assert outbound == whole(business, 60)[-len(outbound) :]


@pytest.mark.parametrize("number", [CLINIC, GARAGE])
def test_nothing_is_ever_sent_on_a_stream(guarded: RunningService, number: str) -> None:
    """On one of <Start> it is error 31924, binary is 31950, a wrong shape 31951: none is sent."""
    report = place(guarded, number, spoken(next(NUMBERS), 50), spoken(next(NUMBERS), 50))
    assert [stream.received_count for stream in report.streams] == [0]
    assert report.errors == []


def test_twilio_does_not_reconnect_but_the_action_does(
    guarded: RunningService, speech: SpeechServerThread
) -> None:
    """A stream that is cut off stays so: what the TwiML says afterwards opens another one."""
    number = next(NUMBERS)
    report = place(guarded, CLINIC, spoken(number, 200), chaos="cut")
    cut, after = report.streams
    assert (cut.close_code, after.close_code) == (1006, 1000)
    guarded.wait_for(
        lambda lines: sum("session closed" in x and report.call_sid in x for x in lines) == 2
    )
    assert [frames[-1] for frames in heard(speech, number)][-1] == (number, 199)
    assert live_calls(guarded) == 0


def test_twilios_stream_errors_come_as_a_callback(guarded: RunningService, twilio: Twilio) -> None:
    """Timeout, refusal, broken pipe, no 101, closed, protocol, congestion: a line with its code."""
    form = call_form()
    for code in (31901, 31902, 31903, 31920, 31921, 31924, 31930):
        error = [("StreamEvent", "stream-error"), ("StreamError", f"{code} it failed")]
        assert twilio.post("/status", [*form, *error])[0] == 200
        guarded.wait_for_line(f"[VOICE] stream error: {code} it failed", dict(form)["CallSid"])


def test_congestion_is_never_of_our_making(
    guarded: RunningService, speech: SpeechServerThread
) -> None:
    """31930: Twilio discards audio that is not read; bursts of 50 frames are read, each frame."""
    number = next(NUMBERS)
    report = place(guarded, CLINIC, spoken(number, 150), chaos="bursts", pacing=Pacing(0.002))
    assert report.errors == [stream.error for stream in report.streams if stream.error] == []
    guarded.wait_for_line("session closed", report.call_sid, "dropped=0")
    # what was said before the stream was there is nobody's
    assert heard(speech, number) == [whole(number, 150)[-report.streams[0].frames_sent :]]


def test_a_stream_that_stopped_is_no_call_that_ended(
    guarded: RunningService, twilio: Twilio
) -> None:
    """A stream's callbacks name its call, too: the stream that replaced it lives on."""
    with live_stream(guarded, "clinic") as stream:
        for event in ("stream-started", "stream-stopped", "stream-error"):
            form = call_form(stream.call_sid, StreamEvent=event, CallStatus="")
            assert twilio.post("/status", form)[0] == 200
        stream.send(spoken(next(NUMBERS), 5))
        stream.stop()
        assert stream.ending() == (1000, "the call has ended")
    guarded.wait_for_line("session closed", stream.call_sid, "frames=5 ")


# Webhooks


def test_a_webhook_has_15_seconds_in_all(
    guarded: RunningService, speech: SpeechServerThread, twilio: Twilio
) -> None:
    """It waits for nobody: with Google gone and a call's streams failing, each is answered."""
    with live_stream(guarded, "clinic") as stream:
        speech.order("unavailable for=60")
        try:
            stream.send(spoken(next(NUMBERS), 20))
            guarded.wait_for_line("streaming failed", stream.call_sid)
            action = "/voice/next?tenant=clinic&retries=0&since=0"
            for path in ("/voice", action, "/status"):  # the client gives up after Twilio's 15 s
                form = call_form(To=CLINIC, CallStatus="in-progress")
                assert twilio.post(path, form)[0] == 200
        finally:
            speech.clear_faults()


def test_only_a_status_that_is_final_ends_a_call(guarded: RunningService, twilio: Twilio) -> None:
    """Of Twilio's eight words five are; the others come while the call lives."""
    for final in ("completed", "busy", "failed", "no-answer", "canceled"):
        with live_stream(guarded, "clinic") as stream:
            for status in ("queued", "ringing", "in-progress"):
                form = call_form(stream.call_sid, CallStatus=status)
                assert twilio.post("/status", form)[0] == 200
            stream.send(spoken(next(NUMBERS), 3))
            guarded.wait_for_line("session started", stream.call_sid)
            assert not guarded.count("[WS] closed", stream.call_sid)
            form = call_form(stream.call_sid, CallStatus=final, CallDuration="7")
            assert twilio.post("/status", form)[0] == 200
            assert stream.ending() == (1000, "Twilio says that the call is over")
        guarded.wait_for_line("session closed", stream.call_sid)


def test_a_caller_may_be_anonymous(twilio: Twilio) -> None:
    """`From` need not be a number, nor be there: the dialled number alone names the business."""
    named = call_form(To=CLINIC, From="anonymous")
    for form in (named, [pair for pair in named if pair[0] != "From"]):
        status, twiml = twilio.post("/voice", form)
        assert (status, verbs(twiml)) == (200, ["Connect"])


def test_a_callback_must_be_an_absolute_url(twilio: Twilio) -> None:
    """A stream's is not resolved against the document: as Twilio sees us, and by POST."""
    _, twiml = twilio.post("/voice", call_form(To=CLINIC))
    [stream] = ET.fromstring(twiml).iter("Stream")
    assert stream.attrib["statusCallback"] == "https://tamlil.example/status"
    assert stream.attrib["statusCallbackMethod"] == "POST"


def test_a_reject_must_come_first_to_be_unanswered(guarded: RunningService) -> None:
    """A <Say> before it would answer and bill: alone, the caller hears the busy tone."""
    with live_stream(guarded, "shop"):
        report = place(guarded, SHOP, spoken(next(NUMBERS), 5))
    assert verbs(report.webhooks[0].twiml) == ["Reject"]
    assert [str(one) for one in report.heard] == ["ring", "busy tone"]
    assert (report.call_status, report.seconds, report.streams) == ("busy", 0, [])


# What Twilio does twice, or never


def test_a_doubled_webhook_does_not_cost_the_call(
    guarded: RunningService, speech: SpeechServerThread
) -> None:
    """Both are answered and neither takes a slot: the one stream that comes is whole."""
    number = next(NUMBERS)
    report = place(guarded, CLINIC, spoken(number, 60), chaos="doubled-webhook")
    assert [webhook.status for webhook in report.webhooks[:2]] == [200, 200]
    assert report.errors == []
    guarded.wait_for_line("session closed", report.call_sid, "frames=60 dropped=0")
    assert heard(speech, number) == [whole(number, 60)]
    assert live_calls(guarded) == 0


def test_two_sockets_of_one_call_are_one_call(
    guarded: RunningService, speech: SpeechServerThread
) -> None:
    """The newer one replaces the older, whose end does not close it, nor gives its slot back."""
    number = next(NUMBERS)
    with live_stream(guarded, "clinic") as older:
        older.send(spoken(number, 3))
        guarded.wait_for_line("session started", older.call_sid)
        with live_stream(guarded, "clinic", older.call_sid) as newer:
            assert older.ending()[0] == 1000
            guarded.wait_for_line("session closed", older.call_sid)
            assert live_calls(guarded) == 1
            newer.send(spoken(number, 30))
            newer.stop()
            assert newer.ending() == (1000, "the call has ended")
    guarded.wait_for_line("session closed", newer.call_sid, "frames=30 ")
    assert whole(number, 30) in heard(speech, number)
    assert live_calls(guarded) == 0


def test_a_stop_need_not_come(guarded: RunningService, speech: SpeechServerThread) -> None:
    """The close alone ends the call: all that was said is text, and the slot is free."""
    number = next(NUMBERS)
    report = place(guarded, CLINIC, spoken(number, 60), chaos="no-stop")
    guarded.wait_for_line("session closed", report.call_sid, "frames=60 dropped=0")
    assert heard(speech, number) == [whole(number, 60)]
    assert live_calls(guarded) == 0


def test_a_close_need_not_come_either(impatient: RunningService) -> None:
    """A stream that only falls silent would hold its slot for ever: the reaper gives it back."""
    with live_stream(impatient, "clinic") as stream:
        assert live_calls(impatient) == 1
        assert stream.ending() == (1001, "no audio came")
    impatient.wait_for_line("[REAPER] closed", stream.call_sid, "idle=")
    assert live_calls(impatient) == 0
