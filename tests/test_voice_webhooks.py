"""Twilio's webhooks: what callers meet, stream after stream, and the end of a call."""

from __future__ import annotations

import json
import logging
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from front_door_parts import (
    AUTH_TOKEN,
    PUBLIC_URL,
    SECRET_KEY,
    call_form,
    parameters,
    signature,
    verbs,
)
from werkzeug.datastructures import MultiDict

import call_log
import spoken_texts
from businesses import Businesses, load_businesses
from call_records import CallParties
from registry import CallRegistry
from stream_tokens import StreamGrant, StreamTokens
from trust import Door
from twilio_signature import TwilioSignature
from voice_webhooks import GOOD_STREAM_SECONDS, OVER, VoiceWebhooks, make_blueprint

CALL = "CA" + "1" * 32
CLINIC, GARAGE, SHOP, BAR = "+97231234567", "+97237654321", "+15005550001", "+15005550002"
BUSINESSES = {
    "clinic": {"numbers": [CLINIC], "max_calls": 2},
    "garage": {
        "numbers": [GARAGE],
        "forward": "+972541234567",
        "when_full": "forward",
        "max_calls": 1,
    },
    "shop": {"numbers": [SHOP], "when_full": "busy", "max_calls": 1},
    "bar": {"numbers": [BAR], "language": "ar", "sentence": "لاحقا", "max_calls": 1},
}


class Session:
    """Counts how often it was closed."""

    closes = 0

    def close(self) -> None:
        self.closes += 1


class Webhooks:
    """The webhooks of a guarded service with room for 4 calls, and Twilio's side of them."""

    def __init__(self, public_url: str, **businesses: object) -> None:
        self.now = 1_000_000.0
        self.registry = CallRegistry(4)
        self.over: list[str] = []  # calls of which all workers are told
        webhooks = VoiceWebhooks(
            Businesses(load_businesses(json.dumps(BUSINESSES | businesses))),
            self.registry,
            StreamTokens(SECRET_KEY),
            self.over.append,
            public_url=public_url,
            language="en-US",
            clock=lambda: self.now,
        )
        app = Flask(__name__)
        door = Door(TwilioSignature([AUTH_TOKEN], public_url))
        app.register_blueprint(make_blueprint(webhooks, door))
        self.client: FlaskClient = app.test_client()

    def post(self, path: str, web: str = PUBLIC_URL, **fields: str) -> str:
        """The answer to a signed request about the call."""
        form = call_form(CALL, **fields)
        answer = self.client.post(
            path,
            data=MultiDict(form),
            headers={"X-Twilio-Signature": signature(web + path, form)},
        )
        assert answer.status_code == 200
        assert answer.mimetype == "text/xml"
        return answer.text

    def voice(self, to: str) -> str:
        return self.post("/voice", To=to)

    def next(self, twiml: str, lived: float = 1, **fields: str) -> str:
        """What follows a stream of `twiml` that lived for so long."""
        self.now += lived
        action = next(ET.fromstring(twiml).iter("Connect")).attrib["action"]
        return self.post(action.removeprefix(PUBLIC_URL), CallStatus="in-progress", **fields)


@pytest.fixture
def webhooks() -> Webhooks:
    return Webhooks(PUBLIC_URL)


@pytest.fixture
def log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    monkeypatch.setattr(call_log.logger, "propagate", False)  # each line once
    call_log.logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "tamlil"):
        yield caplog
    call_log.logger.removeHandler(caplog.handler)


def spoken(twiml: str) -> str | None:
    assert verbs(twiml) == ["Say", "Hangup"]
    return ET.fromstring(twiml)[0].text


# Taking a call


def test_an_answered_call_gets_its_stream_and_its_token(webhooks: Webhooks) -> None:
    """URLs as Twilio sees them, and a token for this call of this business."""
    twiml = webhooks.voice(CLINIC)
    assert verbs(twiml) == ["Connect"]
    [connect] = ET.fromstring(twiml)
    query = parse_qs(urlsplit(connect.attrib["action"]).query)
    assert connect.attrib["action"].startswith(f"{PUBLIC_URL}/voice/next?")
    assert query == {"tenant": ["clinic"], "retries": ["0"], "since": ["1000000"]}
    assert connect[0].attrib["url"] == "wss://tamlil.example/media"
    assert connect[0].attrib["statusCallback"] == f"{PUBLIC_URL}/status"
    told = parameters(twiml)
    assert told["tenant"] == "clinic"
    assert StreamTokens(SECRET_KEY).read(told["token"]) == StreamGrant(
        CALL, "clinic", CallParties("+15005550006", CLINIC)
    )


