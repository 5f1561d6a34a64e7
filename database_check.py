"""Looks at the database that the settings name, from a command: it makes and changes nothing there.

It may wait for the network, some seconds at most.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import URL, select
from sqlalchemy.exc import DBAPIError

from businesses import Businesses
from database import Engines, database_away, database_url
from errors import DatabaseAway, SettingsError
from models import ServiceState
from settings import Settings
from tenant_directory import read_businesses


def look_at_database(settings: Settings) -> str:
    """What is to be said of a database that can be used. Raises `SettingsError`."""
    url = database_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        if not path.exists() and not os.access(path.parent, os.W_OK):
            raise DatabaseAway(f"DATABASE_URL: SQLite's file cannot be made in {path.parent}")
        told = f"SQLite in {path}; Heroku and Render lose it at every deploy"
    else:
        told = f"PostgreSQL at {url.host or 'this machine'} answers"
    if _is_there(url):
        engines = Engines(url)
        try:
            with engines.here().connect() as connection:
                connection.exec_driver_sql("SELECT 1")
        except DBAPIError as fault:
            raise database_away(fault) from None
        finally:
            engines.dispose()
    return told


def businesses_in_database(settings: Settings) -> Businesses | None:
    """The businesses that are there; None if nobody can tell, or the service never started."""
    try:
        url = database_url(settings.database_url)
        if not _is_there(url):
            return None
        engines = Engines(url)
        try:
            with engines.reading() as session:
                if not session.scalar(select(ServiceState.version)):
                    return None
                return Businesses(read_businesses(session))
        finally:
            engines.dispose()
    except (SettingsError, DBAPIError):
        return None


def _is_there(url: URL) -> bool:
    """Whether connecting would not make it: SQLite makes the file that is not there."""
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()
