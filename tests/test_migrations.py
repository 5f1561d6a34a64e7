"""The migrations: up and down from empty, on both databases, and in agreement with the models."""

from __future__ import annotations

import subprocess
import sys

import flask_migrate
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres_server import PostgresServer
from running_service import PROJECT, service_environment

from database import db
from record_setup import database_app
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


def test_two_services_that_start_at_once_make_the_tables_once(postgres: PostgresServer) -> None:
    """Both come up: one waits for the other's migration."""
    url = postgres.fresh(tables=False)
    environment = service_environment(
        {"DATABASE_URL": url, "ALLOW_UNSIGNED": 1, "SPEECH_EMULATOR_HOST": "h:1"}
    )
    command = [sys.executable, "preflight.py"]
    both = [
        subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    assert postgres.execute("SELECT id FROM tenants", url.rsplit("/", 1)[1]) == [("default",)]
