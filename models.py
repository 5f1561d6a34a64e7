"""The tables: businesses and what belongs to them, calls and what was said on them.

Only shapes: who may see a row is decided in `business_records.py`, what a call writes in
`record_store.py`. Every table belongs to a business, by `tenant_id`, but those of the workers.
Moments are UTC; times within a call are milliseconds of its own clock.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import JSON

from database import Base, UtcDateTime, db, now

if TYPE_CHECKING:
    Model = Base
else:  # made when the program runs, so that the type checker cannot know it
    Model = db.Model

# SQLite counts rows by itself only in an INTEGER
Serial = BigInteger().with_variant(Integer, "sqlite")
Moment = UtcDateTime()


def _of_tenant(*, primary_key: bool = False) -> Mapped[str]:
    return mapped_column(
        String(64), ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=primary_key
    )


class Tenant(Model):
    """A business, and how its calls are taken; None is what the settings say."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    language: Mapped[str | None] = mapped_column(String(20))
    model: Mapped[str | None] = mapped_column(String(40))
    hints: Mapped[list[str]] = mapped_column(JSON, default=list)
    punctuation: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    profanity_filter: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    region: Mapped[str] = mapped_column(String(10), default="global", server_default="global")
    google_key_env: Mapped[str | None] = mapped_column(String(100))
    max_calls: Mapped[int | None] = mapped_column(Integer)
    forward: Mapped[str | None] = mapped_column(String(20))
    when_full: Mapped[str] = mapped_column(String(10), default="say", server_default="say")
    sentence: Mapped[str | None] = mapped_column(String(500))
    time_zone: Mapped[str] = mapped_column(
        String(64), default="Asia/Jerusalem", server_default="Asia/Jerusalem"
    )
    keep_days: Mapped[int] = mapped_column(Integer, default=365, server_default="365")
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class TenantNumber(Model):
    """A phone number (E.164) that belongs to one business and no other."""

    __tablename__ = "tenant_numbers"

    number: Mapped[str] = mapped_column(String(20), primary_key=True)
    tenant_id: Mapped[str] = _of_tenant()
    added_at: Mapped[datetime] = mapped_column(Moment, default=now)

    __table_args__ = (Index("ix_tenant_numbers_tenant", "tenant_id"),)


