"""The check before the start: exit code 0 or 2, one line on stderr, never a stack trace."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

import preflight
from settings import Settings

PREFLIGHT = Path(preflight.__file__)


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of the variables of whoever runs the tests, and no question to a metadata server."""
    for item in dataclasses.fields(Settings):
        monkeypatch.delenv(item.metadata["variable"], raising=False)
    monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ALLOW_UNSIGNED", "1")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/tamlil.db")


def test_right_settings_pass_in_silence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With an emulator and defaults there is nothing to complain about."""
    monkeypatch.setenv("SPEECH_EMULATOR_HOST", "localhost:9090")
    assert preflight.main() == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "eighty"),
        ("STT_LANGUAGE", "two\nlines"),
        ("SPEECH_EMULATOR_HOST", "http://localhost"),
        ("BUSINESSES", "[]"),
        ("PUBLIC_URL", "https://[x"),
        ("GOOGLE_CREDENTIALS_JSON", "not a key"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    """The line names the variable."""
    monkeypatch.setenv(variable, value)
    assert preflight.main() == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"tamlil: {variable}")
    assert len(err.splitlines()) == 1


def test_missing_credentials_are_one_line_and_exit_code_2(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Never a silent default for a secret."""
    assert preflight.main() == 2
    err = capfd.readouterr().err
    assert err.startswith("tamlil: no Google credentials")
    assert len(err.splitlines()) == 1


def test_it_must_be_said_who_may_come_in(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither silently everybody, nor a worker that would be started again and again."""
    monkeypatch.setenv("SPEECH_EMULATOR_HOST", "localhost:9090")
    monkeypatch.delenv("ALLOW_UNSIGNED")
    assert preflight.main() == 2
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "one, two")
    assert preflight.main() == 2
    monkeypatch.setenv("SECRET_KEY", "a secret of this service")
    assert preflight.main() == 0
    out, err = capfd.readouterr()
    assert out == ""
    token, key = err.splitlines()
    assert token.startswith("tamlil: TWILIO_AUTH_TOKEN: must be set")
    assert key.startswith("tamlil: SECRET_KEY: must be set")


def test_as_a_program_it_ends_with_that_exit_code() -> None:
    """gunicorn's master runs it so, and a person may."""
    environ = {**os.environ, "PORT": "eighty"}
    done = subprocess.run(
        [sys.executable, str(PREFLIGHT)], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("tamlil: PORT=eighty: must be")
    assert len(done.stderr.splitlines()) == 1
