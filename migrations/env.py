"""How Alembic runs the migrations: through the application's database, as Flask-Migrate sets it up.

All that are missing are one transaction: a start that is cut off in the middle leaves nothing, and
the next one begins anew. Two services that start at once must not both change the tables: one of
them waits, on PostgreSQL for an advisory lock, on SQLite for the file's one place to write.
"""

from __future__ import annotations

from alembic import context
from flask import current_app
from sqlalchemy import Connection, text

from schema_differences import COMPARED

_LOCK = 7_280_311  # any number, as long as nobody else takes it for something else
_BUSY_MS = 600_000  # longer than another's migration takes


def run() -> None:
    migrate = current_app.extensions["migrate"]
    with migrate.db.engine.connect() as connection:
        connection.detach()  # it ends here, and with it the lock and what is set for it
        if connection.dialect.name == "postgresql":
            # an index over years of calls takes longer than anything that a call may wait for
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("SET lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.commit()
        else:
            _begin_on_sqlite(connection)
        context.configure(
            connection=connection,
            target_metadata=migrate.db.metadata,
            render_as_batch=True,
            transactional_ddl=True,  # of SQLite, Alembic expects none
            **COMPARED,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


def _begin_on_sqlite(connection: Connection) -> None:
    """sqlite3 itself would begin no transaction before the tables are made."""
    connection.exec_driver_sql(f"PRAGMA busy_timeout={_BUSY_MS}")
    # A table that is made anew is dropped in between, and would take with it what refers to it
    connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


run()
