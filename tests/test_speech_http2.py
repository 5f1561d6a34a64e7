"""What a stream over HTTP/2 says of itself to Google: where it goes, who asks, with what."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import test_wire
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials, Credentials
from google.oauth2 import service_account

import speech_http2
from speech_http2 import emulator_channel, google_channel
from stream_faults import StreamFault

trusting, certificate = test_wire.trusting, test_wire.certificate  # a fixture of this module

PATH = "/google.cloud.speech.v1.Speech/StreamingRecognize"


@pytest.fixture(scope="module")
def account() -> Credentials:
    """A service account with a throwaway key."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    credentials: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]  # google-auth
        {
            "type": "service_account",
            "client_email": "tamlil@example.iam.gserviceaccount.com",
            "private_key": key.decode(),
            "token_uri": "https://127.0.0.1:9/token",  # nobody is asked
        }
    )
    return credentials


def claims(authorization: bytes) -> Any:
    payload = authorization.decode().removeprefix("Bearer ").split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=="))


def test_a_service_accounts_token_is_signed_here_for_the_speech_api(account: Credentials) -> None:
    """Nobody is asked for it, it is for this service alone, and it is kept while it is good."""
    channel = google_channel(account)
    headers = dict(channel.headers(PATH))
    told = claims(headers[b"authorization"])
    assert told["aud"] == "https://speech.googleapis.com/"
    assert told["iss"] == "tamlil@example.iam.gserviceaccount.com"
    assert dict(channel.headers(PATH))[b"authorization"] == headers[b"authorization"]


def test_a_region_is_another_host_with_the_same_token(account: Credentials) -> None:
    """Google takes the token of the service for each of its regions."""
    headers = dict(google_channel(account, "eu-speech.googleapis.com").headers(PATH))
    assert headers[b":authority"] == b"eu-speech.googleapis.com"
    assert claims(headers[b"authorization"])["aud"] == "https://speech.googleapis.com/"


def test_the_headers_are_those_of_a_grpc_call(account: Credentials) -> None:
    """The ones that HTTP/2 wants come first; Google's client tells its version."""
    headers = google_channel(account).headers(PATH)
    assert headers[:4] == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"speech.googleapis.com"),
        (b":path", PATH.encode()),
    ]
    rest = dict(headers[4:])
    assert rest[b"te"] == b"trailers"
    assert rest[b"content-type"] == b"application/grpc"
    assert rest[b"grpc-accept-encoding"] == b"identity"
    assert b"gapic/" in rest[b"x-goog-api-client"]
    assert rest[b"x-goog-api-client"].endswith(b" cred-type/jwt")
    assert len(rest) == len(headers[4:])
    assert all(name == name.lower() for name in rest)


def test_the_emulator_is_told_no_secret() -> None:
    """There is none, and no TLS to keep it."""
    headers = dict(emulator_channel("localhost:9090").headers(PATH))
    assert headers[b":scheme"] == b"http"
    assert headers[b":authority"] == b"localhost:9090"
    assert b"authorization" not in headers


class SlowCredentials(AnonymousCredentials):
    """A token that is fetched, by one at a time."""

    def __init__(self) -> None:
        self.busy = threading.Lock()

    def before_request(self, request: Any, method: str, url: str, headers: dict[str, str]) -> None:
        assert self.busy.acquire(blocking=False)
        headers["authorization"] = f"Bearer for {url}"
        self.busy.release()


def test_any_other_credentials_are_asked_for_each_call_one_at_a_time() -> None:
    """Whatever they are: with the address that gRPC would tell them."""
    channel = google_channel(SlowCredentials())
    threads = [threading.Thread(target=channel.headers, args=(PATH,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    headers = dict(channel.headers(PATH))
    url = b"https://speech.googleapis.com/google.cloud.speech.v1.Speech"
    assert headers[b"authorization"] == b"Bearer for " + url


def test_a_stream_over_tls_to_grpcs_own_server(
    certificate: Path, account: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way as to Google: TLS, HTTP/2, the token, messages there and back, the end."""
    asked: list[dict[str, str]] = []

    def echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        asked.append({str(key): str(value) for key, value in context.invocation_metadata()})
        yield from requests
        context.set_details("ünïcode")
        context.set_code(grpc.StatusCode.OUT_OF_RANGE)

    pem = certificate.read_bytes()
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                PATH.split("/")[1],
                {PATH.split("/")[2]: grpc.stream_stream_rpc_method_handler(echo, bytes, bytes)},
            ),
        )
    )
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, pem)]))
    server.start()
    monkeypatch.setattr(speech_http2, "_HOST", "127.0.0.1")
    monkeypatch.setattr(speech_http2, "_PORT", port)
    monkeypatch.setattr(speech_http2, "google_tls", lambda: trusting(certificate))
    channel = google_channel(account)
    call = channel.stream_stream(PATH, bytes, bytes)(iter([b"one", bytes(100_000), b"three"]))
    assert [next(call) for _ in range(3)] == [b"one", bytes(100_000), b"three"]
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert StreamFault.of(caught.value) == StreamFault(grpc.StatusCode.OUT_OF_RANGE, "ünïcode")
    assert asked[0]["authorization"].startswith("Bearer ")
    channel.close()
    server.stop(None).wait(10)
