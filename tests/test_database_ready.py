"""The look at a database before the start: ready only where there is nothing left to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from databases import fresh_sqlite
from postgres_server import PostgresServer
from running_service import PROJECT, service_environment

import database_ready
import record_setup
from database import database_url, make_engine
from errors import DatabaseAway
from record_setup import MIGRATIONS
from settings import Settings

Change = Callable[[str], None]


@pytest.fixture
def prepared(database_at: str) -> Settings:
    """The settings of a service with a database that has been made ready."""
    settings = Settings(database_url=database_at)
    record_setup.prepare(settings)
    return settings


@pytest.fixture
def change(prepared: Settings) -> Change:
    """Carries out a statement on it."""

    def change(statement: str) -> None:
        engine = make_engine(database_url(prepared.database_url))
        with engine.begin() as connection:
            connection.execute(sa.text(statement))
        engine.dispose()

    return change


def test_the_newest_migration_is_alembics_head() -> None:
    """Whoever adds a migration is told here."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [database_ready.NEWEST]


def test_tables_alone_are_not_enough(database_at: str) -> None:
    """Without its first businesses it is not ready; then it is."""
    settings = Settings(database_url=database_at)
    assert not database_ready.is_ready(settings)
    database_ready.prepare(settings)
    assert database_ready.is_ready(settings)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = '0001'",
        "UPDATE alembic_version SET version_num = '9999'",
        "DELETE FROM alembic_version",
        "INSERT INTO alembic_version VALUES ('other branch')",
        "DROP TABLE alembic_version",
        "UPDATE service_state SET version = 0",
        "DELETE FROM service_state",
        "DROP TABLE service_state",
    ],
)
def test_whatever_is_not_as_expected_goes_the_longer_way(
    prepared: Settings, change: Change, statement: str
) -> None:
    """Older, newer than the code, from a branch, half made."""
    assert database_ready.is_ready(prepared)
    change(statement)
    assert not database_ready.is_ready(prepared)


def test_who_removed_all_businesses_gets_no_other(prepared: Settings, change: Change) -> None:
    """The look asks for what was done once, not for businesses."""
    change("DELETE FROM tenants")
    assert database_ready.is_ready(prepared)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/n", "no url", ""])
def test_what_is_no_database_of_ours_is_not_looked_at(url: str) -> None:
    """The longer way has the words for it."""
    assert not database_ready.is_ready(Settings(database_url=url))


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """The look changes nothing."""
    assert not database_ready.is_ready(Settings(database_url=f"sqlite:///{tmp_path}/new.db"))
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Told as ever, in one line."""
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at as one" * 40)
    settings = Settings(database_url=f"sqlite:///{tmp_path}/text.db")
    assert not database_ready.is_ready(settings)
    with pytest.raises(DatabaseAway, match="DATABASE_URL: the database cannot be used: file is"):
        database_ready.prepare(settings)


def test_a_server_that_is_away(postgres: PostgresServer) -> None:
    """Told as ever, in one line."""
    settings = Settings(database_url="postgres://tamlil@127.0.0.1:1/none")
    assert not database_ready.is_ready(settings)
    with pytest.raises(DatabaseAway, match="DATABASE_URL: the database cannot be used: conn"):
        database_ready.prepare(settings)
    unknown = Settings(database_url=postgres.url("nobody_made_it"))
    with pytest.raises(DatabaseAway, match='database "nobody_made_it" does not exist'):
        database_ready.prepare(unknown)


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_a_file_that_may_not_be_written_to_is_not_ready(tmp_path: Path) -> None:
    """The start says so, instead of the records' process for ever."""
    path = Path(fresh_sqlite().removeprefix("sqlite:///"))
    record_setup.prepare(Settings(database_url=f"sqlite:///{path}"))
    for there in (path, path.parent):
        there.chmod(there.stat().st_mode | 0o055)
    looking = (
        "import database_ready, settings, os;"
        "print(database_ready.is_ready(settings.Settings.from_env(os.environ)))"
    )
    command = [sys.executable, "-c", looking]
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    environment = service_environment({"DATABASE_URL": f"sqlite:///{path}", "ALLOW_UNSIGNED": 1})
    told = [
        subprocess.run(
            words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        for words in (command, nobody + command)
    ]
    assert told == ["True", "False"]


def test_the_look_needs_no_library_of_the_longer_way(prepared: Settings) -> None:
    """It is there to spare a start what these cost."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "preflight.py"],
        cwd=PROJECT,
        env=service_environment(
            {
                "DATABASE_URL": prepared.database_url,
                "ALLOW_UNSIGNED": 1,
                "SPEECH_EMULATOR_HOST": "h:1",
            }
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in ran.stderr.splitlines()}
    assert "database_ready" in loaded
    assert not loaded & {"sqlalchemy", "alembic", "flask", "grpc", "google.auth"}
