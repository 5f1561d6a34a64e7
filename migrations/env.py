"""How Alembic runs the migrations: through the application's database, as Flask-Migrate sets it up.

Two services that start at once must not both change the tables: on PostgreSQL an advisory lock
lets one of them wait; SQLite's file is locked by the transaction itself.
"""

from __future__ import annotations

from alembic import context
from flask import current_app
from sqlalchemy import text

from schema_differences import COMPARED

_LOCK = 7_280_311  # any number, as long as nobody else takes it for something else


def run() -> None:
    migrate = current_app.extensions["migrate"]
    with migrate.db.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.commit()
        context.configure(
            connection=connection,
            target_metadata=migrate.db.metadata,
            render_as_batch=True,
            **COMPARED,
        )
        with context.begin_transaction():
            context.run_migrations()
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()


run()
