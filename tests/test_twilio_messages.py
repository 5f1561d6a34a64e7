"""Twilio's messages: read as documented, numbers or strings, and nothing else ever raised."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from errors import BadConversation, BadMessage
from twilio_messages import (
    Connected,
    Dtmf,
    Mark,
    Media,
    Start,
    Stop,
    Unknown,
    check_start,
    is_identifier,
    parse,
)

CALL = "CA" + "0123456789abcdef" * 2
EVENTS = ["connected", "start", "media", "dtmf", "mark", "stop"]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3)
)
FIELDS = ["start", "media", "dtmf", "mark", "stop", "streamSid", "callSid", "payload", "track"]
FIELDS += ["mediaFormat", "sampleRate", "channels", "encoding", "customParameters", "tracks"]
FIELDS += ["timestamp"]
near_values = st.recursive(
    scalars, lambda v: st.dictionaries(st.sampled_from(FIELDS), v, max_size=6)
)


def encode(**message: Any) -> bytes:
    return json.dumps(message).encode()


def start_message(**changes: Any) -> bytes:
    """Twilio's `start`, as documented, with `changes` in its body."""
    body: dict[str, Any] = {
        "streamSid": "MZ1",
        "accountSid": "AC1",
        "callSid": CALL,
        "tracks": ["inbound"],
        "customParameters": {"tenant": "T1"},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    return encode(event="start", sequenceNumber="1", streamSid="MZ1", start={**body, **changes})


def parse_start(**changes: Any) -> Start:
    start = parse(start_message(**changes))
    assert isinstance(start, Start)
    return start


def test_the_documented_messages_are_read() -> None:
    """Each of Twilio's examples becomes its own type, with what is used of it."""
    connected = parse(encode(event="connected", protocol="Call", version="1.0.0"))
    assert isinstance(connected, Connected)
    start = parse_start()
    check_start(start)
    assert (start.start.call_sid, start.stream_sid) == (CALL, "MZ1")
    assert start.start.custom_parameters == {"tenant": "T1"}
    dtmf = parse(encode(event="dtmf", streamSid="MZ1", dtmf={"track": "inbound_track", "digit": 1}))
    assert isinstance(dtmf, Dtmf)
    mark = parse(encode(event="mark", streamSid="MZ1", mark={"name": "m"}))
    assert isinstance(mark, Mark)
    stop = parse(encode(event="stop", streamSid="MZ1", stop={"accountSid": "AC1", "callSid": CALL}))
    assert isinstance(stop, Stop)


@settings(deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(["inbound", "outbound"]))
def test_audio_comes_out_as_it_went_in(audio: bytes, track: str) -> None:
    """Any bytes, of any length, on either track."""
    payload = base64.b64encode(audio).decode()
    media = parse(
        encode(event="media", streamSid="MZ1", media={"track": track, "payload": payload})
    )
    assert isinstance(media, Media)
    assert (media.media.payload, media.media.track, media.stream_sid) == (audio, track, "MZ1")


@pytest.mark.parametrize("number", [5, "5"])
def test_numbers_may_be_strings(number: int | str) -> None:
    """Twilio writes them both ways; neither may cost a frame or a call."""
    body = {"track": "inbound", "chunk": number, "timestamp": number, "payload": "/w=="}
    media = parse(encode(event="media", sequenceNumber=number, streamSid="MZ1", media=body))
    assert isinstance(media, Media)
    assert media.media.payload == b"\xff"
    assert isinstance(parse(encode(event="dtmf", dtmf={"digit": number})), Dtmf)
    check_start(
        parse_start(
            mediaFormat={"encoding": "audio/x-mulaw", "sampleRate": "8000", "channels": "1"}
        )
    )
    check_start(
        parse_start(mediaFormat={"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1})
    )


def parse_media(timestamp: str) -> Media:
    """A frame whose `timestamp` is the JSON text given."""
    text = '{"event":"media","streamSid":"MZ1","media":{"track":"outbound","timestamp":%s,%s}}'
    media = parse((text % (timestamp, '"payload":"/w=="')).encode())
    assert isinstance(media, Media)
    assert (media.media.payload, media.media.track, media.stream_sid) == (
        b"\xff",
        "outbound",
        "MZ1",
    )
    return media


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('"5"', "5"),
        ("5", 5),
        ("5.0", 5.0),
        ("5.5", 5.5),
        ("null", None),
        ('"soon"', "soon"),
        ('""', ""),
        ("-5", -5),
        ('"-5"', "-5"),
        ("86400001", 86_400_001),
        ("1e30", 1e30),
        ("9" * 40, int("9" * 40)),
        (f'"{"9" * 5000}"', "9" * 5000),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_timestamp_is_read_as_it_is_written(written: str, read: Any) -> None:
    """What it is worth, the stream's clock decides."""
    timestamp = parse_media(written).media.timestamp
    assert (type(timestamp), timestamp) == (type(read), read)


@pytest.mark.parametrize(
    "written",
    ["true", "false", "{}", '{"ms":5}', "[]", "[5]", "1e400", "-1e400", "9" * 5000],
    ids=lambda value: value[:20],
)
def test_a_timestamp_of_the_wrong_kind_costs_no_audio(written: str) -> None:
    """Not even numbers that no machine can hold."""
    assert parse_media(written).media.timestamp is None


def test_a_timestamp_may_be_missing() -> None:
    """Then it is None."""
    media = parse(encode(event="media", media={"payload": "/w=="}))
    assert isinstance(media, Media)
    assert media.media.timestamp is None


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"payload": "not base64!"}, "media"),
        ({"payload": None}, "media"),
        ({"track": 5}, "media"),
    ],
)
def test_other_faults_do_not_hide_behind_a_timestamp(changes: dict[str, Any], fault: str) -> None:
    """Without its audio a message is skipped, with a bad timestamp as without one."""
    body = {"timestamp": True, "payload": "/w=="} | changes
    with pytest.raises(BadMessage, match=fault):
        parse(encode(event="media", media=body))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"event":"stop"', "not JSON"),
        (b"null", "not a JSON object"),
        (b'["media"]', "not a JSON object"),
        (b"{}", "no event"),
        (b'{"event":null}', "no event"),
        (b'{"event":5}', "no event"),
        (encode(event="media"), "media"),
        (encode(event="media", media={}), "payload"),
        (encode(event="media", media={"payload": "not base64!"}), "base64"),
        (encode(event="media", media={"payload": "YWI"}), "base64"),
        (encode(event="media", media={"payload": 5}), "payload"),
        (encode(event="start"), "start"),
        (encode(event="start", start={}), "callSid"),
        (start_message(callSid=5), "callSid"),
    ],
)
def test_a_broken_message_is_named(text: bytes, fault: str) -> None:
    """The line in the log says what is wrong with it."""
    with pytest.raises(BadMessage, match=fault):
        parse(text)


