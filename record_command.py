"""The manners of the commands about records: the database is ready, a fault is one line.

Exit code 2 for what was asked for wrongly, 1 if the database cannot be reached, 0 otherwise.
"""

from __future__ import annotations

import json
import os
from typing import Any, NoReturn

import click
from flask.cli import AppGroup
from sqlalchemy.exc import InterfaceError, OperationalError

import database_ready
from command_line import fail
from database import database_away
from errors import BadBusiness, DatabaseAway, NotFound, SettingsError
from settings import Settings

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class RecordCommand(click.Command):
    """A command that works in an application with the database, brought up to date before."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as fault:
            _misused(fault)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            database_ready.prepare(Settings.from_env(os.environ))
            return super().invoke(ctx)
        except DatabaseAway as fault:
            fail(1, str(fault))
        except (OperationalError, InterfaceError) as fault:
            fail(1, str(database_away(fault)))
        except (SettingsError, BadBusiness, NotFound) as fault:
            fail(2, str(fault))


class RecordGroup(AppGroup):
    """A group of such commands."""

    command_class = RecordCommand

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as fault:
            _misused(fault)


def print_json(told: object) -> None:
    """What a command has to say, for scripts."""
    click.echo(json.dumps(told, ensure_ascii=False, indent=2))


def _misused(fault: click.UsageError) -> NoReturn:
    where = f" (see: {fault.ctx.command_path} --help)" if fault.ctx else ""
    fail(2, f"{' '.join(fault.format_message().split())}{where}")
