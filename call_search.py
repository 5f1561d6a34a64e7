"""Finds calls and what was said on them, newest first, in work that does not grow with the records.

PostgreSQL's index of words knows no order. So it is asked only for words that are rare: first the
newest few thousand utterances of the business are looked through, which is where common words are
found at once. SQLite's FTS5 reads its index newest first by itself.

All of it waits for the database, and uses `db.session` in an application's context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    column,
    exists,
    literal,
    literal_column,
    or_,
    select,
    table,
    tuple_,
    union,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.sql.expression import cast

from business_records import calls_of, utterances_matching, utterances_of
from database import db
from models import Call, Utterance
from search_words import AskedWord

# What is looked through before the index is asked: so many times what a page shows
_NEWEST_UTTERANCES = 60
_NEWEST_CALLS = 4

_LAST_ID = 2**63 - 1


class CallPlace(NamedTuple):
    """Where a page of calls ended."""

    started_at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls are asked for; None and () let all pass."""

    since: datetime | None = None
    until: datetime | None = None
    number: str | None = None
    outcome: str | None = None
    live: bool | None = None
    said: Sequence[AskedWord] = ()


def find_calls(
    tenant_id: str, asked: CallFilter, limit: int, after: CallPlace | None = None
) -> Sequence[Call]:
    """At most `limit` calls of the business, newest first, that began before `after`."""
    calls = _filtered(tenant_id, asked, after)
    if not asked.said:
        return _newest(tenant_id, _newest_ids(calls, asked.number, limit), limit)
    said = _Said(tenant_id, asked.said)
    if not said.is_ordered:
        looked_at = limit * _NEWEST_CALLS
        ids = db.session.scalars(_newest_ids(calls, asked.number, looked_at)).all()
        found = _newest(tenant_id, ids, limit, said.on_call())
        if len(found) == limit or len(ids) < looked_at:
            return found
    if asked.number is not None:
        calls = calls.where(or_(Call.caller == asked.number, Call.called == asked.number))
    hits = said.hits().cte("hits").prefix_with("MATERIALIZED", dialect="postgresql")
    is_hit = Call.id.in_(select(hits.c.call_id))
    return _newest(tenant_id, calls.with_only_columns(Call.id), limit, is_hit)


def find_utterances(
    tenant_id: str, said: Sequence[AskedWord], limit: int, before: int | None = None
) -> Sequence[tuple[Utterance, str]]:
    """At most `limit` utterances with all the words, newest first, each with its call's SID.

    `before`: the id of the last one of the page before.
    """
    ids = _Said(tenant_id, said).newest(limit, _LAST_ID if before is None else before)
    rows = db.session.execute(
        utterances_of(tenant_id)
        .join(Call, Call.id == Utterance.call_id)
        .add_columns(Call.call_sid)
        .where(Utterance.id.in_(ids))
        .order_by(Utterance.id.desc())
    )
    return [(utterance, call_sid) for utterance, call_sid in rows]


def _filtered(tenant_id: str, asked: CallFilter, after: CallPlace | None) -> Select[Call]:
    calls = calls_of(tenant_id)
    if asked.since is not None:
        calls = calls.where(Call.started_at >= asked.since)
    if asked.until is not None:
        calls = calls.where(Call.started_at < asked.until)
    if asked.outcome is not None:
        calls = calls.where(Call.outcome == asked.outcome)
    if asked.live is not None:
        calls = calls.where(Call.ended_at.is_(None) if asked.live else Call.ended_at.is_not(None))
    if after is not None:
        at = literal(after.started_at, Call.started_at.type)
        calls = calls.where(
            tuple_(Call.started_at, Call.id) < tuple_(at, literal(after.id, Call.id.type))
        )
    return calls


def _newest_ids(calls: Select[Call], number: str | None, count: int) -> Any:
    """The ids of the newest of `calls`; for a number, by an index for each of its columns."""
    ids = calls.with_only_columns(Call.id)
    newest = ids.order_by(Call.started_at.desc(), Call.id.desc()).limit(count)
    if number is None:
        return newest
    either = (newest.where(of == number).subquery() for of in (Call.caller, Call.called))
    return union(*(select(one.c.id) for one in either))


