"""`flask twilio check` and `flask twilio connect`, against a Twilio of this machine over HTTP."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from running_service import PROJECT, service_environment
from twilio_rest_server import ACCOUNT, NUMBER, TOKEN, TwilioRestServer, number_resource

import twilio_commands
from businesses import Business
from database import db, writes
from record_setup import database_app
from service import create_app
from settings import Settings
from tenant_changes import add_number, begin_change
from tenant_directory import add_business

URL = "https://tamlil.example"
GOOD = {
    "PUBLIC_URL": URL,
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": TOKEN,
    "SECRET_KEY": "0123456789abcdef" * 4,
    "SPEECH_EMULATOR_HOST": "127.0.0.1:1",
}
POINTED = {
    "voice_url": f"{URL}/voice",
    "voice_method": "POST",
    "status_callback": f"{URL}/status",
    "status_callback_method": "POST",
}

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def good_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything is right, until a test says otherwise."""
    for item in dataclasses.fields(Settings):
        monkeypatch.delenv(item.metadata["variable"], raising=False)
    for variable, value in GOOD.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'tamlil.db'}")


@pytest.fixture
def twilio() -> Iterator[TwilioRestServer]:
    """An account with one number, as it comes from the shop."""
    with TwilioRestServer(number_resource(voice_fallback_url="https://old.example/f")) as server:
        yield server


@pytest.fixture
def run(twilio: TwilioRestServer) -> Run:
    """Runs `flask twilio …` in this process."""

    def run(*words: str) -> Result:
        flask = Flask("test")
        flask.cli.add_command(twilio_commands.make_group(twilio.make_client))
        return flask.test_cli_runner().invoke(args=["twilio", *words])

    return run


def the_number(twilio: TwilioRestServer) -> dict[str, object]:
    [number] = twilio.numbers.values()
    return number


def assert_one_line(result: Result, code: int, *parts: str) -> None:
    """It failed with `code` and one line on stderr that has all `parts` in it."""
    assert (result.exit_code, result.stdout) == (code, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("tamlil: ")
    for part in parts:
        assert part in line
    assert len(line) < 400
    assert TOKEN not in line


def test_connect_changes_nothing_without_yes(run: Run, twilio: TwilioRestServer) -> None:
    """The dry run says what the number has and what would change, and asks Twilio for no change."""
    before = dict(the_number(twilio))
    result = run("connect", NUMBER)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{NUMBER} ({before['sid']})",
        f"  VoiceUrl              https://demo.twilio.com/welcome/voice/ → {URL}/voice",
        "  VoiceMethod           GET → POST",
        f"  StatusCallback        none → {URL}/status",
        "  StatusCallbackMethod  POST",
        "  VoiceFallbackUrl      https://old.example/f (is left alone)",
        "Nothing was changed; with --yes it is.",
    ]
    assert twilio.posted == []
    assert the_number(twilio) == before


def test_connect_with_yes_changes_what_differs(run: Run, twilio: TwilioRestServer) -> None:
    """Calls and their status come here afterwards; what is right or not ours is not sent."""
    before = dict(the_number(twilio))
    result = run("connect", NUMBER, "--yes")
    assert result.exit_code == 0
    assert result.stdout.endswith("Changed: the number points at this service.\n")
    assert twilio.posted == [
        {"VoiceUrl": f"{URL}/voice", "VoiceMethod": "POST", "StatusCallback": f"{URL}/status"}
    ]
    assert the_number(twilio) == before | POINTED


def test_connect_says_when_nothing_is_to_be_changed(run: Run, twilio: TwilioRestServer) -> None:
    """A second time there is nothing to do, and nothing is sent."""
    the_number(twilio).update(POINTED)
    result = run("connect", NUMBER, "--yes")
    assert result.exit_code == 0
    assert result.stdout.endswith("Nothing is to be changed: the number points at this service.\n")
    assert "→" not in result.stdout
    assert twilio.posted == []


def test_connect_takes_the_number_out_of_its_application(
    run: Run, twilio: TwilioRestServer
) -> None:
    """An application's URLs go before the number's: with one, right URLs are not enough."""
    the_number(twilio).update(POINTED, voice_application_sid="AP1")
    assert "VoiceApplicationSid   AP1 → none" in run("connect", NUMBER).stdout
    assert run("connect", NUMBER, "--yes").exit_code == 0
    assert twilio.posted == [{"VoiceApplicationSid": ""}]
    assert the_number(twilio)["voice_application_sid"] == ""


