"""The migrations: up and down from empty, on both databases, and in agreement with the models."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from threading import Timer

import flask_migrate
import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres_server import PostgresServer
from running_service import PROJECT, service_environment

import database
from database import database_url, db, make_engine
from record_setup import database_app, prepare
from schema_differences import COMPARED
from settings import Settings


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: object) -> str:
    """The URL of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh(tables=False)


def test_up_and_down_and_up_again(empty: str) -> None:
    """Nothing but Alembic's own note is left on the way, and all of it is there again."""
    app = database_app(Settings(database_url=empty))
    with app.app_context():
        flask_migrate.upgrade()
        there = set(sa.inspect(db.engine).get_table_names())
        assert {"calls", "utterances", "events"} < there
        flask_migrate.downgrade(revision="base")
        assert sa.inspect(db.engine).get_table_names() == ["alembic_version"]
        flask_migrate.upgrade()
        assert set(sa.inspect(db.engine).get_table_names()) == there
        db.engine.dispose()


def test_models_and_migrations_agree(database_at: str) -> None:
    """A model that was changed without a migration fails here."""
    app = database_app(Settings(database_url=database_at))
    with app.app_context():
        with db.engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={**COMPARED, "compare_type": True}
            )
            assert compare_metadata(context, db.metadata) == []
        db.engine.dispose()


def test_a_model_without_a_migration_would_be_seen(database_at: str) -> None:
    """The comparison above can fail."""
    app = database_app(Settings(database_url=database_at))
    with app.app_context():
        with db.engine.connect() as connection:
            connection.execute(sa.text("ALTER TABLE leads ADD COLUMN more INTEGER"))
            connection.commit()
            context = MigrationContext.configure(connection, opts=COMPARED)
            assert compare_metadata(context, db.metadata) != []
        db.engine.dispose()


def test_flask_db_works_as_its_users_run_it(empty: str) -> None:
    """`flask db upgrade`, then `current`: no setting but DATABASE_URL, on an empty database."""

    def flask_db(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "db", *words],
            cwd=PROJECT,
            env=service_environment({"DATABASE_URL": empty}),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    flask_db("upgrade")
    assert "(head)" in flask_db("current")


def test_services_that_start_at_once_make_the_tables_once(empty: str) -> None:
    """All come up: one waits for another's migration."""
    environment = service_environment(
        {"DATABASE_URL": empty, "ALLOW_UNSIGNED": 1, "SPEECH_EMULATOR_HOST": "h:1"}
    )
    command = [sys.executable, "preflight.py"]
    all_of_them = [
        subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in all_of_them:
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    assert businesses(empty) == ["default"]


def test_a_migration_may_take_longer_than_other_statements(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it waits for another service's, for longer than a statement may take."""
    url = postgres.fresh(tables=False)
    monkeypatch.setattr(database, "_STATEMENT_SECONDS", 1)
    with closing(psycopg.connect(url, autocommit=True)) as other:
        other.execute("SELECT pg_advisory_lock(7280311)")
        Timer(1.5, other.execute, ["SELECT pg_advisory_unlock(7280311)"]).start()
        prepare(Settings(database_url=url))
    assert businesses(url) == ["default"]


def test_what_is_there_stays_through_a_migration(empty: str) -> None:
    """With what belongs to it, also where a table is made anew; up, and down again."""
    app = database_app(Settings(database_url=empty))
    with app.app_context():
        flask_migrate.upgrade(revision="0002")
        with db.engine.begin() as connection:
            for statement in _SOME_RECORDS:
                connection.execute(sa.text(statement))
        flask_migrate.upgrade()
        assert said_on_calls() == [("CA1", "hello")]
        flask_migrate.downgrade(revision="0002")
        assert said_on_calls() == [("CA1", "hello")]
        db.engine.dispose()


_SOME_RECORDS = (
    "INSERT INTO tenants (id, name, hints, created_at) "
    "VALUES ('clinic', '', '[]', '2026-11-27 12:00')",
    "INSERT INTO calls (call_sid, tenant_id, caller, called, direction, started_at, seconds, "
    "google_seconds, frames, dropped, lost_seconds, streams, rotations, fallbacks, results, "
    "delay_sum_ms, delay_worst_ms) VALUES ('CA1', 'clinic', '', '', 'inbound', "
    "'2026-11-27 12:00', 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0)",
    "INSERT INTO utterances (uid, call_id, tenant_id, track, start_ms, end_ms, text, fallback, "
    "said_at) VALUES ('u1', 1, 'clinic', 'inbound', 0, 1, 'hello', false, '2026-11-27 12:00')",
)


def said_on_calls() -> list[tuple[str, str]]:
    with db.engine.connect() as connection:
        found = connection.execute(
            sa.text("SELECT call_sid, text FROM calls JOIN utterances ON call_id = calls.id")
        )
        return [(call_sid, said) for call_sid, said in found]


_CUT_OFF = """
import os, sys
from sqlalchemy import Engine, event
import record_setup
from settings import Settings

@event.listens_for(Engine, "before_cursor_execute")
def cut_off(connection, cursor, statement, *_):
    if "CREATE TABLE leads" in statement:
        os._exit(9)

record_setup.prepare(Settings(database_url=sys.argv[1]))
"""


def test_a_start_that_was_cut_off_leaves_the_next_one_alone(empty: str) -> None:
    """Killed in the middle of its migration, it has made nothing."""
    cut_off = subprocess.run([sys.executable, "-c", _CUT_OFF, empty], cwd=PROJECT, check=False)
    assert cut_off.returncode == 9
    prepare(Settings(database_url=empty))
    assert businesses(empty) == ["default"]


def test_sqlites_log_is_begun_when_its_file_is_free(tmp_path: Path) -> None:
    """Another connection's lock is waited for, as it is for everything else."""
    path = tmp_path / "busy.db"
    with closing(sqlite3.connect(path, check_same_thread=False, isolation_level=None)) as other:
        other.execute("CREATE TABLE one (id INTEGER)")
        other.execute("BEGIN IMMEDIATE")
        Timer(0.3, other.execute, ["COMMIT"]).start()
        engine = make_engine(database_url(f"sqlite:///{path}"))
        with engine.connect() as connection:
            assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        engine.dispose()


def businesses(url: str) -> list[str]:
    engine = make_engine(database_url(url))
    with engine.connect() as connection:
        found = list(connection.scalars(sa.text("SELECT id FROM tenants")))
    engine.dispose()
    return found
