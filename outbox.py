"""Events for businesses, written with the records that they are about, in the same transaction.

So an event is on its way exactly if its record is there. `webhook_sender.py` takes them from the
table. A business without a webhook gets none.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from database import insert_into, now
from models import Call, Event, Lead, Webhook


class Outbox:
    """The events of one transaction; `flush()` writes those that were noted."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._listening: dict[str, bool] = {}
        self._noted: list[dict[str, Any]] = []

    def call_started(self, call: Call) -> None:
        self._note(call.tenant_id, call.id, "call.started", call_data(call))

    def call_ended(self, call: Call) -> None:
        self._note(call.tenant_id, call.id, "call.ended", call_data(call))

    def lead_created(self, call: Call, lead: Lead) -> None:
        data = {"number": lead.number, "call_sid": call.call_sid, "at": _iso(lead.first_call_at)}
        self._note(call.tenant_id, call.id, "lead.created", data)

    def utterance(self, call_id: int, call_sid: str, row: dict[str, Any], uid: str) -> None:
        """An utterance, as a row of its table. `uid` makes that its event comes once."""
        fields = ("track", "start_ms", "end_ms", "text", "confidence", "fallback")
        data = {"id": uid, "call_sid": call_sid, "said_at": _iso(row["said_at"])}
        data |= {name: row[name] for name in fields}
        self._note(row["tenant_id"], call_id, "utterance.final", data, uid)

    def flush(self) -> None:
        """Write what was noted."""
        if not self._noted:
            return
        noted, self._noted = self._noted, []
        statement = insert_into(self._session, Event).on_conflict_do_nothing(index_elements=["uid"])
        self._session.execute(statement, noted)

    def _note(
        self, tenant_id: str, call_id: int, kind: str, data: dict[str, Any], uid: str = ""
    ) -> None:
        if not self._listens(tenant_id):
            return
        at = now()
        event_id = uid or uuid.uuid4().hex
        payload = {
            "id": event_id,
            "type": kind,
            "timestamp": _iso(at),
            "business": tenant_id,
            "data": data,
        }
        self._noted.append(
            {
                "uid": event_id,
                "tenant_id": tenant_id,
                "call_id": call_id,
                "type": kind,
                "payload": json.dumps(payload, ensure_ascii=False),
                "created_at": at,
                "tries": 0,
                "next_try_at": at,
            }
        )

    def _listens(self, tenant_id: str) -> bool:
        listens = self._listening.get(tenant_id)
        if listens is None:
            found = select(Webhook.tenant_id).where(Webhook.tenant_id == tenant_id)
            listens = self._listening[tenant_id] = self._session.scalar(found) is not None
        return listens


def call_data(call: Call) -> dict[str, Any]:
    """What an event says of a call."""
    return {
        "call_sid": call.call_sid,
        "from": call.caller,
        "to": call.called,
        "direction": call.direction,
        "started_at": _iso(call.started_at),
        "ended_at": _iso(call.ended_at),
        "outcome": call.outcome,
        "reason": call.reason,
        "seconds": round(call.seconds, 2),
        "lost_seconds": round(call.lost_seconds, 2),
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
