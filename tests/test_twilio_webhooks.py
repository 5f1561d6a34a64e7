"""Signatures against a second implementation, and where a request really goes."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from werkzeug.datastructures import MultiDict

from twilio_signature import TwilioSignature
from twilio_webhooks import Form, ServiceAddress, WrongServiceUrl, resolve, sign

TOKEN = "12345"
FORM = [("To", "+972"), ("CallSid", "CA1"), ("From", "anonymous"), ("Say", "שלום")]


def plain_hmac(token: str, url: str, form: Form) -> str:
    """Twilio's rule, written down once more: the URL, then the sorted pairs, each once."""
    text = url + "".join(key + value for key, value in sorted(set(form)))
    digest = hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize("form", [[], FORM, [("b", "2"), ("a", "1"), ("b", "1"), ("b", "2")]])
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/voice",
        "https://tamlil.example/voice",
        "https://tamlil.example:8443/voice?a=1&b=%D7%90",
        "wss://tamlil.example/media",
        "wss://tamlil.example:8443/media",
        "ws://127.0.0.1:8000/media",
    ],
)
def test_signatures_are_twilios(url: str, form: Form) -> None:
    """Every scheme, port, query and repeated key gives what plain HMAC gives."""
    assert sign(TOKEN, url, form) == plain_hmac(TOKEN, url, form)


def test_the_documented_example() -> None:
    """Twilio's documentation signs this request so."""
    form = [("CallSid", "CA1234567890ABCDE"), ("Caller", "+14158675310"), ("Digits", "1234")]
    form += [("From", "+14158675310"), ("To", "+18005551212")]
    url = "https://example.com/myapp.php?foo=1&bar=2"
    assert sign(TOKEN, url, form) == "L/OH5YylLD5NRKLltdqwSvS0BnU="


def test_the_service_accepts_them() -> None:
    """The service's own check takes a webhook and an upgrade that are signed here."""
    check = TwilioSignature([TOKEN], "https://tamlil.example")
    form = [("a", "1"), ("a", "2")]
    webhook = sign(TOKEN, "https://tamlil.example/voice?x=1", form)
    assert check.is_valid(webhook, "inside:8000", "/voice?x=1", MultiDict(form))
    upgrade = sign(TOKEN, "wss://tamlil.example/media")
    assert check.is_valid(upgrade, "inside:8000", "/media", socket=True)


@pytest.mark.parametrize(
    ("service", "public", "connect_to", "url", "real", "headers"),
    [
        ("http://h:8000", "", "", "http://h:8000/voice", "http://h:8000/voice", {"Host": "h:8000"}),
        (
            "http://127.0.0.1:8000",
            "https://t.example",
            "",
            "https://t.example/voice?a=%20",
            "http://127.0.0.1:8000/voice?a=%20",
            {"Host": "t.example", "X-Forwarded-Proto": "https"},
        ),
        (
            "https://t.example",
            "",
            "127.0.0.1:81",
            "https://t.example:443/a",
            "http://127.0.0.1:81/a",
            {"Host": "t.example:443", "X-Forwarded-Proto": "https"},
        ),
        ("https://t.example", "", "", "https://other.example/a", "https://other.example/a", {}),
        ("http://h:8000", "", "", "http://h:9000/voice", "http://h:9000/voice", {}),
    ],
)
def test_where_webhooks_go(
    service: str, public: str, connect_to: str, url: str, real: str, headers: dict[str, str]
) -> None:
    """The public address is mapped to where the service listens, as a proxy would; others not."""
    target = ServiceAddress(service, public, connect_to).webhook(url)
    assert (target.url, target.headers) == (real, headers)


def test_where_sockets_go() -> None:
    """wss of the public address is opened without TLS at the real one; the query is stripped."""
    address = ServiceAddress("http://127.0.0.1:8000", "https://t.example")
    target = address.socket("wss://t.example/media?x=1")
    assert (target.url, target.at) == ("ws://t.example/media", ("127.0.0.1", 8000))
    assert target.headers == {"X-Forwarded-Proto": "https"}
    assert address.socket("wss://other/m").at is None
    assert ServiceAddress("https://t.example").socket("wss://t.example/m").url.startswith("wss:")
    assert ServiceAddress("http://h:1").socket("ws://h:1/m").url == "ws://h:1/m"
    with pytest.raises(WrongServiceUrl, match="Twilio wants wss"):
        address.socket("ws://t.example/media")


@pytest.mark.parametrize(
    "arguments",
    [
        ("ws://h/media",),
        ("h:8000",),
        ("http://h:99999",),
        ("http://h", "t.example"),
        ("http://h", "", "h"),
        ("http://h", "", "h:1/a"),
    ],
)
def test_wrong_addresses_are_refused(arguments: tuple[str, ...]) -> None:
    """In one line."""
    with pytest.raises(WrongServiceUrl) as caught:
        ServiceAddress(*arguments)
    assert "\n" not in str(caught.value)


def test_relative_addresses_are_meant_by_the_documents_own() -> None:
    """As in a browser; an empty one is the document's."""
    base = "https://t.example/a/voice?x=1"
    assert resolve(base, "next") == "https://t.example/a/next"
    assert resolve(base, "/next?y=2") == "https://t.example/next?y=2"
    assert resolve(base, "https://o.example/") == "https://o.example/"
    assert resolve(base, "") == base