def test_a_forwarding_business_is_put_through(webhooks: Webhooks) -> None:
    """With the stream started first, and a token of its own."""
    twiml = webhooks.voice(GARAGE)
    assert verbs(twiml) == ["Start", "Dial"]
    token = parameters(twiml)["token"]
    assert StreamTokens(SECRET_KEY).read(token) == StreamGrant(
        CALL, "garage", CallParties("+15005550006", GARAGE)
    )


def test_without_a_public_url_the_requests_own_host_is_told() -> None:
    """For a laptop behind a tunnel; plain HTTP has a plain stream."""
    twiml = Webhooks("").post("/voice", web="http://localhost", To=CLINIC)
    connect = ET.fromstring(twiml)[0]
    assert connect.attrib["action"].startswith("http://localhost/voice/next?")
    assert connect[0].attrib["url"] == "ws://localhost/media"


@pytest.mark.parametrize("to", ["+15005559999", "", "anonymous", "+972\n[STT] x"])
def test_an_unknown_number_is_nobodys(
    webhooks: Webhooks, log: pytest.LogCaptureFixture, to: str
) -> None:
    """It is said so, in one line too."""
    assert spoken(webhooks.voice(to)) == spoken_texts.unknown_number("en").text
    [line] = log.messages
    assert line.startswith("[VOICE] no business: ")
    assert line.endswith(f" call={CALL} tenant=-")
    assert "\n" not in line


def test_an_unknown_number_is_the_defaults_if_there_is_one() -> None:
    """Named numbers stay with their businesses."""
    webhooks = Webhooks(PUBLIC_URL, default={})
    assert parameters(webhooks.voice("+15005559999"))["tenant"] == "default"
    assert parameters(webhooks.voice(CLINIC))["tenant"] == "clinic"


@pytest.mark.parametrize("direction", ["outbound-api", "outbound-dial"])
@pytest.mark.parametrize("to", [BAR, "+972541111111"])
def test_a_call_that_a_business_makes_is_its_own(
    webhooks: Webhooks, direction: str, to: str
) -> None:
    """Whomever it calls: also when that is another business's number."""
    token = parameters(webhooks.post("/voice", From=CLINIC, To=to, Direction=direction))["token"]
    assert StreamTokens(SECRET_KEY).read(token) == StreamGrant(
        CALL, "clinic", CallParties(CLINIC, to, direction)
    )


def test_a_call_from_one_business_to_another_is_that_of_the_called(webhooks: Webhooks) -> None:
    """To Twilio it comes in, from wherever."""
    assert parameters(webhooks.post("/voice", From=CLINIC, To=BAR))["tenant"] == "bar"


# No room

FULL = {
    CLINIC: ["Say", "Hangup"],
    GARAGE: ["Dial"],
    SHOP: ["Reject"],
    BAR: ["Say", "Hangup"],
}


@pytest.mark.parametrize("number", FULL)
def test_a_full_worker_turns_away_as_the_business_wants(
    webhooks: Webhooks, log: pytest.LogCaptureFixture, number: str
) -> None:
    """Whoever has taken the slots; and a slot that comes back is for the next call."""
    for one in range(4):
        webhooks.registry.take_slot(f"CA{one}", "other")
    assert verbs(webhooks.voice(number)) == FULL[number]
    [line] = log.messages
    assert line.startswith("[VOICE] turned away: 4 calls are live, MAX_CONCURRENT_CALLS is 4 call=")
    webhooks.registry.close_session("CA0")
    assert verbs(webhooks.voice(number))[0] in ("Connect", "Start")


