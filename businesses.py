"""The businesses that share this service, from the setting `BUSINESSES`. Pure.

A JSON object, by the business's id:

    {"clinic": {"numbers": ["+97231234567"], "language": "iw-IL", "max_calls": 40},
     "garage": {"numbers": ["+97237654321"], "forward": "+972541234567", "when_full": "forward"},
     "default": {}}

Every key may be left out. Without the setting there is one business, `default`, which takes all
calls; with it, unknown numbers go to `default` if that is named, and are refused otherwise.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from errors import SettingsError
from twilio_messages import is_identifier

DEFAULT_TENANT = "default"

WhenFull = Literal["say", "busy", "forward"]

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class Business(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the calls of one business are taken.

    `forward`: the business's own phone; its calls are put through and listened to. Without it the
    call is answered here. `language` and `model`: None are those of the settings. `when_full`:
    what a caller meets when there is no room. `sentence`: what is said then, in place of the text
    for the language. `max_calls`: None has no cap but the worker's.
    """

    tenant_id: str = ""
    numbers: tuple[str, ...] = ()
    forward: str | None = None
    language: str | None = None
    model: str | None = None
    when_full: WhenFull = "say"
    sentence: str | None = None
    max_calls: int | None = None


class Businesses:
    """All businesses, found by the number that was dialled or by their id."""

    def __init__(self, businesses: tuple[Business, ...]) -> None:
        self._by_id = {business.tenant_id: business for business in businesses}
        self._by_number = {
            number: business for business in businesses for number in business.numbers
        }

    def of_number(self, number: str) -> Business | None:
        """Whose number this is; `default` for unknown ones, None if there is no default."""
        return self._by_number.get(number) or self._by_id.get(DEFAULT_TENANT)

    def of_id(self, tenant_id: str) -> Business | None:
        """The business of this id."""
        return self._by_id.get(tenant_id)


def load_businesses(text: str) -> Businesses:
    """The businesses of the setting's text. Raises `SettingsError` that says where it is wrong."""
    if not text.strip():
        return Businesses((Business(DEFAULT_TENANT),))
    try:
        found = msgspec.json.decode(text, type=dict[str, Business])
    except msgspec.ValidationError as fault:
        raise SettingsError(f"BUSINESSES: {str(fault)[:200]}") from None
    except msgspec.DecodeError as fault:
        raise SettingsError(f"BUSINESSES: is not JSON: {str(fault)[:200]}") from None
    businesses = tuple(
        msgspec.structs.replace(business, tenant_id=tenant) for tenant, business in found.items()
    )
    owners: dict[str, str] = {}
    for business in businesses:
        _check(business)
        for number in business.numbers:
            if number in owners:
                raise SettingsError(
                    f"BUSINESSES: {number} belongs to {owners[number]} and to {business.tenant_id}"
                )
            owners[number] = business.tenant_id
    return Businesses(businesses)


def _check(business: Business) -> None:
    where = f"BUSINESSES: {business.tenant_id[:64]!r}"
    if not is_identifier(business.tenant_id):
        raise SettingsError(f"{where}: an id is 1 to 64 letters, digits, dots, _ or -")
    for number in (*business.numbers, *([business.forward] if business.forward else [])):
        if not _E164.fullmatch(number):
            raise SettingsError(f"{where}: {number[:40]!r} is no number such as +97231234567")
    if business.forward in business.numbers:
        raise SettingsError(f"{where}: it would forward its calls to itself")
    if business.language is not None and not _LANGUAGE.fullmatch(business.language):
        raise SettingsError(f"{where}: {business.language[:40]!r} is no language such as iw-IL")
    if business.when_full == "forward" and not business.forward:
        raise SettingsError(f"{where}: when_full is forward, but there is no number in forward")
    if business.max_calls is not None and business.max_calls < 1:
        raise SettingsError(f"{where}: max_calls must be 1 or more")
