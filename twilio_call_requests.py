"""What Twilio asks and tells a service about one call: webhooks for TwiML, status callbacks.

Everything is written into the call's report. Runs on the call's asyncio loop; an answer that
cannot be followed is `NoTwiml`, a status callback that fails is an error in the report.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from placed_call_report import PlacedCallReport, Status, Webhook
from twilio_webhooks import Answer, Form, WebhookFailed, Webhooks, WrongServiceUrl
from twiml import BadTwiml, Method, Verb, parse_twiml

XML_TYPES = frozenset({"text/xml", "application/xml", "text/html"})


class NoTwiml(Exception):
    """The service answered nothing that Twilio could follow; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Document:
    """An answer of the service's."""

    url: str  # its own, by which the relative addresses in it are meant
    verbs: tuple[Verb, ...]


@dataclass(frozen=True, slots=True)
class Parties:
    """What is the same in all requests of a call."""

    call_sid: str
    account_sid: str
    caller: str
    number: str


class CallRequests:
    """The requests of one call; `doubled` sends each webhook for TwiML twice."""

    def __init__(
        self, parties: Parties, webhooks: Webhooks, report: PlacedCallReport, *, doubled: bool
    ) -> None:
        self._parties, self._webhooks, self._report = parties, webhooks, report
        self._doubled = doubled

    async def ask(self, url: str, method: Method, call_status: str, more: Form = ()) -> Document:
        """The document that the service answers at `url`. Raises NoTwiml."""
        form = self._form(call_status, more)
        times = 2 if self._doubled else 1
        first, *others = await asyncio.gather(
            *(self._ask_once(url, method, form) for _ in range(times))
        )
        self._report.errors += [str(other) for other in others if isinstance(other, NoTwiml)]
        if isinstance(first, NoTwiml):
            raise first
        return first

    async def ask_at_end(self, url: str, method: Method) -> None:
        """Ask when the caller has hung up: any answer will do, if it is one."""
        await self._ask_once(url, method, self._form("completed", ()))
        asked = self._report.webhooks[-1]
        if not 200 <= asked.status < 300:
            self._report.errors.append(f"{url} answered HTTP {asked.status} after the call")

    async def tell(self, url: str, form: Form, method: Method = "POST") -> None:
        """Post a status callback; one that fails is an error in the report."""
        try:
            answer = await self._webhooks.send(url, form, method)
        except (WebhookFailed, WrongServiceUrl) as error:
            self._report.statuses.append(Status(_path(url), 0, dict(form)))
            self._report.errors.append(f"a status callback failed: {error}")
            return
        self._report.statuses.append(Status(_path(url), answer.status, dict(form)))
        if not 200 <= answer.status < 300:
            self._report.errors.append(f"the status callback {url} answered HTTP {answer.status}")

    async def tell_call(self, url: str, call_status: str, more: Form) -> None:
        """Post the call's own status."""
        await self.tell(url, self._form(call_status, more))

    async def _ask_once(self, url: str, method: Method, form: Form) -> Document | NoTwiml:
        try:
            answer = await self._webhooks.send(url, form, method)
        except (WebhookFailed, WrongServiceUrl) as error:
            self._report.webhooks.append(Webhook(_path(url), 0, ""))
            return NoTwiml(str(error))
        self._report.webhooks.append(Webhook(_path(url), answer.status, answer.body))
        try:
            _check(answer)
            return Document(answer.url, parse_twiml(answer.body))
        except (NoTwiml, BadTwiml) as error:
            return NoTwiml(f"{url}: {error}")

    def _form(self, call_status: str, more: Form) -> Form:
        parties = self._parties
        return [
            ("CallSid", parties.call_sid),
            ("AccountSid", parties.account_sid),
            ("From", parties.caller),
            ("To", parties.number),
            ("Caller", parties.caller),
            ("Called", parties.number),
            ("Direction", "inbound"),
            ("CallStatus", call_status),
            ("ApiVersion", "2010-04-01"),
            *more,
        ]


def _check(answer: Answer) -> None:
    if not 200 <= answer.status < 300:
        raise NoTwiml(f"error 11200, HTTP retrieval failure: HTTP {answer.status}")
    if answer.body.strip() and answer.content_type not in XML_TYPES:
        raise NoTwiml(f"error 12300, invalid content type: {answer.content_type}, not text/xml")


def _path(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")
