"""Posts an event to its receiver: to checked addresses only, within a time that nothing stretches.

Runs in the sender's threads and waits there for the network; never call it on the way of a call.
Connections are kept for the next event of the same receiver.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse

from call_log import one_line
from webhook_addresses import LookUp, Receiver, parse, resolve

POST_SECONDS = 10.0
_CONNECT_SECONDS = 4.0  # for each of its addresses
_BODY_BYTES = 4096
_KEPT_CONNECTIONS = 64
_KEPT_SECONDS = 60.0


class PostFailed(Exception):
    """No answer came; the text is one line that says why."""


class _Deadline:
    """Cuts the connection of a post off when its time is over, wherever it waits then."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._ends = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def left(self) -> float:
        return self._ends - time.monotonic()

    def watch(self, connection: socket.socket, seconds: float = POST_SECONDS) -> None:
        """From now on it is this connection; no step of it takes longer than `seconds`."""
        if self.left <= 0:
            raise TimeoutError
        self._socket = connection
        connection.settimeout(min(seconds, self.left))

    def _cut(self) -> None:
        self.passed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # not TLS's own shutdown, which must not happen beside a read
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class WebhookClient:
    """Posts. `look_up` resolves names, by default the system; `make_tls` gives the TLS context."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        seconds: float = POST_SECONDS,
        look_up: LookUp | None = None,
        make_tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._allow_private = allow_private
        self._seconds = seconds
        self._look_up = look_up
        self._make_tls = make_tls
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._kept: OrderedDict[HTTPConnection, tuple[tuple[str, str, int], float]] = OrderedDict()

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status that the receiver answers with; redirections are not followed.

        Raises `PostFailed`, and `BadWebhook` for an address that is not allowed.
        """
        receiver = parse(url, allow_private=self._allow_private)
        headers = {**headers, "Host": receiver.authority}
        with _Deadline(self._seconds) as deadline:
            try:
                kept = self._take(receiver)
                if kept is not None:
                    # closed meanwhile, mostly: a new connection will do
                    with contextlib.suppress(ConnectionError, HTTPException, ssl.SSLError):
                        return self._exchange(kept, receiver, body, headers, deadline)
                fresh = self._connect(receiver, deadline)
                return self._exchange(fresh, receiver, body, headers, deadline)
            except (OSError, HTTPException) as fault:
                if deadline.passed or isinstance(fault, TimeoutError):
                    raise PostFailed(f"no answer within {self._seconds:g} s") from None
                raise PostFailed(_told(fault)) from None

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            kept, self._kept = self._kept, OrderedDict()
        for connection in kept:
            connection.close()

    def _connect(self, receiver: Receiver, deadline: _Deadline) -> HTTPConnection:
        """A connection to one of the addresses that were checked, the first that takes it."""
        addresses = resolve(receiver, allow_private=self._allow_private, look_up=self._look_up)
        fault: OSError = OSError("the name has no address")
        for family, address in addresses:
            plain = socket.socket(family, socket.SOCK_STREAM)
            try:
                deadline.watch(plain, _CONNECT_SECONDS)
                plain.connect(address)
                connection = HTTPConnection(receiver.host, receiver.port)
                connection.auto_open = 0  # it would resolve the name again
                connection.sock = self._secured(plain, receiver, deadline)
            except OSError as error:
                plain.close()
                fault = error
            else:
                return connection
        raise fault

    def _secured(
        self, plain: socket.socket, receiver: Receiver, deadline: _Deadline
    ) -> socket.socket:
        if receiver.scheme == "http":
            return plain
        if self._tls is None:
            self._tls = self._make_tls()
        secured = self._tls.wrap_socket(
            plain, server_hostname=receiver.host, do_handshake_on_connect=False
        )
        try:
            deadline.watch(secured)
            secured.do_handshake()
        except BaseException:  # whatever it was, the descriptor is given back
            secured.close()
            raise
        return secured

    def _exchange(
        self,
        connection: HTTPConnection,
        receiver: Receiver,
        body: bytes,
        headers: Mapping[str, str],
        deadline: _Deadline,
    ) -> int:
        keep = False
        try:
            deadline.watch(connection.sock)
            connection.request("POST", receiver.target, body, headers)
            response = connection.getresponse()
            if deadline.passed:  # what looks like its headers was cut off
                raise TimeoutError
            keep = _read_out(response) and not deadline.passed
            return response.status
        finally:
            if keep:
                self._keep(connection, receiver)
            else:
                connection.close()

    def _take(self, receiver: Receiver) -> HTTPConnection | None:
        wanted = (receiver.scheme, receiver.host, receiver.port)
        old = time.monotonic() - _KEPT_SECONDS
        with self._lock:
            stale = [kept for kept, (_, since) in self._kept.items() if since < old]
            for connection in stale:
                del self._kept[connection]
            found = next((kept for kept, (of, _) in self._kept.items() if of == wanted), None)
            if found is not None:
                del self._kept[found]
        for connection in stale:
            connection.close()
        return found

    def _keep(self, connection: HTTPConnection, receiver: Receiver) -> None:
        key = (receiver.scheme, receiver.host, receiver.port)
        oldest = None
        with self._lock:
            self._kept[connection] = (key, time.monotonic())
            if len(self._kept) > _KEPT_CONNECTIONS:
                oldest, _ = self._kept.popitem(last=False)
        if oldest is not None:
            oldest.close()


def _read_out(response: HTTPResponse) -> bool:
    """Read a little of what follows the status; whether the connection can be used again."""
    try:
        response.read(_BODY_BYTES)
    except (OSError, HTTPException):  # the status has come, and is what counts
        return False
    return response.isclosed() and not response.will_close


def _told(fault: Exception) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {fault.verify_message}"[:200]
    if isinstance(fault, socket.gaierror):
        return "its name cannot be resolved"
    told = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return one_line(told)[:200]
