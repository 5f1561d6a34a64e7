"""The application of the records' process: the API and the database, and nothing of calls."""

from __future__ import annotations

from flask import Flask

from database import attach, database_url
from settings import Settings


def make_app(settings: Settings) -> Flask:
    """The application for `settings`. Raises `SettingsError`."""
    app = Flask("tamlil")
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
    attach(app, database_url(settings.database_url))
    return app
