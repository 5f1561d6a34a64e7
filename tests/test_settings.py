"""The settings: what the environment may say, and how a wrong value is told."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from errors import SettingsError
from media_ws_ai import BURST_FRAMES
from settings import Settings

VARIABLES = [item.metadata["variable"] for item in dataclasses.fields(Settings)]


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    """Nothing needs to be set to start; the values are those of the table."""
    settings = Settings.from_env({})
    assert settings == Settings()
    assert (settings.port, settings.web_concurrency, settings.max_concurrent_calls) == (8000, 2, 50)
    assert (settings.stt_queue_frames, settings.stt_batch_ms) == (16, 100)
    assert settings.stt_partial_debounce_ms == 200
    assert (settings.reaper_interval_seconds, settings.reaper_idle_seconds) == (60, 120)
    assert (settings.stt_language, settings.stt_model) == ("iw-IL", "default")
    assert (settings.stt_rotate_seconds, settings.stt_rotate_hard_seconds) == (240, 285)
    assert (settings.stt_waiting_seconds, settings.stt_waiting_mib) == (300, 64)
    assert settings.stt_close_seconds == 5
    assert settings.log_transcripts is True
    assert settings.speech_emulator_host == ""
    assert settings.google_credentials_json == settings.google_application_credentials == ""


@pytest.mark.parametrize(
    ("variable", "raw", "name", "value"),
    [
        ("HOST", "127.0.0.1", "host", "127.0.0.1"),
        ("PORT", "5000", "port", 5000),
        ("WEB_CONCURRENCY", "4", "web_concurrency", 4),
        ("MAX_CONCURRENT_CALLS", "1", "max_concurrent_calls", 1),
        ("STT_QUEUE_FRAMES", "32", "stt_queue_frames", 32),
        ("STT_BATCH_MS", "20", "stt_batch_ms", 20),
        ("STT_TRANSPORT", "grpc", "stt_transport", "grpc"),
        ("STT_PARTIAL_DEBOUNCE_MS", "0", "stt_partial_debounce_ms", 0),
        ("STT_ROTATE_SECONDS", "120.5", "stt_rotate_seconds", 120.5),
        ("STT_ROTATE_HARD_SECONDS", "295", "stt_rotate_hard_seconds", 295.0),
        ("STT_WAITING_SECONDS", "60", "stt_waiting_seconds", 60.0),
        ("STT_WAITING_MIB", "256", "stt_waiting_mib", 256),
        ("STT_CLOSE_SECONDS", "0.5", "stt_close_seconds", 0.5),
        ("STT_LANGUAGE", "en-US", "stt_language", "en-US"),
        ("STT_MODEL", "phone_call", "stt_model", "phone_call"),
        ("REAPER_INTERVAL_SECONDS", "0.1", "reaper_interval_seconds", 0.1),
        ("REAPER_IDLE_SECONDS", "30", "reaper_idle_seconds", 30.0),
        ("DRAIN_SECONDS", "25", "drain_seconds", 25.0),
        ("SPEECH_EMULATOR_HOST", "localhost:9090", "speech_emulator_host", "localhost:9090"),
        ("GOOGLE_CREDENTIALS_JSON", "{}", "google_credentials_json", "{}"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/key", "google_application_credentials", "/key"),
        ("LOG_TRANSCRIPTS", "0", "log_transcripts", False),
        ("API_REQUESTS_PER_MINUTE", "60", "api_requests_per_minute", 60),
        ("API_WRONG_KEYS_PER_MINUTE", "5", "api_wrong_keys_per_minute", 5),
        ("TRUSTED_PROXIES", "2", "trusted_proxies", 2),
        ("LOG_TRANSCRIPTS", "1", "log_transcripts", True),
    ],
)
def test_each_variable_sets_its_field_alone(variable: str, raw: str, name: str, value: Any) -> None:
    """A variable reaches the field of its name, in that field's type, and no other field."""
    settings = Settings.from_env({variable: raw, "UNRELATED": "1"})
    assert settings == dataclasses.replace(Settings(), **{name: value})
    assert type(getattr(settings, name)) is type(value)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_variable_keeps_the_default(variable: str, empty: str) -> None:
    """Heroku's way to unset a variable is to leave it empty."""
    assert Settings.from_env({variable: empty}) == Settings()


def test_white_space_around_a_value_does_not_count() -> None:
    """A pasted value brings its line feed along."""
    assert Settings.from_env({"PORT": " 80\n"}).port == 80


