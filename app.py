"""The application: `gunicorn app:app` and `flask run` find `app` here.

It is made when they first ask for it, so that importing this module (a test does) neither reads the
environment nor starts anything. Which application that is depends on who asks: a command is given
its own, and pays for nothing of the service (`service.py`).
"""

from __future__ import annotations

import atexit
import os
import sys

import click
from flask import Flask

import database_ready
from command_line import asked_command, is_listing
from errors import SettingsError
from settings import Settings

_RECORD_COMMANDS = ("db", "tenant")
_TWILIO_COMMANDS = "twilio"


def create_app(settings: Settings | None = None) -> Flask:
    """The service's application for `settings`, by default those of the environment.

    Raises `SettingsError`.
    """
    import service

    return service.create_app(settings)


def _app_or_exit() -> Flask:
    command = asked_command()
    if command == _TWILIO_COMMANDS:
        import twilio_commands

        return twilio_commands.bare_app()
    if is_listing():  # `flask --help` neither needs the service nor starts it
        import record_commands
        import twilio_commands

        app = twilio_commands.bare_app()
        record_commands.add_for_listing(app)
        return app
    try:
        settings = Settings.from_env(os.environ)
        if command in _RECORD_COMMANDS:
            import record_commands

            return record_commands.make_app(settings, command)
        return _start(settings)
    except SettingsError as fault:
        print(f"tamlil: {fault}", file=sys.stderr)
        sys.exit(2)


def _start(settings: Settings) -> Flask:
    if click.get_current_context(silent=True) is not None:
        # by `flask`; before gunicorn's workers, which have no time for it, its master did this
        database_ready.prepare(settings)
    app = create_app(settings)
    service = app.extensions["tamlil"]
    service.start()
    # flask run ends at Ctrl-C; a gunicorn worker has drained before it comes here
    atexit.register(service.drain)
    return app


def __getattr__(name: str) -> Flask:
    if name != "app":
        raise AttributeError(name)
    app = globals()["app"] = _app_or_exit()
    return app
