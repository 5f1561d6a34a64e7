"""The businesses that share this service, and how the calls of each are taken. Pure.

They are kept in the database (`tenant_directory.py`). The setting `BUSINESSES` is what an empty
database begins with, a JSON object by the business's id:

    {"clinic": {"numbers": ["+97231234567"], "language": "iw-IL", "max_calls": 40},
     "garage": {"numbers": ["+97237654321"], "forward": "+972541234567", "when_full": "forward"},
     "default": {}}

Every key may be left out. Without the setting there is one business, `default`. Calls to numbers
that no business has go to `default` if there is one, and are refused otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

import msgspec

import business_rules
from errors import BadBusiness, SettingsError

DEFAULT_TENANT = "default"

WhenFull = Literal["say", "busy", "forward"]
Region = Literal["global", "eu", "us"]


class Business(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the calls of one business are taken.

    `forward`: the business's own phone; its calls are put through and listened to. Without it the
    call is answered here. `language` and `model`: None are those of the settings. `hints`: phrases
    to be expected. `region`: where Google recognises (`eu`, `us`, `global`). `google_key_env`: the
    variable with a Google key of its own. `when_full`: what a caller meets when there is no room.
    `sentence`: what is said then, in place of the text for the language. `max_calls`: None has no
    cap but the worker's. `keep_days`: how long its records are kept.
    """

    tenant_id: str = ""
    numbers: tuple[str, ...] = ()
    forward: str | None = None
    language: str | None = None
    model: str | None = None
    when_full: WhenFull = "say"
    sentence: str | None = None
    max_calls: int | None = None
    name: str = ""
    hints: tuple[str, ...] = ()
    punctuation: bool = True
    profanity_filter: bool = False
    region: Region = "global"
    google_key_env: str | None = None
    time_zone: str = "Asia/Jerusalem"
    keep_days: int = 365


class FindsBusinesses(Protocol):
    """Whoever knows the businesses as they are now; `is_read`: whether they are known at all."""

    @property
    def is_read(self) -> bool: ...

    def of_number(self, number: str) -> Business | None: ...

    def of_id(self, tenant_id: str) -> Business | None: ...


class Businesses:
    """All businesses, found by the number that was dialled or by their id."""

    is_read = True

    def __init__(self, businesses: Iterable[Business] = ()) -> None:
        businesses = tuple(businesses)
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


def load_businesses(text: str) -> tuple[Business, ...]:
    """The businesses of the setting's text. Raises `SettingsError` that says where it is wrong."""
    if not text.strip():
        return (Business(DEFAULT_TENANT),)
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
        try:
            business_rules.check(business)
        except BadBusiness as fault:
            raise SettingsError(f"BUSINESSES: {business.tenant_id[:64]!r}: {fault}") from None
        for number in business.numbers:
            if number in owners:
                raise SettingsError(
                    f"BUSINESSES: {number} belongs to {owners[number]} and to {business.tenant_id}"
                )
            owners[number] = business.tenant_id
    return businesses
