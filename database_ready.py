"""Whether a database is ready for the service already: one look, by its driver alone.

Most starts find nothing to do. What makes a database ready (`record_setup.py`) is built on
SQLAlchemy and Alembic, and to load those costs several times what the look does. The look never
changes anything and never complains: whatever is not as expected is told, or mended, there.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from settings import Settings

# The newest migration; a test holds it against Alembic's own list
NEWEST = "0004"

_CONNECT_SECONDS, _BUSY_SECONDS = 5, 10
_SQLITE, _POSTGRES = "sqlite:///", ("postgres://", "postgresql://")
_REVISIONS = "SELECT version_num FROM alembic_version"
# Raised with each change of businesses, so with the first ones; see `record_setup.prepare`
_STATE = "SELECT version FROM service_state"


def prepare(settings: Settings) -> None:
    """Make the database ready, unless it is.

    Raises `SettingsError` in one line, `DatabaseAway` if the database cannot be reached or used.
    """
    if not is_ready(settings):
        import record_setup

        record_setup.prepare(settings)


def is_ready(settings: Settings) -> bool:
    """Whether all tables are as they are now and the first businesses were put in.

    False also if that cannot be found out. As the start that does more, it waits for whoever
    prepares the database now, and finds one that may not be written to not ready.
    """
    url = settings.database_url
    if url.startswith(_SQLITE):
        return _sqlite_is_ready(Path(url.removeprefix(_SQLITE)))
    return url.startswith(_POSTGRES) and _postgres_is_ready(url)


def _sqlite_is_ready(path: Path) -> bool:
    if not path.is_file():  # it would be made
        return False
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        return _is_newest(
            connection.execute(_REVISIONS).fetchall(), connection.execute(_STATE).fetchall()
        )
    except sqlite3.Error:
        return False
    finally:
        connection.close()


def _postgres_is_ready(url: str) -> bool:
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_SECONDS) as connection:
            revisions = connection.execute(_REVISIONS).fetchall()
            state = connection.execute(f"{_STATE} FOR UPDATE").fetchall()
            connection.rollback()
    except psycopg.Error:
        return False
    return _is_newest(revisions, state)


def _is_newest(revisions: list[tuple[str]], state: list[tuple[int]]) -> bool:
    return revisions == [(NEWEST,)] and any(version for (version,) in state)
