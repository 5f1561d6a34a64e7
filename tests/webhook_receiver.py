"""A receiver of events, for tests: a real HTTP server that behaves as it is told, or is not there.

It verifies every signature with the receivers' own library before it counts an event as arrived.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Answer:
    """What comes back: a status, or nothing but the end (`None`).

    `waits`: not before this is set, and the request is not counted as arrived until then.
    """

    status: int | None = 204
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    waits: threading.Event | None = None
    drips: bool = False  # a byte of the headers now and then, without an end


Decide = Callable[[dict[str, Any]], Answer]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that went away is nothing to print."""


class WebhookReceiver:
    """`with WebhookReceiver() as receiver:` takes events at `receiver.url`.

    `decide` gives the answer to an event; 2xx makes it one of `arrived`. `vanish()` closes its port
    and `come_back()` opens the same one.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, secret: str = SECRET) -> None:
        self.decide: Decide = lambda event: Answer()
        self.arrived: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.most_at_once = self._at_once = 0
        self.change = threading.Condition()
        self._ending = threading.Event()
        self._tls = tls
        self._verifier = Webhook(secret)
        self._port = 0
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.come_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/events?of=tamlil"

    def come_back(self) -> None:
        self._ending = threading.Event()
        self._server = _Server(("127.0.0.1", self._port), self._handler())
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def vanish(self) -> None:
        self._ending.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def wait_for(self, holds: Callable[[], bool], seconds: float = 30.0) -> None:
        """Return as soon as it holds of what has come."""
        with self.change:
            assert self.change.wait_for(holds, seconds), f"{len(self.arrived)} have arrived"

    def by_call(self) -> dict[str, list[int]]:
        """The marks (`data.n`) of what has arrived, by call, in order of arrival."""
        found: dict[str, list[int]] = defaultdict(list)
        for event in self.arrived:
            found[event["data"]["call_sid"]].append(event["data"]["n"])
        return dict(found)

    def _take(self, body: bytes, headers: dict[str, str]) -> Answer:
        event = self._verifier.verify(body, headers)
        assert headers["webhook-id"] == event["id"]
        with self.change:
            self.asked.append(event)
            self.headers.append(headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.change.notify_all()
        answer = self.decide(event)
        if answer.waits is not None:
            answer.waits.wait(30)
        with self.change:
            self._at_once -= 1
            if answer.status is not None and 200 <= answer.status < 300:
                self.arrived.append(event)
            self.change.notify_all()
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver, ending = self, self._ending

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def setup(self) -> None:
                super().setup()
                with receiver.change:
                    receiver.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver._take(body, {k.lower(): v for k, v in self.headers.items()})
                if ending.is_set() or answer.status is None:
                    self.close_connection = True
                    return
                if answer.drips:
                    self._drip()
                    return
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # it need not be read
                    self.wfile.write(answer.body)

            def _drip(self) -> None:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                    while not ending.wait(0.05):
                        self.wfile.write(b"x")

            def log_message(self, format: str, *args: object) -> None:
                """Its log would hide the tests'."""

        return Handler


def event_body(uid: str = "evt", **data: Any) -> str:
    """The text of an event, as the outbox writes them."""
    payload = {"id": uid, "type": "utterance.final", "timestamp": "2026-11-27T12:00:00.000Z"}
    return json.dumps(payload | {"business": "clinic", "data": data}, ensure_ascii=False)
