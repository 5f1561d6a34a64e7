"""Twilio's signatures: the right ones are taken, wrong in any single part they are not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from front_door_parts import signature
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from twilio_signature import TwilioSignature

TOKEN, OTHER = "1" * 32, "2" * 32
HOST = "tamlil.example"

Sign = Callable[[str, list[tuple[str, str]]], str]


def by_twilio(url: str, form: list[tuple[str, str]]) -> str:
    signed: str = RequestValidator(TOKEN).compute_signature(url, MultiDict(form))
    return signed


def by_hand(url: str, form: list[tuple[str, str]]) -> str:
    return signature(url, form, TOKEN)


both = pytest.mark.parametrize("sign", [by_twilio, by_hand])

FORMS = {
    "none": [],
    "a call": [("To", "+97231234567"), ("CallSid", "CA1"), ("From", "anonymous")],
    "repeated keys": [("b", "2"), ("a", "z"), ("b", "1"), ("a", "z"), ("B", "0")],
    "text": [("Said", "שלום, עולם &=+%"), ("Empty", "")],
}


@both
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("path", ["/voice", "/voice/next?tenant=clinic&retries=1", "/a?b=%2B&b=c"])
@pytest.mark.parametrize("port", ["", ":443", ":80", ":8443"])
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_webhook_is_taken_as_twilio_signs_it(
    sign: Sign, scheme: str, port: str, path: str, form: list[tuple[str, str]]
) -> None:
    """Both schemes, any port, a query, and forms whose keys repeat."""
    signed = sign(f"{scheme}://{HOST}{port}{path}", form)
    assert TwilioSignature([TOKEN]).is_valid(signed, HOST + port, path, MultiDict(form))
    public = TwilioSignature([TOKEN], f"{scheme}://{HOST}{port}")
    assert public.is_valid(signed, "10.0.0.7:8000", path, MultiDict(form))


@both
@pytest.mark.parametrize("path", ["/media", "/media/clinic"])
@pytest.mark.parametrize("port", ["", ":443", ":80", ":8443"])
@pytest.mark.parametrize("scheme", ["wss", "ws"])
def test_an_upgrade_is_taken_as_twilio_signs_it(
    sign: Sign, scheme: str, port: str, path: str
) -> None:
    """The media stream's URL has a scheme of its own, and no form."""
    signed = sign(f"{scheme}://{HOST}{port}{path}", [])
    assert TwilioSignature([TOKEN]).is_valid(signed, HOST + port, path, socket=True)
    web = scheme.replace("ws", "http")
    public = TwilioSignature([TOKEN], f"{web}://{HOST}{port}")
    assert public.is_valid(signed, "10.0.0.7:8000", path, socket=True)


@both
@pytest.mark.parametrize(
    ("url", "host", "socket"),
    [
        ("https://tamlil.example:443/media", HOST, False),
        ("https://tamlil.example/media", HOST + ":443", False),
        ("http://tamlil.example:80/media", HOST, False),
        ("wss://tamlil.example:443/media", HOST, True),
        ("wss://tamlil.example/media", HOST + ":443", True),
        ("ws://tamlil.example:80/media", HOST, True),
    ],
)
def test_a_usual_port_may_be_named_or_not(sign: Sign, url: str, host: str, socket: bool) -> None:
    """Twilio is not of one mind about it, and `wss` has 443."""
    signed = sign(url, [])
    assert TwilioSignature([TOKEN]).is_valid(signed, host, "/media", socket=socket)
    scheme = "https" if url.startswith(("https", "wss")) else "http"
    public = TwilioSignature([TOKEN], f"{scheme}://{HOST}")
    assert public.is_valid(signed, "inside:8000", "/media", socket=socket)


def test_any_of_several_tokens_is_good() -> None:
    """While a token is rotated, both sign; no token at all takes nothing."""
    url = f"https://{HOST}/voice"
    for token in (TOKEN, OTHER):
        signed = signature(url, token=token)
        assert TwilioSignature([TOKEN, OTHER]).is_valid(signed, HOST, "/voice")
        assert not TwilioSignature([]).is_valid(signed, HOST, "/voice")
    assert not TwilioSignature([TOKEN]).is_valid(signature(url, token=OTHER), HOST, "/voice")


@pytest.mark.parametrize("signed", [None, "", " ", "x", "=" * 28, "é" * 28])
@pytest.mark.parametrize("socket", [False, True])
def test_none_or_nonsense_is_no_signature(signed: str | None, socket: bool) -> None:
    """Whatever stands in the header, or none, is an answer and no exception."""
    for public_url in ("", f"https://{HOST}"):
        checks = TwilioSignature([TOKEN], public_url)
        assert checks.is_valid(signed, HOST, "/media", socket=socket) is False


