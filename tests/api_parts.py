"""A service with two businesses and their records, for tests of the API.

The owner and the teammate have a key each to the same business; the stranger has one to another.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from api import make_app
from api_keys import make_key, revoke_key
from database import db
from models import Call, Event, Lead, Tenant, Usage, Utterance, Webhook
from settings import Settings

START = datetime(2026, 11, 1, 8, tzinfo=UTC)
OWN_NUMBER = "+97231234567"


def api_app(database_url: str, **settings: Any) -> Flask:
    """The application on this database; anybody may ask often."""
    often = {"api_requests_per_minute": 1_000_000, "api_wrong_keys_per_minute": 1_000_000}
    return make_app(
        Settings(
            database_url=database_url,
            **{**often, **settings},
        )
    )


def client_of(app: Flask, key: str | None) -> FlaskClient:
    """Somebody who has this key."""
    client = app.test_client()
    if key is not None:
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


@dataclass
class Office:
    """A business of `app`, to which records are given; `key` is one to all of them."""

    app: Flask
    tenant_id: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        with self.app.app_context():
            db.session.add(Tenant(id=self.tenant_id, name=self.tenant_id))
            db.session.commit()
        self.key = self.new_key()

    @property
    def client(self) -> FlaskClient:
        return client_of(self.app, self.key)

    def new_key(self, *, revoked: bool = False) -> str:
        """Another key, or one that counts no more."""
        with self.app.app_context():
            key, text = make_key(self.tenant_id)
            if revoked:
                revoke_key(self.tenant_id, key.id)
            db.session.commit()
        return text

    def call(
        self,
        *said: str,
        caller: str = "+972541111111",
        minutes: float = 0,
        ended: bool = True,
        events: int = 0,
        **more: Any,
    ) -> str:
        """A call at so many minutes after `START`, on which this was said in turns; its SID."""
        at = START + timedelta(minutes=minutes)
        with self.app.app_context():
            fields = {"called": OWN_NUMBER, "outcome": "completed" if ended else None, **more}
            call = Call(
                call_sid=f"CA{uuid.uuid4().hex}",
                tenant_id=self.tenant_id,
                caller=caller,
                started_at=at,
                ended_at=at + timedelta(seconds=30) if ended else None,
                **fields,
            )
            db.session.add(call)
            db.session.flush()
            for turn, text in enumerate(said):
                db.session.add(
                    Utterance(
                        uid=uuid.uuid4().hex,
                        call_id=call.id,
                        tenant_id=self.tenant_id,
                        track=("inbound", "outbound")[turn % 2],
                        start_ms=turn * 2000,
                        end_ms=turn * 2000 + 1500,
                        text=text,
                        said_at=at + timedelta(seconds=turn * 2),
                    )
                )
            for _ in range(events):
                db.session.add(
                    Event(
                        uid=uuid.uuid4().hex,
                        tenant_id=self.tenant_id,
                        call_id=call.id,
                        type="call.started",
                        payload="{}",
                    )
                )
            db.session.commit()
            return call.call_sid

    def lead(self, number: str, *, name: str = "", notes: str = "", minutes: float = 0) -> None:
        """A lead that called last so many minutes after `START`."""
        at = START + timedelta(minutes=minutes)
        with self.app.app_context():
            db.session.add(
                Lead(
                    tenant_id=self.tenant_id,
                    number=number,
                    name=name,
                    notes=notes,
                    first_call_at=START,
                    last_call_at=at,
                )
            )
            db.session.commit()

    def used(self, month: str, calls: int, seconds: float, google_seconds: float) -> None:
        """A month's usage."""
        with self.app.app_context():
            db.session.add(
                Usage(
                    tenant_id=self.tenant_id,
                    month=month,
                    calls=calls,
                    seconds=seconds,
                    google_seconds=google_seconds,
                )
            )
            db.session.commit()

    def rows(self) -> dict[str, int]:
        """How much there is of it."""
        kinds = (Call, Utterance, Lead, Event, Usage, Webhook)
        with self.app.app_context():
            return {
                kind.__tablename__: db.session.query(kind)
                .filter_by(tenant_id=self.tenant_id)
                .count()
                for kind in kinds
            }


def until_answered(address: str, key: str) -> None:
    """Wait until a running service answers requests for its records."""
    deadline = time.monotonic() + 20
    while ask(address, key)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)  # it says when to ask again, and we ask sooner


def ask(address: str, key: str) -> tuple[int, Any]:
    """The status and the headers of an answer to this key."""
    asked = urllib.request.Request(
        f"{address}/api/calls", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as fault:
        return fault.code, fault.headers
