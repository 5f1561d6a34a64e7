"""Databases for tests: a fresh SQLite file each, with all tables, and nobody in it.

The tables are made once in each test process; a fresh database is a copy.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
from pathlib import Path

import flask_migrate

from database import db
from record_setup import database_app
from settings import Settings

_numbers = itertools.count()


@functools.cache
def _directory() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tamlil-tests-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def _template() -> Path:
    path = _directory() / "template.db"
    app = database_app(Settings(database_url=f"sqlite:///{path}"))
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()  # with its last connection all of it is in the one file
    return path


def fresh_sqlite() -> str:
    """The URL of a database of its own, removed when the test process ends."""
    path = _directory() / f"{next(_numbers)}.db"
    shutil.copy(_template(), path)
    return f"sqlite:///{path}"
