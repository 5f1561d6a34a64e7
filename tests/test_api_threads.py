"""The native thread around each view: its session, its limit, and a database that is away."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_parts import Office, api_app
from databases import fresh_sqlite
from flask import Flask, Response, request
from postgres_server import PostgresServer
from running_service import RunningService

import api_threads
import native_threads
from database import Engines, db
from native_threads import NativeThreads


class OneThread(NativeThreads):
    """Native threads of which the test knows the name."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        answers: list[Any] = []
        thread = threading.Thread(
            target=lambda: answers.append(function(*arguments)), name="native"
        )
        thread.start()
        thread.join()
        return answers[0]


@pytest.fixture
def native() -> Iterator[None]:
    """Views run in threads called `native`."""
    before = native_threads.here()
    native_threads.settle(OneThread())
    yield
    native_threads.settle(before)


@pytest.fixture
def app() -> Flask:
    return api_app(fresh_sqlite())


@pytest.mark.usefixtures("native")
def test_the_session_lives_and_ends_in_the_views_thread(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is left for the greenlet, in which Flask's teardown finds none to close."""
    office = Office(app)
    used: set[str] = set()
    left: list[bool] = []

    here = Engines.here

    def noted(engines: Engines) -> Any:
        used.add(threading.current_thread().name)
        return here(engines)

    monkeypatch.setattr(Engines, "here", noted)

    @app.after_request
    def look(answer: Response) -> Response:
        left.append(db.session.registry.has())
        return answer

    for path, status in (("/api/calls", 200), ("/api/calls/CA1", 404), ("/api/leads.csv", 200)):
        assert office.client.get(path).status_code == status
    assert used == {"native"}
    assert left == [False, False, False]


@pytest.mark.usefixtures("native")
def test_every_view_of_the_api_runs_in_one(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is, and with the request's context."""
    office = Office(app)
    seen: list[tuple[str, str]] = []
    answered = api_threads._answer

    def noted(*arguments: Any) -> Any:
        seen.append((threading.current_thread().name, request.path))
        return answered(*arguments)

    monkeypatch.setattr(api_threads, "_answer", noted)
    paths = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("api."):
            path = rule.rule.replace("<call_sid>", "CA1").replace("<number>", "+972540000001")
            method = next(iter((rule.methods or set()) - {"HEAD", "OPTIONS"}))
            paths.append(path)
            office.client.open(path, method=method, json={} if method == "PATCH" else None)
    assert seen == [("native", path) for path in paths]


def test_no_more_wait_than_may(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes while so many wait is told to come again, at once."""
    monkeypatch.setattr(api_threads, "MOST_WAITING", 1)
    office = Office(app)
    held, release = threading.Event(), threading.Event()
    answered = api_threads._answer

    def slow(*arguments: Any) -> Any:
        held.set()
        release.wait(10)
        return answered(*arguments)

    monkeypatch.setattr(api_threads, "_answer", slow)
    answers: list[int] = []
    first = threading.Thread(
        target=lambda: answers.append(office.client.get("/api/usage").status_code)
    )
    first.start()
    assert held.wait(10)
    refused = office.client.get("/api/usage")
    release.set()
    first.join(10)
    assert (refused.status_code, answers) == (503, [200])
    assert int(refused.headers["Retry-After"]) >= 1
    assert office.client.get("/api/usage").status_code == 200


def test_a_database_that_is_away_and_comes_back() -> None:
    """In the service: 503 with Retry-After, soon, for each; then answers again."""
    with PostgresServer() as server:
        url = server.fresh()
        office = Office(api_app(url))
        office.call("hello")
        with RunningService(
            DATABASE_URL=url, SPEECH_EMULATOR_HOST="127.0.0.1:1", WEB_CONCURRENCY=1
        ) as service:
            ask = Asking(f"{service.address}/api/calls", office.key)
            assert ask()[0] == 200
            server.stop()
            for _ in range(3):
                began = time.monotonic()
                status, headers = ask()
                assert (status, int(headers["Retry-After"])) == (503, 5)
                assert headers["Content-Type"] == "application/problem+json"
                assert time.monotonic() - began < 10
            server.start()
            deadline = time.monotonic() + 20
            while ask()[0] != 200:
                assert time.monotonic() < deadline
                time.sleep(0.2)  # it says when to ask again, and we ask sooner
            assert "Traceback" not in service.log


class Asking:
    """Asks an address of a running service with a key."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}

    def __call__(self) -> tuple[int, Any]:
        asked = urllib.request.Request(self._url, headers=self._headers)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, answer.headers
        except urllib.error.HTTPError as fault:
            return fault.code, fault.headers
