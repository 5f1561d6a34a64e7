"""Writes what live calls leave: one batch of records, one transaction.

Writing the same batch again changes nothing, so that a commit whose answer was lost may be tried
again: streams and utterances have ids of their own, made where they happened. Runs in the records'
own process (`record_process.py`), and may wait there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

import outbox
from call_records import CallOver, Outcome, Record, Said, StreamEnded, StreamStarted
from database import Engines, insert_into
from leads import touch_lead
from models import Call, CallStream, EndedCall, Tenant, Utterance
from record_messages import Refused
from usage import UsageNotes

# A call whose stream broke has so long to come back with another one
RESUME_SECONDS = 30.0
# Streams whose place is remembered between batches
_REMEMBERED_STREAMS = 2_000


class Unwritable(Exception):
    """A record that belongs to nothing (any more); the text says why."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the utterances of a stream go."""

    call_id: int
    tenant_id: str
    call_sid: str
    offset_ms: int  # of the stream in its call


class RecordStore:
    """Writes for the worker `worker_id`.

    `adds_tenants`: unknown businesses are made, for a laptop where everybody is believed. A call
    whose stream broke may come back within `resume_seconds`.
    """

    def __init__(
        self,
        engines: Engines,
        worker_id: str,
        *,
        adds_tenants: bool = False,
        resume_seconds: float = RESUME_SECONDS,
    ) -> None:
        self._engines = engines
        self._worker_id = worker_id
        self._adds_tenants = adds_tenants
        self._resume_seconds = resume_seconds
        self._places: dict[str, _Place] = {}

    def write(self, batch: Sequence[Record]) -> list[Refused]:
        """Write all of `batch`, in order, or nothing. Returns what belongs nowhere.

        Raises SQLAlchemy's errors.
        """
        with self._engines.writing() as session:
            batch_writer = _Batch(
                session,
                self._worker_id,
                self._adds_tenants,
                self._resume_seconds,
                dict(self._places),
            )
            refused = batch_writer.write(batch)
        # only what is committed is remembered
        self._places = batch_writer.places
        while len(self._places) > _REMEMBERED_STREAMS:
            del self._places[next(iter(self._places))]
        return refused


