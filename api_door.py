"""/api/… in a worker: hands each request on to the records' process, and its answer back.

Nothing of the records is known here. What waits is a socket, so under gevent only the greenlet that
asks waits. A request takes a place only when all of it has come: whoever never sends the rest keeps
nobody out. As many wait as may (`MOST_WAITING`); whoever comes then, or while the process or its
database does not answer in time, is told to come again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from flask import Blueprint, Response, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import BadRequest, ClientDisconnected, HTTPException, RequestTimeout

# The address of whoever asks, as the worker has it; what a request brings itself is dropped
ADDRESS_HEADER = "X-Tamlil-Address"
PREFIX = "/api/"
MOST_WAITING = 32
# Beyond what a database may take by its own limits
ANSWER_SECONDS = 25.0
# For a body of 64 KB at the most (`MAX_CONTENT_LENGTH`)
BODY_SECONDS = 10.0

# They are each connection's own (RFC 9110, 7.6.1), or written anew
_NOT_PASSED = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"),
        *("upgrade", "content-length", "expect", "server", "date", ADDRESS_HEADER.lower()),
    )
)
_CHUNK_BYTES = 64 * 1024


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("records", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def make_blueprint(
    path: Path,
    *,
    most_waiting: int = MOST_WAITING,
    seconds: float = ANSWER_SECONDS,
    body_seconds: float = BODY_SECONDS,
) -> Blueprint:
    """All addresses below /api, answered by whoever listens at `path`."""
    blueprint = Blueprint("api_door", __name__)
    waiting = 0

    @blueprint.before_app_request  # not a route: no route matches every path that may be asked
    def door() -> Response | None:
        nonlocal waiting
        if not f"{request.path}/".startswith(PREFIX):
            return None
        try:
            body = _body(body_seconds)
        except HTTPException as fault:  # it is too long, breaks off, or does not come
            return _problem(fault.code or 500, fault.description or "")
        if waiting >= most_waiting:
            return _problem(503, "too many are asking, try again")
        waiting += 1
        try:
            return _handed_on(_UnixConnection(path, seconds), body)
        except (OSError, http.client.HTTPException):
            return _problem(503, "the records cannot be read now, try again")
        finally:
            waiting -= 1

    return blueprint


def _body(seconds: float) -> bytes:
    """What the request brings. Raises 408 if it does not come in time, or another `HTTPException`.

    After that time nothing more is read from its connection: a limit for each read would let in
    whoever sends a byte now and then.
    """
    environ = request.environ
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if connection is None or not (request.content_length or "HTTP_TRANSFER_ENCODING" in environ):
        return request.get_data()
    late = threading.Event()

    def give_up() -> None:
        late.set()
        with contextlib.suppress(OSError):  # it is gone already
            connection.shutdown(socket.SHUT_RD)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        return request.get_data()
    except ClientDisconnected:
        if late.is_set():
            raise RequestTimeout(f"the body did not come within {seconds:g} s") from None
        raise
    except ParseException as fault:  # gunicorn's: chunks that are none
        raise BadRequest("the body breaks off, or is none") from fault
    finally:
        timer.cancel()


def _handed_on(connection: _UnixConnection, body: bytes) -> Response:
    headers = {
        name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED
    }
    headers[ADDRESS_HEADER] = request.remote_addr or ""
    try:
        connection.request(request.method, _target(), body or None, headers)
        answer = connection.getresponse()
    except BaseException:  # also a greenlet's end: the socket is closed in any case
        connection.close()
        raise
    passed = [item for item in answer.getheaders() if item[0].lower() not in _NOT_PASSED]
    response = Response(_chunks(connection, answer), answer.status, passed)
    if answer.length is not None:
        response.content_length = answer.length
    return response


def _chunks(connection: _UnixConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := answer.read1(_CHUNK_BYTES):
            yield chunk
    finally:
        connection.close()


def _target() -> str:
    path = quote(request.environ.get("PATH_INFO", "").encode("latin-1"))
    query = quote(request.query_string, safe="!$&'()*+,;=:@/?%[]-._~")
    return f"{path}?{query}" if query else path


def _problem(status: int, detail: str) -> Response:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    headers = {"Retry-After": "5"} if status == 503 else {}
    return Response(json.dumps(body), status, headers, content_type="application/problem+json")
