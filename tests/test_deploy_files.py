"""`app.json` (Heroku) and `render.yaml` (Render) stay true to the settings and to the Procfile."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from running_service import PROJECT

from businesses import Business
from service import create_app
from settings import Settings
from twilio_checks import check_settings

Variables = dict[str, dict[str, Any]]

KNOWN = {item.metadata["variable"] for item in dataclasses.fields(Settings)}
# What somebody must give, and what is made or stands there.
ASKED_FOR = {"GOOGLE_CREDENTIALS_JSON", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"}
OPTIONAL = {"PUBLIC_URL", "BUSINESSES"}
GIVEN = {"SECRET_KEY", "STT_LANGUAGE", "TRUSTED_PROXIES", "WEB_CONCURRENCY"}
# Heroku sets it with the add-on, so that the form does not have it
DATABASE = "DATABASE_URL"


def heroku() -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((PROJECT / "app.json").read_text("utf-8"))
    return whole


def render() -> dict[str, Any]:
    [service] = msgspec.yaml.decode((PROJECT / "render.yaml").read_bytes())["services"]
    assert isinstance(service, dict)
    return service


def heroku_variables() -> Variables:
    variables: Variables = heroku()["env"]
    return variables


def render_variables() -> Variables:
    pairs = [(one["key"], one) for one in render()["envVars"]]
    assert len(dict(pairs)) == len(pairs), "a variable stands there twice"
    return dict(pairs)


@pytest.fixture(params=[heroku_variables, render_variables])
def variables(request: pytest.FixtureRequest) -> Variables:
    """The variables of a platform, by name."""
    found: Variables = request.param()
    return found


def test_every_variable_is_a_setting(variables: Variables) -> None:
    """A setting that is renamed or dropped must be so there as well."""
    assert set(variables) <= KNOWN


def test_every_variable_that_is_needed_is_there(variables: Variables) -> None:
    """Whoever fills in the form has all that a Twilio number needs, and no switch to leave open."""
    assert set(variables) - {DATABASE} == ASKED_FOR | OPTIONAL | GIVEN
    missing = {one.name for one in check_settings({}) if one.state == "missing"}
    assert missing - set(variables) == {"Google credentials"}  # GOOGLE_CREDENTIALS_JSON


def test_the_values_are_right_settings(variables: Variables) -> None:
    """What stands there is text, and starts the service."""
    values = {name: one["value"] for name, one in variables.items() if "value" in one}
    assert all(isinstance(value, str) for value in values.values())
    assert set(values) == GIVEN - {"SECRET_KEY"}
    settings = Settings.from_env(values)
    assert settings.web_concurrency == Settings().web_concurrency
    assert settings.stt_language == Settings().stt_language


def test_heroku_asks_for_what_must_be_given() -> None:
    """Each variable is described; optional ones do not hold the form up; the secret is made."""
    variables = heroku_variables()
    assert all(one["description"] for one in variables.values())
    assert {name for name, one in variables.items() if not one.get("required", True)} == OPTIONAL
    assert variables["SECRET_KEY"]["generator"] == "secret"
    assert not any("value" in variables[name] for name in ASKED_FOR | OPTIONAL)


def test_render_asks_for_what_must_be_given() -> None:
    """Secrets of others are asked for and not kept in the repository; ours is made."""
    variables = render_variables()
    asked = {name for name, one in variables.items() if one.get("sync") is False}
    assert asked == ASKED_FOR | OPTIONAL
    assert variables["SECRET_KEY"]["generateValue"] is True


def test_the_routers_before_the_service_are_counted() -> None:
    """Heroku has its own; Render has Cloudflare before its own. More would let callers lie."""
    assert heroku_variables()["TRUSTED_PROXIES"]["value"] == "1"
    assert render_variables()["TRUSTED_PROXIES"]["value"] == "2"


def test_there_is_a_database_that_outlives_a_deploy() -> None:
    """Both platforms lose files at each deploy, and so SQLite's."""
    assert [addon.partition(":")[0] for addon in heroku()["addons"]] == ["heroku-postgresql"]
    assert DATABASE not in heroku_variables()
    [database] = msgspec.yaml.decode((PROJECT / "render.yaml").read_bytes())["databases"]
    assert render_variables()[DATABASE]["fromDatabase"] == {
        "name": database["name"],
        "property": "connectionString",
    }
    assert database["region"] == render()["region"]
    assert database["ipAllowList"] == []


def test_render_starts_what_the_procfile_starts() -> None:
    """Render reads no Procfile, so the command stands in two places."""
    kind, _, command = (PROJECT / "Procfile").read_text().strip().partition(": ")
    assert (render()["type"], render()["startCommand"]) == (kind, command)
    assert render()["buildCommand"] == "pip install -r requirements.txt"


def test_render_waits_until_the_calls_have_ended() -> None:
    """Calls drain for DRAIN_SECONDS and gunicorn waits 5 s more: Render kills only after that."""
    assert render()["maxShutdownDelaySeconds"] == 60
    assert Settings().drain_seconds + 5 < 60


def test_the_addresses_that_are_asked_exist() -> None:
    """Render's health check and the page that Heroku shows afterwards are the service's own."""
    settings = Settings(
        speech_emulator_host="127.0.0.1:1",
        twilio_auth_token="a" * 32,
        secret_key="k" * 64,
    )
    service = create_app(settings)
    service.extensions["tamlil"].records.businesses.tell([Business("default")])
    for path in (render()["healthCheckPath"], heroku()["success_url"]):
        assert service.test_client().get(path).status_code == 200
    assert render()["healthCheckPath"] == "/healthz"
