"""The TwiML with which calls are taken, put through or turned away. Pure.

Source: Twilio's documentation, "TwiML for Programmable Voice"; written with its own library.
"""

from __future__ import annotations

from typing import NamedTuple

from twilio.twiml.voice_response import Connect, Start, Stream, VoiceResponse

import spoken_texts
from businesses import Business


class StreamOffer(NamedTuple):
    """What a stream's TwiML needs: URLs as Twilio sees them, and the token for this call."""

    stream_url: str
    next_url: str
    status_url: str
    token: str


def answer(business: Business, offer: StreamOffer, *, pause: bool = False) -> str:
    """Answer the call here: its stream is all that there is, and `next_url` says what follows.

    `pause`: for a second, so that a server that is just taking over is there.
    """
    response = VoiceResponse()
    if pause:
        response.pause(length=1)
    connect = Connect(action=offer.next_url, method="POST")
    connect.append(_stream(business, offer))
    response.append(connect)
    return str(response)


def put_through(business: Business, offer: StreamOffer) -> str:
    """Put the caller through to the business's own phone, and listen to both sides."""
    response = VoiceResponse()
    start = Start()
    start.append(_stream(business, offer, track="both_tracks"))
    response.append(start)
    response.dial(business.forward)
    return str(response)


def turn_away(business: Business, language: str, *, answered: bool = False) -> str:
    """There is no room: what the business wants its callers to meet then.

    An `answered` call cannot be rejected any more: its caller hears the sentence.
    """
    response = VoiceResponse()
    if business.when_full == "busy" and not answered:
        response.reject(reason="busy")
    elif business.when_full == "forward":
        response.dial(business.forward)
    else:
        spoken = spoken_texts.when_full(business.language or language, business.sentence)
        _say(response, spoken)
        response.hangup()
    return str(response)


def nobody(language: str) -> str:
    """The dialled number belongs to no business."""
    response = VoiceResponse()
    _say(response, spoken_texts.unknown_number(language))
    response.hangup()
    return str(response)


def over() -> str:
    """Nothing more is to be done for the call."""
    return str(VoiceResponse())


def _stream(business: Business, offer: StreamOffer, track: str | None = None) -> Stream:
    stream = Stream(
        url=offer.stream_url,
        track=track,
        status_callback=offer.status_url,
        status_callback_method="POST",
    )
    stream.parameter(name="tenant", value=business.tenant_id)
    stream.parameter(name="token", value=offer.token)
    return stream


def _say(response: VoiceResponse, spoken: spoken_texts.Spoken) -> None:
    response.say(spoken.text, voice=spoken.voice.voice, language=spoken.voice.language)
