"""Posts to real receivers: what they answer, and what they cannot do to the sender."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from test_webhook_addresses import look_up_as
from webhook_receiver import SECRET, Answer, WebhookReceiver, event_body

from errors import BadWebhook
from local_stack import free_port
from webhook_client import PostFailed, WebhookClient
from webhook_signing import signed_headers

BODY = event_body("evt", n=1)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


def post(client: WebhookClient, url: str) -> int:
    headers = signed_headers([SECRET], "evt", datetime.datetime.now(datetime.UTC), BODY)
    return client.post(url, BODY.encode(), headers)


def local(**options: Any) -> WebhookClient:
    return WebhookClient(allow_private=True, **options)


def answers(receiver: WebhookReceiver, *each: Answer) -> None:
    """The receiver answers so, one after the other."""
    waiting = iter(each)
    receiver.decide = lambda event: next(waiting)


def test_the_status_comes_back_and_connections_are_used_again(receiver: WebhookReceiver) -> None:
    """Whatever the status; five posts need one connection; redirections are not followed."""
    answers(
        receiver,
        Answer(204),
        Answer(200, body=b"thanks"),
        Answer(500, body=b"no"),
        Answer(302, headers=(("Location", receiver.url),)),
        Answer(410),
    )
    client = local()
    assert [post(client, receiver.url) for _ in range(5)] == [204, 200, 500, 302, 410]
    assert receiver.connections == 1
    assert receiver.headers[0]["host"] == f"127.0.0.1:{receiver.port}"
    client.close()


def test_a_kept_connection_that_was_closed_is_replaced(receiver: WebhookReceiver) -> None:
    """A receiver that restarts between two events loses neither."""
    client = local()
    assert post(client, receiver.url) == 204
    answers(receiver, Answer(None), Answer(204))
    assert post(client, receiver.url) == 204
    assert len(receiver.asked) == 3
    assert receiver.connections == 2


def test_a_receiver_that_closes_without_an_answer(receiver: WebhookReceiver) -> None:
    """Is a failure in one line."""
    receiver.decide = lambda event: Answer(None)
    with pytest.raises(PostFailed, match="without response"):
        post(local(), receiver.url)


def test_a_receiver_that_is_not_there() -> None:
    """The port is closed."""
    with pytest.raises(PostFailed, match="refused"):
        post(local(), f"http://127.0.0.1:{free_port()}/")


@pytest.mark.parametrize("how", ["silent", "dripping"])
def test_nobody_stretches_the_time(receiver: WebhookReceiver, how: str) -> None:
    """Neither by silence nor by a byte now and then."""
    silence = threading.Event()
    receiver.decide = lambda event: Answer(
        200, waits=silence if how == "silent" else None, drips=True
    )
    began = time.monotonic()
    with pytest.raises(PostFailed, match=r"no answer within 0\.5 s"):
        post(local(seconds=0.5), receiver.url)
    assert 0.4 < time.monotonic() - began < 5
    silence.set()


def test_a_long_answer_is_not_read(receiver: WebhookReceiver) -> None:
    """Its status is enough, and the connection is not used again."""
    receiver.decide = lambda event: Answer(200, body=b"x" * 10_000_000)
    client = local()
    assert [post(client, receiver.url) for _ in range(2)] == [200, 200]
    assert receiver.connections == 2


def test_a_private_address_is_not_connected_to(receiver: WebhookReceiver) -> None:
    """Not even looked at."""
    with pytest.raises(BadWebhook, match="not a public address"):
        post(WebhookClient(), f"https://127.0.0.1:{receiver.port}/")
    assert receiver.connections == 0


def test_the_connection_goes_to_the_address_that_was_checked(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once for a connection: a second answer would lead nobody anywhere."""
    looked_up: list[str] = []

    def once(host: str, port: int, **options: Any) -> list[Any]:
        looked_up.append(host)
        return list(look_up_as("127.0.0.1")(host, port))

    def never(*arguments: Any, **options: Any) -> list[Any]:
        raise AssertionError("looked up past the check")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    client = local(look_up=once)
    url = f"http://crm.example:{receiver.port}/"
    assert [post(client, url) for _ in range(2)] == [204, 204]
    assert looked_up == ["crm.example"]
    assert receiver.headers[0]["host"] == f"crm.example:{receiver.port}"


def test_the_next_address_is_tried_where_one_does_not_answer(receiver: WebhookReceiver) -> None:
    """As with an IPv6 address where there is no IPv6."""
    client = local(look_up=look_up_as("::1", "127.0.0.1"))
    assert post(client, f"http://crm.example:{receiver.port}/") == 204


def certificate(directory: Path, name: str) -> Path:
    """A key and a certificate for `name` that it signed itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_tls_verifies_the_name_though_the_address_is_given(tmp_path: Path) -> None:
    """crm.example's certificate is good for crm.example and for nobody else at that address."""
    path = certificate(tmp_path, "crm.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    trusting = ssl.create_default_context(cafile=str(path))
    with WebhookReceiver(tls=server) as receiver:
        client = local(look_up=look_up_as("127.0.0.1"), make_tls=lambda: trusting)
        url = f"https://crm.example:{receiver.port}/"
        assert [post(client, url) for _ in range(2)] == [204, 204]
        assert receiver.connections == 1
        with pytest.raises(PostFailed, match="certificate is not good"):
            post(client, f"https://other.example:{receiver.port}/")
        with pytest.raises(PostFailed, match="certificate is not good"):
            post(local(look_up=look_up_as("127.0.0.1")), url)
        client.close()
