"""What the tests of records share: records as a call would leave them, and a look at the tables."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from businesses import Business
from call_records import CallParties, Said, StreamCounts, StreamEnded, StreamStarted
from database import Engines, database_url
from models import Webhook
from tenant_directory import add_business

AT = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
PARTIES = CallParties("+972501111111", "+97231234567")


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@contextmanager
def engines_at(url: str, *businesses: str, webhooks: bool = False) -> Iterator[Engines]:
    """The engines of a database in which these businesses are."""
    engines = Engines(database_url(url))
    try:
        with engines.writing() as session:
            for name in businesses:
                add_business(session, Business(name))
                if webhooks:
                    session.add(Webhook(tenant_id=name, url="https://receiver.example/"))
        yield engines
    finally:
        engines.dispose()


def started(
    call_sid: str = "CA1",
    tenant_id: str = "clinic",
    *,
    at: datetime = AT,
    parties: CallParties = PARTIES,
) -> StreamStarted:
    return StreamStarted(uuid.uuid4().hex, call_sid, tenant_id, parties, at)


def said(stream: StreamStarted, text: str, start_ms: int = 0, **fields: Any) -> Said:
    known: dict[str, Any] = {
        "uid": uuid.uuid4().hex,
        "stream_id": stream.stream_id,
        "tenant_id": stream.tenant_id,
        "track": "",
        "start_ms": start_ms,
        "end_ms": start_ms + 1000,
        "text": text,
        "confidence": 0.9,
        "fallback": False,
        "at": stream.at + timedelta(milliseconds=start_ms + 1500),
    }
    return Said(**(known | fields))


def ended(stream: StreamStarted, after: float = 60, **fields: Any) -> StreamEnded:
    known: dict[str, Any] = {
        "stream_id": stream.stream_id,
        "tenant_id": stream.tenant_id,
        "at": stream.at + seconds(after),
        "code": 1000,
        "reason": "the call has ended",
        "counts": StreamCounts(3000, 2, 1.5, 1, 60.0, 61.0),
        "fallbacks": 1,
        "results": 4,
        "delay_sum_ms": 800,
        "delay_worst_ms": 500,
    }
    return StreamEnded(**(known | fields))


def rows(engines: Engines, table: Any, *conditions: Any) -> list[Any]:
    """The rows of a table by their id, apart from their session."""
    with engines.reading() as session:
        found = list(session.scalars(select(table).where(*conditions).order_by(table.id)))
        session.expunge_all()
        return found


def one(engines: Engines, table: Any) -> Any:
    """The only row of a table."""
    [row] = rows(engines, table)
    return row