def test_connect_takes_the_very_number(run: Run, twilio: TwilioRestServer) -> None:
    """Twilio finds parts of numbers too; a longer one that contains it is left alone."""
    longer = number_resource(NUMBER + "8")
    twilio.numbers = {longer["sid"]: longer, **twilio.numbers}
    run("connect", NUMBER, "--yes")
    assert longer == number_resource(NUMBER + "8")
    assert twilio.numbers[number_resource()["sid"]]["voice_url"] == f"{URL}/voice"


def test_connect_uses_the_first_of_several_tokens(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a token is rotated there are two; the account knows the first."""
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", f" {TOKEN} , {'b' * 32}")
    assert run("connect", NUMBER).exit_code == 0
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", f"{'b' * 32},{TOKEN}")
    assert run("connect", NUMBER).exit_code == 1


def test_connect_minds_a_number_of_no_business(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls would come here only to be refused."""
    monkeypatch.setenv("BUSINESSES", '{"clinic": {"numbers": ["+97239999999"]}}')
    assert f"Mind: no business in BUSINESSES has {NUMBER}" in run("connect", NUMBER).stdout
    monkeypatch.setenv("BUSINESSES", f'{{"clinic": {{"numbers": ["{NUMBER}"]}}}}')
    assert "Mind" not in run("connect", NUMBER).stdout


def test_connect_minds_what_the_database_knows(
    run: Run, monkeypatch: pytest.MonkeyPatch, database_at: str
) -> None:
    """Once the service has started, BUSINESSES says nothing any more."""
    monkeypatch.setenv("DATABASE_URL", database_at)
    monkeypatch.setenv("BUSINESSES", f'{{"clinic": {{"numbers": ["{NUMBER}"]}}}}')
    assert "Mind" not in run("connect", NUMBER).stdout  # it has not started yet
    with database_app(Settings(database_url=database_at)).app_context():
        writes()
        add_business(db.session(), Business("clinic"))
        db.session.commit()
    told = f"Mind: no business has {NUMBER}, so its calls are refused; flask tenant number add ID"
    assert told in run("connect", NUMBER).stdout
    with database_app(Settings(database_url=database_at)).app_context():
        begin_change()
        add_number("clinic", NUMBER)
        db.session.commit()
    monkeypatch.setenv("BUSINESSES", "{}")
    assert "Mind" not in run("connect", NUMBER).stdout


@pytest.mark.parametrize(
    "number", ["97231234567", "031234567", "+972-3-1234567", "+0123456789", "+9723", NUMBER + "\n"]
)
def test_connect_wants_the_number_in_full(run: Run, number: str) -> None:
    """A number that is not E.164 is told so, before Twilio is asked."""
    assert_one_line(run("connect", number), 2, "write the number in full, as +97231234567")


def test_connect_says_that_the_account_has_no_such_number(run: Run) -> None:
    """The line names the number and the account."""
    assert_one_line(run("connect", "+97230000000"), 1, "+97230000000", ACCOUNT, "no number")


def test_connect_says_that_the_keys_are_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong token the line names the variables, and not the token."""
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "b" * 32)
    result = run("connect", NUMBER)
    assert_one_line(result, 1, "(401)", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")
    assert "b" * 32 not in result.stderr


def test_connect_says_that_there_is_no_network(run: Run, twilio: TwilioRestServer) -> None:
    """Nobody answers: one line, no trace."""
    twilio.stop()
    assert_one_line(run("connect", NUMBER), 1, "Twilio cannot be reached", "refused")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (
            500,
            '{"code": 20500, "message": "Internal\\nServer Error"}',
            "500: Internal Server Error",
        ),
        (429, '{"code": 20429, "message": "Too Many Requests"}', "429: Too Many Requests"),
        (502, "<html>Bad Gateway</html>", "502"),
        (200, "<html>Please log in to the hotel's network</html>", "is not Twilio"),
        (200, "{}", "answer"),
        (200, "[]", "is not Twilio"),
    ],
)
def test_connect_says_what_twilio_answers(
    run: Run, twilio: TwilioRestServer, status: int, body: str, told: str
) -> None:
    """Whatever answers in Twilio's place, it ends in one line."""
    twilio.answer = (status, body)
    assert_one_line(run("connect", NUMBER), 1, told)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"trunk_sid": "TK1"}, "SIP trunk TK1"),
        ({"capabilities": {"voice": False, "sms": True}}, "takes no calls"),
    ],
)
def test_connect_refuses_a_number_whose_webhook_is_not_asked(
    run: Run, twilio: TwilioRestServer, fields: dict[str, object], told: str
) -> None:
    """It would say that all is well, and no call would ever come."""
    the_number(twilio).update(fields)
    assert_one_line(run("connect", NUMBER, "--yes"), 1, NUMBER, told)
    assert twilio.posted == []


