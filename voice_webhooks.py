"""Twilio's webhooks: how a call is taken, what follows its stream, and that it is over.

Twilio waits 15 s for an answer, and what it gets decides what a caller hears: so nothing here
waits for anything, and whatever goes wrong is an answer all the same.

Source: Twilio's documentation, "Twilio's request to your application" and "<Stream>".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlencode

from flask import Blueprint, Response, request

import tallies
import voice_answers
from businesses import Business, FindsBusinesses
from call_log import logger, one_line
from call_records import CallParties
from registry import CallRegistry
from stream_tokens import StreamGrant, StreamTokens
from tallies import Refusal
from trust import Door
from twilio_messages import is_identifier
from voice_answers import StreamOffer

# Streams of a call that may follow each other at once; one that lived for longer starts anew.
MOST_RETRIES = 3
GOOD_STREAM_SECONDS = 30

# Twilio's words for a call that is over.
OVER = frozenset(("completed", "busy", "failed", "no-answer", "canceled"))


class VoiceWebhooks:
    """The answers to Twilio's questions.

    `language` is that of the settings; `tell_over(call_sid)` has every worker know that a call is
    over; `room_beside()`: whether another worker has room.
    """

    def __init__(
        self,
        businesses: FindsBusinesses,
        registry: CallRegistry,
        tokens: StreamTokens,
        tell_over: Callable[[str], None],
        *,
        public_url: str,
        language: str,
        room_beside: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._businesses = businesses
        self._registry = registry
        self._tokens = tokens
        self._tell_over = tell_over
        self._public_url = public_url
        self._language = language
        self._room_beside = room_beside
        self._clock = clock

    def voice(self) -> str:
        """`POST /voice`: take a call."""
        if not self._businesses.is_read:
            self._say("turned away", "-", "the database is away, no business is known yet")
            tallies.refused(Refusal.NO_DATABASE)
            return voice_answers.turn_away(Business(), self._language)
        number = _number_of_business()
        business = self._businesses.of_number(number)
        if business is None:
            self._say("no business", "-", one_line(number)[:40])
            tallies.refused(Refusal.NO_BUSINESS)
            return voice_answers.nobody(self._language)
        return self._take(business, retries=0)

    def next(self) -> str:
        """`POST /voice/next`: the stream of an answered call has ended."""
        business = self._businesses.of_id(request.args.get("tenant", ""))
        if business is None or request.form.get("CallStatus") in OVER:
            return voice_answers.over()
        retries = _number(request.args.get("retries"))
        lived = self._clock() - _number(request.args.get("since"))
        retries = 0 if lived >= GOOD_STREAM_SECONDS else retries + 1
        if retries > MOST_RETRIES:
            ended = f"{MOST_RETRIES + 1} streams in a row ended"
            self._say("turned away", business.tenant_id, ended)
            tallies.refused(Refusal.STREAMS_ENDED)
            return voice_answers.turn_away(business, self._language, answered=True)
        return self._take(business, retries, answered=True)

    def status(self) -> str:
        """`POST /status`: a call's or a stream's status has changed."""
        call_sid = request.form.get("CallSid", "")
        event = request.form.get("StreamEvent")
        if event == "stream-error":
            self._say("stream error", "-", one_line(request.form.get("StreamError", ""))[:200])
        if is_identifier(call_sid) and request.form.get("CallStatus") in OVER:
            self._tell_over(call_sid)
            self._registry.end_call(call_sid, "Twilio says that the call is over")
        return ""

    def _take(self, business: Business, retries: int, *, answered: bool = False) -> str:
        full = self._registry.why_full(business.tenant_id, business.max_calls)
        if full is not None and not (self._registry.full and self._room_beside()):
            self._say("turned away", business.tenant_id, full)
            tallies.refused(Refusal.TURNED_AWAY_FULL)
            return voice_answers.turn_away(business, self._language, answered=answered)
        offer = self._offer(business, retries)
        if business.forward:
            return voice_answers.put_through(business, offer)
        # a new server may take the first stream at once; one that fails again is given a moment
        pause = retries > 1 or self._registry.draining
        return voice_answers.answer(business, offer, pause=pause)

    def _offer(self, business: Business, retries: int) -> StreamOffer:
        web = self._public_url or request.host_url.rstrip("/")
        call_sid = request.form.get("CallSid", "")
        follow = urlencode(
            {"tenant": business.tenant_id, "retries": retries, "since": int(self._clock())}
        )
        return StreamOffer(
            stream_url="ws" + web.removeprefix("http") + "/media",
            next_url=f"{web}/voice/next?{follow}",
            status_url=f"{web}/status",
            token=self._tokens.make(StreamGrant(call_sid, business.tenant_id, _parties())),
        )

    def _say(self, what: str, tenant_id: str, why: str) -> None:
        call_sid = request.form.get("CallSid", "")
        sid = call_sid if is_identifier(call_sid) else "-"
        logger.warning("[VOICE] %s: %s call=%s tenant=%s", what, why, sid, tenant_id)


def _number_of_business() -> str:
    """The number by which a business is known: of a call that it makes, that which it calls from.

    Twilio's directions are inbound, outbound-api and outbound-dial.
    """
    makes = request.form.get("Direction", "").startswith("outbound")
    return request.form.get("From" if makes else "To", "")


def _parties() -> CallParties:
    """Who calls whom, as far as a stream's parameter has room for it."""
    told = (request.form.get(name, "")[:40] for name in ("From", "To", "Direction"))
    caller, called, direction = told
    return CallParties(caller, called, direction or "inbound")


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else 0


def make_blueprint(webhooks: VoiceWebhooks, door: Door) -> Blueprint:
    """The addresses `POST /voice`, `/voice/next` and `/status`."""
    blueprint = Blueprint("voice", __name__)
    blueprint.before_request(lambda: door.check_webhook(request))

    def twiml(answer: Callable[[], str]) -> Callable[[], Response]:
        return lambda: Response(answer(), mimetype="text/xml")

    blueprint.add_url_rule("/voice", "voice", twiml(webhooks.voice), methods=["POST"])
    blueprint.add_url_rule("/voice/next", "next", twiml(webhooks.next), methods=["POST"])
    blueprint.add_url_rule("/status", "status", twiml(webhooks.status), methods=["POST"])
    return blueprint
