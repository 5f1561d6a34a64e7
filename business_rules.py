"""What a business's settings may be, wherever they are written down. Pure."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from typing import TYPE_CHECKING

from errors import BadBusiness
from language_models import check_language, check_model
from twilio_messages import is_identifier

if TYPE_CHECKING:
    from businesses import Business

# Google takes 5,000 phrases of 100 characters, 100,000 characters in all
MOST_HINTS, HINT_LENGTH, HINTS_LENGTH = 5_000, 100, 100_000
MOST_KEEP_DAYS = 36_500

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_REGIONS = ("global", "eu", "us")


def is_e164(number: str) -> bool:
    """Whether `number` is written in full, as +97231234567."""
    return _E164.fullmatch(number) is not None


def is_variable(name: str) -> bool:
    """Whether `name` can name an environment variable, and is no key."""
    return _VARIABLE.fullmatch(name) is not None


def check(business: Business, usual_language: str | None = None) -> None:
    """Raise `BadBusiness`, in one line that says how to mend it, if `business` cannot be.

    `usual_language`: what is spoken where a business does not say, if that is known.
    """
    for rule in _RULES:
        rule(business)
    language = business.language or usual_language
    if business.model is not None:
        check_model(language, business.model)


def _check_id(business: Business) -> None:
    if not is_identifier(business.tenant_id):
        raise BadBusiness("an id is 1 to 64 letters, digits, dots, _ or -")


def _check_numbers(business: Business) -> None:
    for number in (*business.numbers, *([business.forward] if business.forward else [])):
        if not is_e164(number):
            raise BadBusiness(f"{number[:40]!r} is no number such as +97231234567")
    if business.forward in business.numbers:
        raise BadBusiness("it would forward its calls to itself")
    if business.when_full not in ("say", "busy", "forward"):
        raise BadBusiness(f"when_full is say, busy or forward, not {business.when_full[:20]!r}")
    if business.when_full == "forward" and not business.forward:
        raise BadBusiness("when_full is forward, but there is no number in forward")


def _check_recognition(business: Business) -> None:
    if business.language is not None:
        check_language(business.language)
    if len(business.hints) > MOST_HINTS or sum(map(len, business.hints)) > HINTS_LENGTH:
        raise BadBusiness(
            f"hints are at most {MOST_HINTS:,} phrases, {HINTS_LENGTH:,} characters in all"
        )
    for hint in business.hints:
        if not hint.strip() or len(hint) > HINT_LENGTH:
            raise BadBusiness(f"a hint has 1 to {HINT_LENGTH} characters, not {hint[:40]!r}")


def _check_google(business: Business) -> None:
    if business.region not in _REGIONS:
        raise BadBusiness(f"a region is {', '.join(_REGIONS)}, not {business.region[:20]!r}")
    variable = business.google_key_env
    if variable is not None and not is_variable(variable):
        raise BadBusiness(
            "google_key_env is the name of an environment variable, such as CLINIC_GOOGLE_KEY,"
            " never the key itself"
        )


def _check_limits(business: Business) -> None:
    if business.max_calls is not None and business.max_calls < 1:
        raise BadBusiness("max_calls must be 1 or more")
    if not 1 <= business.keep_days <= MOST_KEEP_DAYS:
        raise BadBusiness(f"keep_days must be from 1 to {MOST_KEEP_DAYS}")
    if business.sentence is not None and not 1 <= len(business.sentence.strip()) <= 500:
        raise BadBusiness("the sentence has 1 to 500 characters")
    if business.name and (len(business.name) > 200 or not business.name.isprintable()):
        raise BadBusiness("a name has 1 to 200 printable characters")
    try:
        zoneinfo.ZoneInfo(business.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise BadBusiness(
            f"{business.time_zone[:40]!r} is no time zone such as Asia/Jerusalem"
        ) from None


_RULES: tuple[Callable[[Business], None], ...] = (
    _check_id,
    _check_numbers,
    _check_recognition,
    _check_google,
    _check_limits,
)
