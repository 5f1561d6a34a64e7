"""What the settings lack for a Twilio number to work, one finding for each of them.

Each setting is read by itself, so that one which is broken does not hide the others. No network is
used, except to reach the database, and where Google's own library looks for credentials that no
setting names.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Container, Mapping
from typing import Literal, NamedTuple

from businesses import load_businesses
from errors import SettingsError
from google_credentials import load_credentials
from settings import Settings
from trust_settings import SECRET_KEY_LENGTH

State = Literal["ok", "missing", "wrong"]
Verdict = tuple[State, str]

_NEW_SECRET = 'python -c "import secrets; print(secrets.token_hex(32))"'
_SID = re.compile(r"[A-Z]{2}[0-9a-fA-F]{32}")


class Finding(NamedTuple):
    """What is to be said about one setting; `text` says how to mend it, unless it is ok."""

    name: str
    state: State
    text: str


def check_settings(environ: Mapping[str, str], only: Container[str] | None = None) -> list[Finding]:
    """The findings on the settings in `environ`, in the order in which one would mend them.

    `only`: the names of the findings that are asked for; None is all.
    """
    judged = {variable for _, variables, _ in _CHECKS for variable in variables}
    fields = dataclasses.fields(Settings)
    others = [v for item in fields if (v := item.metadata["variable"]) not in judged]
    return [
        _find(name, environ, variables, judge)
        for name, variables, judge in [*_CHECKS, ("other settings", others, _readable)]
        if only is None or name in only
    ]


def _find(
    name: str,
    environ: Mapping[str, str],
    variables: list[str],
    judge: Callable[[Settings], Verdict],
) -> Finding:
    given = {variable: environ.get(variable, "") for variable in variables}
    try:
        return Finding(name, *judge(Settings.from_env(given)))
    except SettingsError as fault:
        is_given = any(value.strip() for value in given.values())
        return Finding(name, "wrong" if is_given else "missing", str(fault))


def _public_url(settings: Settings) -> Verdict:
    if not settings.public_url:
        return "missing", "set it to https://HOST, the address at which Twilio reaches this service"
    if not settings.public_url.startswith("https://"):
        return "wrong", f"{settings.public_url}: must be https://…, Twilio streams over TLS only"
    return "ok", settings.public_url


def _account_sid(settings: Settings) -> Verdict:
    if not settings.twilio_account_sid:
        return "missing", "set it to the Account SID (AC…) on the first page of Twilio's console"
    return "ok", settings.twilio_account_sid


def _auth_token(settings: Settings) -> Verdict:
    tokens = settings.twilio_auth_tokens
    if not tokens:
        return "missing", "set it to the Auth Token on the first page of Twilio's console"
    for token in tokens:
        if _SID.fullmatch(token):
            return "wrong", "is a SID; the Auth Token stands below it in Twilio's console"
        if not token.isascii() or any(char.isspace() for char in token):
            return "wrong", "has characters that no token has; copy it again from Twilio's console"
    if len(tokens) > 1:
        return "ok", f"{len(tokens)} tokens, of which the first is used to call Twilio"
    return "ok", "set"


def _secret_key(settings: Settings) -> Verdict:
    length = len(settings.secret_key)
    if not length:
        return "missing", f"set it to what this prints: {_NEW_SECRET}"
    if length < SECRET_KEY_LENGTH:
        return "wrong", f"{length} characters can be guessed; take what this prints: {_NEW_SECRET}"
    return "ok", "set"


def _allow_unsigned(settings: Settings) -> Verdict:
    if settings.allow_unsigned:
        return "wrong", "is 1, so that anybody can open streams at your cost; unset it"
    return "ok", "off: only Twilio's requests are taken"


def _google(settings: Settings) -> Verdict:
    load_credentials(settings)
    if settings.speech_emulator_host:
        return "ok", f"none needed: SPEECH_EMULATOR_HOST is {settings.speech_emulator_host}"
    return "ok", "can be read"


def _businesses(settings: Settings) -> Verdict:
    load_businesses(settings.businesses)
    if settings.businesses:
        return "ok", "can be read; an empty database begins with them"
    return "ok", "not set: an empty database begins with one business, default"


def _database(settings: Settings) -> Verdict:
    # Here, because a worker has these commands too, and does without SQLAlchemy
    from database_check import look_at_database

    return "ok", look_at_database(settings)


def _readable(_settings: Settings) -> Verdict:
    return "ok", "can be read"


_CHECKS: list[tuple[str, list[str], Callable[[Settings], Verdict]]] = [
    ("PUBLIC_URL", ["PUBLIC_URL"], _public_url),
    ("TWILIO_ACCOUNT_SID", ["TWILIO_ACCOUNT_SID"], _account_sid),
    ("TWILIO_AUTH_TOKEN", ["TWILIO_AUTH_TOKEN"], _auth_token),
    ("SECRET_KEY", ["SECRET_KEY"], _secret_key),
    ("ALLOW_UNSIGNED", ["ALLOW_UNSIGNED"], _allow_unsigned),
    (
        "Google credentials",
        ["GOOGLE_CREDENTIALS_JSON", "GOOGLE_APPLICATION_CREDENTIALS", "SPEECH_EMULATOR_HOST"],
        _google,
    ),
    ("BUSINESSES", ["BUSINESSES"], _businesses),
    ("DATABASE_URL", ["DATABASE_URL"], _database),
]