JSON = '{"said": "שלום"}'.encode()
JSON_PATH = f"/status?a=1&bodySHA256={hashlib.sha256(JSON).hexdigest()}"


@both
def test_a_body_that_is_no_form_is_taken_by_its_hash(sign: Sign) -> None:
    """It stands in the query, which is signed; without it nobody vouches for the body."""
    checks = TwilioSignature([TOKEN])
    signed = sign(f"https://{HOST}{JSON_PATH}", [])
    assert checks.is_valid(signed, HOST, JSON_PATH, body=JSON)
    for other in (JSON + b" ", b"{}", b"\xff"):
        assert not checks.is_valid(signed, HOST, JSON_PATH, body=other)
    plain = sign(f"https://{HOST}/status", [])
    assert checks.is_valid(plain, HOST, "/status")
    assert not checks.is_valid(plain, HOST, "/status", body=JSON)


FORM = [("CallSid", "CA1"), ("To", "+972"), ("To", "+973")]
SIGNED = signature(f"https://{HOST}/voice?a=1", FORM, TOKEN)


@pytest.mark.parametrize(
    ("host", "path", "form", "socket"),
    [
        ("other.example", "/voice?a=1", FORM, False),
        (HOST + ":8443", "/voice?a=1", FORM[:2], False),
        (HOST, "/status?a=1", FORM, False),
        (HOST, "/voice/?a=1", FORM, False),
        (HOST, "/Voice?a=1", FORM, False),
        (HOST, "/voice?a=2", FORM, False),
        (HOST, "/voice?a=1&b=1", FORM, False),
        (HOST, "/voice", FORM, False),
        (HOST, "/voice?a=1", [("CallSid", "CA2"), *FORM[1:]], False),
        (HOST, "/voice?a=1", [("callSid", "CA1"), *FORM[1:]], False),
        (HOST, "/voice?a=1", FORM[:2], False),
        (HOST, "/voice?a=1", [*FORM, ("To", "+974")], False),
        (HOST, "/voice?a=1", [], False),
        (HOST, "/voice?a=1", FORM, True),
    ],
)
def test_one_wrong_part_is_enough(
    host: str, path: str, form: list[tuple[str, str]], socket: bool
) -> None:
    """Host, path, query, any name or value of the form, or the kind of request."""
    checks = TwilioSignature([TOKEN])
    assert checks.is_valid(SIGNED, HOST, "/voice?a=1", MultiDict(FORM))
    assert not checks.is_valid(SIGNED, host, path, MultiDict(form), socket=socket)


def test_every_changed_character_of_a_signature_is_noticed() -> None:
    """Also a longer or a shorter one."""
    checks = TwilioSignature([TOKEN])
    for at, letter in enumerate(SIGNED[:-2]):  # of the last one some bits do not count
        changed = SIGNED[:at] + ("A" if letter != "A" else "B") + SIGNED[at + 1 :]
        assert not checks.is_valid(changed, HOST, "/voice?a=1", MultiDict(FORM))
    for other in (SIGNED + "=", SIGNED[:-1], SIGNED.lower()):
        assert not checks.is_valid(other, HOST, "/voice?a=1", MultiDict(FORM))


def test_with_a_public_url_the_requests_own_host_does_not_count() -> None:
    """What a client says its host is gains it nothing, and a wrong public URL takes nothing."""
    path = "/voice"
    inside, outside = f"https://inside:8000{path}", f"https://{HOST}{path}"
    public = TwilioSignature([TOKEN], f"https://{HOST}")
    assert public.is_valid(by_hand(outside, []), "inside:8000", path)
    assert not public.is_valid(by_hand(inside, []), "inside:8000", path)
    assert not public.is_valid(by_hand(f"http://{HOST}{path}", []), HOST, path)
    other = TwilioSignature([TOKEN], "https://other.example")
    assert not other.is_valid(by_hand(outside, []), HOST, path)


@pytest.mark.parametrize(
    ("public_url", "host", "socket", "urls"),
    [
        ("", "h", False, ["https://h/p", "http://h/p"]),
        ("", "h", True, ["wss://h/p", "ws://h/p", "wss://h:443/p", "ws://h:80/p"]),
        ("", "h:81", True, ["wss://h:81/p", "ws://h:81/p"]),
        ("https://x", "h", True, ["wss://x/p", "wss://x:443/p"]),
        ("http://x:81", "h", True, ["ws://x:81/p"]),
        ("http://x", "h", False, ["http://x/p"]),
    ],
)
def test_the_urls_that_may_have_been_signed(
    public_url: str, host: str, socket: bool, urls: list[str]
) -> None:
    """No more of them than there must be."""
    assert TwilioSignature([], public_url).urls(host, "/p", socket=socket) == urls
