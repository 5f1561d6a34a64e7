"""`flask twilio check`, `flask twilio connect +972…`: a Twilio number on its way to this service.

They run in a process of their own and make nothing of the service. Exit code 0 when all is well, 1
when something is missing or Twilio refuses, 2 when the command itself cannot be carried out as it
was given; what is wrong is one line, never a trace.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import click
from flask import Flask
from flask.cli import AppGroup

from businesses import Businesses, load_businesses
from command_line import fail
from errors import SettingsError, TwilioApiError
from settings import Settings
from twilio_checks import check_settings

if TYPE_CHECKING:
    from twilio.rest import Client

    from twilio_number import TwilioNumber

# Of the account's SID and its auth token
MakeClient: TypeAlias = "Callable[[str, str], Client]"

_NEEDED_TO_CONNECT = ("PUBLIC_URL", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")


def make_group(make_client: MakeClient | None = None) -> AppGroup:
    """The commands, which ask Twilio through what `make_client` makes (its own REST client)."""
    commands = AppGroup("twilio", help="Twilio numbers and this service.")

    @commands.command("check", with_appcontext=False)
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def check(as_json: bool) -> None:
        """Say what is missing in the settings for a Twilio number to work."""
        _check(as_json)

    @commands.command("connect", with_appcontext=False)
    @click.argument("number")
    @click.option("--yes", is_flag=True, help="Change it; without this nothing is changed.")
    def connect(number: str, yes: bool) -> None:
        """Point NUMBER (as +97231234567) at this service: its calls and their status."""
        import twilio_number  # only here: every worker has these commands, none speaks to Twilio

        if not twilio_number.is_e164(number):
            fail(2, f"{number[:40]!r}: write the number in full, as +97231234567")
        settings = _settings_to_connect()
        client = (make_client or twilio_number.make_client)(
            settings.twilio_account_sid, settings.twilio_auth_tokens[0]
        )
        try:
            _connect(twilio_number.TwilioNumber(client, number), settings, yes)
        except TwilioApiError as fault:
            fail(1, str(fault))

    return commands


group = make_group()


def bare_app() -> Flask:
    """An application with these commands and nothing else."""
    app = Flask(__name__)
    app.cli.add_command(group)
    return app


def _check(as_json: bool) -> None:
    findings = check_settings(os.environ)
    ok = all(finding.state == "ok" for finding in findings)
    if as_json:
        told = {"ok": ok, "checks": [finding._asdict() for finding in findings]}
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        for name, state, text in findings:
            click.echo(f"{state:<8} {name:<19} {text}")
    sys.exit(0 if ok else 1)


def _settings_to_connect() -> Settings:
    for name, state, text in check_settings(os.environ, only=_NEEDED_TO_CONNECT):
        if state != "ok":
            told = text if text.startswith(f"{name}=") else f"{name} is {state}: {text}"
            fail(2, f"{told} (all that lacks: flask twilio check)")
    try:
        return Settings.from_env(os.environ)
    except SettingsError as fault:
        fail(2, str(fault))


def _connect(number: TwilioNumber, settings: Settings, yes: bool) -> None:
    fields = number.fields(settings.public_url)
    click.echo(f"{number.number} ({number.sid})")
    for name, now, wanted in fields:
        then = f" → {wanted or 'none'}" if now != wanted else ""
        click.echo(f"  {name:<21} {now or 'none'}{then}")
    click.echo(f"  {'VoiceFallbackUrl':<21} {number.fallback_url or 'none'} (is left alone)")
    _warn_of_strangers(number.number, settings)
    if not any(field.changes for field in fields):
        click.echo("Nothing is to be changed: the number points at this service.")
    elif yes:
        number.point_at(settings.public_url)
        click.echo("Changed: the number points at this service.")
    else:
        click.echo("Nothing was changed; with --yes it is.")


def _warn_of_strangers(number: str, settings: Settings) -> None:
    # Here, because a worker has these commands too, and does without SQLAlchemy
    from database_check import businesses_in_database

    there = businesses_in_database(settings)
    try:
        known = there or Businesses(load_businesses(settings.businesses))
    except SettingsError as fault:
        click.echo(f"  Mind: {fault}")
        return
    if known.of_number(number) is not None:
        return
    if there is None:
        click.echo(f"  Mind: no business in BUSINESSES has {number}, so its calls are refused.")
    else:
        click.echo(
            f"  Mind: no business has {number}, so its calls are refused; "
            f"flask tenant number add ID {number} gives it to one."
        )
