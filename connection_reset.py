"""Resets the TCP connection to a peer, behind the back of the library that owns the socket.

For the local speech server's faults. Finds the socket among this process's own files (Linux
and macOS); any thread; does not block.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
from urllib.parse import unquote

_libc = ctypes.CDLL(None, use_errno=True)
_NO_ADDRESS = bytes(16)  # a sockaddr of the family AF_UNSPEC


def reset_connection(peer: str, port: int) -> bool:
    """Reset the connection from `peer` (gRPC's "ipv4:127.0.0.1:43210") to our `port`.

    False if there is none any more. The peer gets a TCP reset where the system can send one
    on demand, and otherwise the end of the connection without a good-bye.
    """
    for name in os.listdir("/dev/fd"):
        candidate = _socket_of(int(name))
        if candidate is None:
            continue
        with candidate:
            if _joins(candidate, peer, port):
                # Linux resets a connected socket that is connected to nothing.
                if _libc.connect(candidate.fileno(), _NO_ADDRESS, len(_NO_ADDRESS)) != 0:
                    candidate.shutdown(socket.SHUT_RDWR)
                return True
    return False


def _socket_of(number: int) -> socket.socket | None:
    """A duplicate of an open file, if it is a socket: the number itself may be used again."""
    try:
        duplicate = os.dup(number)
    except OSError:  # closed while we look
        return None
    try:
        return socket.socket(fileno=duplicate)
    except OSError:  # no socket
        os.close(duplicate)
        return None


def _joins(candidate: socket.socket, peer: str, port: int) -> bool:
    try:
        here, there = candidate.getsockname(), candidate.getpeername()
    except OSError:
        return False  # listening, or gone
    if not isinstance(there, tuple):
        return False
    return here[1] == port and _address(*there[:2]) == _grpc_address(peer)


def _grpc_address(peer: str) -> tuple[str, int]:
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return _address(host.strip("[]"), int(port))


def _address(host: str, port: int) -> tuple[str, int]:
    # gRPC listens on sockets of IPv6, on which 127.0.0.1 is called ::ffff:127.0.0.1.
    address = ipaddress.ip_address(host.split("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), port
