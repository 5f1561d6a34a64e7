"""A business's webhook and its events, as the business changes them.

All of it goes by the business, through `business_records.py`, within an application's context; the
caller commits, after `database.writes()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, CursorResult, Select, func

from business_records import (
    change_of_events,
    events_of,
    load_event,
    load_secret,
    load_tenant,
    load_webhook,
    secrets_of,
)
from database import db, now
from errors import BadWebhook, NotFound
from models import Event, Webhook, WebhookSecret
from webhook_signing import new_secret

# Every event carries a signature by each of them
MOST_SECRETS = 5


@dataclass(frozen=True, slots=True)
class Counts:
    """The events of a business that are kept, by what became of them."""

    waiting: int
    delivered: int
    given_up: int


def set_webhook(tenant_id: str, url: str) -> WebhookSecret | None:
    """Send its events to `url` from now on; returns its secret if this is the first one.

    `url` was checked. Raises `NotFound`.
    """
    load_tenant(tenant_id)
    try:
        load_webhook(tenant_id).url = url
    except NotFound:
        db.session.add(Webhook(tenant_id=tenant_id, url=url))
    if db.session.scalar(secrets_of(tenant_id).limit(1)) is None:
        return add_secret(tenant_id)
    return None


def remove_webhook(tenant_id: str) -> int:
    """Send it nothing more; returns how many events waited, and are given up. Raises `NotFound`."""
    db.session.delete(load_webhook(tenant_id))
    for secret in db.session.scalars(secrets_of(tenant_id)):
        db.session.delete(secret)
    return _update(
        tenant_id,
        Event.next_try_at.is_not(None),
        next_try_at=None,
        claimed_by=None,
        given_up_at=now(),
        last_error="the webhook was removed",
    )


def add_secret(tenant_id: str) -> WebhookSecret:
    """A new secret beside the older ones. Raises `BadWebhook` if there are enough."""
    if len(db.session.scalars(secrets_of(tenant_id)).all()) >= MOST_SECRETS:
        raise BadWebhook(f"{tenant_id} has {MOST_SECRETS} secrets: remove one first")
    secret = WebhookSecret(tenant_id=tenant_id, secret=new_secret())
    db.session.add(secret)
    db.session.flush()
    return secret


def remove_secret(tenant_id: str, secret_id: int) -> None:
    """Sign with it no more. Raises `NotFound`, and `BadWebhook` for the last one."""
    secret = load_secret(tenant_id, secret_id)
    if len(db.session.scalars(secrets_of(tenant_id)).all()) == 1:
        raise BadWebhook(f"{tenant_id} has no other secret: make a new one first")
    db.session.delete(secret)


def count_events(tenant_id: str) -> Counts:
    """How many of its events wait, were delivered, were given up."""
    states = events_of(tenant_id).with_only_columns(
        func.count(Event.next_try_at),
        func.count(Event.delivered_at),
        func.count(Event.given_up_at),
    )
    return Counts(*db.session.execute(states).one())


def last_error(tenant_id: str) -> Event | None:
    """The newest of its events that has failed and has not arrived since."""
    return db.session.scalar(
        events_of(tenant_id)
        .where(Event.last_error.is_not(None), Event.delivered_at.is_(None))
        .order_by(Event.id.desc())
        .limit(1)
    )


def newest_events(tenant_id: str, *, given_up: bool, limit: int) -> list[Event]:
    """Its newest events, the newest first."""
    found: Select[Event] = events_of(tenant_id).order_by(Event.id.desc()).limit(limit)
    if given_up:
        found = found.where(Event.given_up_at.is_not(None))
    return list(db.session.scalars(found))


def resend_event(tenant_id: str, uid: str) -> int:
    """Send one event again, whatever became of it. Raises `NotFound`."""
    return _resend(tenant_id, Event.id == load_event(tenant_id, uid).id)


def resend_given_up(tenant_id: str) -> int:
    """Send all that was given up; returns how many."""
    return _resend(tenant_id, Event.given_up_at.is_not(None))


def resend_since(tenant_id: str, since: datetime) -> int:
    """Send all events since then again; returns how many. Those that wait go at once."""
    return _resend(tenant_id, Event.created_at >= since)


def _resend(tenant_id: str, which: ColumnElement[bool]) -> int:
    load_webhook(tenant_id)
    at = now()
    return _update(
        tenant_id,
        which & Event.claimed_by.is_(None),  # else it is on its way just now
        next_try_at=at,
        resent_at=at,
        tries=0,
        delivered_at=None,
        given_up_at=None,
    )


def _update(tenant_id: str, which: ColumnElement[bool], **values: object) -> int:
    done = db.session.execute(
        change_of_events(tenant_id)
        .where(which)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(done, CursorResult)
    return done.rowcount


def signing_secrets(tenant_id: str) -> list[str]:
    """What its events are signed with, the newest first."""
    newest_first = secrets_of(tenant_id).order_by(WebhookSecret.id.desc())
    return [secret.secret for secret in db.session.scalars(newest_first)]
