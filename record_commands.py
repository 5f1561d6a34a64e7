"""`flask tenant …` and `flask db …`: they need the database, not the service.

So they work beside a running service, and where it does not start.
"""

from __future__ import annotations

from flask import Flask

import record_setup
import tenant_commands
from settings import Settings


def make_app(settings: Settings) -> Flask:
    """An application with the database and these commands. Raises `SettingsError`."""
    app = record_setup.database_app(settings)
    app.cli.add_command(tenant_commands.group)
    return app


def add_for_listing(app: Flask) -> None:
    """Have `flask --help` list these commands."""
    record_setup.add_migrations(app)
    app.cli.add_command(tenant_commands.group)
