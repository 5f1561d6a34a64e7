"""What must be set so that nobody gets in by omission: the checks of the secrets. Pure.

Apart from `trust.py`, because who only checks the settings has no request, and pays for no Flask.
"""

from __future__ import annotations

from errors import SettingsError
from settings import Settings
from twilio_signature import TwilioSignature

# As many as 64 random bits in hex; what the README tells people to make has 64 characters.
SECRET_KEY_LENGTH = 16

METRICS_TOKEN_LENGTH = 16


def signature_of(settings: Settings) -> TwilioSignature | None:
    """What checks Twilio's signatures; None if requests without one are taken.

    Raises `SettingsError` if nothing says which of the two it shall be.
    """
    if settings.allow_unsigned:
        return None
    if not settings.twilio_auth_tokens:
        raise SettingsError(
            "TWILIO_AUTH_TOKEN: must be set, so that nobody but Twilio gets in "
            "(ALLOW_UNSIGNED=1 takes everybody, for trials on a laptop)"
        )
    if len(settings.secret_key) < SECRET_KEY_LENGTH:
        short = f"is shorter than {SECRET_KEY_LENGTH} characters"
        fault = short if settings.secret_key else "must be set"
        raise SettingsError(
            f"SECRET_KEY: {fault}, it signs the streams' tokens: "
            'python -c "import secrets; print(secrets.token_hex(32))" makes one'
        )
    return TwilioSignature(settings.twilio_auth_tokens, settings.public_url)


def check_metrics_token(settings: Settings) -> None:
    """Raises `SettingsError` if the token for `/metrics` is one that can be guessed."""
    if settings.metrics_token and len(settings.metrics_token) < METRICS_TOKEN_LENGTH:
        raise SettingsError(
            f"METRICS_TOKEN: must have {METRICS_TOKEN_LENGTH} characters or more, so that nobody "
            'guesses it: python -c "import secrets; print(secrets.token_hex(16))" makes one'
        )
