"""What the tests of the commands about records share: two businesses with all kinds of records."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import select

from api_keys import make_key
from businesses import Business
from database import Base, db, now, writes
from models import Call, CallStream, Event, Lead, Usage, Utterance, Webhook, WebhookSecret
from record_commands import make_app
from settings import Settings
from tenant_directory import add_business

Run = Callable[..., Result]
OLD = timedelta(days=400)  # a business keeps its records for 365


def command_runner(monkeypatch: pytest.MonkeyPatch, url: str) -> tuple[Flask, Run]:
    """An application on the database at `url`, and what runs `flask tenant …` in this process."""
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.delenv("BUSINESSES", raising=False)
    app = make_app(Settings.from_env({"DATABASE_URL": url}), "tenant")
    runner = app.test_cli_runner()

    def run(*words: str, **more: Any) -> Result:
        with app.app_context():  # its own, and so a session of its own
            return runner.invoke(args=["tenant", *words], **more)

    return app, run


def fill(tenant_id: str, number: str, *, at: datetime | None = None) -> Call:
    """A business with a record of every kind, all of them marked by its id; commits."""
    at = at or now()
    writes()
    session = db.session()
    add_business(session, Business(tenant_id, (number,), name=f"The {tenant_id}"))
    make_key(tenant_id, f"key of {tenant_id}")
    call = add_call(tenant_id, at, ended=True)
    session.add(Lead(tenant_id=tenant_id, number="+1", first_call_at=at, last_call_at=at))
    session.add(Usage(tenant_id=tenant_id, month="2026-11", calls=1))
    session.add(Webhook(tenant_id=tenant_id, url=f"https://{tenant_id}.example"))
    session.add(WebhookSecret(tenant_id=tenant_id, secret=f"whsec_{tenant_id}"))
    session.add(Event(uid=_uid(), tenant_id=tenant_id, call_id=call.id, type="t", payload="{}"))
    session.commit()
    return call


def add_call(tenant_id: str, at: datetime, *, ended: bool) -> Call:
    """A call with a stream and an utterance."""
    session = db.session()
    call = Call(call_sid=_uid(), tenant_id=tenant_id, started_at=at, ended_at=at if ended else None)
    session.add(call)
    session.flush()
    session.add(
        CallStream(id=_uid(), call_id=call.id, tenant_id=tenant_id, worker_id="w", started_at=at)
    )
    session.add(
        Utterance(
            uid=_uid(),
            call_id=call.id,
            tenant_id=tenant_id,
            track="inbound",
            start_ms=0,
            end_ms=1,
            text=f"said at the {tenant_id}",
            said_at=at,
        )
    )
    session.flush()
    return call


def records_of(tenant_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a business, by table: what must not change when another one's do."""
    db.session.remove()
    found = {}
    for table in Base.metadata.sorted_tables:
        column = table.c.get("tenant_id", table.c.id if table.name == "tenants" else None)
        if column is not None:
            rows = db.session.execute(select(table).where(column == tenant_id)).all()
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    db.session.remove()
    return found


def _uid() -> str:
    return secrets.token_hex(16)