@pytest.mark.parametrize(
    ("variable", "raw"),
    [
        ("PORT", "eighty"),
        ("PORT", "8000.5"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "9" * 5000),
        ("WEB_CONCURRENCY", "0"),
        ("MAX_CONCURRENT_CALLS", "0"),
        ("STT_QUEUE_FRAMES", "4"),
        ("STT_QUEUE_FRAMES", "14"),
        ("STT_BATCH_MS", "19"),
        ("STT_BATCH_MS", "1001"),
        ("STT_PARTIAL_DEBOUNCE_MS", "-1"),
        ("STT_ROTATE_SECONDS", "0"),
        ("STT_ROTATE_SECONDS", "291"),
        ("STT_ROTATE_HARD_SECONDS", "296"),
        ("STT_ROTATE_HARD_SECONDS", "soon"),
        ("STT_WAITING_SECONDS", "0"),
        ("STT_WAITING_SECONDS", "inf"),
        ("STT_WAITING_MIB", "0"),
        ("STT_WAITING_MIB", "1.5"),
        ("STT_CLOSE_SECONDS", "0"),
        ("STT_CLOSE_SECONDS", "11"),
        ("REAPER_IDLE_SECONDS", "nan"),
        ("REAPER_IDLE_SECONDS", "inf"),
        ("REAPER_INTERVAL_SECONDS", "0"),
        ("DRAIN_SECONDS", "soon"),
        ("LOG_TRANSCRIPTS", "yes"),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "*"),
        ("STT_LANGUAGE", "Hebrew"),
        ("STT_LANGUAGE", "en\nUS"),
        ("STT_LANGUAGE", "foo"),
        ("STT_MODEL", "Default Model"),
        ("STT_TRANSPORT", "http"),
        ("SPEECH_EMULATOR_HOST", "http://localhost:9090"),
        ("SPEECH_EMULATOR_HOST", "localhost"),
        ("HOST", "http://0.0.0.0"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(variable: str, raw: str) -> None:
    """Whoever deploys it reads which variable is wrong and what it must be."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: raw})
    told = str(caught.value)
    assert told.startswith(f"{variable}=")
    assert "must be" in told
    assert len(told.splitlines()) == 1
    assert len(told) < 250


@examples(deadline=None)
@given(st.dictionaries(st.sampled_from(VARIABLES), st.text()))
def test_no_environment_raises_anything_but_a_settings_error(environ: dict[str, str]) -> None:
    """Whatever stands in the environment, it ends in settings or in one line, not in a trace."""
    told = ""
    try:
        settings = Settings.from_env(environ)
    except SettingsError as fault:
        told = str(fault)
    if told:
        assert any(variable in told for variable in environ)
        assert len(told.splitlines()) == 1
    else:
        assert 0 <= settings.port <= 65535
        assert settings.max_concurrent_calls >= 1


def test_settings_do_not_change() -> None:
    """They are read once; nobody may alter them under the others' feet."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]  # it is frozen: that is the test


def test_the_key_does_not_show_when_settings_are_printed() -> None:
    """A log line or a traceback with the settings in it must not carry the secret."""
    assert "SECRET" not in repr(Settings(google_credentials_json="SECRET"))


def test_batch_holds_whole_frames() -> None:
    """Audio comes in 20 ms frames: another batch would cut a small message off each large one."""
    environ = {"STT_BATCH_MS": "240", "STT_QUEUE_FRAMES": "22"}
    assert Settings.from_env(environ).stt_batch_ms == 240
    with pytest.raises(SettingsError, match="STT_BATCH_MS=250: must be a multiple of 20"):
        Settings.from_env({"STT_BATCH_MS": "250"})


@pytest.mark.parametrize(("batch_ms", "least"), [(20, 11), (100, 15), (500, 35), (1_000, 60)])
def test_a_queue_holds_a_message_and_what_one_read_brings(batch_ms: int, least: int) -> None:
    """A smaller one would drop frames of a healthy stream; the complaint says what would do."""
    environ = {"STT_BATCH_MS": str(batch_ms), "STT_QUEUE_FRAMES": str(least)}
    assert Settings.from_env(environ).stt_queue_frames == least
    assert least == batch_ms // 20 + BURST_FRAMES
    with pytest.raises(SettingsError, match=f"^STT_QUEUE_FRAMES=.*must be .*{least}"):
        Settings.from_env(environ | {"STT_QUEUE_FRAMES": str(least - 1)})


def test_a_larger_batch_alone_is_told_what_it_needs() -> None:
    """Who sets only the one variable must find the other in the complaint."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"STT_BATCH_MS": "500"})
    assert str(caught.value) == (
        "STT_QUEUE_FRAMES=16: must be at least 35 with STT_BATCH_MS=500, "
        "or a stream that keeps up loses frames"
    )


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        (
            {"STT_ROTATE_SECONDS": "286"},
            "STT_ROTATE_SECONDS=286: must be less than STT_ROTATE_HARD_SECONDS, which is 285",
        ),
        (
            {"STT_ROTATE_HARD_SECONDS": "240"},
            "STT_ROTATE_SECONDS=240: must be less than STT_ROTATE_HARD_SECONDS, which is 240",
        ),
        (
            {"STT_ROTATE_SECONDS": "9.5", "STT_ROTATE_HARD_SECONDS": "8.25"},
            "STT_ROTATE_SECONDS=9.5: must be less than STT_ROTATE_HARD_SECONDS, which is 8.25",
        ),
    ],
)
def test_a_stream_is_replaced_at_a_breath_before_it_must_be(
    environ: dict[str, str], told: str
) -> None:
    """Between the two times a pause in speech is waited for: there must be something between."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    assert str(caught.value) == told


def test_both_times_of_a_rotation_may_be_short() -> None:
    """As a demonstration wants them."""
    settings = Settings.from_env({"STT_ROTATE_SECONDS": "2", "STT_ROTATE_HARD_SECONDS": "2.5"})
    assert (settings.stt_rotate_seconds, settings.stt_rotate_hard_seconds) == (2, 2.5)