def test_connect_looks_at_what_became_of_it(run: Run, twilio: TwilioRestServer) -> None:
    """An answer of 200 that changed nothing is no success."""
    twilio.deaf = True
    result = run("connect", NUMBER, "--yes")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert "VoiceUrl, VoiceMethod, StatusCallback" in line
    assert "Changed" not in result.stdout


def test_connect_says_that_a_change_was_refused(run: Run, twilio: TwilioRestServer) -> None:
    """The number was found, its change is refused: one line with Twilio's reason."""
    number = the_number(twilio)
    twilio.numbers = {"PN-other": number}
    result = run("connect", NUMBER, "--yes")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert "Twilio answers 404" in line
    assert "was not found" in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PUBLIC_URL", ""),
        ("PUBLIC_URL", "http://tamlil.example"),
        ("PUBLIC_URL", "https://tamlil.example/voice"),
        ("TWILIO_ACCOUNT_SID", ""),
        ("TWILIO_ACCOUNT_SID", "12"),
        ("TWILIO_AUTH_TOKEN", " , "),
        ("TWILIO_AUTH_TOKEN", "אבג"),
        ("PORT", "eighty"),
    ],
)
def test_connect_needs_its_settings(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A setting that lacks or is wrong is one line that names it, and exit code 2."""
    monkeypatch.setenv(variable, value)
    assert_one_line(run("connect", NUMBER), 2, variable)


def test_connect_needs_nothing_of_googles(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number can be pointed here from a laptop that has no key of Google's."""
    monkeypatch.delenv("SPEECH_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_CREDENTIALS_JSON", "broken")
    assert run("connect", NUMBER).exit_code == 0


def test_check_is_content_with_good_settings(run: Run) -> None:
    """Every line says ok; secrets are not printed."""
    result = run("check")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * 9
    assert f"ok       PUBLIC_URL          {URL}" in lines
    assert TOKEN not in result.output
    assert GOOD["SECRET_KEY"] not in result.output


def test_check_prints_a_line_for_each_finding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """State, name, and how to mend it; exit code 1."""
    monkeypatch.delenv("SECRET_KEY")
    monkeypatch.setenv("PUBLIC_URL", "tamlil.example")
    result = run("check")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].startswith("wrong    PUBLIC_URL ")
    assert "missing  SECRET_KEY          set it to what this prints: python -c" in result.stdout


def test_check_prints_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for programs, with the same exit code."""
    whole = json.loads(run("check", "--json").stdout)
    assert whole["ok"] is True
    assert whole["checks"][0] == {"name": "PUBLIC_URL", "state": "ok", "text": URL}
    monkeypatch.setenv("ALLOW_UNSIGNED", "1")
    result = run("check", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert [one["name"] for one in told["checks"] if one["state"] != "ok"] == ["ALLOW_UNSIGNED"]


def flask(*words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """`flask …` as its users type it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "flask", *words],
        cwd=PROJECT,
        env=service_environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_flask_twilio_check_works_where_the_service_does_not_start(tmp_path: Path) -> None:
    """With no credentials and a broken port it says all that lacks, not the first fault only."""
    ran = flask("twilio", "check", HOME=tmp_path, PORT="eighty", ALLOW_UNSIGNED="1")
    assert (ran.returncode, ran.stderr) == (1, "")
    states = {line[9:28].strip(): line.split()[0] for line in ran.stdout.splitlines()}
    assert states == {
        "PUBLIC_URL": "missing",
        "TWILIO_ACCOUNT_SID": "missing",
        "TWILIO_AUTH_TOKEN": "missing",
        "SECRET_KEY": "missing",
        "ALLOW_UNSIGNED": "wrong",
        "Google credentials": "missing",
        "BUSINESSES": "ok",
        "DATABASE_URL": "ok",
        "other settings": "wrong",
    }


def test_other_flask_commands_still_need_right_settings(tmp_path: Path) -> None:
    """Only those for Twilio do without: others get the service, or the line that says why."""
    ran = flask("twilio-less", HOME=tmp_path, PORT="eighty")
    assert ran.returncode == 2
    assert ran.stderr.strip() == "tamlil: PORT=eighty: must be a whole number from 0 to 65535"


def test_the_application_has_the_commands_too() -> None:
    """`create_app()` registers them, for whoever lists or runs an application's own commands."""
    runner = create_app(Settings.from_env(GOOD)).test_cli_runner()
    assert runner.invoke(args=["twilio", "check"]).exit_code == 0
