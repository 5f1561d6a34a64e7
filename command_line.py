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
    context = _looking_up()
    if context is None:
        return None
    # Its own parser knows which of its options take a value
    _, words, _ = context.command.make_parser(context).parse_args(sys.argv[1:])
    return words[0] if words else None


def is_listing() -> bool:
    """Whether `flask` lists its commands: by `--help`, or when it is given none."""
    return _looking_up() is not None and asked_command() is None


def fail(code: int, told: str) -> NoReturn:
    """End the command with this exit code and one line on stderr."""
    click.echo(f"tamlil: {told}", err=True)
    sys.exit(code)


def _looking_up() -> click.Context | None:
    context = click.get_current_context(silent=True)
    return context if context and isinstance(context.command, FlaskGroup) else None
