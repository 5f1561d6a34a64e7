"""TwiML: each verb is read, and all that is wrong is one line with Twilio's number."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twiml import (
    BadTwiml,
    Connect,
    Dial,
    Hangup,
    Pause,
    Play,
    Redirect,
    Reject,
    Say,
    Start,
    Stream,
    Verb,
    parse_twiml,
)

STREAM = '<Stream url="wss://h/media"/>'


@pytest.mark.parametrize(
    ("document", "verb"),
    [
        (
            '<Connect action="/next?a=1&amp;b=2" method="GET"><Stream url="wss://h/m?q=1" name="n">'
            '<Parameter name="token" value="א"/><Parameter name="b" value=""/></Stream></Connect>',
            Connect(
                Stream("wss://h/m?q=1", "n", parameters={"token": "א", "b": ""}),
                "/next?a=1&b=2",
                "GET",
            ),
        ),
        (
            '<Start><Stream url="wss://h/m" track="both_tracks" statusCallback="https://h/s"'
            ' statusCallbackMethod="get"/></Start>',
            Start(
                Stream(
                    "wss://h/m",
                    track="both_tracks",
                    parameters={},
                    status_callback="https://h/s",
                    status_callback_method="GET",
                )
            ),
        ),
        ("<Dial>+97231234567</Dial>", Dial(("+97231234567",))),
        (
            '<Dial action="/a" timeout="20" callerId="+1"><Number>+1</Number><Client>x</Client>'
            "</Dial>",
            Dial(("+1", "x"), "/a", timeout=20.0),
        ),
        ('<Say language="he-IL">שלום <break/> עולם</Say>', Say("שלום עולם", "he-IL")),
        ('<Say loop="0" voice="alice">Hi</Say>', Say("Hi", voice="alice", loop=0)),
        ("<Play>https://h/a.wav</Play>", Play("https://h/a.wav")),
        ('<Pause length="3"/>', Pause(3.0)),
        ("<Pause/>", Pause(1.0)),
        ("<Redirect>/voice</Redirect>", Redirect("/voice")),
        ("<Reject/>", Reject("rejected")),
        ('<Reject reason="busy"/>', Reject("busy")),
        ("<Hangup/>", Hangup()),
    ],
)
def test_each_verb_is_read(document: str, verb: Verb) -> None:
    """With its attributes and what is nested in it."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Response>\n  {document}\n</Response>'
    assert parse_twiml(text) == (verb,)
    assert parse_twiml(text.encode()) == (verb,)


def test_verbs_keep_their_order() -> None:
    """A document is a list; an empty one, and a comment, are nothing to do."""
    verbs = parse_twiml("<Response><Say>a</Say><!-- b --><Pause/><Hangup/></Response>")
    assert verbs == (Say("a"), Pause(), Hangup())
    assert parse_twiml("<Response/>") == ()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "the answer is empty"),
        ("not xml", "no XML: syntax error"),
        ("<Response><Say>a</Response>", "no XML: mismatched tag"),
        ("<html/>", "the root is <html>"),
        ('<!DOCTYPE r [<!ENTITY a "b">]><Response><Say>&a;</Say></Response>', "a document type"),
        ('<?xml version="1.0" encoding="none"?><Response/>', "no XML"),
        ("<Response>" + " " * 70_000 + "</Response>", "more than 65536"),
        ("<Response><Gather/></Response>", "<Gather> is no verb that is known here"),
        ("<Response>hello</Response>", "holds the text 'hello'"),
        (f"<Response><Start>{STREAM}{STREAM}</Start></Response>", "one <Stream> is known"),
        ("<Response><Connect/></Response>", "holds nothing"),
        ("<Response><Connect><Room>a</Room></Connect></Response>", "holds <Room>"),
        ('<Response><Start><Stream url="https://h/"/></Start></Response>', "must be wss://"),
        ('<Response><Start><Stream url="wss://h:x/"/></Start></Response>', "must be wss://"),
        ('<Response><Start><Stream url="wss://h/" track="in"/></Start></Response>', "inbound_tr"),
        (
            '<Response><Connect><Stream url="wss://h/" track="both_tracks"/></Connect></Response>',
            "the inbound track only",
        ),
        (
            '<Response><Start><Stream url="wss://h/"><Parameter name="a"/></Stream></Start>'
            "</Response>",
            "lacks its name or its value",
        ),
        ("<Response><Dial/></Response>", "names nobody"),
        ("<Response><Dial><Queue>q</Queue></Dial></Response>", "holds <Queue>"),
        ("<Response><Say/></Response>", "says nothing"),
        ('<Response><Say langauge="he-IL">a</Say></Response>', "no attribute 'langauge'"),
        ('<Response><Pause length="long"/></Response>', "a whole number is meant"),
        ('<Response><Reject reason="no"/></Response>', "one of rejected, busy"),
        ('<Response><Redirect method="PUT">/a</Redirect></Response>', "one of POST, GET"),
        ("<Response><Play/></Response>", "names no file"),
    ],
)
def test_what_is_wrong_is_one_line(document: str, words: str) -> None:
    """Twilio's error 12100, and what to look at."""
    with pytest.raises(BadTwiml) as caught:
        parse_twiml(document.encode())
    assert str(caught.value).startswith("error 12100, document parse failure: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("length", "good"), [(496, True), (497, False)])
def test_a_parameter_has_500_characters_at_most(length: int, good: bool) -> None:
    """Name and value together, in characters."""
    document = (
        '<Response><Start><Stream url="wss://h/m"><Parameter name="name"'
        f' value="{"א" * length}"/></Stream></Start></Response>'
    )
    if good:
        assert len(parse_twiml(document)) == 1
        return
    with pytest.raises(BadTwiml, match="has 501 characters"):
        parse_twiml(document)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_nothing_but_bad_twiml_is_raised(document: bytes | str) -> None:
    """Whatever a service answers."""
    for attempt in (document, f"<Response>{document!s}</Response>"):
        with contextlib.suppress(BadTwiml):
            parse_twiml(attempt)
