"""Removes a business with all its records, in batches: no lock is held for long.

It uses `db.session`, within an application's context, and commits each of its steps. What was begun
and broke off is finished by beginning again.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select

from business_records import (
    calls_of,
    deletion_of,
    events_of,
    keys_of,
    leads_of,
    load_tenant,
    numbers_of,
    usage_of,
    utterances_of,
)
from database import db, writes
from models import ApiKey, Call, Event, Lead, TenantNumber
from tenant_changes import begin_change

_BATCH = 200


def count(records: Select[Any]) -> int:
    """How many records a select finds."""
    return db.session.scalar(select(func.count()).select_from(records.subquery())) or 0


def count_records(tenant_id: str) -> dict[str, int]:
    """How many records of each kind a business has. Raises `NotFound`."""
    load_tenant(tenant_id)
    kinds: dict[str, Select[Any]] = {
        "numbers": numbers_of(tenant_id),
        "keys": keys_of(tenant_id),
        "calls": calls_of(tenant_id),
        "utterances": utterances_of(tenant_id),
        "leads": leads_of(tenant_id),
        "events": events_of(tenant_id),
        "usage_months": usage_of(tenant_id),
    }
    return {kind: count(records) for kind, records in kinds.items()}


def count_live_calls(tenant_id: str) -> int:
    """How many of its calls have not ended."""
    return count(calls_of(tenant_id).where(Call.ended_at.is_(None)))


def remove_business(tenant_id: str) -> None:
    """Remove the business: first what lets calls and readers in, then its records, then itself.

    Raises `NotFound`. Calls that come while it goes on belong to no business.
    """
    begin_change()
    load_tenant(tenant_id)
    db.session.execute(deletion_of(tenant_id, TenantNumber))
    db.session.execute(deletion_of(tenant_id, ApiKey))
    db.session.commit()
    while _remove_some(tenant_id):
        pass
    begin_change()
    db.session.delete(load_tenant(tenant_id))  # with what little is left
    db.session.commit()


def _remove_some(tenant_id: str) -> bool:
    """Delete a batch of its records; whether there were any."""
    found = (
        (Call, calls_of(tenant_id).with_only_columns(Call.id)),
        (Lead, leads_of(tenant_id).with_only_columns(Lead.id)),
        (Event, events_of(tenant_id).with_only_columns(Event.id)),
    )
    writes()
    for table, records in found:
        ids = db.session.scalars(records.limit(_BATCH)).all()
        if ids:
            db.session.execute(deletion_of(tenant_id, table).where(table.id.in_(ids)))
            db.session.commit()
            return True
    db.session.rollback()
    return False
