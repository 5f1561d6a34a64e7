"""What the tests of webhooks share: businesses with webhooks, events of calls, and senders."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from webhook_receiver import SECRET, event_body

from businesses import Business
from database import Engines, database_url
from models import Call, Event, Webhook, WebhookSecret
from tenant_directory import add_business
from webhook_client import WebhookClient
from webhook_queue import WebhookQueue
from webhook_sender import WebhookSender

AT = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = AT) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)


@contextmanager
def engines_at(url: str) -> Iterator[Engines]:
    engines = Engines(database_url(url))
    try:
        yield engines
    finally:
        engines.dispose()


def add_webhook(engines: Engines, tenant_id: str, url: str, secret: str = SECRET) -> None:
    """A business whose events go to `url`."""
    with engines.writing() as session:
        add_business(session, Business(tenant_id))
        session.add(Webhook(tenant_id=tenant_id, url=url))
        session.add(WebhookSecret(tenant_id=tenant_id, secret=secret))


def add_events(
    engines: Engines, tenant_id: str, call_sid: str, marks: range, at: datetime = AT
) -> list[str]:
    """Events of a call, which it is made for; `data.n` of each is its mark. Returns their ids."""
    uids = [uuid.uuid4().hex for _ in marks]
    with engines.writing() as session:
        call = session.scalar(select(Call).where(Call.call_sid == call_sid))
        if call is None:
            call = Call(call_sid=call_sid, tenant_id=tenant_id, started_at=at)
            session.add(call)
            session.flush()
        for uid, n in zip(uids, marks, strict=True):
            session.add(
                Event(
                    uid=uid,
                    tenant_id=tenant_id,
                    call_id=call.id,
                    type="utterance.final",
                    payload=event_body(uid, call_sid=call_sid, n=n),
                    created_at=at,
                    next_try_at=at,
                )
            )
            session.flush()  # in this order
    return uids


def events(engines: Engines, tenant_id: str | None = None) -> list[Event]:
    """All events, in the order in which they happened."""
    query = select(Event).order_by(Event.id)
    if tenant_id is not None:
        query = query.where(Event.tenant_id == tenant_id)
    with engines.reading() as session:
        return list(session.scalars(query))


class Senders:
    """Senders as several processes would run them, on one database; `stop()` ends all."""

    def __init__(self, engines: Engines, number: int = 1, *, seconds: float = 2.0) -> None:
        self.all = [
            WebhookSender(
                WebhookQueue(engines, f"worker-{n}"),
                WebhookClient(allow_private=True, seconds=seconds),
                pause=lambda tries: 0.1,
            )
            for n in range(number)
        ]

    def __enter__(self) -> Senders:
        for sender in self.all:
            sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        threads = [threading.Thread(target=sender.stop) for sender in self.all]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for sender in self.all:
            assert sender.wait_until_idle(20)
