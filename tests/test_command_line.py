"""Which command is asked for, and what `app:app` is for each, from the shell on."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from databases import fresh_sqlite
from flask.cli import FlaskGroup
from running_service import PROJECT, service_environment

import app as application
from command_line import asked_command, is_listing
from database_ready import is_ready
from settings import Settings


def flask(*words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """`flask …` as its users type it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "flask", *words],
        cwd=PROJECT,
        env=service_environment(settings),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_it_works_from_the_shell_on_an_empty_database(tmp_path: Path) -> None:
    """Without any setting of the service, and with the options of `flask` before it."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    ran = flask("--app", "app:app", "--debug", "tenant", "add", "twilio", DATABASE_URL=url)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Added." in ran.stdout
    assert is_ready(Settings(database_url=url))


def test_help_lists_the_commands_where_the_service_does_not_start(tmp_path: Path) -> None:
    """Without settings, and without making a database on the way."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    ran = flask("--help", DATABASE_URL=url, PORT="eighty")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {"tenant", "twilio", "db", "run"} <= {line[2:].split()[0] for line in _commands(ran)}
    assert not list(tmp_path.iterdir())


def _commands(ran: subprocess.CompletedProcess[str]) -> list[str]:
    lines = ran.stdout.partition("Commands:\n")[2].splitlines()
    return [line for line in lines if line[2:3].strip()]


def test_flask_db_does_not_prepare_the_database(tmp_path: Path) -> None:
    """Whoever migrates by hand decides how far."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    ran = flask("db", "current", DATABASE_URL=url)
    assert (ran.returncode, ran.stdout) == (0, "")


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["tenant", "list"], "tenant"),
        (["--app", "app:app", "--debug", "tenant"], "tenant"),
        (["-A", "db", "-e", "tenant", "routes", "tenant"], "routes"),
        (["db", "upgrade"], "db"),
        (["--help"], None),
        ([], None),
    ],
)
def test_the_command_that_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, words: list[str], command: str | None
) -> None:
    """The first word that is neither an option of `flask` nor its value; only while it looks."""
    monkeypatch.setattr(sys, "argv", ["flask", *words])
    with click.Context(FlaskGroup()):
        assert asked_command() == command
        assert is_listing() is (command is None)
    with click.Context(click.Command("run")):
        assert asked_command() is None
    assert asked_command() is None


def test_looking_the_commands_up_makes_nothing_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While `flask twilio …` is resolved, `app:app` has commands, no addresses and no threads."""
    monkeypatch.setattr(sys, "argv", ["flask", "twilio", "check"])
    monkeypatch.setitem(vars(application), "app", None)  # so that it is as it was afterwards
    threads = threading.active_count()
    with click.Context(FlaskGroup()):
        bare = application.__getattr__("app")
    assert bare.extensions == {}
    assert [rule.endpoint for rule in bare.url_map.iter_rules()] == ["static"]
    assert list(bare.cli.commands) == ["twilio"]
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("context", "words"),
    [
        (click.Context(FlaskGroup()), ["routes"]),
        (click.Context(click.Command("run")), ["run", "--extra-files", "twilio"]),
    ],
)
def test_whoever_asks_for_something_else_gets_the_service(
    monkeypatch: pytest.MonkeyPatch, context: click.Context, words: list[str]
) -> None:
    """Neither another command nor a word of it is taken for these commands; nor is gunicorn."""
    monkeypatch.setattr(sys, "argv", ["flask", *words])
    with context:
        assert asked_command() != "twilio"
    monkeypatch.setattr(sys, "argv", ["gunicorn", "twilio"])
    assert asked_command() is None


def test_a_command_pays_for_nothing_of_the_service() -> None:
    """`flask tenant list` loads neither speech nor media nor Twilio's library."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "flask", "tenant", "list"],
        cwd=PROJECT,
        env=service_environment({"DATABASE_URL": fresh_sqlite()}),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in ran.stderr.splitlines()}
    assert {"app", "tenant_commands"} <= loaded
    assert not loaded & {"service", "grpc", "google.auth", "flask_sock", "twilio", "gcp_stt_stream"}
