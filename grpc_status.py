"""How a gRPC call over HTTP/2 ended: its status, found as gRPC's own libraries find it. Pure.

Sources: gRPC's documents "gRPC over HTTP2", "HTTP to gRPC Status Code Mapping"; RFC 9113, 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import grpc

Code = grpc.StatusCode

_BY_NUMBER = {str(code.value[0]).encode(): code for code in Code}

_BY_HTTP = {
    b"400": Code.INTERNAL,
    b"401": Code.UNAUTHENTICATED,
    b"403": Code.PERMISSION_DENIED,
    b"404": Code.UNIMPLEMENTED,
    b"429": Code.UNAVAILABLE,
    b"502": Code.UNAVAILABLE,
    b"503": Code.UNAVAILABLE,
    b"504": Code.UNAVAILABLE,
}

_BY_RESET = {  # by the error codes of RFC 9113, 7; the other ones that it knows are INTERNAL
    7: Code.UNAVAILABLE,  # REFUSED_STREAM
    8: Code.CANCELLED,  # CANCEL
    11: Code.RESOURCE_EXHAUSTED,  # ENHANCE_YOUR_CALM
    12: Code.PERMISSION_DENIED,  # INADEQUATE_SECURITY
}
_LAST_RESET = 13


class Status(NamedTuple):
    """A call's end; `Code.OK` is a regular one."""

    code: grpc.StatusCode
    text: str


class CallError(grpc.RpcError):
    """A call ended with another status than OK; asked as gRPC's own errors are."""

    def __init__(self, status: Status) -> None:
        super().__init__(f"{status.code.name}: {status.text}")
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status.code

    def details(self) -> str:
        return self._status.text


def of_headers(headers: Mapping[bytes, bytes]) -> Status | None:
    """The status in a response's headers or trailers; None where they have none."""
    number = headers.get(b"grpc-status")
    if number is not None:
        code = _BY_NUMBER.get(number, Code.UNKNOWN)
        # percent-encoded UTF-8; what is not that is shown as well as it can be
        text = unquote_to_bytes(headers.get(b"grpc-message", b"")).decode(errors="replace")
        return Status(code, text)
    http = headers.get(b":status", b"200")
    if http == b"200":
        return None
    # Some proxy answered: not Google's Speech API
    text = f"Received http2 header with status: {http.decode(errors='replace')}"
    return Status(_BY_HTTP.get(http, Code.UNKNOWN), text)


def of_reset(code: int) -> Status:
    """The status of a stream that the other side has reset."""
    known = Code.INTERNAL if code <= _LAST_RESET else Code.UNKNOWN
    return Status(_BY_RESET.get(code, known), f"Received RST_STREAM with error code {code}")


def unavailable(why: object) -> Status:
    """The status of a call whose connection is gone, or was never there."""
    return Status(Code.UNAVAILABLE, str(why))
