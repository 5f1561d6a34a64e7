"""Deletes what a business holds: a call, or everything about the number of somebody who called.

The databases take with a call its utterances, streams and events. A live call is left alone: what
is still said on it would be written to nothing. Whoever calls has said `writes()`, and commits.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, CursorResult, and_, func, or_, select

from business_records import calls_of, deletion_of, events_of, load_call, utterances_of
from call_search import forget_deleted_words
from database import db
from models import Call, Event, Lead, Utterance


class Deleted(NamedTuple):
    """How many rows of each kind went."""

    calls: int
    utterances: int
    events: int
    leads: int


def delete_call(tenant_id: str, call_sid: str) -> Deleted | None:
    """Delete an ended call; None if it is live. Raises `NotFound`."""
    call = load_call(tenant_id, call_sid)
    return _delete(tenant_id, Call.id == call.id)


def delete_number(tenant_id: str, number: str) -> Deleted | None:
    """Delete the calls and the lead of this number; None, and nothing, if one of them is live.

    A number that the business has nothing about is deleted too: none of each.
    """
    outbound = Call.direction.startswith("outbound")
    deleted = _delete(
        tenant_id,
        or_(and_(Call.caller == number, ~outbound), and_(Call.called == number, outbound)),
    )
    if deleted is None:
        return None
    gone = db.session.execute(deletion_of(tenant_id, Lead).where(Lead.number == number))
    assert isinstance(gone, CursorResult)
    return deleted._replace(leads=gone.rowcount)


def _delete(tenant_id: str, which: ColumnElement[bool]) -> Deleted | None:
    calls = calls_of(tenant_id).where(which).with_only_columns(Call.id, Call.ended_at)
    found = db.session.execute(calls.with_for_update()).all()
    if any(ended_at is None for _, ended_at in found):
        return None
    # these and no others: a call of this number may have begun since
    ids = [call_id for call_id, _ in found]
    counts = (
        db.session.scalar(select(func.count()).select_from(rows.subquery())) or 0
        for rows in (
            utterances_of(tenant_id).where(Utterance.call_id.in_(ids)),
            events_of(tenant_id).where(Event.call_id.in_(ids)),
        )
    )
    utterances, events = counts
    db.session.execute(
        deletion_of(tenant_id, Call).where(Call.id.in_(ids)),
        execution_options={"synchronize_session": False},
    )
    if utterances:
        forget_deleted_words()
    return Deleted(len(found), utterances, events, 0)
