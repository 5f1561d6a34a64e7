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


class UsageNotes:
    """What one transaction adds, by business and month.

    It is written at the end and in one order: other workers add to the same rows, and who holds one
    must not wait for another.
    """

    def __init__(self) -> None:
        self._added: dict[tuple[str, str], tuple[int, float, float]] = {}

    def add(
        self,
        tenant: Tenant,
        call: Call,
        *,
        calls: int = 0,
        seconds: float = 0.0,
        google_seconds: float = 0.0,
    ) -> None:
        """Add to the month in which `call` began."""
        key = tenant.id, month_of(call.started_at, tenant.time_zone)
        known = self._added.get(key, (0, 0.0, 0.0))
        self._added[key] = known[0] + calls, known[1] + seconds, known[2] + google_seconds

    def write(self, session: Session) -> None:
        """Write what was added."""
        for (tenant_id, month), (calls, seconds, google_seconds) in sorted(self._added.items()):
            insert = insert_into(session, Usage).values(
                tenant_id=tenant_id,
                month=month,
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