def _newest(tenant_id: str, ids: Any, limit: int, *more: ColumnElement[bool]) -> Sequence[Call]:
    return db.session.scalars(
        calls_of(tenant_id)
        .where(Call.id.in_(ids), *more)
        .order_by(Call.started_at.desc(), Call.id.desc())
        .limit(limit)
    ).all()


class _Said:
    """The utterances of a business with all these words.

    What is asked is made of words without any sign that the databases' own languages know.
    """

    def __init__(self, tenant_id: str, said: Sequence[AskedWord]) -> None:
        self._tenant_id = tenant_id
        self._utterances = utterances_of(tenant_id)
        self.is_ordered = db.session.get_bind().dialect.name == "sqlite"
        if self.is_ordered:
            self._fts = fts = table("search_utterances", column("rowid"))
            question = literal_column("search_utterances").op("MATCH")(_fts5_question(said))
            self._matches: ColumnElement[bool] = Utterance.id.in_(
                select(fts.c.rowid).where(question)
            )
            self._question = question
        else:
            self._matches = literal_column("utterances.search_words").op("@@")(
                cast(_postgresql_question(tenant_id, said), TSQUERY)
            )

    def hits(self) -> Select[int, int]:
        """All of them, in no order."""
        found = utterances_matching(self._tenant_id, self._matches)
        return found.with_only_columns(Utterance.id, Utterance.call_id)

    def on_call(self) -> ColumnElement[bool]:
        """Whether one of them is on the call; looked up call by call, not all at once."""
        on_this = self._utterances.where(Utterance.call_id == Call.id, self._matches)
        return exists(on_this.with_only_columns(Utterance.id).correlate(Call).offset(0))

    def newest(self, count: int, before: int) -> Sequence[int]:
        """The ids of the newest ones below `before`, newest first."""
        if self.is_ordered:
            return self._newest_of_sqlite(count, before)
        # the ids alone, first: for them PostgreSQL reads this business's part of an index, not
        # all that others have said meanwhile
        ids = self._utterances.with_only_columns(Utterance.id).where(Utterance.id < before)
        window = ids.order_by(Utterance.id.desc()).limit(count * _NEWEST_UTTERANCES)
        place = window.subquery("newest")
        newest = (
            utterances_matching(self._tenant_id, self._matches)
            .with_only_columns(place.c.id)
            .select_from(place)
            .join(Utterance, Utterance.id == place.c.id)
            .order_by(place.c.id.desc())
            .limit(count)
        )
        found = db.session.scalars(newest).all()
        if len(found) == count:
            return found
        hits = self.hits().where(Utterance.id < before).cte("hits")
        hits = hits.prefix_with("MATERIALIZED", dialect="postgresql")
        return db.session.scalars(select(hits.c.id).order_by(hits.c.id.desc()).limit(count)).all()

    def _newest_of_sqlite(self, count: int, before: int) -> Sequence[int]:
        found = (
            self._utterances.with_only_columns(Utterance.id)
            .join(self._fts, self._fts.c.rowid == Utterance.id)
            .where(self._question, self._fts.c.rowid < before)
            .order_by(self._fts.c.rowid.desc())
            .limit(count)
        )
        return db.session.scalars(found).all()


def _postgresql_question(tenant_id: str, said: Sequence[AskedWord]) -> str:
    """As 'clinic/word':* for each form, which a row has if any is there, and all words."""

    def one(asked: AskedWord) -> str:
        sign = ":*" if asked.begins else ""
        return " | ".join(f"'{tenant_id}/{form}'{sign}" for form in asked.forms())

    return " & ".join(f"({one(asked)})" for asked in said)


def _fts5_question(said: Sequence[AskedWord]) -> str:
    def one(asked: AskedWord) -> str:
        sign = " *" if asked.begins else ""
        return " OR ".join(f'"{form}"{sign}' for form in asked.forms())

    return " AND ".join(f"({one(asked)})" for asked in said)
