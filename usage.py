"""What a business uses in a month: its calls, their length, and what Google heard of them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from database import insert_into
from models import Call, Tenant, Usage


def month_of(at: datetime, time_zone: str) -> str:
    """The month, as 2026-11, in which this moment lies for a business in `time_zone`."""
    return at.astimezone(ZoneInfo(time_zone)).strftime("%Y-%m")


def add_usage(
    session: Session,
    tenant: Tenant,
    call: Call,
    *,
    calls: int = 0,
    seconds: float = 0.0,
    google_seconds: float = 0.0,
) -> None:
    """Add to the month in which `call` began. Other workers may add at the same time."""
    insert = insert_into(session, Usage).values(
        tenant_id=tenant.id,
        month=month_of(call.started_at, tenant.time_zone),
        calls=calls,
        seconds=seconds,
        google_seconds=google_seconds,
    )
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["tenant_id", "month"],
            set_={
                "calls": Usage.calls + insert.excluded.calls,
                "seconds": Usage.seconds + insert.excluded.seconds,
                "google_seconds": Usage.google_seconds + insert.excluded.google_seconds,
            },
        )
    )
