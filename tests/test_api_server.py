"""The API is made when somebody asks for it: once, and in spite of a first try that failed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from werkzeug import Response
from werkzeug.test import Client

import call_log
from api_server import MadeWhenAsked

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    """An application."""
    return Response(environ["PATH_INFO"])(environ, start)


def test_it_is_made_once_however_many_ask_at_first() -> None:
    """All of them are answered; nobody is before it is made."""
    asking = threading.Barrier(8)
    made: list[int] = []

    def make() -> WSGIApplication:
        made.append(1)
        time.sleep(0.05)  # the others come while it is being made
        return answer

    client = Client(MadeWhenAsked(make))

    def ask(number: int) -> str:
        asking.wait(10)
        return client.get(f"/{number}").text

    assert not made
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [f"/{number}" for number in range(8)]
    assert made == [1]


def test_a_fault_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and a 500 for each request, until it can be made."""
    tries = iter((ValueError("one"), ImportError("two")))
    lines: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    monkeypatch.setattr(call_log.logger, "handlers", [handler])

    def make() -> WSGIApplication:
        for fault in tries:
            raise fault
        return answer

    client = Client(MadeWhenAsked(make))
    for count in (1, 2):
        refused = client.get("/api/calls")
        assert (refused.status_code, refused.mimetype) == (500, "application/problem+json")
        assert refused.json == {
            "type": "about:blank",
            "title": "Internal Server Error",
            "status": 500,
        }
        assert lines == ["[API] it could not be made; the next request tries again"] * count
    assert client.get("/api/calls").text == "/api/calls"
