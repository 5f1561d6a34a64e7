"""Finds calls and what was said on them, newest first, in work that does not grow with the records.

PostgreSQL's index of words knows no order, and each of its hits lies in a place of its own on the
disk. So the newest utterances of the business are looked through first, where common words are
found at once; then the index is asked for one stretch of time after the other, each as long as the
hits seen so far let hope for enough. SQLite's FTS5 reads its index newest first by itself.

All of it waits for the database, and uses `db.session` in an application's context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    column,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    table,
    text,
    tuple_,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.sql.expression import cast

from business_records import (
    calls_of,
    utterances_among,
    utterances_matching,
    utterances_of,
    utterances_with_calls,
)
from database import db
from models import Call, Utterance
from search_words import AskedWord

# What is looked through before the index is asked: so many times what a page shows
_NEWEST_UTTERANCES = 20
_NEWEST_CALLS = 4

_LAST_ID = 2**63 - 1

# The runs of ids that the index knows: by `migrations/versions/0003_search_places.py`
_PLACE_BITS = (10, 14, 18, 22)
_MOST_PLACES = 32
# Each stretch is so many times longer than the one before, and the first aims at twice the hits
_LONGER = 8
_AIM = 2


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


def forget_deleted_words() -> None:
    """Have SQLite's index written anew, of all businesses (0.4 s for 100,000 utterances).

    Until then it only notes that the words of deleted utterances are gone.
    """
    if db.session.get_bind().dialect.name == "sqlite":
        db.session.execute(
            text("INSERT INTO search_utterances (search_utterances) VALUES ('optimize')")
        )


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
        utterances_with_calls(tenant_id).where(Utterance.id.in_(ids)).order_by(Utterance.id.desc())
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
    by_caller = newest.where(Call.caller == number).subquery()
    by_called = newest.where(Call.called == number).subquery()
    return union(select(by_caller.c.id), select(by_called.c.id))


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
            asked = cast(_postgresql_question(tenant_id, said), TSQUERY)
            self._matches = literal_column("utterances.search_words").op("@@")(asked)
            # the same for a row that is there already, where no index could be used
            self._row_matches = func.ts_match_vq(literal_column("utterances.search_words"), asked)

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
        matching = utterances_among(self._tenant_id, place, self._row_matches)
        newest = matching.with_only_columns(place.c.id).order_by(place.c.id.desc()).limit(count)
        found = list(db.session.scalars(newest))
        if len(found) == count:
            return found
        ends = select(func.count(), func.min(place.c.id), func.max(place.c.id)).select_from(place)
        looked_at, low, high = db.session.execute(ends).one()
        if looked_at < count * _NEWEST_UTTERANCES:
            return found
        hits_per_id = (len(found) + 1) / (high - low + 1)
        return found + self._older(count - len(found), low, hits_per_id)

    def _older(self, count: int, before: int, hits_per_id: float) -> list[int]:
        """As `newest`, by the index: stretch after stretch of ids, the newest first."""
        found: list[int] = []
        length = int(_AIM * count / hits_per_id) + 1
        while before > 0 and len(found) < count:
            low, places = _places(before, length)
            # hidden from the planner: else it may read all that was said in the stretch
            at = Utterance.id + 0
            stretch = self.hits().where(at < before)
            if low > 0:  # else all of the rest is asked for
                in_places = func.search_places_of(Utterance.id).op("&&")(
                    cast(places, ARRAY(BigInteger))
                )
                stretch = stretch.where(at >= low, in_places)
            hits = stretch.cte("hits").prefix_with("MATERIALIZED")
            newest = select(hits.c.id).order_by(hits.c.id.desc()).limit(count - len(found))
            found += db.session.scalars(newest)
            before, length = low, length * _LONGER
        return found

    def _newest_of_sqlite(self, count: int, before: int) -> Sequence[int]:
        found = (
            self._utterances.with_only_columns(Utterance.id)
            .where(self._fts.c.rowid == Utterance.id, self._question, self._fts.c.rowid < before)
            .order_by(self._fts.c.rowid.desc())
            .limit(count)
        )
        return db.session.scalars(found).all()


def _places(before: int, length: int) -> tuple[int, list[int]]:
    """The places of at least so many ids below `before`, and the lowest id that is in them."""
    low = max(0, before - length)
    fits = [((before - 1) >> bits) - (low >> bits) < _MOST_PLACES for bits in _PLACE_BITS]
    kind = fits.index(True) if True in fits else len(fits) - 1
    bits = _PLACE_BITS[kind]
    first, last = low >> bits, (before - 1) >> bits
    places = [place << 2 | kind for place in range(first, last + 1)]
    return first << bits, places


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
