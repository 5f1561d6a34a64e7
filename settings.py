"""The settings: read from the environment once, checked, and frozen.

Pure: nothing here opens a file or a socket. `README.md` has the table for people.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from errors import BadBusiness, SettingsError
from language_models import check_language

_FRAME_MS = 20
# So many frames are handed on at once after a read that came late (`media_ws_ai.BURST_FRAMES`)
_BURST_FRAMES = 10


def _whole(variable: str, default: int, low: int, high: int, step: int = 1) -> Any:
    return field(
        default=default,
        metadata={"variable": variable, "kind": int, "range": (low, high), "step": step},
    )


def _seconds(variable: str, default: float, low: float, high: float) -> Any:
    return field(
        default=default, metadata={"variable": variable, "kind": float, "range": (low, high)}
    )


def _text(variable: str, default: str, pattern: str, meaning: str) -> Any:
    return field(
        default=default,
        metadata={"variable": variable, "kind": str, "pattern": pattern, "meaning": meaning},
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a process; the names of the variables stand beside the fields."""

    host: str = _text("HOST", "0.0.0.0", r"[^\s/]+", "an address to listen on")
    port: int = _whole("PORT", 8000, 0, 65535)
    web_concurrency: int = _whole("WEB_CONCURRENCY", 2, 1, 64)
    max_concurrent_calls: int = _whole("MAX_CONCURRENT_CALLS", 50, 1, 10_000)

    stt_queue_frames: int = _whole("STT_QUEUE_FRAMES", 16, 1, 1_000)
    # Whole frames of 20 ms, or each message would leave a small one behind. 1,000 ms of 8 kHz
    # mu-law are 8,000 bytes, well under the 15,360 that are safe to send to Google.
    stt_batch_ms: int = _whole("STT_BATCH_MS", 100, 20, 1_000, step=20)
    stt_partial_debounce_ms: int = _whole("STT_PARTIAL_DEBOUNCE_MS", 200, 0, 60_000)
    # Google ends a stream at 305 s; the rest is for the next one to open and this one to drain
    stt_rotate_seconds: float = _seconds("STT_ROTATE_SECONDS", 240, 0.5, 290)
    stt_rotate_hard_seconds: float = _seconds("STT_ROTATE_HARD_SECONDS", 285, 1, 295)
    stt_waiting_seconds: float = _seconds("STT_WAITING_SECONDS", 300, 1, 3_600)
    stt_waiting_mib: int = _whole("STT_WAITING_MIB", 64, 1, 65_536)
    stt_close_seconds: float = _seconds("STT_CLOSE_SECONDS", 5, 0.1, 10)
    stt_language: str = _text(
        "STT_LANGUAGE",
        "iw-IL",
        r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*",
        "a language code such as iw-IL or en-US",
    )
    stt_transport: str = _text("STT_TRANSPORT", "h2", r"h2|grpc", "h2 or grpc")
    stt_model: str = _text(
        "STT_MODEL", "default", r"[a-z0-9_]{1,40}", "a model's name such as default"
    )

    reaper_interval_seconds: float = _seconds("REAPER_INTERVAL_SECONDS", 60, 0.05, 3_600)
    reaper_idle_seconds: float = _seconds("REAPER_IDLE_SECONDS", 120, 0.1, 86_400)
    drain_seconds: float = _seconds("DRAIN_SECONDS", 15, 1, 280)

    speech_emulator_host: str = _text(
        "SPEECH_EMULATOR_HOST", "", r"[^\s:/]+:\d{1,5}", "host:port, without http://"
    )
    google_credentials_json: str = field(
        default="", repr=False, metadata={"variable": "GOOGLE_CREDENTIALS_JSON", "kind": str}
    )
    google_application_credentials: str = field(
        default="", metadata={"variable": "GOOGLE_APPLICATION_CREDENTIALS", "kind": str}
    )

    public_url: str = _text(
        "PUBLIC_URL",
        "",
        r"https?://[A-Za-z0-9._-]+(:\d{1,5})?",
        "https://HOST as Twilio sees this service, without a path",
    )
    # Several while one is rotated; whoever signs with any of them is Twilio.
    twilio_auth_token: str = field(
        default="", repr=False, metadata={"variable": "TWILIO_AUTH_TOKEN", "kind": str}
    )
    twilio_account_sid: str = _text(
        "TWILIO_ACCOUNT_SID", "", r"AC[0-9a-fA-F]{32}", "AC and 32 hex digits"
    )
    secret_key: str = field(
        default="", repr=False, metadata={"variable": "SECRET_KEY", "kind": str}
    )
    allow_unsigned: bool = field(
        default=False, metadata={"variable": "ALLOW_UNSIGNED", "kind": bool}
    )
    businesses: str = field(default="", metadata={"variable": "BUSINESSES", "kind": str})
    start_seconds: float = _seconds("START_SECONDS", 10, 0.1, 60)
    max_half_open: int = _whole("MAX_HALF_OPEN", 50, 1, 10_000)

    database_url: str = field(
        default="sqlite:///tamlil.db",
        repr=False,
        metadata={"variable": "DATABASE_URL", "kind": str},
    )
    # 10 minutes of 50 calls with both sides talking, and room to spare
    records_waiting: int = _whole("RECORDS_WAITING", 100_000, 100, 10_000_000)
    worker_lease_seconds: float = _seconds("WORKER_LEASE_SECONDS", 30, 1, 3_600)

    webhook_allow_private: bool = field(
        default=False, metadata={"variable": "WEBHOOK_ALLOW_PRIVATE", "kind": bool}
    )
    # For each key, and for each address that comes with wrong ones; a worker counts for itself
    api_requests_per_minute: int = _whole("API_REQUESTS_PER_MINUTE", 120, 1, 1_000_000)
    api_wrong_keys_per_minute: int = _whole("API_WRONG_KEYS_PER_MINUTE", 30, 1, 1_000_000)

    # How many stand before the service and add to X-Forwarded-For whom they had a request from
    trusted_proxies: int = _whole("TRUSTED_PROXIES", 0, 0, 10)

    # Without it `/metrics` is not there, unless ALLOW_UNSIGNED is 1
    metrics_token: str = field(
        default="", repr=False, metadata={"variable": "METRICS_TOKEN", "kind": str}
    )

    log_transcripts: bool = field(
        default=True, metadata={"variable": "LOG_TRANSCRIPTS", "kind": bool}
    )

    @property
    def twilio_auth_tokens(self) -> tuple[str, ...]:
        """The auth tokens, one or several."""
        return tuple(token for part in self.twilio_auth_token.split(",") if (token := part.strip()))

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from `environ`; an unset or empty variable keeps its default.

        Raises `SettingsError`, whose one line names the variable, for a value that is wrong.
        """
        values: dict[str, Any] = {}
        for item in dataclasses.fields(cls):
            raw = environ.get(item.metadata["variable"], "").strip()
            if raw:
                values[item.name] = _parse(item.metadata, raw)
        settings = cls(**values)
        if settings.stt_rotate_seconds >= settings.stt_rotate_hard_seconds:
            raise SettingsError(
                f"STT_ROTATE_SECONDS={settings.stt_rotate_seconds:g}: must be less than "
                f"STT_ROTATE_HARD_SECONDS, which is {settings.stt_rotate_hard_seconds:g}"
            )
        try:
            check_language(settings.stt_language)
        except BadBusiness as fault:
            given = f"STT_LANGUAGE={settings.stt_language[:40]}"
            raise SettingsError(f"{given}: must be a language of Google's: {fault}") from None
        least = settings.least_queue_frames
        if settings.stt_queue_frames < least:
            raise SettingsError(
                f"STT_QUEUE_FRAMES={settings.stt_queue_frames}: must be at least {least} with "
                f"STT_BATCH_MS={settings.stt_batch_ms}, or a stream that keeps up loses frames"
            )
        return settings

    @property
    def least_queue_frames(self) -> int:
        """What a queue must hold: the frames of a message to Google, which wait until it is whole,
        and those that one read of the call's socket may bring meanwhile.
        """
        return self.stt_batch_ms // _FRAME_MS + _BURST_FRAMES


def _parse(metadata: Mapping[str, Any], raw: str) -> Any:
    variable, kind = metadata["variable"], metadata["kind"]
    given = f"{variable}={' '.join(raw.split())[:80]}"  # the complaint is one line, of one screen
    if kind is bool:
        if raw not in ("0", "1"):
            raise SettingsError(f"{given}: must be 0 or 1")
        return raw == "1"
    if kind is str:
        pattern = metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, raw):
            raise SettingsError(f"{given}: must be {metadata['meaning']}")
        return raw
    low, high = metadata["range"]
    wanted = f"must be a {'whole ' if kind is int else ''}number from {low} to {high}"
    try:
        value = kind(raw)
    except ValueError:
        raise SettingsError(f"{given}: {wanted}") from None
    if not low <= value <= high:  # also refuses nan
        raise SettingsError(f"{given}: {wanted}")
    step = metadata.get("step", 1)
    if value % step and kind is int:
        raise SettingsError(f"{given}: must be a multiple of {step}")
    return value
