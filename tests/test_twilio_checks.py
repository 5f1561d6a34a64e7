"""What is found about the settings that a Twilio number needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from trust_settings import SECRET_KEY_LENGTH
from twilio_checks import Finding, check_settings

GOOD = {
    "PUBLIC_URL": "https://tamlil.example",
    "TWILIO_ACCOUNT_SID": "AC" + "1" * 32,
    "TWILIO_AUTH_TOKEN": "a" * 32,
    "SECRET_KEY": "k" * SECRET_KEY_LENGTH,
    "SPEECH_EMULATOR_HOST": "127.0.0.1:1",
}


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of whoever runs the tests, and no question to a metadata server."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


def faults(**changes: str) -> list[Finding]:
    """What is not ok when good settings are changed so."""
    return [one for one in check_settings(GOOD | changes) if one.state != "ok"]


def test_good_settings_have_no_fault() -> None:
    """There is nothing to mend, and every setting that matters was looked at."""
    assert faults() == []
    assert [one.name for one in check_settings(GOOD)] == [
        "PUBLIC_URL",
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "SECRET_KEY",
        "ALLOW_UNSIGNED",
        "Google credentials",
        "BUSINESSES",
        "DATABASE_URL",
        "other settings",
    ]


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("PUBLIC_URL", "https://HOST"),
        ("TWILIO_ACCOUNT_SID", "AC…"),
        ("TWILIO_AUTH_TOKEN", "Auth Token"),
        ("SECRET_KEY", 'python -c "import secrets; print(secrets.token_hex(32))"'),
    ],
)
@pytest.mark.parametrize("empty", ["", "  \n"])
def test_what_is_not_set_is_missing(variable: str, told: str, empty: str) -> None:
    """It alone is told, with what to set it to."""
    [found] = faults(**{variable: empty})
    assert (found.name, found.state) == (variable, "missing")
    assert told in found.text


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("PUBLIC_URL", "http://tamlil.example", "must be https://"),
        ("PUBLIC_URL", "https://tamlil.example/", "without a path"),
        ("PUBLIC_URL", "tamlil.example", "https://HOST"),
        ("TWILIO_ACCOUNT_SID", "SK" + "1" * 32, "AC and 32 hex digits"),
        ("TWILIO_AUTH_TOKEN", "SK" + "1" * 32, "is a SID"),
        ("TWILIO_AUTH_TOKEN", "a" * 32 + ",AC" + "1" * 32, "is a SID"),
        ("TWILIO_AUTH_TOKEN", "a b", "no token has"),
        ("TWILIO_AUTH_TOKEN", "אבג", "no token has"),
        ("SECRET_KEY", "k" * (SECRET_KEY_LENGTH - 1), "can be guessed"),
        ("ALLOW_UNSIGNED", "1", "unset it"),
        ("ALLOW_UNSIGNED", "yes", "must be 0 or 1"),
        ("BUSINESSES", "{", "not JSON"),
        ("BUSINESSES", '{"clinic": {"numbers": ["031234567"]}}', "031234567"),
        ("DATABASE_URL", "nonsense", "is no URL; write sqlite:///FILE or postgres://"),
        ("DATABASE_URL", "mysql://h/x", "'mysql' is not known"),
        ("DATABASE_URL", "sqlite://", "needs a file"),
        ("DATABASE_URL", "sqlite:////nowhere/x.db", "cannot be made in /nowhere"),
        ("DATABASE_URL", "postgres://me@127.0.0.1:1/x", "cannot be used: connection"),
    ],
)
def test_what_is_wrong_is_told_under_its_name(variable: str, value: str, told: str) -> None:
    """It alone is told, in one line that says what is wrong."""
    [found] = faults(**{variable: value})
    assert (found.name, found.state) == (variable, "wrong")
    assert told in found.text
    assert len(found.text.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "state", "told"),
    [
        ({}, "missing", "set GOOGLE_CREDENTIALS_JSON"),
        ({"GOOGLE_CREDENTIALS_JSON": "{"}, "wrong", "GOOGLE_CREDENTIALS_JSON: is not JSON"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}, "wrong", "/nowhere: cannot be read"),
        ({"SPEECH_EMULATOR_HOST": "http://h"}, "wrong", "host:port"),
    ],
)
def test_google_must_be_reachable_in_one_way(
    changes: dict[str, str], state: str, told: str
) -> None:
    """A key, a file or an emulator: without any it is missing, with a broken one it is wrong."""
    [found] = faults(**{"SPEECH_EMULATOR_HOST": ""} | changes)
    assert (found.name, found.state) == ("Google credentials", state)
    assert told in found.text


@pytest.mark.parametrize(
    "changes",
    [
        {"PORT": "eighty"},
        {"STT_ROTATE_SECONDS": "286"},
        {"STT_ROTATE_HARD_SECONDS": "200"},
    ],
)
def test_any_other_setting_that_is_wrong_is_told(changes: dict[str, str]) -> None:
    """The service would not start with it, whatever Twilio needs."""
    [found] = faults(**changes)
    assert (found.name, found.state) == ("other settings", "wrong")
    assert "must be" in found.text


def test_settings_that_only_fit_together_are_right() -> None:
    """Two settings that bound each other are read together."""
    assert faults(STT_ROTATE_SECONDS="100", STT_ROTATE_HARD_SECONDS="200") == []


def test_one_fault_does_not_hide_another() -> None:
    """All are told at once, so that one round of mending is enough."""
    found = faults(PORT="eighty", PUBLIC_URL="nowhere", SECRET_KEY="", BUSINESSES="[")
    names = [one.name for one in found]
    assert names == ["PUBLIC_URL", "SECRET_KEY", "BUSINESSES", "other settings"]


def test_a_database_is_looked_at_and_not_made(tmp_path: Path, database_at: str) -> None:
    """One that answers is ok, and so is a file that can be made; one of rubbish is not."""
    assert faults(DATABASE_URL=database_at) == []
    new = tmp_path / "new.db"
    assert faults(DATABASE_URL=f"sqlite:///{new}") == []
    assert not new.exists()
    new.write_text("no database " * 100)
    [found] = faults(DATABASE_URL=f"sqlite:///{new}")
    assert (found.name, found.state) == ("DATABASE_URL", "wrong")
    assert "file is not a database" in found.text


def test_no_secret_is_told() -> None:
    """The findings go to a terminal or a log of the build."""
    secrets = {"SECRET_KEY": "hush-hush", "TWILIO_AUTH_TOKEN": "my token"}
    secrets["DATABASE_URL"] = "postgres://me:my-password@127.0.0.1:1/x"
    told = str(check_settings(GOOD | secrets))
    assert "hush-hush" not in told
    assert "my-password" not in told
    assert "my token" not in told


def test_only_what_is_asked_for_is_looked_at() -> None:
    """A command looks at what it needs itself."""
    [found] = check_settings({}, only=("SECRET_KEY",))
    assert found.name == "SECRET_KEY"
