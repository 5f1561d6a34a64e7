"""Calls that nobody ends any more: their worker died, or no new stream of them came.

Every worker notes now and then that it lives; whose note is old is dead. Runs in the watch's
thread. A worker that was only cut off from the database ends its calls with their true figures when
it is back: `record_store.py` takes what is marked as lost for open.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, bindparam, delete, func, select
from sqlalchemy.orm import Session, aliased

from call_records import Outcome
from database import insert_into
from models import Call, CallStream, EndedCall, Tenant, Utterance, Worker
from outbox import Outbox
from record_store import end_call, other_open_stream
from usage import UsageNotes

# Long enough for every worker to have looked, also one that was cut off for a while
_ENDED_CALLS_KEPT = timedelta(hours=1)

# What is asked every second is put together once: that costs ten times as much as to ask
_mine, _newer = aliased(CallStream), aliased(CallStream)
_TAKEN_OVER = (
    select(Call.call_sid)
    .join(_mine, _mine.call_id == Call.id)
    .join(_newer, _newer.call_id == Call.id)
    .where(
        _mine.worker_id == bindparam("worker_id"),
        _mine.ended_at.is_(None),
        _newer.worker_id != bindparam("worker_id"),
        _newer.ended_at.is_(None),
        _newer.started_at > _mine.started_at,
    )
    .distinct()
)
_TOLD_OVER = select(EndedCall.call_sid).where(EndedCall.at >= bindparam("since"))


def note_alive(session: Session, worker_id: str, at: datetime) -> None:
    """This worker lives."""
    insert = insert_into(session, Worker).values(id=worker_id, seen_at=at)
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["id"], set_={"seen_at": insert.excluded.seen_at}
        )
    )


def note_end(session: Session, worker_id: str) -> None:
    """This worker has ended in order."""
    session.execute(delete(Worker).where(Worker.id == worker_id))


def close_lost(session: Session, dead_since: datetime, at: datetime) -> int:
    """Give up the streams whose worker was not seen since then, and end their calls as lost.

    Returns how many calls it ended.
    """
    alive = select(Worker.id).where(Worker.seen_at >= dead_since)
    given_up = _give_up(session, CallStream.worker_id.not_in(alive), at, at)
    session.execute(delete(Worker).where(Worker.seen_at < dead_since))
    return close_broken(session, at).lost if given_up else 0


def give_up_streams_of(
    session: Session, worker_id: str, at: datetime, resume_seconds: float
) -> int:
    """Give up the streams of this worker, which has just died; how many there were.

    Their callers may still be on the line, and come back with another stream: the calls end only
    if none comes.
    """
    resume_by = at + timedelta(seconds=resume_seconds)
    return _give_up(session, CallStream.worker_id == worker_id, at, resume_by)


def _give_up(session: Session, dead: ColumnElement[bool], at: datetime, resume_by: datetime) -> int:
    lost = session.scalars(
        select(CallStream)
        .where(CallStream.ended_at.is_(None), dead)
        .order_by(CallStream.call_id)
        .with_for_update(skip_locked=True)
    ).all()
    usage = UsageNotes()
    for stream in lost:
        call = session.get_one(Call, stream.call_id, with_for_update=True)
        seen_at = session.scalar(select(Worker.seen_at).where(Worker.id == stream.worker_id))
        seen = ((seen_at or at) - stream.started_at).total_seconds()
        seconds = max(0.0, seen, _said_seconds(session, call, stream))
        stream.ended_at, stream.lost, stream.guessed_seconds = at, True, seconds
        call.seconds += seconds
        call.google_seconds += seconds
        tenant = session.get_one(Tenant, call.tenant_id)
        usage.add(tenant, call, seconds=seconds, google_seconds=seconds)
        session.flush()
        if call.ended_at is None and not other_open_stream(session, call):
            call.reason, call.resume_by = "its worker died", resume_by
    usage.write(session)
    session.flush()
    return len(lost)


def _said_seconds(session: Session, call: Call, stream: CallStream) -> float:
    """How far what was said goes into the stream: the worker's last note may be older."""
    ends_ms = select(func.max(Utterance.end_ms)).where(Utterance.call_id == call.id)
    before = (stream.started_at - call.started_at).total_seconds()
    return (session.scalar(ends_ms) or 0) / 1000 - before


class Closed(NamedTuple):
    """How many calls were closed, and how many of them because their worker had died."""

    calls: int
    lost: int


def close_broken(session: Session, at: datetime) -> Closed:
    """End the calls whose stream broke, or was lost, and was not followed by another in time."""
    broken = session.scalars(
        select(Call).where(Call.resume_by <= at).with_for_update(skip_locked=True)
    ).all()
    events = Outbox(session)
    lost = 0
    for call in broken:
        last = session.scalar(
            select(CallStream)
            .where(CallStream.call_id == call.id, CallStream.ended_at.is_not(None))
            .order_by(CallStream.ended_at.desc())
            .limit(1)
        )
        is_lost = last is not None and last.lost
        lost += is_lost
        ended_at = last.ended_at if last is not None else None
        end_call(session, events, call, ended_at or at, Outcome.LOST if is_lost else Outcome.BROKEN)
    events.flush()
    session.execute(delete(EndedCall).where(EndedCall.at < at - _ENDED_CALLS_KEPT))
    return Closed(len(broken), lost)


def told_over(session: Session, since: datetime) -> list[str]:
    """The calls of which Twilio has said since then that they are over."""
    return list(session.scalars(_TOLD_OVER, {"since": since}))


def taken_over(session: Session, worker_id: str) -> Iterable[str]:
    """The calls of this worker that have a newer stream at another one."""
    return session.scalars(_TAKEN_OVER, {"worker_id": worker_id}).all()
