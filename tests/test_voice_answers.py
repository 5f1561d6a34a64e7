"""The TwiML that callers meet, read as the XML that it is."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from front_door_parts import parameters, verbs

import spoken_texts
import voice_answers
from businesses import Business
from voice_answers import StreamOffer

OFFER = StreamOffer(
    "wss://h/media", "https://h/voice/next?tenant=a&retries=0", "https://h/status", "tok.en"
)
FORWARDING = Business("garage", forward="+972541234567")


def test_an_answered_call_is_a_connected_stream() -> None:
    """The stream says whose it is, and what follows it is asked for."""
    twiml = voice_answers.answer(Business("clinic"), OFFER)
    assert verbs(twiml) == ["Connect"]
    [connect] = ET.fromstring(twiml)
    assert connect.attrib == {"action": OFFER.next_url, "method": "POST"}
    [stream] = connect
    assert stream.attrib == {
        "url": "wss://h/media",
        "statusCallback": "https://h/status",
        "statusCallbackMethod": "POST",
    }
    assert parameters(twiml) == {"tenant": "clinic", "token": "tok.en"}


def test_a_forwarded_call_is_listened_to_on_both_sides() -> None:
    """The stream is started first, and does not hold the call up."""
    twiml = voice_answers.put_through(FORWARDING, OFFER)
    assert verbs(twiml) == ["Start", "Dial"]
    start, dial = ET.fromstring(twiml)
    assert dial.text == "+972541234567"
    [stream] = start
    assert stream.attrib["track"] == "both_tracks"
    assert stream.attrib["url"] == "wss://h/media"
    assert parameters(twiml) == {"tenant": "garage", "token": "tok.en"}


def test_a_stream_url_has_no_query() -> None:
    """Twilio strips it without a word."""
    for twiml in (
        voice_answers.answer(FORWARDING, OFFER),
        voice_answers.put_through(FORWARDING, OFFER),
    ):
        [stream] = ET.fromstring(twiml).iter("Stream")
        assert "?" not in stream.attrib["url"]


def test_busy_is_a_reject_and_nothing_before_it() -> None:
    """Only as the first verb it costs nothing: the call is never answered."""
    twiml = voice_answers.turn_away(Business("a", when_full="busy", sentence="x"), "iw-IL")
    assert verbs(twiml) == ["Reject"]
    [reject] = ET.fromstring(twiml)
    assert reject.attrib == {"reason": "busy"}


def test_full_with_a_phone_of_their_own_is_put_through_unheard() -> None:
    """The caller gets through; there is no stream."""
    twiml = voice_answers.turn_away(
        Business("a", forward="+972541234567", when_full="forward"), "iw-IL"
    )
    assert verbs(twiml) == ["Dial"]
    assert ET.fromstring(twiml)[0].text == "+972541234567"


@pytest.mark.parametrize(
    ("language", "sentence", "expected"),
    [
        (None, None, spoken_texts.when_full("iw-IL")),
        ("en-US", None, spoken_texts.when_full("en-US")),
        ("ar", None, spoken_texts.when_full("ar")),
        ("en-US", "Later <b>& not</b> now", spoken_texts.when_full("en", "Later <b>& not</b> now")),
    ],
)
def test_full_is_said_in_the_language_of_the_business(
    language: str | None, sentence: str | None, expected: spoken_texts.Spoken
) -> None:
    """That of the settings where it has none; its own sentence is text, whatever is in it."""
    twiml = voice_answers.turn_away(Business("a", language=language, sentence=sentence), "iw-IL")
    assert verbs(twiml) == ["Say", "Hangup"]
    say = ET.fromstring(twiml)[0]
    assert say.text == expected.text
    assert say.attrib == {"voice": expected.voice.voice, "language": expected.voice.language}


def test_a_number_of_nobodys_is_said_to_be_so() -> None:
    """And the call ends."""
    twiml = voice_answers.nobody("en-US")
    assert verbs(twiml) == ["Say", "Hangup"]
    assert ET.fromstring(twiml)[0].text == spoken_texts.unknown_number("en-US").text


def test_over_is_an_empty_answer() -> None:
    """TwiML all the same: anything else Twilio would call an error."""
    assert verbs(voice_answers.over()) == []
