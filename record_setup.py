"""Makes a database ready for the service: its tables as they are now, and its first businesses.

Run by whoever starts the service (`preflight.py`, `flask run`, `flask tenant`), never by a worker,
and only when there is something to do (`database_ready.py`). An empty database begins with the
businesses of the setting `BUSINESSES`; from then on `flask tenant` changes them.
"""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

import models
from businesses import load_businesses
from database import attach, database_away, database_url, db, writes
from settings import Settings
from tenant_directory import add_business

MIGRATIONS = Path(__file__).with_name("migrations")


def database_app(settings: Settings, *, migrations: bool = True) -> Flask:
    """An application with the database, `flask db` (by `migrations`) and nothing else.

    Raises `SettingsError`.
    """
    app = Flask("tamlil")
    app.config["STT_LANGUAGE"] = settings.stt_language
    attach(app, database_url(settings.database_url))
    if migrations:
        add_migrations(app)
    return app


def add_migrations(app: Flask) -> None:
    """Give `app` the commands `flask db`, with the migrations of this project."""
    import flask_migrate  # with Alembic: a third of what a command takes that does not need it

    flask_migrate.Migrate(app, db, directory=str(MIGRATIONS))


def prepare(settings: Settings) -> None:
    """Bring the tables up to date, and put the first businesses in.

    Raises `SettingsError` in one line, `DatabaseAway` if the database cannot be reached or used.
    """
    import flask_migrate

    app = database_app(settings)
    first = load_businesses(settings.businesses)
    with app.app_context():
        try:
            flask_migrate.upgrade()
            writes()
            # Whoever starts at the same time waits here. Whether there is a business is not asked:
            # who removes the last one does not want another.
            if not db.session.scalar(select(models.ServiceState.version).with_for_update()):
                for business in first:
                    add_business(db.session(), business)
            db.session.commit()
        except DBAPIError as fault:
            raise database_away(fault) from None
        finally:
            db.session.remove()
            db.engine.dispose()
            app.extensions["tamlil_engines"].dispose()
