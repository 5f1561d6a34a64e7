"""Twilio's REST API on this machine, as far as a phone number needs it: real HTTP, one account.

`make_client` is Twilio's own client, whose requests come here instead of to api.twilio.com.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

ACCOUNT = "AC" + "1" * 32
TOKEN = "a" * 32
NUMBER = "+97231234567"
_ROOT = f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers"


def number_resource(number: str = NUMBER, **fields: object) -> dict[str, Any]:
    """A number as Twilio's API shows it, fresh from the shop."""
    return {
        "account_sid": ACCOUNT,
        "sid": "PN" + number[1:].rjust(32, "0"),
        "phone_number": number,
        "capabilities": {"voice": True, "sms": True, "mms": False, "fax": False},
        "voice_url": "https://demo.twilio.com/welcome/voice/",
        "voice_method": "GET",
        "voice_fallback_url": "",
        "voice_fallback_method": "POST",
        "voice_application_sid": "",
        "trunk_sid": None,
        "status_callback": "",
        "status_callback_method": "POST",
        "date_created": "Mon, 16 Nov 2026 20:00:00 +0000",
        "date_updated": "Mon, 16 Nov 2026 20:00:00 +0000",
    } | fields


class TwilioRestServer:
    """`with TwilioRestServer(number_resource(…)) as twilio:`; its numbers are in `twilio.numbers`.

    `posted` are the changes that were asked for. `answer`: a status and a body for every request
    from now on. `deaf`: changes are answered, and not made.
    """

    def __init__(self, *numbers: dict[str, Any]) -> None:
        self.numbers = {number["sid"]: number for number in numbers}
        self.posted: list[dict[str, str]] = []
        self.answer: tuple[int, str] | None = None
        self.deaf = False

        twilio = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*twilio.serve(self.path, None, self.headers["Authorization"]))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._answer(*twilio.serve(self.path, body, self.headers["Authorization"]))

            def _answer(self, status: int, body: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Tests are silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on connections are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def make_client(self, account_sid: str, auth_token: str) -> Client:
        """Twilio's client, which asks this server."""
        return Client(account_sid, auth_token, http_client=_Here(self._server.server_port))

    def serve(self, path: str, body: str | None, authorization: str | None) -> tuple[int, str]:
        """The status and the JSON with which Twilio answers such a request."""
        if self.answer is not None:
            return self.answer
        url = urlsplit(path)
        keys = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        if authorization != f"Basic {keys}" or not url.path.startswith(_ROOT):
            return _error(401, 20003, "Authenticate")
        if body is None:
            wanted = parse_qs(url.query).get("PhoneNumber", [""])[0]
            found = [one for one in self.numbers.values() if wanted in one["phone_number"]]
            page = {"incoming_phone_numbers": found, "page": 0, "page_size": 50, "uri": path}
            return 200, json.dumps(page)
        return self._change(url.path, body)

    def _change(self, path: str, body: str) -> tuple[int, str]:
        sid = path.removeprefix(f"{_ROOT}/").removesuffix(".json")
        if sid not in self.numbers:
            return _error(404, 20404, f"The requested resource {path} was not found")
        fields = {key: values[0] for key, values in parse_qs(body, True).items()}
        self.posted.append(fields)
        if not self.deaf:
            self.numbers[sid] |= {_snake(key): value for key, value in fields.items()}
        return 200, json.dumps(self.numbers[sid])


class _Here(TwilioHttpClient):  # type: ignore[misc]  # twilio has no types
    def __init__(self, port: int) -> None:
        super().__init__(timeout=10)
        self._base = f"http://127.0.0.1:{port}"

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Response:
        here = url.replace("https://api.twilio.com", self._base)
        assert here != url, f"a test would go to {url}"
        return super().request(method, here, *args, **kwargs)


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)[1:]


def _error(status: int, code: int, message: str) -> tuple[int, str]:
    told = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return status, json.dumps(told)
