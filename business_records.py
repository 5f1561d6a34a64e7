"""Every way to a business's records: one function an entity, which loads by business or raises.

Nothing else makes a statement about what belongs to businesses, but the few modules that work for
all of them; `tests/test_business_records.py` names those, and fails at any other. Who asks is a
business, known by its API key or named by whoever runs the service's commands; what is not its own
is `NotFound`, as if it were not there.

All of them use `db.session`, within an application's context.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Delete, Select, Subquery, Update, delete, select, update

from database import db
from errors import NotFound
from models import (
    ApiKey,
    Call,
    Event,
    Lead,
    Tenant,
    TenantNumber,
    Usage,
    Utterance,
    Webhook,
    WebhookSecret,
)


def load_tenant(tenant_id: str) -> Tenant:
    """The business itself. Raises `NotFound`."""
    tenant = db.session.get(Tenant, tenant_id)
    if tenant is None:
        raise NotFound(f"there is no business {tenant_id[:64]!r}")
    return tenant


def is_tenant(tenant_id: str) -> bool:
    """Whether there is a business of this id."""
    return db.session.get(Tenant, tenant_id) is not None


def load_number(tenant_id: str, number: str) -> TenantNumber:
    """A phone number of this business. Raises `NotFound`."""
    found = db.session.scalar(
        select(TenantNumber).where(
            TenantNumber.tenant_id == tenant_id, TenantNumber.number == number
        )
    )
    if found is None:
        raise NotFound(f"{tenant_id} has no number {number[:40]!r}")
    return found


def load_key(tenant_id: str, key_id: str) -> ApiKey:
    """An API key of this business, revoked or not. Raises `NotFound`."""
    found = db.session.scalar(
        select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == key_id)
    )
    if found is None:
        raise NotFound(f"{tenant_id} has no key {key_id[:40]!r}")
    return found


def load_call(tenant_id: str, call_sid: str) -> Call:
    """A call of this business. Raises `NotFound`."""
    found = db.session.scalar(
        select(Call).where(Call.tenant_id == tenant_id, Call.call_sid == call_sid)
    )
    if found is None:
        raise NotFound(f"there is no call {call_sid[:64]!r}")
    return found


def load_lead(tenant_id: str, number: str) -> Lead:
    """A lead of this business, by its number. Raises `NotFound`."""
    found = db.session.scalar(
        select(Lead).where(Lead.tenant_id == tenant_id, Lead.number == number)
    )
    if found is None:
        raise NotFound(f"there is no lead {number[:40]!r}")
    return found


def load_webhook(tenant_id: str) -> Webhook:
    """The webhook of this business. Raises `NotFound`."""
    found = db.session.get(Webhook, tenant_id)
    if found is None:
        raise NotFound(f"{tenant_id} has no webhook")
    return found


def load_secret(tenant_id: str, secret_id: int) -> WebhookSecret:
    """A secret of this business's webhook. Raises `NotFound`."""
    found = db.session.scalar(
        select(WebhookSecret).where(
            WebhookSecret.tenant_id == tenant_id, WebhookSecret.id == secret_id
        )
    )
    if found is None:
        raise NotFound(f"{tenant_id} has no secret {secret_id}")
    return found


def load_event(tenant_id: str, uid: str) -> Event:
    """An event of this business. Raises `NotFound`."""
    found = db.session.scalar(select(Event).where(Event.tenant_id == tenant_id, Event.uid == uid))
    if found is None:
        raise NotFound(f"{tenant_id} has no event {uid[:64]!r}")
    return found


def numbers_of(tenant_id: str) -> Select[TenantNumber]:
    """The phone numbers of this business."""
    return select(TenantNumber).where(TenantNumber.tenant_id == tenant_id)


def keys_of(tenant_id: str) -> Select[ApiKey]:
    """Its API keys, the revoked ones too."""
    return select(ApiKey).where(ApiKey.tenant_id == tenant_id)


def number_owner(number: str) -> str | None:
    """Whose number this is; a question of whoever runs the service, not of a business."""
    return db.session.scalar(select(TenantNumber.tenant_id).where(TenantNumber.number == number))


def calls_of(tenant_id: str) -> Select[Call]:
    """Its calls."""
    return select(Call).where(Call.tenant_id == tenant_id)


def utterances_of(tenant_id: str) -> Select[Utterance]:
    """What was said on its calls."""
    return select(Utterance).where(Utterance.tenant_id == tenant_id)


def utterances_matching(tenant_id: str, matches: ColumnElement[bool]) -> Select[Utterance]:
    """Those of its utterances that an index of words finds.

    Whose they are is compared row by row: that index has each business's words by themselves, and
    PostgreSQL would read all of the business's entries in another index to compare them with it.
    """
    return select(Utterance).where(matches, Utterance.tenant_id.concat("") == tenant_id)


def utterances_among(
    tenant_id: str, ids: Subquery, matches: ColumnElement[bool]
) -> Select[Utterance]:
    """Those of the utterances with these ids that match, looked up id by id."""
    return (
        select(Utterance)
        .select_from(ids)
        .join(Utterance, Utterance.id == ids.c.id)
        .where(matches, Utterance.tenant_id.concat("") == tenant_id)
    )


def utterances_with_calls(tenant_id: str) -> Select[Utterance, str]:
    """What was said on its calls, each with its call's SID."""
    return (
        select(Utterance, Call.call_sid)
        .join(Call, Call.id == Utterance.call_id)
        .where(Utterance.tenant_id == tenant_id, Call.tenant_id == tenant_id)
    )


def leads_of(tenant_id: str) -> Select[Lead]:
    """Its leads."""
    return select(Lead).where(Lead.tenant_id == tenant_id)


def usage_of(tenant_id: str) -> Select[Usage]:
    """Its usage, a row a month."""
    return select(Usage).where(Usage.tenant_id == tenant_id)


def events_of(tenant_id: str) -> Select[Event]:
    """Its events, delivered or not."""
    return select(Event).where(Event.tenant_id == tenant_id)


def secrets_of(tenant_id: str) -> Select[WebhookSecret]:
    """The secrets that its events are signed with."""
    return select(WebhookSecret).where(WebhookSecret.tenant_id == tenant_id)


def deletion_of(tenant_id: str, table: type[ApiKey | Call | Event | Lead | TenantNumber]) -> Delete:
    """Deletes its rows of a table: those that `where` leaves."""
    return delete(table).where(table.tenant_id == tenant_id)


def change_of_events(tenant_id: str) -> Update:
    """Changes its events: those that `where` leaves."""
    return update(Event).where(Event.tenant_id == tenant_id)
