"""A TCP connection to a server, with TLS or without, that one thread reads and others write.

OpenSSL must not be in the same connection from two threads at once, and a read waits for minutes.
So TLS works in memory here, under a lock that is never held while anything waits, and the bytes
go through a plain socket: the same in threads and in gevent's greenlets.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import sys
import threading

import certifi

from native_threads import brief_lock

READ_BYTES = 64 * 1024
# What was sent and is not acknowledged for so long will never be: the other side is gone, or
# something between that forgot the connection. TCP alone would try on for a quarter of an hour.
_UNACKNOWLEDGED_SECONDS = 10


class Wire:
    """The connection of `sock`. With `tls`, its handshake is made at once, which may block.

    Raises `OSError` (`ssl.SSLError` is one) for whatever goes wrong, here and in all methods.
    """

    def __init__(
        self, sock: socket.socket, tls: ssl.SSLContext | None = None, host: str = ""
    ) -> None:
        self._sock = sock
        self._lock = brief_lock()  # of what is inside TLS
        self._turn = threading.Lock()  # the order of what is written
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if tls is not None:
            self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
            self._shake_hands(self._tls)

    def read(self) -> bytes:
        """Wait for bytes; none at the other side's end. `TimeoutError` after the socket's time."""
        if self._tls is None:
            return self._sock.recv(READ_BYTES)
        while True:
            with self._lock, contextlib.suppress(ssl.SSLWantReadError):
                try:
                    return self._tls.read(READ_BYTES)
                except ssl.SSLZeroReturnError:
                    return b""
            self._send_outgoing()  # an answer that TLS itself has to give
            data = self._sock.recv(READ_BYTES)
            with self._lock:
                if not data:
                    return b""
                self._incoming.write(data)

    def write(self, data: bytes) -> None:
        """Send it all; waits while the other side takes nothing."""
        if self._tls is None:
            self._sock.sendall(data)
            return
        with self._turn:
            with self._lock:
                self._tls.write(data)
                data = self._outgoing.read()
            self._sock.sendall(data)

    def close(self) -> None:
        """End it at once; whoever reads or writes gets its end or an error. From any thread."""
        with contextlib.suppress(OSError):  # it may be gone already
            self._sock.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the descriptor back, once nobody reads or writes any more."""
        self._sock.close()

    def _send_outgoing(self) -> None:
        with self._lock:
            if not self._outgoing.pending:  # nearly always: a read must not wait for who writes
                return
        with self._turn:
            with self._lock:
                data = self._outgoing.read()
            self._sock.sendall(data)

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        while True:
            with self._lock:
                try:
                    tls.do_handshake()
                    done = True
                except ssl.SSLWantReadError:
                    done = False
            self._send_outgoing()
            if done:
                return
            data = self._sock.recv(READ_BYTES)
            if not data:
                raise ConnectionError("the connection ended in the TLS handshake")
            with self._lock:
                self._incoming.write(data)

    @property
    def protocol(self) -> str | None:
        """What was agreed on in the handshake (ALPN); None without TLS."""
        return None if self._tls is None else self._tls.selected_alpn_protocol()


def connect(host: str, port: int, tls: ssl.SSLContext | None, seconds: float) -> Wire:
    """A wire to `host`. No read or write on it takes longer than `seconds`.

    Raises `OSError`.
    """
    sock = socket.create_connection((host, port), timeout=seconds)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            milliseconds = _UNACKNOWLEDGED_SECONDS * 1000
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        wire = Wire(sock, tls, host)
        if tls is not None and wire.protocol != "h2":
            raise ConnectionError(f"{host} does not speak HTTP/2")
    except BaseException:  # whatever it was, the descriptor is given back
        sock.close()
        raise
    return wire


@functools.cache
def google_tls() -> ssl.SSLContext:
    """TLS as a client of Google's: the system's certificates, and Mozilla's where it has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["h2"])
    return context
