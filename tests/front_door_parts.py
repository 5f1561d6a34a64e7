"""What the tests of the front door share: Twilio's signature made by hand, and a guarded service.

`signature` is an implementation of its own, after Twilio's description: not the service's one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from unittest.mock import patch
from urllib.parse import urlencode

from itsdangerous import TimestampSigner
from running_service import RunningService

from stream_tokens import StreamGrant, StreamTokens
from twilio_calls import new_sid

AUTH_TOKEN, SECRET_KEY = "a" * 32, "a secret of this service"
PUBLIC_URL = "https://tamlil.example"
MEDIA_URL = "wss://tamlil.example/media"

Form = Iterable[tuple[str, str]]


def signature(url: str, form: Form = (), token: str = AUTH_TOKEN) -> str:
    """What Twilio puts into `X-Twilio-Signature` for a request to `url` with `form`."""
    text = url + "".join(name + value for name, value in sorted(set(form)))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def upgrade_headers(path: str = "/media") -> dict[str, str]:
    """The headers with which Twilio opens a stream at `path`."""
    return {"X-Twilio-Signature": signature("wss://tamlil.example" + path)}


def stream_token(call_sid: str, tenant: str = "default", *, age: int = 0) -> str:
    """A token of the guarded service's making, for a call of a business, `age` seconds old."""
    made = int(time.time()) - age
    with patch.object(TimestampSigner, "get_timestamp", lambda self: made):
        return StreamTokens(SECRET_KEY).make(StreamGrant(call_sid, tenant))


def guarded_service(google: str, **settings: object) -> RunningService:
    """The service as it is deployed: signatures are checked, behind a proxy that ends TLS."""
    known: dict[str, object] = {
        "SPEECH_EMULATOR_HOST": google,
        "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
        "SECRET_KEY": SECRET_KEY,
        "PUBLIC_URL": PUBLIC_URL,
        "WEB_CONCURRENCY": 1,
    }
    return RunningService(RunningService.gunicorn, **(known | settings))


def live_calls(service: RunningService) -> int:
    """How many slots the service's only worker has taken now."""
    twilio = Twilio(service.port)
    try:
        _, text = twilio.request("GET", "/readyz", None, {})
    finally:
        twilio.close()
    calls: int = json.loads(text)["calls"]
    return calls


def call_form(call_sid: str | None = None, **fields: str) -> list[tuple[str, str]]:
    """The form of a webhook about a call; `fields` as Twilio names them."""
    known = {
        "CallSid": call_sid or new_sid("CA"),
        "AccountSid": "AC" + "0" * 32,
        "From": "+15005550006",
        "To": "+97231234567",
        "CallStatus": "ringing",
        "Direction": "inbound",
    }
    return list((known | fields).items())


KEPT_SECONDS = 1.0  # gunicorn ends a connection over which nothing came for 2 s


class Twilio:
    """Twilio's webhooks to a service on a local port; not thread-safe.

    Its connection is kept while it is in use; after a pause there is a new one.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        self._used = 0.0  # when the last answer came, on the monotonic clock

    def post(self, path: str, form: Form, signed: str | None = None) -> tuple[int, str]:
        """The answer to a signed POST; `signed` in place of the right signature."""
        form = list(form)
        right = signature(PUBLIC_URL + path, form)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": right if signed is None else signed,
        }
        return self.request("POST", path, urlencode(form).encode(), headers)

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, str]:
        """The answer to any request."""
        if time.monotonic() - self._used > KEPT_SECONDS:
            self._connection.close()  # the next request opens another
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        self._used = time.monotonic()
        return answer.status, text

    @property
    def local_port(self) -> int:
        """Its own end of the connection."""
        port: int = self._connection.sock.getsockname()[1]
        return port

    def close(self) -> None:
        self._connection.close()


def worker_of(service: RunningService, client_port: int) -> int:
    """The process that holds a client's connection."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for worker in service.workers():
            for one in worker.net_connections("tcp"):
                if one.raddr and one.raddr.port == client_port:
                    return worker.pid
        time.sleep(0.02)  # the kernel's table: there is nothing to wait on
    raise AssertionError("no worker has the connection")


def twilio_at_another(service: RunningService, holder: int) -> Twilio:
    """Twilio's connection to a worker that is not `holder`, which may still be starting."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        twilio = Twilio(service.port)
        twilio.request("GET", "/healthz", None, {})
        if worker_of(service, twilio.local_port) != holder:
            return twilio
        twilio.close()
    raise AssertionError("one worker takes all connections")


def verbs(twiml: str) -> list[str]:
    """The names of a TwiML's verbs, in order."""
    response = ET.fromstring(twiml)
    assert response.tag == "Response"
    return [verb.tag for verb in response]


def parameters(twiml: str) -> dict[str, str]:
    """The parameters of a TwiML's only stream."""
    [stream] = ET.fromstring(twiml).iter("Stream")
    return {one.attrib["name"]: one.attrib["value"] for one in stream.iter("Parameter")}
