"""The events on their way out, in the database: which are next, and what became of them.

Senders of several processes and machines take from one table. Taking is a conditional update that
must touch exactly one row, and holds for a while only: what a dead sender has taken comes free.
Every method is one step with the database and may wait. Called by the sender's threads.

`next_try_at` is when an event may be taken; of one that is taken, until when; None: it is settled.
An event of a call is taken only when all earlier ones of the call are settled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, func, select, update
from sqlalchemy.orm import Session, aliased

from database import Engines, now
from models import Event, Webhook, WebhookSecret
from webhook_seats import Room

# Of the seats of a sender; a slow one has one
SEATS_OF_A_BUSINESS = 2
# An event is given up so long after it happened, or was to be sent again
TRIED_FOR = timedelta(hours=24)
# Longer than a post may take, its name's resolution included
LEASE_SECONDS = 45.0
_LOOK_AT = 8
_ERROR_LENGTH = 300
# So many are counted: a look every few seconds must not cost more
MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that was taken, and where it goes: `url` is None if there is no webhook any more.

    `since`: when its time began to run. `held_until`: until when nobody else takes it.
    """

    event_id: int
    uid: str
    tenant_id: str
    call_id: int | None
    type: str
    body: str
    tries: int
    since: datetime
    held_until: datetime
    url: str | None
    secrets: tuple[str, ...]


class WebhookQueue:
    """What the sender `worker_id` takes and settles."""

    def __init__(
        self, engines: Engines, worker_id: str, *, now: Callable[[], datetime] = now
    ) -> None:
        self._engines = engines
        self._worker_id = worker_id
        self._lease = timedelta(seconds=LEASE_SECONDS)
        self.now = now

    def take(self, room: Room) -> list[Delivery] | None:
        """Events that are due, as many as there is room for.

        None: no business has a webhook, so that there is little to look for.
        """
        at = self.now()
        with self._engines.reading() as session:
            if session.scalar(select(Webhook.tenant_id).limit(1)) is None:
                return None
            found = _find_due(session, at, room)
        if not found:
            return []
        with self._engines.writing() as session:
            # in the same order everywhere, so that two senders never wait for each other
            taken = [event_id for event_id in sorted(found) if self._claim(session, event_id, at)]
            return self._deliveries(session, taken)

    def waiting(self) -> tuple[int, float]:
        """How many events are still to be sent, of all businesses, and the oldest one's age (s)."""
        some = (
            select(Event.created_at)
            .where(Event.next_try_at.is_not(None))
            .limit(MOST_COUNTED)
            .subquery()
        )
        with self._engines.reading() as session:
            count, oldest = session.execute(
                select(func.count(), func.min(some.c.created_at)).select_from(some)
            ).one()
        age = 0.0 if oldest is None else (self.now() - oldest).total_seconds()
        return count, max(0.0, age)

    def delivered(self, delivery: Delivery) -> bool:
        """It has arrived. False: it is not this sender's any more."""
        with self._engines.writing() as session:
            return self._settle_delivered(session, delivery)

    def delivered_take_next(self, delivery: Delivery) -> Delivery | None:
        """It has arrived; takes the next event of its call in the same step, if that is due."""
        at = self.now()
        with self._engines.writing() as session:
            if not self._settle_delivered(session, delivery):
                return None
            next_id = session.scalar(
                select(Event.id)
                .where(Event.call_id == delivery.call_id, Event.next_try_at.is_not(None))
                .order_by(Event.id)
                .limit(1)
            )
            if next_id is None or not self._claim(session, next_id, at):
                return None
            return self._deliveries(session, [next_id])[0]

    def failed(self, delivery: Delivery, error: str, next_try_at: datetime | None) -> bool:
        """It has not arrived; None gives it up. False: it is not this sender's any more."""
        values: dict[str, Any] = {"next_try_at": next_try_at, "last_error": error[:_ERROR_LENGTH]}
        if next_try_at is None:
            values["given_up_at"] = self.now()
        with self._engines.writing() as session:
            if not self._settle(session, delivery, **values):
                return False
            if next_try_at is not None and delivery.call_id is not None:
                # what must wait for it need not be looked at before
                session.execute(
                    update(Event)
                    .where(
                        Event.call_id == delivery.call_id,
                        Event.id > delivery.event_id,
                        Event.next_try_at < next_try_at,
                    )
                    .values(next_try_at=next_try_at)
                )
            return True

    def _claim(self, session: Session, event_id: int, at: datetime) -> bool:
        return _touched_one(
            session.execute(
                update(Event)
                .where(Event.id == event_id, Event.next_try_at <= at, _is_first_of_its_call())
                .values(claimed_by=self._worker_id, next_try_at=at + self._lease)
                .execution_options(synchronize_session=False)
            )
        )

    def _settle_delivered(self, session: Session, delivery: Delivery) -> bool:
        return self._settle(
            session, delivery, delivered_at=self.now(), next_try_at=None, last_error=None
        )

    def _settle(self, session: Session, delivery: Delivery, **values: Any) -> bool:
        return _touched_one(
            session.execute(
                update(Event)
                .where(
                    Event.id == delivery.event_id,
                    Event.claimed_by == self._worker_id,
                    Event.next_try_at == delivery.held_until,
                )
                .values(claimed_by=None, tries=delivery.tries + 1, **values)
            )
        )

    def _deliveries(self, session: Session, taken: list[int]) -> list[Delivery]:
        rows = session.execute(
            select(Event, Webhook.url)
            .outerjoin(Webhook, Webhook.tenant_id == Event.tenant_id)
            .where(Event.id.in_(taken))
            .order_by(Event.id)
        ).all()
        secrets: dict[str, list[str]] = {}
        of_these = WebhookSecret.tenant_id.in_({event.tenant_id for event, _ in rows})
        # the newest first, for receivers that look at one signature only
        newest_first = select(WebhookSecret).where(of_these).order_by(WebhookSecret.id.desc())
        for secret in session.scalars(newest_first):
            secrets.setdefault(secret.tenant_id, []).append(secret.secret)
        return [
            _delivery(event, url, tuple(secrets.get(event.tenant_id, ()))) for event, url in rows
        ]


