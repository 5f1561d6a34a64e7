"""`flask tenant webhook …`: where a business's events go, and what became of them.

They work on the database beside a running service, which takes every change at its next look. Exit
code 0 when all is well, 1 when the database or the receiver cannot be reached or refuses, 2 when
the command cannot be carried out as it was given; what is wrong is one line, never a trace.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

import webhook_records
from business_records import load_tenant, load_webhook, secrets_of
from command_line import fail
from database import db, now, writes
from models import Event, WebhookSecret
from record_command import RecordGroup, json_option, print_json
from settings import Settings
from webhook_addresses import parse, resolve
from webhook_client import WebhookClient
from webhook_sender import post_event

group = RecordGroup(
    "webhook",
    help="""Where a business's events are sent.

\b
Examples:
  flask tenant webhook set clinic https://crm.example/tamlil
  flask tenant webhook test clinic
  flask tenant webhook show clinic
  flask tenant webhook resend clinic --given-up
""",
)
_business = click.argument("tenant_id", metavar="ID")


@group.command("set")
@_business
@click.argument("url")
@json_option
def set_command(tenant_id: str, url: str, as_json: bool) -> None:
    """Send the events of business ID to URL (https://…), from now on.

    What happens on live calls goes there too, and so do events that still wait for another URL. The
    first time a secret is made and shown, once: the receiver checks signatures with it.

    \b
    Example:
      flask tenant webhook set clinic https://crm.example/tamlil
    """
    warning = _check(url)
    writes()
    secret = webhook_records.set_webhook(tenant_id, url)
    told: dict[str, Any] = {"business": tenant_id, "url": url}
    lines = [f"events of {tenant_id} go to {url}"]
    if secret is not None:
        told |= {"secret_id": secret.id, "secret": secret.secret}
        lines += [f"secret {secret.id}: {secret.secret}", "keep it now: it is not shown again"]
    db.session.commit()
    if warning:
        told["warning"] = warning
        click.echo(f"tamlil: warning: {warning}", err=True)
    _say(as_json, told, *lines)


@group.command("show")
@_business
@json_option
def show_command(tenant_id: str, as_json: bool) -> None:
    """Say where the events of business ID go, and how many have arrived.

    \b
    Example:
      flask tenant webhook show clinic --json
    """
    webhook = load_webhook(tenant_id)
    counts = webhook_records.count_events(tenant_id)
    failed = webhook_records.last_error(tenant_id)
    told = {
        "business": tenant_id,
        "url": webhook.url,
        "secrets": len(webhook_records.signing_secrets(tenant_id)),
        "waiting": counts.waiting,
        "delivered": counts.delivered,
        "given_up": counts.given_up,
        "last_error": failed.last_error if failed else None,
    }
    lines = [f"{name.replace('_', ' ')}: {'-' if it is None else it}" for name, it in told.items()]
    _say(as_json, told, *lines)


@group.command("remove")
@_business
@json_option
def remove_command(tenant_id: str, as_json: bool) -> None:
    """Send the events of business ID nowhere any more; its secrets are deleted too.

    \b
    Example:
      flask tenant webhook remove clinic
    """
    writes()
    given_up = webhook_records.remove_webhook(tenant_id)
    db.session.commit()
    told = {"business": tenant_id, "given_up": given_up}
    _say(as_json, told, f"{tenant_id} has no webhook any more; {given_up} events waited")


@group.command("test")
@_business
@json_option
def test_command(tenant_id: str, as_json: bool) -> None:
    """Send a signed event `webhook.test` now, and say what came back.

    \b
    Example:
      flask tenant webhook test clinic
    """
    url = load_webhook(tenant_id).url
    secrets = webhook_records.signing_secrets(tenant_id)
    at, uid = now(), uuid.uuid4().hex
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    ping = {"id": uid, "type": "webhook.test", "timestamp": stamp, "business": tenant_id}
    client = WebhookClient(allow_private=_settings().webhook_allow_private)
    began = time.monotonic()
    sent = post_event(client, url, secrets, uid, at, json.dumps(ping | {"data": {}}))
    client.close()
    took = round((time.monotonic() - began) * 1000)
    told = {"business": tenant_id, "id": uid, "error": sent.error, "milliseconds": took}
    if sent.error is None:
        _say(as_json, told, f"delivered in {took} ms: event {uid}")
        return
    if as_json:
        _say(as_json, told)
    fail(1, f"not delivered: {sent.error}")


@group.command("events")
@_business
@click.option("--given-up", is_flag=True, help="Only those that were given up.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@json_option
def events_command(tenant_id: str, given_up: bool, limit: int, as_json: bool) -> None:
    """List the newest events of business ID, the newest first.

    \b
    Example:
      flask tenant webhook events clinic --given-up
    """
    load_tenant(tenant_id)
    events = webhook_records.newest_events(tenant_id, given_up=given_up, limit=limit)
    told = [_event(event) for event in events]
    _say(as_json, told, *(_event_line(one) for one in told))


@group.command("resend")
@_business
@click.option("--event", "uid", metavar="UID", help="This one event.")
@click.option("--given-up", is_flag=True, help="All that were given up.")
@click.option("--since", metavar="TIME", help="All since then: 2026-11-27T14:00, local or +02:00.")
@json_option
def resend_command(
    tenant_id: str, uid: str | None, given_up: bool, since: str | None, as_json: bool
) -> None:
    """Send events of business ID again, delivered or not; their 24 hours begin anew.

    \b
    Examples:
      flask tenant webhook resend clinic --given-up
      flask tenant webhook resend clinic --since 2026-11-27T14:00
      flask tenant webhook resend clinic --event 5b0c7c6a4f0e4c0d8c7a1f2e3d4c5b6a
    """
    if sum((uid is not None, given_up, since is not None)) != 1:
        fail(2, "say which events: one of --event UID, --given-up, --since TIME")
    writes()
    if uid is not None:
        count = webhook_records.resend_event(tenant_id, uid)
    elif since is not None:
        count = webhook_records.resend_since(tenant_id, _moment(tenant_id, since))
    else:
        count = webhook_records.resend_given_up(tenant_id)
    db.session.commit()
    _say(as_json, {"business": tenant_id, "events": count}, f"{count} events are sent again")


secret_group = RecordGroup("secret", help="The secrets that a business's events are signed with.")
group.add_command(secret_group)


@secret_group.command("new")
@_business
@json_option
def new_secret_command(tenant_id: str, as_json: bool) -> None:
    """Make a new secret and show it, once; the older ones stay valid until they are removed.

    \b
    Example:
      flask tenant webhook secret new clinic
    """
    writes()
    load_webhook(tenant_id)
    secret = webhook_records.add_secret(tenant_id)
    told = {"business": tenant_id, "secret_id": secret.id, "secret": secret.secret}
    db.session.commit()
    lines = f"secret {told['secret_id']}: {told['secret']}", "keep it now: it is not shown again"
    _say(as_json, told, *lines)


@secret_group.command("list")
@_business
@json_option
def list_secrets_command(tenant_id: str, as_json: bool) -> None:
    """List the secrets of business ID, without what is secret in them.

    \b
    Example:
      flask tenant webhook secret list clinic
    """
    load_webhook(tenant_id)
    found = db.session.scalars(secrets_of(tenant_id).order_by(WebhookSecret.id)).all()
    told = [{"secret_id": one.id, "created_at": one.created_at.isoformat()} for one in found]
    _say(as_json, told, *(f"{one['secret_id']} made {one['created_at']}" for one in told))


@secret_group.command("remove")
@_business
@click.argument("secret_id", metavar="SECRET", type=int)
@json_option
def remove_secret_command(tenant_id: str, secret_id: int, as_json: bool) -> None:
    """Sign with SECRET (its number in the list) no more.

    \b
    Example:
      flask tenant webhook secret remove clinic 1
    """
    writes()
    webhook_records.remove_secret(tenant_id, secret_id)
    db.session.commit()
    told = {"business": tenant_id, "secret_id": secret_id}
    _say(as_json, told, f"secret {secret_id} of {tenant_id} is removed")


def _check(url: str) -> str:
    """A warning, or nothing, about a URL that is to be set. Raises `BadWebhook`."""
    allow_private = _settings().webhook_allow_private
    receiver = parse(url, allow_private=allow_private)
    try:
        resolve(receiver, allow_private=allow_private)
    except OSError:
        return f"{receiver.host[:80]} cannot be resolved now; events wait until it can be"
    return ""


def _settings() -> Settings:
    return Settings.from_env(os.environ)


def _moment(tenant_id: str, text: str) -> datetime:
    """The moment of `text`; without a time zone it is the business's."""
    zone = ZoneInfo(load_tenant(tenant_id).time_zone)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(2, f"--since {text[:40]!r}: write a time as 2026-11-27T14:00 or …+02:00")
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def _event(event: Event) -> dict[str, Any]:
    state = "waiting"
    if event.next_try_at is None:
        state = "delivered" if event.delivered_at else "given up"
    return {
        "id": event.uid,
        "type": event.type,
        "created_at": event.created_at.isoformat(timespec="milliseconds"),
        "state": state,
        "tries": event.tries,
        "last_error": event.last_error,
    }


def _event_line(event: dict[str, Any]) -> str:
    line = "{id} {created_at} {type}: {state}, tries={tries}".format_map(event)
    return f"{line}, {event['last_error']}" if event["last_error"] else line


def _say(as_json: bool, told: object, *lines: str) -> None:
    if as_json:
        print_json(told)
    else:
        for line in lines:
            click.echo(line)
