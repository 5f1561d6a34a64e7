"""Hands requests for `/api/…` on to the worker's records' process, and its answers back.

What a request of the API computes, from a search to an export, is computed there: the calls of this
worker do not notice. Runs in the request's own greenlet, which waits for nothing but the socket.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator

from flask import Blueprint, Response, request

# What a database may take by its own limits, and more
_ANSWER_SECONDS = 60.0
_CHUNK_BYTES = 64 * 1024

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Of one hop only (RFC 9110, 7.6.1), or said anew by whoever sends them
_OWN_HEADERS = frozenset(
    ("connection", "content-length", "date", "host", "keep-alive", "server", "transfer-encoding")
)


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a socket in the file system."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def make_blueprint(socket_path: Callable[[], str]) -> Blueprint:
    """The addresses below `/api`; `socket_path()` is where the records' process listens."""
    blueprint = Blueprint("api", __name__)

    def forward(rest: str = "") -> Response:
        connection = UnixConnection(socket_path(), _ANSWER_SECONDS)
        headers = {
            name: value for name, value in request.headers if name.lower() not in _OWN_HEADERS
        }
        headers |= {
            "Host": request.host,
            "X-Forwarded-For": request.remote_addr or "",
            "X-Forwarded-Proto": request.scheme,
        }
        try:
            connection.request(request.method, _target(), request.get_data() or None, headers)
            answer = connection.getresponse()
        except OSError:
            connection.close()
            return _unavailable()
        response = Response(_body(connection, answer), status=answer.status)
        response.headers.clear()
        for name, value in answer.getheaders():
            if name.lower() not in _OWN_HEADERS:
                response.headers.add(name, value)
        if answer.length is not None:
            response.headers["Content-Length"] = str(answer.length)
        return response

    blueprint.add_url_rule("/api/<path:rest>", "forward", forward, methods=_METHODS)
    return blueprint


def _target() -> str:
    """The path and query as they came, without a second reading of what is escaped in them."""
    raw = str(request.environ.get("RAW_URI") or request.full_path.removesuffix("?"))
    # some clients of proxies send a whole URL
    return raw if raw.startswith("/") else request.full_path.removesuffix("?")


def _body(connection: UnixConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := answer.read(_CHUNK_BYTES):
            yield chunk
    finally:
        connection.close()


def _unavailable() -> Response:
    body = (
        '{"type":"about:blank","title":"Service Unavailable","status":503,'
        '"detail":"the records cannot be had just now; try again in a moment"}'
    )
    headers = {"Retry-After": "2"}
    return Response(body, 503, headers, mimetype="application/problem+json")
