"""What this project's `flask` commands share: which one is asked for, and how a fault is told."""

from __future__ import annotations

import sys
from typing import NoReturn

import click
from flask.cli import FlaskGroup


def asked_command() -> str | None:
    """The command that `flask` is looking up, so that `app:app` need not be the service for it.

    None if there is none: while a command runs (`flask run`), and outside of `flask`.
    """
    context = click.get_current_context(silent=True)
    if context is None or not isinstance(context.command, FlaskGroup):
        return None
    # Its own parser knows which of its options take a value
    _, words, _ = context.command.make_parser(context).parse_args(sys.argv[1:])
    return words[0] if words else None


def fail(code: int, told: str) -> NoReturn:
    """End the command with this exit code and one line on stderr."""
    click.echo(f"tamlil: {told}", err=True)
    sys.exit(code)
