"""Deletes what is older than its business wants to keep, in batches: no lock is held for long."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import CursorResult, Select, delete, func, or_, select, update
from sqlalchemy.orm import Session

from models import Call, Event, Lead, ServiceState, Tenant
from webhook_queue import TRIED_FOR

BATCH = 500
# An event that was delivered, or given up, is kept for as long as somebody may ask
_EVENTS_KEPT = timedelta(days=30)
_EVERY = timedelta(hours=24)


def claim_purge(session: Session, at: datetime) -> bool:
    """Whether the purge of this day falls to the caller: it does to one of all workers."""
    due = or_(ServiceState.purged_at.is_(None), ServiceState.purged_at <= at - _EVERY)
    claimed = session.execute(update(ServiceState).where(due).values(purged_at=at))
    assert isinstance(claimed, CursorResult)
    return claimed.rowcount == 1


def purge_some(session: Session, at: datetime, tenant_id: str | None = None) -> int:
    """Delete at most `BATCH` old rows, of one business or of all; how many it were. 0: all is done.

    With a call go its utterances, streams and events. It stays while an event of it waits that has
    time to arrive: for a day after it, at most.
    """
    tenants = select(Tenant.id, Tenant.keep_days)
    if tenant_id is not None:
        tenants = tenants.where(Tenant.id == tenant_id)
    for business, keep_days in session.execute(tenants).all():
        oldest = at - timedelta(days=keep_days)
        for old in _old(business, oldest, at):
            found = session.scalars(old.limit(BATCH)).all()
            if found:
                table = old.column_descriptions[0]["entity"]
                session.execute(delete(table).where(table.id.in_(found)))
                return len(found)
    return 0


def count_old(session: Session, at: datetime, tenant_id: str, keep_days: int) -> dict[str, int]:
    """How many calls, leads and events of a business `purge_some` would delete in all."""
    old = _old(tenant_id, at - timedelta(days=keep_days), at)
    return {
        kind: session.scalar(select(func.count()).select_from(records.subquery())) or 0
        for kind, records in zip(("calls", "leads", "events"), old, strict=True)
    }


def _old(tenant_id: str, oldest: datetime, at: datetime) -> tuple[Select[int], ...]:
    has_time = func.coalesce(Event.resent_at, Event.created_at) >= at - TRIED_FOR
    waits = select(Event.id).where(Event.call_id == Call.id, Event.next_try_at.is_not(None))
    return (
        select(Call.id).where(
            Call.tenant_id == tenant_id,
            Call.started_at < oldest,
            Call.ended_at.is_not(None),
            ~waits.where(has_time).exists(),
        ),
        select(Lead.id).where(Lead.tenant_id == tenant_id, Lead.last_call_at < oldest),
        select(Event.id).where(
            Event.tenant_id == tenant_id,
            Event.next_try_at.is_(None),
            Event.created_at < max(oldest, at - _EVENTS_KEPT),
        ),
    )
