"""Calls that nobody ends any more: their worker died, or no new stream of them came.

Every worker notes now and then that it lives; whose note is old is dead. Runs in the watch's
thread. A worker that was only cut off from the database ends its calls with their true figures when
it is back: `record_store.py` takes what is marked as lost for open.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, bindparam, delete, select
from sqlalchemy.orm import Session, aliased

from call_records import Outcome
from database import insert_into
from models import Call, CallStream, EndedCall, Worker
from outbox import Outbox
from record_store import end_call, other_open_stream

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
    """End the calls whose worker was not seen since then; how many there were."""
    alive = select(Worker.id).where(Worker.seen_at >= dead_since)
    ended = _close(session, CallStream.worker_id.not_in(alive), at)
    session.execute(delete(Worker).where(Worker.seen_at < dead_since))
    return ended


def close_lost_of(session: Session, worker_id: str, at: datetime) -> int:
    """End the calls of this worker, which is known to be dead; how many there were."""
    return _close(session, CallStream.worker_id == worker_id, at)


def _close(session: Session, dead: ColumnElement[bool], at: datetime) -> int:
    lost = session.scalars(
        select(CallStream)
        .where(CallStream.ended_at.is_(None), dead)
        .order_by(CallStream.call_id)
        .with_for_update(skip_locked=True)
    ).all()
    events = Outbox(session)
    ended = 0
    for stream in lost:
        call = session.get_one(Call, stream.call_id, with_for_update=True)
        stream.ended_at, stream.lost = at, True
        session.flush()
        if call.ended_at is None and not other_open_stream(session, call):
            call.reason = "its worker died"
            end_call(session, events, call, at, Outcome.LOST)
            ended += 1
    events.flush()
    return ended


def close_broken(session: Session, at: datetime) -> int:
    """End the calls whose stream broke and was not followed by another one in time."""
    broken = session.scalars(
        select(Call).where(Call.resume_by < at).with_for_update(skip_locked=True)
    ).all()
    events = Outbox(session)
    for call in broken:
        ended_at = session.scalar(
            select(CallStream.ended_at)
            .where(CallStream.call_id == call.id, CallStream.ended_at.is_not(None))
            .order_by(CallStream.ended_at.desc())
            .limit(1)
        )
        end_call(session, events, call, ended_at or at, Outcome.BROKEN)
    events.flush()
    session.execute(delete(EndedCall).where(EndedCall.at < at - _ENDED_CALLS_KEPT))
    return len(broken)


def told_over(session: Session, since: datetime) -> list[str]:
    """The calls of which Twilio has said since then that they are over."""
    return list(session.scalars(_TOLD_OVER, {"since": since}))


def taken_over(session: Session, worker_id: str) -> Iterable[str]:
    """The calls of this worker that have a newer stream at another one."""
    return session.scalars(_TAKEN_OVER, {"worker_id": worker_id}).all()
