"""Who gets the figures: whoever has the token, and without one nobody, but on a laptop."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import trust_settings
from errors import SettingsError
from service import create_app
from settings import Settings

TOKEN = "0123456789abcdef"
GUARDED = {"TWILIO_AUTH_TOKEN": "a" * 32, "SECRET_KEY": "k" * 64}
OPEN = {"ALLOW_UNSIGNED": "1"}


def client_of(**environ: str) -> FlaskClient:
    environ = {"SPEECH_EMULATOR_HOST": "127.0.0.1:1", **environ}
    return create_app(Settings.from_env(environ)).test_client()


def ask(client: FlaskClient, authorization: str | None = None) -> TestResponse:
    headers = {} if authorization is None else {"Authorization": authorization}
    return client.get("/metrics", headers=headers)


def test_without_a_token_set_there_is_no_such_address() -> None:
    """Nobody sees the figures of a service whose owner never asked for it, whatever they bring."""
    client = client_of(**GUARDED)
    assert ask(client).status_code == 404
    assert ask(client, "Bearer ").status_code == 404


@pytest.mark.parametrize("door", [GUARDED, OPEN], ids=["guarded", "unsigned"])
def test_a_token_that_is_set_is_asked_for(door: dict[str, str]) -> None:
    """Also where everybody is believed otherwise; the answer says what is missing."""
    client = client_of(METRICS_TOKEN=TOKEN, **door)
    answer = ask(client)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (
        401,
        'Bearer realm="metrics"',
    )
    assert b"tamlil_" not in answer.data
    right = ask(client, f"Bearer {TOKEN}")
    assert (right.status_code, right.mimetype) == (200, "text/plain")
    assert b"# TYPE tamlil_live_calls gauge" in right.data
    assert ask(client, f"bearer  {TOKEN} ").status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        TOKEN,
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}0",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer תמליל",
    ],
)
def test_anything_else_is_refused(authorization: str) -> None:
    """Half a token, another scheme, another alphabet."""
    client = client_of(METRICS_TOKEN=TOKEN, **GUARDED)
    answer = client.get(
        "/metrics", environ_base={"HTTP_AUTHORIZATION": authorization.encode().decode("latin-1")}
    )
    assert answer.status_code == 401


def test_a_laptop_needs_no_token() -> None:
    """ALLOW_UNSIGNED=1 believes everybody."""
    assert ask(client_of(**OPEN)).status_code == 200


def test_a_token_that_can_be_guessed_is_refused_at_the_start() -> None:
    """One line names the variable, and does not show what was set."""
    with pytest.raises(SettingsError, match=r"^METRICS_TOKEN: must have 16") as refused:
        client_of(METRICS_TOKEN="short-secret", **GUARDED)
    assert "short-secret" not in str(refused.value)
    trust_settings.check_metrics_token(Settings(metrics_token=TOKEN))
    assert TOKEN not in repr(Settings(metrics_token=TOKEN))