def test_unknown_events_are_no_fault() -> None:
    """Twilio may add some at any time."""
    assert parse(encode(event="transcription", text="x")) == Unknown("transcription")
    assert parse(encode(event="Media", media={})) == Unknown("Media")


@settings(deadline=None)
@given(st.binary(max_size=400))
@example(b"[" * 100_000)
@example(b'{"event":"x","n":' + b"1" * 10_000 + b"}")
@example(b'{"event":"start","start":{"callSid":"\\ud800"}}')
@example(b'{"event":"start","start":{"callSid":"C","customParameters":' + b'{"a":' * 50_000)
@example(b'\xef\xbb\xbf{"event":"stop"}')
def test_bytes_of_any_kind_raise_nothing_but_bad_message(text: bytes) -> None:
    """No exception but ours may come out of what a stranger sends."""
    with contextlib.suppress(BadMessage):
        parse(text)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["event", *FIELDS]), near_values, max_size=6),
    st.sampled_from(EVENTS) | st.text(max_size=8),
)
def test_json_of_any_shape_raises_nothing_but_ours(message: dict[str, Any], event: str) -> None:
    """Fields of the right names with values of any kind: read, skipped or refused, never raised."""
    try:
        read = parse(json.dumps({**message, "event": event}).encode())
        if isinstance(read, Start):
            check_start(read)
    except BadMessage:
        return
    except BadConversation as fault:
        code, told = fault.code, str(fault)
    else:
        assert isinstance(read, Unknown) is (event not in EVENTS)
        return
    assert code in (1002, 1003)
    assert len(told) < 250


@settings(deadline=None)
@given(values)
def test_any_json_value_raises_nothing_but_bad_message(value: Any) -> None:
    """Lists, numbers, nothing at all: not only objects are JSON."""
    try:
        read = parse(json.dumps(value).encode())
    except BadMessage:
        return
    assert isinstance(read, Unknown)


@pytest.mark.parametrize(
    "audio",
    [
        {"encoding": "audio/l16", "sampleRate": 8000, "channels": 1},
        {"encoding": "audio/x-mulaw", "sampleRate": 16000, "channels": 1},
        {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 2},
        {"encoding": "audio/x-mulaw", "sampleRate": "8 kHz", "channels": 1},
        {"encoding": "x" * 50_000, "sampleRate": "y" * 10_000, "channels": 10**4000},
    ],
)
def test_audio_of_another_kind_ends_the_conversation(audio: dict[str, Any]) -> None:
    """It would come out as noise; 1003 says that this kind of data is not taken, in few words."""
    with pytest.raises(BadConversation, match="only audio/x-mulaw 8000 Hz") as caught:
        check_start(parse_start(mediaFormat=audio))
    assert caught.value.code == 1003
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("sid", ["", "a b", "CA1\n", "../x", "ש", "-x", "x" * 65])
def test_a_call_needs_an_id_that_can_be_logged(sid: str) -> None:
    """It stands in log lines and keys: white space or a line feed would forge them."""
    with pytest.raises(BadConversation) as caught:
        check_start(parse_start(callSid=sid))
    assert caught.value.code == 1002


@settings(deadline=None)
@given(st.text() | scalars)
def test_an_identifier_is_1_to_64_plain_characters(text: object) -> None:
    """Against the rule, spelled out."""
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    expected = (
        isinstance(text, str)
        and 1 <= len(text) <= 64
        and text[0] in plain
        and all(c in plain + "._-" for c in text)
    )
    assert is_identifier(text) is expected


def test_identifiers_as_they_are_used_pass() -> None:
    """Twilio's ids, and names that a business may have."""
    assert all(is_identifier(text) for text in (CALL, "T1", "acme-dental.haifa_2", "x" * 64))
