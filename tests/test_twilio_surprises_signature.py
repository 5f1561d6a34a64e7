"""What surprises about Twilio's signatures, fact by fact, against the service as it is deployed.

Each test is named after one fact. The thorough tests of the parts are in `test_trust.py` and
`test_twilio_signature.py`.
"""

from __future__ import annotations

import hashlib
import json
import socket as sockets
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from front_door_parts import (
    AUTH_TOKEN,
    MEDIA_URL,
    PUBLIC_URL,
    Form,
    Twilio,
    call_form,
    guarded_service,
    live_calls,
    signature,
    stream_token,
    upgrade_headers,
)
from running_service import RunningService
from twilio.request_validator import RequestValidator
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from speech_server_thread import SpeechServerThread
from twilio_calls import new_sid
from twilio_stream import StreamMessages

NEXT = "/voice/next?tenant=default&retries=0&since=0"


@pytest.fixture(scope="module")
def door_by_host(speech: SpeechServerThread) -> Iterator[RunningService]:
    """A service which must go by the request's host."""
    with guarded_service(speech.address, PUBLIC_URL="") as service:
        yield service


@pytest.fixture
def twilio(guarded: RunningService) -> Iterator[Twilio]:
    twilio = Twilio(guarded.port)
    yield twilio
    twilio.close()


def upgrade_status(service: RunningService, signed: str | None, path: str = "/media") -> int:
    """The HTTP status with which an upgrade is answered; 101 is a socket."""
    try:
        with connect(
            f"ws://127.0.0.1:{service.port}{path}",
            additional_headers={} if signed is None else {"X-Twilio-Signature": signed},
            compression=None,
            proxy=None,
            ping_interval=None,
        ):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


def by_twilio(url: str, form: Form = ()) -> str:
    """Twilio's own library's signature, over single keys."""
    signed: str = RequestValidator(AUTH_TOKEN).compute_signature(url, dict(form))
    return signed


def test_a_webhook_is_signed_over_its_query_and_its_sorted_form(twilio: Twilio) -> None:
    """HMAC-SHA1 of the whole URL and of all pairs, sorted: a signature without either is none."""
    form = sorted(call_form(CallStatus="in-progress"), reverse=True)
    url = PUBLIC_URL + NEXT
    unsorted = "".join(name + value for name, value in form)
    assert twilio.post(NEXT, form, by_twilio(url, form))[0] == 200
    assert twilio.post(NEXT, form, by_twilio(PUBLIC_URL + "/voice/next", form))[0] == 403
    assert twilio.post(NEXT, form, by_twilio(url))[0] == 403
    assert twilio.post(NEXT, form, signature(url + unsorted))[0] == 403


def test_a_json_body_is_signed_by_its_body_sha256(guarded: RunningService, twilio: Twilio) -> None:
    """Twilio puts the hash into the query and signs that: another body, or no hash, is a 403."""
    body = json.dumps({"CallStatus": "completed"}).encode()
    hashed = f"/status?bodySHA256={hashlib.sha256(body).hexdigest()}"

    def status(path: str, sent: bytes) -> int:
        headers = {"X-Twilio-Signature": signature(PUBLIC_URL + path)}
        headers["Content-Type"] = "application/json"
        return twilio.request("POST", path, sent, headers)[0]

    assert status(hashed, body) == 200
    assert status(hashed, body.replace(b"completed", b"busy")) == 403
    assert status(hashed, b"\xff") == 403
    assert status("/status", body) == 403
    assert guarded.count("Traceback") == 0


def test_an_upgrade_is_signed_as_wss_without_parameters(guarded: RunningService) -> None:
    """The header is the webhooks' one, the URL is wss://…: that over https://… is a 403."""
    assert upgrade_status(guarded, by_twilio(MEDIA_URL)) == 101
    assert upgrade_status(guarded, by_twilio(MEDIA_URL.replace("wss", "https"))) == 403
    assert upgrade_status(guarded, by_twilio(MEDIA_URL, call_form())) == 403


def test_behind_a_proxy_the_public_url_counts(guarded: RunningService, twilio: Twilio) -> None:
    """What Twilio signed is rebuilt from PUBLIC_URL, whatever host the proxy asks for."""
    body = b"CallSid=CA1&CallStatus=ringing"
    form = [("CallSid", "CA1"), ("CallStatus", "ringing")]
    for host in ("10.0.0.7:8000", "evil.example"):
        headers = {"Host": host, "Content-Type": "application/x-www-form-urlencoded"}
        for web, expected in ((PUBLIC_URL, 200), (f"https://{host}", 403)):
            headers["X-Twilio-Signature"] = signature(web + "/status", form)
            assert twilio.request("POST", "/status", body, headers)[0] == expected


