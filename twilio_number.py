"""A phone number in Twilio's account: what it has, what it should have, and the change to that.

Every function that asks Twilio raises `TwilioApiError`, in one line, when Twilio cannot be reached
or refuses. It blocks on the network, so only commands use it, never the service.

Source: Twilio's REST API, "IncomingPhoneNumber resource".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from twilio.base.exceptions import TwilioException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from errors import TwilioApiError

REQUEST_SECONDS = 10

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_API_NAMES = {
    "voice_url": "VoiceUrl",
    "voice_method": "VoiceMethod",
    "status_callback": "StatusCallback",
    "status_callback_method": "StatusCallbackMethod",
    "voice_application_sid": "VoiceApplicationSid",
}


class NumberField(NamedTuple):
    """One field of a number: its name in Twilio's API, its value now and the one it should have."""

    name: str
    now: str
    wanted: str

    @property
    def changes(self) -> bool:
        return self.now != self.wanted


def is_e164(number: str) -> bool:
    """Whether `number` is written as Twilio does: +, the country's code, the rest, no spaces."""
    return _E164.fullmatch(number) is not None


def make_client(account_sid: str, auth_token: str) -> Client:
    """A client of Twilio's REST API that waits 10 s for an answer; asks nothing yet."""
    return Client(account_sid, auth_token, http_client=TwilioHttpClient(timeout=REQUEST_SECONDS))


class TwilioNumber:
    """The phone number `number` (E.164) of the client's account, as it is now."""

    def __init__(self, client: Client, number: str) -> None:
        self.number = number
        with _one_line_faults():
            # Twilio also gives numbers that only contain this one.
            found = client.incoming_phone_numbers.list(phone_number=number, limit=50)
        matching = [one for one in found if one.phone_number == number]
        if not matching:
            raise TwilioApiError(
                f"the account {client.account_sid} has no number {number}: buy it in Twilio's "
                "console, or set TWILIO_ACCOUNT_SID to the account that has it"
            )
        self._resource = matching[0]
        self._refuse_what_takes_no_webhook()

    @property
    def sid(self) -> str:
        return str(self._resource.sid)

    @property
    def fallback_url(self) -> str:
        """What Twilio asks when the webhook fails; never changed here."""
        return self._resource.voice_fallback_url or ""

    def fields(self, public_url: str) -> list[NumberField]:
        """The fields that send the number's calls to the service at `public_url`."""
        wanted = {
            "voice_url": f"{public_url}/voice",
            "voice_method": "POST",
            "status_callback": f"{public_url}/status",
            "status_callback_method": "POST",
        }
        if self._resource.voice_application_sid:
            wanted["voice_application_sid"] = ""  # an application's URLs go before the number's
        return [
            NumberField(_API_NAMES[key], getattr(self._resource, key) or "", value)
            for key, value in wanted.items()
        ]

    def point_at(self, public_url: str) -> None:
        """Change what differs from `fields(public_url)`; nothing else is sent."""
        keys = {name: key for key, name in _API_NAMES.items()}
        changes = {f.name: f.wanted for f in self.fields(public_url) if f.changes}
        with _one_line_faults():
            self._resource = self._resource.update(
                **{keys[name]: value for name, value in changes.items()}
            )
        left = [field.name for field in self.fields(public_url) if field.changes]
        if left:
            raise TwilioApiError(f"Twilio took the change, but left {', '.join(left)} as it was")

    def _refuse_what_takes_no_webhook(self) -> None:
        capabilities: Any = self._resource.capabilities
        if isinstance(capabilities, dict) and capabilities.get("voice") is False:
            raise TwilioApiError(f"{self.number} takes no calls: it is a number for messages only")
        if self._resource.trunk_sid:
            raise TwilioApiError(
                f"{self.number} belongs to the SIP trunk {self._resource.trunk_sid}, which goes "
                "before its webhook: take it off the trunk in Twilio's console first"
            )


@contextmanager
def _one_line_faults() -> Iterator[None]:
    try:
        yield
    except TwilioException as fault:
        raise TwilioApiError(_refusal(fault)) from None
    except OSError as fault:  # what the HTTP library raises is an OSError
        inner = fault.args[0] if fault.args else fault
        reason = " ".join(str(getattr(inner, "reason", inner)).split())[:200]
        raise TwilioApiError(f"Twilio cannot be reached: {reason}") from None
    except (ValueError, AttributeError, TypeError):  # the library takes an answer's shape on trust
        raise TwilioApiError("what answers is not Twilio: is there a proxy between?") from None


def _refusal(fault: TwilioException) -> str:
    status, told = getattr(fault, "status", None), getattr(fault, "msg", "") or str(fault)
    if status is None and len(fault.args) > 1:  # a list's fault carries the bare answer
        status, told = fault.args[1].status_code, _message(fault.args[1].text)
    if status == 401:
        return (
            "Twilio refuses the keys (401): TWILIO_ACCOUNT_SID and the first of TWILIO_AUTH_TOKEN "
            "must be those of one account, as on the first page of Twilio's console"
        )
    reason = " ".join(told.split())[:200]
    return f"Twilio answers {status}: {reason}" if status else f"Twilio's answer: {reason}"


def _message(text: str) -> str:
    try:
        answer = json.loads(text)
    except ValueError:
        return text
    return str(answer.get("message", text)) if isinstance(answer, dict) else text
