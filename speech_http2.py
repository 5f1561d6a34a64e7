"""The streams' own way to the Speech API: where it is, and what each call says of itself.

Headers are Google's business and come from its libraries: the credentials', and the version that
`google-cloud-speech` tells. They may wait (for a token that is fetched): a call's own thread asks.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from google.auth.credentials import Credentials, with_scopes_if_required
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcTransport
from google.cloud.speech_v1.services.speech.transports.base import DEFAULT_CLIENT_INFO

from http2_channel import Http2Channel
from http2_client import Headers
from http2_connection import SILENT_SECONDS
from wire import connect, google_tls

_VERSIONS: str = DEFAULT_CLIENT_INFO.to_user_agent()  # type: ignore[no-untyped-call]  # google-api-core
_CLIENT = b"x-goog-api-client"
_HOST, _PORT = SpeechGrpcTransport.DEFAULT_HOST, 443


class _Method(NamedTuple):
    """What a plugin for credentials is told of the call (gRPC's `AuthMetadataContext`)."""

    service_url: str
    method_name: str


def emulator_channel(address: str) -> Http2Channel:
    """To "host:port", without TLS and without credentials."""
    host, port = address.rsplit(":", 1)
    common = _common(address, "http")

    return Http2Channel(
        lambda: connect(host, int(port), None, SILENT_SECONDS),
        lambda path: [*common, (b":path", path.encode()), *_LAST],
    )


def google_channel(credentials: Credentials, host: str = "") -> Http2Channel:
    """To Google's `host` (a region's, or the usual one), with these credentials.

    Those of a service account sign their tokens here.
    """
    host = host or _HOST
    if hasattr(credentials, "with_always_use_jwt_access"):
        credentials = credentials.with_always_use_jwt_access(True)
    scoped = with_scopes_if_required(  # type: ignore[no-untyped-call]  # google-auth
        credentials, scopes=None, default_scopes=SpeechGrpcTransport.AUTH_SCOPES
    )
    plugin = AuthMetadataPlugin(scoped, Request(), default_host=_HOST)  # type: ignore[no-untyped-call]  # google-auth
    lock = threading.Lock()  # one fetches a token, the others have it then
    common = _common(host, "https")

    def headers(path: str) -> Headers:
        service, method = path.rsplit("/", 1)
        told: list[tuple[str, str]] = []

        def tell(metadata: Any, error: Any) -> None:
            told.extend(metadata)

        with lock:
            plugin(_Method(f"https://{host}{service}", method), tell)
        token = {name.lower().encode(): value.encode() for name, value in told}
        if _CLIENT in token:  # the credentials tell their kind there
            token[_CLIENT] = b"%s %s" % (_VERSIONS.encode(), token[_CLIENT])
        last = (header for header in _LAST if header[0] not in token)
        return [*common, (b":path", path.encode()), *last, *token.items()]

    return Http2Channel(lambda: connect(host, _PORT, google_tls(), SILENT_SECONDS), headers)


_LAST: Headers = [
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"tamlil"),
    (_CLIENT, _VERSIONS.encode()),
    (b"grpc-accept-encoding", b"identity"),
]


def _common(authority: str, scheme: str) -> Headers:
    return [
        (b":method", b"POST"),
        (b":scheme", scheme.encode()),
        (b":authority", authority.encode()),
    ]
