"""The worker's door to the API: what is handed on, what comes back, and nobody behind it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import waitress
from api_parts import Office, api_app, ask, until_answered
from databases import fresh_sqlite
from flask import Flask
from flask.testing import FlaskClient
from running_service import RunningService
from werkzeug import Request, Response
from werkzeug.serving import make_server

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


def worker_at(path: Path, **more: Any) -> Flask:
    app = Flask("worker")
    app.config["MAX_CONTENT_LENGTH"] = 1000
    app.register_blueprint(api_door.make_blueprint(path, **more))
    return app


def client_at(path: Path, **more: Any) -> FlaskClient:
    return worker_at(path, **more).test_client()


@contextlib.contextmanager
def served(app: Flask) -> Iterator[int]:
    """The port at which `app` is served by threads, as `flask run` does."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.port
    server.shutdown()
    thread.join(10)
    server.server_close()


def stalled(port: int, *headers: str, sent: bytes = b"") -> socket.socket:
    """A connection whose request never comes to its end."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    head = ["PATCH /api/leads/1 HTTP/1.1", "Host: t", *headers, "", ""]
    connection.sendall("\r\n".join(head).encode() + sent)
    return connection


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
        headers={
            "X-Tamlil-Address": "6.6.6.6",
            "X-Forwarded-For": "192.0.2.8",
            "Connection": "x",
            "TE": "trailers",
        },
        environ_overrides={"REMOTE_ADDR": "192.0.2.7"},
    )
    headers = answer.get_json()["headers"]
    assert headers["X-Tamlil-Address"] == "192.0.2.7"
    assert headers["X-Forwarded-For"] == "192.0.2.8"  # for the API to believe or not
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


@pytest.mark.parametrize(
    ("header", "sent"),
    [
        ("Content-Length: 10", b""),
        ("Content-Length: 10", b"x"),
        ("Transfer-Encoding: chunked", b""),
    ],
)
def test_a_body_that_does_not_come_is_given_up(behind: Behind, header: str, sent: bytes) -> None:
    """408, to whoever sends nothing, or not all of it; the time is for the whole of it."""
    with (
        served(worker_at(behind.path, body_seconds=0.2)) as port,
        stalled(port, header, sent=sent) as connection,
    ):
        answer = connection.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].split()[1] == b"408"
    assert json.loads(body)["detail"] == "the body did not come within 0.2 s"


def test_a_byte_now_and_then_buys_no_time(behind: Behind) -> None:
    """Or one connection would be held for as long as somebody likes."""
    with (
        served(worker_at(behind.path, body_seconds=0.3)) as port,
        stalled(port, "Content-Length: 900") as connection,
    ):
        sent = 0
        connection.settimeout(0.05)
        answer = b""
        while not answer and sent < 200:
            connection.sendall(b"x")
            sent += 1
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1000)
    assert answer.split()[1] == b"408"


def test_a_body_that_breaks_off_is_the_senders_fault(behind: Behind) -> None:
    """400, and no word of the records."""
    with (
        served(worker_at(behind.path)) as port,
        stalled(port, "Content-Length: 10", sent=b"half") as connection,
    ):
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read().split()[1] == b"400"


def test_whoever_sends_no_body_keeps_nobody_out() -> None:
    """In the service: a place is for a request that has come whole; wrong chunks are a 400."""
    url = fresh_sqlite()
    office = Office(api_app(url))
    with (
        RunningService(
            DATABASE_URL=url, SPEECH_EMULATOR_HOST="127.0.0.1:1", WEB_CONCURRENCY=1
        ) as service,
        contextlib.ExitStack() as strangers,
    ):
        until_answered(service.address, office.key)
        for _ in range(api_door.MOST_WAITING):
            strangers.enter_context(stalled(service.port, "Content-Length: 10"))
        assert {ask(service.address, office.key)[0] for _ in range(20)} == {200}
        with stalled(service.port, "Transfer-Encoding: chunked", sent=b"none\r\n") as wrong:
            assert wrong.recv(1000).split()[1] == b"400"
        assert "Traceback" not in service.log
