"""What is logged of a database's faults: the cause, and nothing that was to be written."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
import pytest
from api_parts import Office, api_app
from postgres_server import PostgresServer
from sqlalchemy import event, make_url, text
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

import call_log
from database import database_url, make_engine
from database_faults import cause_of

NAME = "Dana Levi"


def test_the_cause_is_one_line_without_details() -> None:
    """A database's detail quotes the row; what has no cause is told itself."""
    twice = psycopg.errors.UniqueViolation(f"duplicate key\nDETAIL:  Key (name)=({NAME}) exists.")
    told = cause_of(IntegrityError("INSERT", {"name": NAME}, twice))
    assert told == "UniqueViolation: duplicate key"
    assert cause_of(PoolTimeout("no connection\nin time")).startswith("TimeoutError: no connection")
    long = cause_of(OperationalError("SELECT", {}, Exception("x\n" * 500)))
    assert (len(long), "\n" in long) == (200, False)


def test_an_engines_errors_do_not_quote_what_was_to_be_written(database_at: str) -> None:
    """Wherever they are printed, a traceback included."""
    engine = make_engine(database_url(database_at))
    with engine.connect() as connection, pytest.raises(SQLAlchemyError) as caught:
        connection.execute(text("INSERT INTO nowhere VALUES (:name)"), {"name": NAME})
    engine.dispose()
    assert "nowhere" in str(caught.value)
    assert NAME not in str(caught.value)


def test_a_session_that_ends_under_a_change_leaves_no_name_in_the_log(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 for who asks, and in the log what PostgreSQL said."""
    monkeypatch.setattr(call_log.logger, "handlers", [caplog.handler])
    url = postgres.fresh()
    app = api_app(url)
    office = Office(app)
    office.lead("+972541111111")
    with app.app_context():
        engine = app.extensions["tamlil_engines"].here()

    @event.listens_for(engine, "before_cursor_execute")
    def cut(connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("UPDATE leads"):
            pid = connection.connection.dbapi_connection.info.backend_pid
            with psycopg.connect(make_url(url).render_as_string(False)) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (pid,))

    with caplog.at_level(logging.INFO):
        changed = office.client.patch("/api/leads/+972541111111", json={"name": NAME})
    assert changed.status_code == 503
    assert "[API] 503: the database: AdminShutdown" in caplog.text
    assert NAME not in caplog.text
    assert "UPDATE" not in caplog.text