@pytest.mark.parametrize(
    ("tenant", "number", "most"), [("clinic", CLINIC, 2), ("garage", GARAGE, 1), ("bar", BAR, 1)]
)
def test_a_full_business_turns_its_own_callers_away_alone(
    webhooks: Webhooks, log: pytest.LogCaptureFixture, tenant: str, number: str, most: int
) -> None:
    """The others are not touched."""
    for one in range(most):
        assert verbs(webhooks.voice(number))[0] in ("Connect", "Start")
        webhooks.registry.take_slot(f"CA{one}", tenant)
    assert verbs(webhooks.voice(number)) == FULL[number]
    [line] = log.messages
    assert f"{most} calls of {tenant} are live, its max_calls is {most}" in line
    assert verbs(webhooks.voice(SHOP)) == ["Connect"]


def test_what_is_said_when_full(webhooks: Webhooks) -> None:
    """The text for the settings' language, or the business's own sentence."""
    for one in range(4):
        webhooks.registry.take_slot(f"CA{one}")
    assert spoken(webhooks.voice(CLINIC)) == spoken_texts.when_full("en").text
    assert spoken(webhooks.voice(BAR)) == "لاحقا"


def test_a_draining_worker_turns_nobody_away(webhooks: Webhooks) -> None:
    """The stream goes to another worker, once there is one: a caller does not notice a deploy."""
    webhooks.registry.drain(1)
    assert verbs(webhooks.voice(CLINIC)) == ["Pause", "Connect"]


# After a stream


def test_a_stream_that_ends_is_opened_again_three_times(
    webhooks: Webhooks, log: pytest.LogCaptureFixture
) -> None:
    """At once, then after a moment; each with a fresh token; then the caller hears the sentence."""
    twiml = webhooks.voice(CLINIC)
    tokens = {parameters(twiml)["token"]}
    for again in range(3):
        twiml = webhooks.next(twiml)
        assert verbs(twiml) == ["Pause", "Connect"][again == 0 :]
        assert parameters(twiml)["tenant"] == "clinic"
        tokens.add(parameters(twiml)["token"])
    assert all(
        StreamTokens(SECRET_KEY).read(t)
        == StreamGrant(CALL, "clinic", CallParties("+15005550006", CLINIC))
        for t in tokens
    )
    assert spoken(webhooks.next(twiml)) == spoken_texts.when_full("en").text
    [line] = log.messages
    assert line == f"[VOICE] turned away: 4 streams in a row ended call={CALL} tenant=clinic"


def test_the_count_begins_anew_after_a_good_stream(webhooks: Webhooks) -> None:
    """A long call may lose as many streams as it likes, if each was good for a while."""
    twiml = webhooks.voice(CLINIC)
    for lived in (1, 1, 1, GOOD_STREAM_SECONDS, 1, 1, GOOD_STREAM_SECONDS - 1):
        twiml = webhooks.next(twiml, lived)
        assert verbs(twiml)[-1] == "Connect"
    assert verbs(webhooks.next(twiml, GOOD_STREAM_SECONDS - 1)) == ["Say", "Hangup"]


@pytest.mark.parametrize("status", sorted(OVER))
def test_nothing_follows_for_a_call_that_is_over(webhooks: Webhooks, status: str) -> None:
    """Twilio asks also when it was the caller who hung up."""
    path = "/voice/next?tenant=clinic&retries=0&since=1000000"
    assert verbs(webhooks.post(path, CallStatus=status)) == []


def test_a_stream_that_found_no_room_hears_so(webhooks: Webhooks) -> None:
    """Between the webhook and the stream others may have come."""
    twiml = webhooks.voice(CLINIC)
    for one in range(4):
        webhooks.registry.take_slot(f"CA{one}")
    assert verbs(webhooks.next(twiml)) == ["Say", "Hangup"]


