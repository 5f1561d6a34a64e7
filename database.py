"""The database: SQLite in a file by default, PostgreSQL by `DATABASE_URL`.

Nothing here runs on the way of the audio. In a gevent worker all of it runs in native threads, and
each of those has an engine (so a connection) of its own: they share no lock.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy import URL, DateTime, Engine, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

import native_threads
from errors import DatabaseAway, SettingsError

# A network that is gone must show as an error, never as a wait without an end
_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 20
_BUSY_SECONDS = 10
_LOOK_AGAIN_SECONDS = 0.02

# An execution option: the transaction will write. SQLite must know at its beginning, or two that
# read before they write would each wait for the other.
WRITES = "tamlil_writes"


class Base(DeclarativeBase):
    """What all tables have in common."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, with its time zone. SQLite has none and keeps UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


def insert_into(session: Session, table: Any) -> Any:
    """An INSERT that knows `on_conflict_do_…`, which both databases have and SQL has not."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    return sqlite.insert(table) if is_sqlite else postgresql.insert(table)


def database_url(text: str) -> URL:
    """The URL of the setting `DATABASE_URL`, for the drivers that are installed.

    `postgres://…` as Heroku writes it is PostgreSQL through psycopg; SQLite's file is relative to
    the current directory. Raises `SettingsError`.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SettingsError(
            "DATABASE_URL: is no URL; write sqlite:///FILE or postgres://USER:PASSWORD@HOST/NAME"
        ) from None
    kind = url.get_backend_name()
    if kind in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if kind == "sqlite":
        if not url.database or url.database == ":memory:":
            raise SettingsError(
                "DATABASE_URL: SQLite needs a file that the workers share: sqlite:///FILE"
            )
        return url.set(drivername="sqlite", database=str(Path(url.database).absolute()))
    raise SettingsError(
        f"DATABASE_URL: {kind[:40]!r} is not known; write sqlite:///FILE or "
        "postgres://USER:PASSWORD@HOST/NAME"
    )


def make_engine(url: URL, *, connections: int = 5) -> Engine:
    """An engine that keeps at most so many connections."""
    engine = create_engine(
        url, hide_parameters=True, **engine_options(url, connections=connections)
    )
    _prepare(engine)
    return engine


def engine_options(url: URL, *, connections: int = 5) -> dict[str, Any]:
    """The arguments of an engine for `url`."""
    if url.get_backend_name() == "sqlite":
        return {
            "pool_size": connections,
            "connect_args": {"timeout": _BUSY_SECONDS, "check_same_thread": False},
        }
    return {
        "pool_size": connections,
        "pool_pre_ping": True,
        "pool_recycle": 1800,
        "connect_args": {
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "tamlil",
            "options": f"-c statement_timeout={_STATEMENT_SECONDS}s -c timezone=UTC",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": _STATEMENT_SECONDS * 1000,
        },
    }


def _prepare(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, as they are meant
        _keep_a_log(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")  # what a caller had deleted is overwritten

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _keep_a_log(connection: sqlite3.Connection) -> None:
    """Have SQLite write ahead, so that readers and the writer hold up each other no more.

    The file's first change to it waits for nobody: it fails while another connection is busy,
    whatever the time to wait for locks is.
    """
    give_up_at = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return


class Engines:
    """The engines for one URL: one a native thread where those exist, else one for all."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._engines: dict[object, Engine] = {}

    def here(self) -> Engine:
        """The engine of this thread."""
        place = native_threads.here().place()
        engine = self._engines.get(place)
        if engine is None:
            engine = make_engine(self.url, connections=5 if place is None else 1)
            self._engines[place] = engine
        return engine

    def dispose(self) -> None:
        """Close the connections that are not in use."""
        for engine in self._engines.values():
            engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        with Session(self.here()) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose transaction is committed at the end, or rolled back by an error."""
        with Session(self.here().execution_options(**{WRITES: True})) as session, session.begin():
            yield session


class _Session(FlaskSession):
    """`db.session`, on the engine of its thread."""

    def get_bind(self, *arguments: Any, **options: Any) -> Engine:
        engines: Engines = current_app.extensions["tamlil_engines"]
        return engines.here()


db = SQLAlchemy(model_class=Base, session_options={"class_": _Session})


def writes() -> None:
    """Say at its beginning that the transaction of `db.session` will write."""
    db.session.connection(execution_options={WRITES: True})


def attach(app: Flask, url: URL) -> Engines:
    """Give `app` the database at `url`: `db.session` in its contexts, and the engines."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(url)
    db.init_app(app)
    engines = app.extensions["tamlil_engines"] = Engines(url)
    return engines


def database_away(fault: DBAPIError) -> DatabaseAway:
    """What a fault of the database is to its user: one line, without the statement."""
    told = " ".join(str(fault.orig).split())[:200]
    if "unable to open database file" in told:
        told += " (does its folder exist, and may this user write there?)"
    return DatabaseAway(f"DATABASE_URL: the database cannot be used: {told}")