class _Batch:
    """One transaction."""

    def __init__(
        self,
        session: Session,
        worker_id: str,
        adds_tenants: bool,
        resume_seconds: float,
        places: dict[str, _Place],
    ) -> None:
        self._session = session
        self._worker_id = worker_id
        self._adds_tenants = adds_tenants
        self._resume_seconds = resume_seconds
        self.places = places
        self._said: list[tuple[Said, _Place]] = []
        self._outbox = outbox.Outbox(session)
        self._usage = UsageNotes()

    def write(self, batch: Iterable[Record]) -> list[Refused]:
        refused: list[Refused] = []
        for number, record in enumerate(batch):
            try:
                self._write(record)
            except Unwritable as fault:
                refused.append(Refused(number, str(fault)))
        self._write_said()
        self._usage.write(self._session)
        return refused

    def _write(self, record: Record) -> None:
        if isinstance(record, Said):  # nearly every record
            self._said.append((record, self._place_of(record.stream_id, record.tenant_id)))
            return
        self._write_said()  # before what ends its call, so that its events are in order
        if isinstance(record, StreamStarted):
            self._start(record)
        elif isinstance(record, StreamEnded):
            self._end(record)
        else:
            self._over(record)

    def _place_of(self, stream_id: str, tenant_id: str) -> _Place:
        place = self.places.get(stream_id)
        if place is None:
            found = self._session.execute(
                select(CallStream.started_at, Call)
                .join(Call, Call.id == CallStream.call_id)
                .where(CallStream.id == stream_id)
            ).one_or_none()
            if found is None:
                raise Unwritable("its call is not there (any more)")
            place = self.places[stream_id] = _place(found.Call, found.started_at)
        if place.tenant_id != tenant_id:
            raise Unwritable("its call is another business's")
        return place

    def _write_said(self) -> None:
        if not self._said:
            return
        said, self._said = self._said, []
        rows = [_utterance(record, place) for record, place in said]
        self._insert_new(Utterance, rows, "uid")
        for (record, place), row in zip(said, rows, strict=True):
            self._outbox.utterance(place.call_id, place.call_sid, row, record.uid)
        self._outbox.flush()

    def _insert_new(self, table: Any, rows: list[dict[str, Any]], key: str) -> None:
        statement = insert_into(self._session, table).on_conflict_do_nothing(index_elements=[key])
        self._session.execute(statement, rows)

    def _start(self, record: StreamStarted) -> None:
        session = self._session
        if session.get(CallStream, record.stream_id) is not None:
            return  # written by an earlier try
        call = session.scalar(
            select(Call).where(Call.call_sid == record.call_sid).with_for_update()
        )
        is_new = call is None
        if call is None:
            call = self._new_call(record)
        elif call.tenant_id != record.tenant_id:
            raise Unwritable("its call is another business's")
        else:
            call.streams += 1
            call.ended_at = call.outcome = call.reason = call.close_code = call.resume_by = None
            call.started_at = min(call.started_at, record.at)
        session.add(
            CallStream(
                id=record.stream_id,
                call_id=call.id,
                tenant_id=call.tenant_id,
                worker_id=self._worker_id,
                started_at=record.at,
            )
        )
        session.flush()
        self.places[record.stream_id] = _place(call, record.at)
        if is_new:
            self._outbox.call_started(call)
            lead = touch_lead(session, call)
            if lead is not None and lead.calls == 1:
                self._outbox.lead_created(call, lead)
            self._outbox.flush()

    def _new_call(self, record: StreamStarted) -> Call:
        session = self._session
        tenant = session.get(Tenant, record.tenant_id)
        if tenant is None and self._adds_tenants:
            tenant = Tenant(id=record.tenant_id, name=record.tenant_id)
            session.add(tenant)
            session.flush()
        if tenant is None:
            raise Unwritable("its business is not there (any more)")
        call = Call(
            call_sid=record.call_sid,
            tenant_id=record.tenant_id,
            caller=record.parties.caller,
            called=record.parties.called,
            direction=record.parties.direction,
            started_at=record.at,
        )
        session.add(call)
        session.flush()
        self._usage.add(tenant, call, calls=1)
        return call

    def _end(self, record: StreamEnded) -> None:
        session = self._session
        # locked, as who gives it up locks it: what was guessed for it stays what it is
        stream = session.get(CallStream, record.stream_id, with_for_update=True)
        if stream is None:
            raise Unwritable("its call is not there (any more)")
        if stream.tenant_id != record.tenant_id:
            raise Unwritable("its call is another business's")
        if stream.ended_at is not None and not stream.lost:
            return  # written by an earlier try
        call = session.get_one(Call, stream.call_id, with_for_update=True)
        guessed = stream.guessed_seconds  # it was given up as lost, but its worker lives
        stream.ended_at, stream.lost, stream.guessed_seconds = record.at, False, 0.0
        _count(call, record)
        call.seconds -= guessed
        call.google_seconds -= guessed
        self._usage.add(
            session.get_one(Tenant, call.tenant_id),
            call,
            seconds=record.counts.seconds - guessed,
            google_seconds=record.counts.google_seconds - guessed,
        )
        session.flush()
        if other_open_stream(session, call):
            return  # it was replaced: the call goes on
        call.close_code, call.reason = record.code, record.reason
        if record.outcome is None:
            call.resume_by = record.at + timedelta(seconds=self._resume_seconds)
        else:
            end_call(session, self._outbox, call, record.at, record.outcome)
        self._outbox.flush()

    def _over(self, record: CallOver) -> None:
        session = self._session
        self._insert_new(EndedCall, [{"call_sid": record.call_sid, "at": record.at}], "call_sid")
        call = session.scalar(
            select(Call)
            .where(Call.call_sid == record.call_sid, Call.ended_at.is_(None))
            .with_for_update()
        )
        if call is not None and not other_open_stream(session, call):
            end_call(session, self._outbox, call, record.at, Outcome.COMPLETED)
            self._outbox.flush()


def other_open_stream(session: Session, call: Call) -> bool:
    """Whether a stream of this call is live."""
    found = select(CallStream.id).where(
        CallStream.call_id == call.id, CallStream.ended_at.is_(None)
    )
    return session.scalar(found.limit(1)) is not None


def end_call(
    session: Session, events: outbox.Outbox, call: Call, at: datetime, outcome: Outcome
) -> None:
    """The call is over, at this moment and in this way; its event is written with it."""
    call.ended_at = max(at, call.started_at)
    call.outcome = outcome
    call.resume_by = None
    session.flush()
    events.call_ended(call)


def _count(call: Call, record: StreamEnded) -> None:
    counts = record.counts
    call.frames += counts.frames
    call.dropped += counts.dropped
    call.lost_seconds += counts.lost_seconds
    call.rotations += counts.rotations
    call.seconds += counts.seconds
    call.google_seconds += counts.google_seconds
    call.fallbacks += record.fallbacks
    call.results += record.results
    call.delay_sum_ms += record.delay_sum_ms
    call.delay_worst_ms = max(call.delay_worst_ms, record.delay_worst_ms)


def _place(call: Call, started_at: datetime) -> _Place:
    offset = started_at - call.started_at
    return _Place(call.id, call.tenant_id, call.call_sid, int(offset.total_seconds() * 1000))


def _utterance(record: Said, place: _Place) -> dict[str, Any]:
    return {
        "uid": record.uid,
        "call_id": place.call_id,
        "tenant_id": place.tenant_id,
        "track": record.track or "inbound",
        "start_ms": place.offset_ms + record.start_ms,
        "end_ms": place.offset_ms + record.end_ms,
        "text": record.text,
        "confidence": record.confidence,
        "fallback": record.fallback,
        "said_at": record.at,
    }
