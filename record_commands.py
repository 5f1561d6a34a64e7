"""`flask db …` and other commands about the records: they need the database, not the service.

So they work beside a running service, and where it does not start.
"""

from __future__ import annotations

import sys

import click
from flask import Flask
from flask.cli import FlaskGroup

import record_setup
from settings import Settings


def is_asked() -> bool:
    """Whether `flask` is looking up one of these commands."""
    context = click.get_current_context(silent=True)
    looking_up = context is not None and isinstance(context.command, FlaskGroup)
    return looking_up and any(word in ("db",) for word in sys.argv[1:2])


def make_app(settings: Settings) -> Flask:
    """An application with the database and these commands. Raises `SettingsError`."""
    return record_setup.database_app(settings)