def test_an_answered_call_is_never_rejected(webhooks: Webhooks) -> None:
    """A business whose callers get the busy signal: once the line was open, they hear words."""
    twiml = webhooks.voice(SHOP)
    webhooks.registry.take_slot("CA1", "shop")
    assert verbs(webhooks.voice(SHOP)) == ["Reject"]
    assert verbs(webhooks.next(twiml)) == ["Say", "Hangup"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", []),
        ("?tenant=", []),
        ("?tenant=nobody&retries=0&since=0", []),
        ("?tenant=clinic", ["Connect"]),
        ("?tenant=clinic&retries=-5&since=1000000", ["Connect"]),
        ("?tenant=clinic&retries=x&since=x", ["Connect"]),
        ("?tenant=clinic&retries=%D9%A3&since=1e9", ["Connect"]),
        ("?tenant=clinic&retries=3&since=999999", ["Say", "Hangup"]),
        ("?tenant=clinic&retries=999999999999999&since=1000000", ["Say", "Hangup"]),
        ("?tenant=clinic&retries=3&since=999999999999999", ["Say", "Hangup"]),
        ("?tenant=clinic&retries=" + "9" * 3000, ["Connect"]),
    ],
)
def test_values_that_make_no_sense_are_an_answer_all_the_same(
    webhooks: Webhooks, query: str, expected: list[str]
) -> None:
    """TwiML, never an error, whatever the query holds."""
    assert verbs(webhooks.post("/voice/next" + query)) == expected


def test_a_changed_query_is_not_twilios(webhooks: Webhooks) -> None:
    """The signature covers it: nobody but us sets the counters."""
    path = "/voice/next?tenant=clinic&retries=3&since=1000000"
    form = call_form(CALL)
    signed = {"X-Twilio-Signature": signature(PUBLIC_URL + path, form)}
    changed = path.replace("retries=3", "retries=0")
    assert webhooks.client.post(path, data=dict(form), headers=signed).status_code == 200
    assert webhooks.client.post(changed, data=dict(form), headers=signed).status_code == 403


# The status


def test_a_status_that_says_over_closes_the_call_here(webhooks: Webhooks) -> None:
    """Once, with its slot; the other workers are told."""
    session = Session()
    for status in ("ringing", "in-progress", "completed", "completed"):
        if status == "ringing":
            webhooks.registry.register_session(CALL, session)
            webhooks.registry.register_session("CA-other", Session())
        assert session.closes == 0 or status == "completed"
        webhooks.post("/status", CallStatus=status)
    assert session.closes == 1
    assert webhooks.registry.live == 1
    assert set(webhooks.over) == {CALL}


@pytest.mark.parametrize("call_sid", ["../../etc/x", "..", "", "a/b", "x" * 65])
def test_what_is_no_call_is_told_to_nobody(webhooks: Webhooks, call_sid: str) -> None:
    """An id that Twilio would never make is not passed on."""
    webhooks.post("/status", CallSid=call_sid, CallStatus="completed")
    assert webhooks.over == []


def test_a_streams_error_is_logged_with_twilios_code(
    webhooks: Webhooks, log: pytest.LogCaptureFixture
) -> None:
    """Once, in one line; a stream's other events say nothing and close nothing."""
    webhooks.registry.register_session(CALL, Session())
    events = {"stream-started": "", "stream-error": "31921\nStream closed", "stream-stopped": ""}
    for event, error in events.items():
        webhooks.post("/status", StreamEvent=event, StreamError=error, StreamSid="MZ1")
    assert log.messages == [f"[VOICE] stream error: 31921 Stream closed call={CALL} tenant=-"]
    assert webhooks.registry.live == 1


@pytest.mark.parametrize("path", ["/voice", "/voice/next?tenant=clinic", "/status"])
def test_every_webhook_is_guarded(
    webhooks: Webhooks, log: pytest.LogCaptureFixture, path: str
) -> None:
    """Unsigned or signed for another form: 403 and one line; only POST is known."""
    webhooks.registry.register_session(CALL, Session())
    form = call_form(CALL, CallStatus="completed")
    other = signature(PUBLIC_URL + path, call_form(CALL, CallStatus="ringing"))
    for headers in ({}, {"X-Twilio-Signature": other}):
        assert webhooks.client.post(path, data=dict(form), headers=headers).status_code == 403
    assert [line.split(" for ")[0] for line in log.messages] == [
        "[TRUST] refused: 403 no signature",
        "[TRUST] refused: 403 a wrong signature",
    ]
    assert webhooks.client.get(path).status_code == 405
    assert webhooks.registry.live == 1
