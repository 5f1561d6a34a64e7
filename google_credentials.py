"""Which Google account a process speaks for: loaded from the settings, checked at the start.

No gRPC object is made here, so it may run before a worker is forked. Google's library is imported
when there are credentials to load: most commands have none, nor has a service with a speech server
of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from errors import SettingsError
from settings import Settings

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


def load_credentials(settings: Settings) -> Credentials | None:
    """The credentials to call Google with; None with `SPEECH_EMULATOR_HOST`, which takes none.

    In this order: the emulator, the key in GOOGLE_CREDENTIALS_JSON, the key file that
    GOOGLE_APPLICATION_CREDENTIALS names, Google's application default credentials.
    Raises `SettingsError` in one line where they are missing or broken.
    """
    if settings.speech_emulator_host:
        return None
    if settings.google_credentials_json:
        return _from_key(settings.google_credentials_json, "GOOGLE_CREDENTIALS_JSON")
    path = settings.google_application_credentials
    if path:
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as fault:
            raise SettingsError(
                f"GOOGLE_APPLICATION_CREDENTIALS={path}: cannot be read as a key file ({fault})"
            ) from None
        if _kind_of(text) == "service_account":
            return _from_key(text, f"GOOGLE_APPLICATION_CREDENTIALS={path}")
    return _default_credentials(path)


def key_credentials(text: str, variable: str) -> Credentials:
    """The credentials of a service account's key, from an environment variable.

    Raises `SettingsError`.
    """
    return _from_key(text, variable)


def _kind_of(text: str) -> object:
    try:
        key = json.loads(text)
    except ValueError:
        return "service_account"  # so that the fault is told by the check of such keys
    return key.get("type") if isinstance(key, dict) else "service_account"


def _from_key(text: str, where: str) -> Credentials:
    from cryptography.exceptions import UnsupportedAlgorithm
    from google.oauth2 import service_account

    try:
        key = json.loads(text)
    except ValueError as fault:
        raise SettingsError(
            f"{where}: is not JSON ({fault}); put the whole key file there"
        ) from None
    if not isinstance(key, dict) or key.get("type") != "service_account":
        raise SettingsError(
            f'{where}: is not a service account\'s key (no "type": "service_account")'
        )
    if not isinstance(key.get("private_key", ""), str):  # google.auth would print what it is
        raise SettingsError(f"{where}: the key is broken: private_key is not a string")
    try:
        credentials: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]  # google-auth is only typed in part
            key, scopes=SCOPES
        )
    # google.auth's MalformedError is a ValueError; a TypeError is a key with a passphrase
    except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
        reason = " ".join(str(fault).split())[:200]
        raise SettingsError(f"{where}: the key is broken: {reason}") from None
    return credentials


def _default_credentials(path: str) -> Credentials:
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials, _project = google.auth.default(scopes=SCOPES)
    # google.auth takes the shape of such a file on trust: what is wrong in it may fail anyhow
    except (GoogleAuthError, AttributeError, KeyError, TypeError, ValueError) as fault:
        if path:
            reason = " ".join(str(fault).split())[:200]
            raise SettingsError(f"GOOGLE_APPLICATION_CREDENTIALS={path}: {reason}") from None
        raise SettingsError(
            "no Google credentials: set GOOGLE_CREDENTIALS_JSON (the key itself), "
            "GOOGLE_APPLICATION_CREDENTIALS (a key file) or, for a speech server on this machine, "
            "SPEECH_EMULATOR_HOST (host:port)"
        ) from None
    return credentials
