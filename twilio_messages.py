"""What Twilio sends over a media stream's WebSocket, read into typed messages. Pure.

Source: Twilio's documentation, "Media Streams: WebSocket messages". Twilio writes numbers as
strings in some messages and as numbers in others; both are taken everywhere.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from errors import BadConversation, BadMessage

# What ends up in log lines and record keys. Twilio's own ids are two letters and 32 hex digits.
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


class Connected(msgspec.Struct, tag_field="event", tag="connected"):
    protocol: str = ""
    version: str | float = ""


class MediaFormat(msgspec.Struct, rename="camel"):
    encoding: str = "audio/x-mulaw"
    sample_rate: int | str = 8000
    channels: int | str = 1


class StartBody(msgspec.Struct, rename="camel"):
    call_sid: str
    account_sid: str = ""
    stream_sid: str = ""
    tracks: list[str] = []
    custom_parameters: dict[str, Any] | None = None
    media_format: MediaFormat = msgspec.field(default_factory=MediaFormat)


class Start(msgspec.Struct, tag_field="event", tag="start", rename="camel"):
    start: StartBody
    stream_sid: str = ""


class MediaAudio(msgspec.Struct, gc=False):  # nothing in it that the collector must look at
    payload: bytes  # msgspec decodes the base64
    track: str = "inbound"


class MediaBody(MediaAudio, gc=False):
    timestamp: str | int | float | None = None  # ms from the stream's start, as it was sent


class Media(msgspec.Struct, tag_field="event", tag="media", rename="camel", gc=False):
    media: MediaBody
    stream_sid: str = ""


class UntimedMedia(msgspec.Struct, tag_field="event", tag="media", rename="camel"):
    """A `media` message read without its timestamp, whatever that is."""

    media: MediaAudio
    stream_sid: str = ""


class DtmfBody(msgspec.Struct):
    digit: str | int = ""
    track: str = ""


class Dtmf(msgspec.Struct, tag_field="event", tag="dtmf"):
    dtmf: DtmfBody = msgspec.field(default_factory=DtmfBody)


class MarkBody(msgspec.Struct):
    name: str = ""


class Mark(msgspec.Struct, tag_field="event", tag="mark"):
    mark: MarkBody = msgspec.field(default_factory=MarkBody)


class Stop(msgspec.Struct, tag_field="event", tag="stop"):
    pass


class Unknown(msgspec.Struct):
    """A message with an `event` that is not known here: Twilio may add some at any time."""

    event: str


Message = Connected | Start | Media | Dtmf | Mark | Stop | Unknown

_known = msgspec.json.Decoder(Connected | Start | Media | Dtmf | Mark | Stop)
_untimed = msgspec.json.Decoder(UntimedMedia)
_any = msgspec.json.Decoder(dict[str, Any])
_KNOWN_EVENTS = frozenset(("connected", "start", "media", "dtmf", "mark", "stop"))


def parse(text: bytes) -> Message:
    """Read one text message (UTF-8 JSON, as bytes).

    Raises `BadMessage` that names the fault: not JSON, no `event`, a field missing or of the
    wrong kind, a payload that is not base64. A timestamp of the wrong kind is none at all.
    """
    try:
        message: Message = _known.decode(text)
    except msgspec.ValidationError as fault:
        return _untimed_media(text) or _unknown(text, fault)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadMessage("not JSON") from None
    return message


def _untimed_media(text: bytes) -> Media | None:
    """The audio of a message that is well-formed but for its timestamp: it is not lost for that."""
    try:
        message = _untimed.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Media(MediaBody(message.media.payload, message.media.track), message.stream_sid)


def _unknown(text: bytes, fault: msgspec.ValidationError) -> Unknown:
    try:
        event = _any.decode(text).get("event")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadMessage("not a JSON object") from None
    if not isinstance(event, str):
        raise BadMessage("no event")
    if event in _KNOWN_EVENTS:
        raise BadMessage(f"{event}: {str(fault)[:200]}")  # it may quote what was sent
    return Unknown(event)


def check_start(start: Start) -> None:
    """Raise `BadConversation` for a stream that cannot be taken: its ids or its audio are wrong."""
    body = start.start
    if not is_identifier(body.call_sid):
        raise BadConversation(1002, "start: callSid is not an id of letters and digits")
    audio = body.media_format
    if (audio.encoding, str(audio.sample_rate), str(audio.channels)) != (
        "audio/x-mulaw",
        "8000",
        "1",
    ):
        given = f"{audio.encoding[:40]} {audio.sample_rate} Hz with {audio.channels} channels"
        raise BadConversation(
            1003,
            f"start: audio is {given[:80]}; only audio/x-mulaw 8000 Hz with 1 channel is taken",
        )


def is_identifier(text: object) -> bool:
    """Whether `text` may name a call or a business: 1 to 64 letters, digits, dot, dash, _."""
    return isinstance(text, str) and _IDENTIFIER.fullmatch(text) is not None
