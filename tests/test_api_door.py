"""The worker's door to the API: what is handed on, what comes back, and nobody behind it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import waitress
from flask import Flask
from flask.testing import FlaskClient
from werkzeug import Request, Response

import api_door


class Behind:
    """Whoever is behind the door: answers with `answer(request)`, at a socket of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Callable[[Request], Response] = echo
        self._server = waitress.create_server(
            self._serve, unix_socket=str(path), threads=4, clear_untrusted_proxy_headers=False
        )
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # it is closed from outside
            self._server.run()

    def _serve(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        return self.answer(Request(environ))(environ, start)

    def close(self) -> None:
        self._server.close()


def echo(request: Request) -> Response:
    """What was asked, as JSON."""
    told = {
        "method": request.method,
        "path": request.path,
        "query": request.query_string.decode(),
        "headers": dict(request.headers),
        "body": request.get_data(as_text=True),
    }
    return Response(json.dumps(told), 202, {"X-Told": "yes"}, content_type="application/json")


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    server = Behind(tmp_path / "door.sock")
    yield server
    server.close()


def client_at(path: Path, **more: Any) -> FlaskClient:
    app = Flask("worker")
    app.config["MAX_CONTENT_LENGTH"] = 1000
    app.register_blueprint(api_door.make_blueprint(path, **more))
    return app.test_client()


def test_a_request_is_handed_on_as_it_is(behind: Behind) -> None:
    """Method, path, query and body, of any script; and the answer with its status and headers."""
    answer = client_at(behind.path).patch(
        "/api/leads/%2B972?q=%D7%AA%D7%95%D7%A8+a%26b&x=",
        data="גוף",
        headers={"Authorization": "Bearer key", "Content-Type": "text/plain"},
    )
    told = answer.get_json()
    assert (answer.status_code, answer.headers["X-Told"]) == (202, "yes")
    assert (told["method"], told["path"], told["body"]) == ("PATCH", "/api/leads/+972", "גוף")
    assert told["query"] == "q=%D7%AA%D7%95%D7%A8+a%26b&x="
    assert told["headers"]["Authorization"] == "Bearer key"
    assert told["headers"]["Content-Type"] == "text/plain"


def test_other_addresses_are_the_workers(behind: Behind) -> None:
    """Every path below /api/ is the API's, whatever is in it; no other one is."""
    client = client_at(behind.path)
    assert client.get("/api/calls/%0A%C3%B9").get_json()["path"] == "/api/calls/\nù"
    assert client.get("/apiary").status_code == 404
    assert client.get("/api").status_code == 202


def test_the_address_is_the_workers_to_say(behind: Behind) -> None:
    """What a request claims about it is dropped; so is what belongs to its connection."""
    answer = client_at(behind.path).get(
        "/api/calls",
        headers={"X-Tamlil-Address": "6.6.6.6", "Connection": "x", "TE": "trailers"},
        environ_overrides={"REMOTE_ADDR": "192.0.2.7"},
    )
    headers = answer.get_json()["headers"]
    assert headers["X-Tamlil-Address"] == "192.0.2.7"
    assert "Te" not in headers


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "PUT", "TRACE"])
def test_every_method_is_for_the_api_to_refuse(behind: Behind, method: str) -> None:
    """The worker knows none of its addresses."""
    assert client_at(behind.path).open("/api/calls", method=method).status_code == 202


def test_a_long_answer_comes_in_parts(behind: Behind) -> None:
    """And is the same."""
    parts = [str(number) * 100_000 for number in range(9)]
    behind.answer = lambda request: Response(iter(parts))
    assert client_at(behind.path).get("/api/leads.csv").text == "".join(parts)


def test_a_body_that_is_too_long_is_a_problem(behind: Behind) -> None:
    """413, and nobody is asked."""
    answer = client_at(behind.path).patch("/api/leads/1", data="x" * 2000)
    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")


def test_nobody_is_there(tmp_path: Path) -> None:
    """503, and when to come again."""
    answer = client_at(tmp_path / "none.sock").get("/api/calls")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert answer.headers["Retry-After"] == "5"


def test_an_answer_that_does_not_come_is_not_waited_for(behind: Behind) -> None:
    """And no more wait than may: who comes then is told so at once."""
    asked, release = threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        asked.set()
        release.wait(10)
        return Response("late")

    behind.answer = slow
    assert client_at(behind.path, seconds=0.05).get("/api/calls").status_code == 503
    asked.clear()
    client = client_at(behind.path, most_waiting=1)
    answers: list[int] = []
    first = threading.Thread(target=lambda: answers.append(client.get("/api/calls").status_code))
    first.start()
    assert asked.wait(10)
    assert client.get("/api/calls").status_code == 503
    release.set()
    first.join(10)
    assert answers == [200]
    assert client.get("/api/calls").status_code == 200