def _find_due(session: Session, at: datetime, room: Room) -> list[int]:
    """The ids of events to be taken, whose businesses have room.

    Who has no seat yet comes first, whatever has waited for longer.
    """
    used = Counter(room.busy)
    among = Event.tenant_id.not_in(list(room.slow))
    found = _fill(session, at, room.seats, used, among, each=1)
    if used:
        more = room.seats - len(found)
        found += _fill(session, at, more, used, among, each=SEATS_OF_A_BUSINESS, but=found)
    if room.slow:
        among = Event.tenant_id.in_(list(room.slow))
        found += _fill(session, at, room.slow_seats, Counter(room.slow), among, each=1)
    return found


def _fill(
    session: Session,
    at: datetime,
    seats: int,
    used: Counter[str],
    among: ColumnElement[bool],
    *,
    each: int,
    but: Collection[int] = (),
) -> list[int]:
    """The ids of so many due events, `each` of a business; counts them as `used`."""
    found: list[int] = []
    while len(found) < seats:
        full = [tenant for tenant, count in used.items() if count >= each]
        rows = session.execute(
            select(Event.id, Event.tenant_id)
            .where(
                Event.next_try_at <= at,
                among,
                Event.tenant_id.not_in(full),
                Event.id.not_in([*but, *found]),
                _is_first_of_its_call(),
            )
            .order_by(Event.next_try_at, Event.id)
            .limit(_LOOK_AT)
        ).all()
        for event_id, tenant_id in rows:
            if len(found) < seats and used[tenant_id] < each:
                used[tenant_id] += 1
                found.append(event_id)
        if len(rows) < _LOOK_AT:
            break  # these were all; else one business's may have hidden another's
    return found


def _is_first_of_its_call() -> ColumnElement[bool]:
    """Whether all earlier events of the call are settled."""
    earlier = aliased(Event)
    return ~(
        select(earlier.id)
        .where(
            earlier.call_id == Event.call_id,
            earlier.id < Event.id,
            earlier.next_try_at.is_not(None),
        )
        .correlate(Event)
        .exists()
    )


def _delivery(event: Event, url: str | None, secrets: tuple[str, ...]) -> Delivery:
    assert event.next_try_at is not None  # it was taken in this transaction
    return Delivery(
        event_id=event.id,
        uid=event.uid,
        tenant_id=event.tenant_id,
        call_id=event.call_id,
        type=event.type,
        body=event.payload,
        tries=event.tries,
        since=event.resent_at or event.created_at,
        held_until=event.next_try_at,
        url=url,
        secrets=secrets,
    )


def _touched_one(result: Any) -> bool:
    assert isinstance(result, CursorResult)
    return result.rowcount == 1