def test_a_port_may_be_named_and_that_of_wss_is_443(
    guarded: RunningService, twilio: Twilio
) -> None:
    """Twilio's own validator takes 80 for it: both spellings of the URL are tried here."""
    form = call_form()
    named = PUBLIC_URL + ":443"
    assert twilio.post("/status", form, signature(named + "/status", form))[0] == 200
    assert upgrade_status(guarded, signature(named.replace("https", "wss") + "/media")) == 101
    assert upgrade_status(guarded, signature("wss://tamlil.example:8443/media")) == 403


def test_no_signature_at_all_is_a_403_and_no_error(guarded: RunningService, twilio: Twilio) -> None:
    """The validator raises a TypeError for None: here it is refused like a wrong one."""
    before = guarded.count("[TRUST] refused: 403 no signature")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert twilio.request("POST", "/voice", b"CallSid=CA1", form)[0] == 403
    assert upgrade_status(guarded, None) == 403
    guarded.wait_for(
        lambda lines: sum("[TRUST] refused: 403 no signature" in x for x in lines) == before + 2
    )
    assert guarded.count("Traceback") == 0


def test_repeated_keys_of_a_form_all_count(twilio: Twilio) -> None:
    """A plain dict would lose all but one: the request's own multi-dict is what is checked."""
    once = call_form()
    form = [*once, ("MediaUrl", "b"), ("MediaUrl", "a")]
    assert twilio.post("/status", form)[0] == 200
    for fewer in ([*once, ("MediaUrl", "a")], [*once, ("MediaUrl", "b")], once):
        assert twilio.post("/status", form, signature(PUBLIC_URL + "/status", fewer))[0] == 403


def test_a_request_calls_itself_http_also_for_a_websocket(door_by_host: RunningService) -> None:
    """So its URL is not asked: without PUBLIC_URL the host is, with the schemes of a socket."""
    host = f"127.0.0.1:{door_by_host.port}"
    for scheme, expected in (("wss", 101), ("ws", 101), ("https", 403), ("http", 403)):
        assert upgrade_status(door_by_host, signature(f"{scheme}://{host}/media")) == expected


def test_x_forwarded_proto_is_believed_from_few_so_nothing_rests_on_it(
    guarded: RunningService, door_by_host: RunningService
) -> None:
    """gunicorn drops it unless the proxy is known: signature and TwiML come out the same."""
    form = call_form()
    body = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in form).encode()
    by_host = f"https://127.0.0.1:{door_by_host.port}"
    for service, web in ((guarded, PUBLIC_URL), (door_by_host, by_host)):
        twilio = Twilio(service.port)
        url = web + "/voice"
        for proto in ({}, {"X-Forwarded-Proto": "http"}, {"X-Forwarded-Proto": "https"}):
            headers = {"X-Twilio-Signature": signature(url, form), **proto}
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            status, twiml = twilio.request("POST", "/voice", body, headers)
            assert status == 200
            if service is guarded:
                [stream] = ET.fromstring(twiml).iter("Stream")
                assert stream.attrib["url"] == MEDIA_URL
        twilio.close()


def test_an_upgrade_is_refused_before_flask_sock_completes_it(guarded: RunningService) -> None:
    """A handler is too late, by then there is a 101: the first and only answer is the 403."""
    request = (
        "GET /media HTTP/1.1\r\nHost: tamlil.example\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nGET /healthz HTTP/1.1\r\n"
        "Host: tamlil.example\r\nConnection: close\r\n\r\n"
    )
    with sockets.create_connection(("127.0.0.1", guarded.port), 10) as client:
        client.sendall(request.encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"HTTP/1.1 101" not in answer


def test_a_signature_proves_twilio_but_not_the_call(guarded: RunningService) -> None:
    """The webhook's token binds the stream to its call: a start of another one is 1008."""
    call = new_sid("CA")
    messages = StreamMessages(
        call, new_sid("MZ"), "AC1", custom_parameters={"token": stream_token(new_sid("CA"))}
    )
    with connect(
        f"ws://127.0.0.1:{guarded.port}/media", additional_headers=upgrade_headers(), proxy=None
    ) as socket:
        socket.send(messages.connected())
        socket.send(messages.start())
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert (socket.close_code, socket.close_reason) == (1008, "the token is another call's")
    guarded.wait_for_line("[WS] refused: 1008", f"call={call} tenant=-")
    assert live_calls(guarded) == 0