class ApiKey(Model):
    """A key to a business's records; of the secret itself only a hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)  # the key's first part
    tenant_id: Mapped[str] = _of_tenant()
    name: Mapped[str] = mapped_column(String(100), default="")
    hash: Mapped[str] = mapped_column(String(64))  # SHA-256, hex
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (Index("ix_api_keys_tenant", "tenant_id"),)


class Call(Model):
    """A phone call, over all of its streams.

    `ended_at` is None while the call lives. A stream that broke leaves `resume_by`: the moment at
    which the call counts as ended unless a new stream of it has come.
    """

    __tablename__ = "calls"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    call_sid: Mapped[str] = mapped_column(String(64), unique=True)
    tenant_id: Mapped[str] = _of_tenant()
    caller: Mapped[str] = mapped_column(String(40), default="")  # "From"
    called: Mapped[str] = mapped_column(String(40), default="")  # "To"
    direction: Mapped[str] = mapped_column(String(40), default="inbound")
    started_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    outcome: Mapped[str | None] = mapped_column(String(20))  # see call_records.Outcome
    reason: Mapped[str | None] = mapped_column(String(200))
    close_code: Mapped[int | None] = mapped_column(Integer)
    seconds: Mapped[float] = mapped_column(default=0.0)  # of audio, on the call's clock
    google_seconds: Mapped[float] = mapped_column(default=0.0)  # sent to Google, replays included
    frames: Mapped[int] = mapped_column(Integer, default=0)
    dropped: Mapped[int] = mapped_column(Integer, default=0)
    lost_seconds: Mapped[float] = mapped_column(default=0.0)
    streams: Mapped[int] = mapped_column(Integer, default=1)
    rotations: Mapped[int] = mapped_column(Integer, default=0)
    fallbacks: Mapped[int] = mapped_column(Integer, default=0)
    results: Mapped[int] = mapped_column(Integer, default=0)
    delay_sum_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    delay_worst_ms: Mapped[int] = mapped_column(Integer, default=0)
    resume_by: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        Index("ix_calls_tenant_started", "tenant_id", "started_at", "id"),
        Index("ix_calls_tenant_caller", "tenant_id", "caller"),
        Index(
            "ix_calls_resumed",
            "resume_by",
            postgresql_where=text("resume_by IS NOT NULL"),
            sqlite_where=text("resume_by IS NOT NULL"),
        ),
        # an id that came again would give what is still said on a deleted call to another one
        {"sqlite_autoincrement": True},
    )

    @property
    def delay_mean_ms(self) -> int | None:
        """The mean recognition delay of its results."""
        return self.delay_sum_ms // self.results if self.results else None


class CallStream(Model):
    """One media stream of a call. `lost`: its worker died, and ended it no more.

    `guessed_seconds`: what was counted for a lost one, by the clock on the wall.
    """

    __tablename__ = "call_streams"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    call_id: Mapped[int] = mapped_column(Serial, ForeignKey("calls.id", ondelete="CASCADE"))
    tenant_id: Mapped[str] = _of_tenant()
    worker_id: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    lost: Mapped[bool] = mapped_column(default=False)
    guessed_seconds: Mapped[float] = mapped_column(default=0.0)

    __table_args__ = (
        Index("ix_call_streams_call", "call_id"),
        Index(
            "ix_call_streams_open",
            "worker_id",
            postgresql_where=text("ended_at IS NULL"),
            sqlite_where=text("ended_at IS NULL"),
        ),
    )


class Utterance(Model):
    """A final result, as it was said."""

    __tablename__ = "utterances"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)  # so that it is written once
    call_id: Mapped[int] = mapped_column(Serial, ForeignKey("calls.id", ondelete="CASCADE"))
    tenant_id: Mapped[str] = _of_tenant()
    track: Mapped[str] = mapped_column(String(10))
    start_ms: Mapped[int] = mapped_column(Integer)
    end_ms: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(Text)
    confidence: Mapped[float | None] = mapped_column()
    fallback: Mapped[bool] = mapped_column(default=False)
    said_at: Mapped[datetime] = mapped_column(Moment)

    __table_args__ = (
        Index("ix_utterances_call", "call_id", "start_ms", "id"),
        Index("ix_utterances_tenant", "tenant_id", "id"),
    )


class Lead(Model):
    """Somebody who called a business, by number."""

    __tablename__ = "leads"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    tenant_id: Mapped[str] = _of_tenant()
    number: Mapped[str] = mapped_column(String(40))
    calls: Mapped[int] = mapped_column(Integer, default=1)
    first_call_at: Mapped[datetime] = mapped_column(Moment)
    last_call_at: Mapped[datetime] = mapped_column(Moment)
    name: Mapped[str] = mapped_column(String(200), default="")
    notes: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        UniqueConstraint("tenant_id", "number", name="uq_leads_tenant_number"),
        Index("ix_leads_tenant_last", "tenant_id", "last_call_at", "id"),
    )


class Usage(Model):
    """What a business used in a month of its own time zone; it outlives the calls."""

    __tablename__ = "usage"

    tenant_id: Mapped[str] = _of_tenant(primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)  # 2026-11
    calls: Mapped[int] = mapped_column(Integer, default=0)
    seconds: Mapped[float] = mapped_column(default=0.0)
    google_seconds: Mapped[float] = mapped_column(default=0.0)


class Webhook(Model):
    """Where the events of a business are sent."""

    __tablename__ = "webhooks"

    tenant_id: Mapped[str] = _of_tenant(primary_key=True)
    url: Mapped[str] = mapped_column(String(2000))
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class WebhookSecret(Model):
    """A secret with which a business's events are signed; several while one is rotated."""

    __tablename__ = "webhook_secrets"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    tenant_id: Mapped[str] = _of_tenant()
    secret: Mapped[str] = mapped_column(String(100))  # whsec_…
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)

    __table_args__ = (Index("ix_webhook_secrets_tenant", "tenant_id"),)


class Event(Model):
    """An event on its way out to a business. Those of a call go in the order of their ids."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    tenant_id: Mapped[str] = _of_tenant()
    call_id: Mapped[int | None] = mapped_column(Serial, ForeignKey("calls.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(40))
    payload: Mapped[str] = mapped_column(Text)  # JSON, as it is sent
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    tries: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[datetime | None] = mapped_column(Moment)  # None: delivered or given up
    claimed_by: Mapped[str | None] = mapped_column(String(32))
    delivered_at: Mapped[datetime | None] = mapped_column(Moment)
    given_up_at: Mapped[datetime | None] = mapped_column(Moment)
    resent_at: Mapped[datetime | None] = mapped_column(Moment)  # its time begins anew
    last_error: Mapped[str | None] = mapped_column(String(300))

    __table_args__ = (
        Index(
            "ix_events_due",
            "next_try_at",
            "id",
            postgresql_where=text("next_try_at IS NOT NULL"),
            sqlite_where=text("next_try_at IS NOT NULL"),
        ),
        Index("ix_events_call", "call_id", "id"),
        Index("ix_events_tenant", "tenant_id", "id"),
    )


class Worker(Model):
    """A process that takes calls; one that is not seen any more is dead, and its calls are lost."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(Moment)


class EndedCall(Model):
    """Twilio says that a call is over: for the worker that holds its socket."""

    __tablename__ = "ended_calls"

    call_sid: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment, index=True)


class ServiceState(Model):
    """What all workers share. One row. `version` counts the changes of businesses."""

    __tablename__ = "service_state"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    version: Mapped[int] = mapped_column(Integer, default=0)
    purged_at: Mapped[datetime | None] = mapped_column(Moment)  # when a day's purge began
