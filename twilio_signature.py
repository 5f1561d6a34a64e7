"""Whether a request comes from Twilio: the signature over its URL and its form or other body.

Twilio signs the URL that it was given, which need not be the one that arrives here: a proxy ends
TLS, and for the media socket it is `wss://…`. So the URL is rebuilt from `PUBLIC_URL` or, without
that, from the request's host under both schemes: a false host gains nothing, because only Twilio
can sign. Pure.

Source: Twilio's documentation, "Webhooks security"; `twilio.request_validator`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs, urlsplit

from twilio.request_validator import RequestValidator

HEADER = "X-Twilio-Signature"

_WEB, _SOCKET = ("https", "http"), ("wss", "ws")
_USUAL_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


class TwilioSignature:
    """Checks signatures with any of `tokens`, an account's auth tokens: while one is rotated, two.

    `public_url`: `https://…` as Twilio has it, without a path; "" takes the request's host.
    """

    def __init__(self, tokens: Iterable[str], public_url: str = "") -> None:
        self._validators = [RequestValidator(token) for token in tokens]
        self._public = urlsplit(public_url) if public_url else None

    def is_valid(
        self,
        signature: str | None,
        host: str,
        path: str,
        form: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        socket: bool = False,
    ) -> bool:
        """Whether `signature` is Twilio's for this request.

        `path` includes the query, as it was sent. `form`: the request's own multi-dict, whose
        keys may repeat. `body`: what came instead of a form, JSON for example: its hash must stand
        in the query, as `bodySHA256`. `socket`: it is the upgrade to a media stream.
        """
        if not signature or (body and "bodySHA256" not in parse_qs(path.partition("?")[2])):
            return False
        signed = body.decode(errors="replace") if body else form or {}
        return any(
            validator.validate(url, signed, signature)
            for url in self.urls(host, path, socket=socket)
            for validator in self._validators
        )

    def urls(self, host: str, path: str, *, socket: bool = False) -> list[str]:
        """The URLs that Twilio may have signed, with and without their usual port.

        The validator itself adds and removes ports, but it takes 80 for that of `wss`.
        """
        schemes: tuple[str, ...] = _SOCKET if socket else _WEB
        if self._public is not None:
            host = self._public.netloc
            schemes = schemes[:1] if self._public.scheme == "https" else schemes[1:]
        urls = [f"{scheme}://{host}{path}" for scheme in schemes]
        if socket and urlsplit(f"//{host}").port is None:
            urls += [f"{s}://{host}:{_USUAL_PORTS[s]}{path}" for s in schemes]
        return urls
