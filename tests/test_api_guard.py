"""Around every view of the API: its session ends, and a database that is away is told of soon."""

from __future__ import annotations

import time

import pytest
from api_parts import Office, api_app, ask, until_answered
from databases import fresh_sqlite
from flask import Flask
from postgres_server import PostgresServer
from running_service import RunningService
from sqlalchemy.exc import OperationalError

import api_guard
from api_guard import ApiGuard
from api_limits import ApiLimits


@pytest.fixture
def app() -> Flask:
    return api_app(fresh_sqlite())


def test_every_view_is_guarded(app: Flask) -> None:
    """Whichever module it is of: without a key none of them is reached."""
    reached: list[int] = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("api."):
            path = rule.rule.replace("<call_sid>", "CA1").replace("<number>", "+972540000001")
            (method,) = (rule.methods or set()) - {"OPTIONS", "HEAD"}
            reached.append(app.test_client().open(path, method=method).status_code)
    assert set(reached) == {401}
    assert len(reached) >= 11


def test_who_comes_just_after_is_told_at_once(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is not asked again for a moment; one slow statement is nobody else's matter."""
    now = 0.0
    guard = ApiGuard(ApiLimits(100, 100), clock=lambda: now)
    asked: list[str] = []
    faults: list[Exception] = [
        OperationalError("SELECT 1", {}, Exception("canceling statement")),
        OperationalError(None, None, Exception("connection refused")),
    ]

    def view() -> str:
        asked.append("")
        if faults:
            raise faults.pop(0)
        return "fine"

    monkeypatch.setitem(app.view_functions, "api.show_usage", guard.around(view))
    client = Office(app).client
    assert [client.get("/api/usage").status_code for _ in range(4)] == [503] * 4
    assert len(asked) == 2
    now = api_guard._AWAY_SECONDS
    assert client.get("/api/usage").text == "fine"


def test_a_database_that_is_away_and_comes_back() -> None:
    """In the service: 503 with Retry-After, soon, for each; then answers again."""
    with PostgresServer() as server:
        url = server.fresh()
        office = Office(api_app(url))
        office.call("hello")
        with RunningService(
            DATABASE_URL=url, SPEECH_EMULATOR_HOST="127.0.0.1:1", WEB_CONCURRENCY=1
        ) as service:
            until_answered(service.address, office.key)
            server.stop()
            for _ in range(3):
                began = time.monotonic()
                status, headers = ask(service.address, office.key)
                assert (status, int(headers["Retry-After"])) == (503, 5)
                assert headers["Content-Type"] == "application/problem+json"
                assert time.monotonic() - began < 10
            server.start()
            until_answered(service.address, office.key)
            assert "Traceback" not in service.log
