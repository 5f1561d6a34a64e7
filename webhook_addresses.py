"""Which addresses events may be sent to: none inside the server's own network.

A business chooses where its events go, and this service goes there: it must not be led to what
only it can reach (a database, the cloud's metadata). So the name is resolved here, every address
that it has must be a public one, and the connection is made to those very addresses: resolved a
second time, a name could lead elsewhere. `resolve()` waits for the name service.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from errors import BadWebhook

_PORTS = {"http": 80, "https": 443}
_LOWEST_FREE_PORT = 1024
# They stand for IPv4 addresses, of which nobody knows here where they lead
_TRANSLATED = tuple(
    ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")
)

Address = tuple[socket.AddressFamily, Any]  # a family and an address of it, as sockets take them
LookUp = Callable[..., list[Any]]  # `socket.getaddrinfo`


@dataclass(frozen=True, slots=True)
class Receiver:
    """A webhook's URL in its parts. `target`: the path and the query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the header `Host` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, *, allow_private: bool) -> Receiver:
    """The parts of `url`, looked at without the network. Raises `BadWebhook`."""
    if not re.fullmatch(r"[!-\[\]-~]{1,2000}", url):  # printable ASCII, no backslash
        raise BadWebhook("the URL must be ASCII without spaces (xn--… and %D7… for other letters)")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as fault:
        raise BadWebhook(f"this is no URL: {fault}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadWebhook("write the URL in full: https://HOST/PATH")
    if parts.scheme == "http" and not allow_private:
        raise BadWebhook(
            "the URL must begin with https:// (http:// is for a laptop, with"
            " WEBHOOK_ALLOW_PRIVATE=1 for this command and for the service)"
        )
    if "@" in parts.netloc:
        raise BadWebhook("the URL must not have a user or a password in it")
    if parts.fragment:
        raise BadWebhook("the URL must not have a # in it")
    port = _PORTS[parts.scheme] if port is None else port
    if not allow_private and port not in _PORTS.values() and port < _LOWEST_FREE_PORT:
        raise BadWebhook(f"port {port} is not one for webhooks: use 443 or one from 1024 on")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Receiver(parts.scheme, parts.hostname, port, target)


def resolve(
    receiver: Receiver, *, allow_private: bool, look_up: LookUp | None = None
) -> list[Address]:
    """The addresses of the receiver, all of them allowed.

    Raises `BadWebhook` if one is not, `OSError` if there is none.
    """
    try:
        found = (look_up or socket.getaddrinfo)(
            receiver.host, receiver.port, type=socket.SOCK_STREAM
        )
    except UnicodeError:  # a label that no name can have
        raise BadWebhook(f"{receiver.host[:80]!r} is no host name") from None
    addresses = [(family, sockaddr) for family, _, _, _, sockaddr in found]
    if not allow_private:
        for _, sockaddr in addresses:
            if not is_public(str(sockaddr[0])):
                raise BadWebhook(
                    f"{receiver.host[:80]} is {sockaddr[0]}, which is not a public address"
                    " (WEBHOOK_ALLOW_PRIVATE=1 allows it)"
                )
    return addresses


def is_public(text: str) -> bool:
    """Whether this IP address is one of the public internet and of one machine."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address.is_site_local or any(address in network for network in _TRANSLATED):
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )
