"""`flask tenant …` and `flask db …`: they need the database, not the service.

So they work beside a running service, and where it does not start.
"""

from __future__ import annotations

from flask import Flask

import record_setup
from settings import Settings


def make_app(settings: Settings, command: str) -> Flask:
    """An application with the database and one of the commands. Raises `SettingsError`."""
    if command == "db":
        return record_setup.database_app(settings)
    app = record_setup.database_app(settings, migrations=False)
    _add_tenant(app)
    return app


def add_for_listing(app: Flask) -> None:
    """Have `flask --help` list these commands."""
    record_setup.add_migrations(app)
    _add_tenant(app)


def _add_tenant(app: Flask) -> None:
    import tenant_commands  # `flask db` does without

    app.cli.add_command(tenant_commands.group)
