"""Twilio's side of its webhooks: where they go, how they are signed and posted.

`ServiceAddress` tells what Twilio has as the service's address (which is what it signs) from
where the service really listens; `Webhooks` sends a call's requests there. Runs on an asyncio
loop; a request that fails is a `WebhookFailed`, never an error of the HTTP client's.
Source: Twilio's documentation, "Webhooks security" and "TwiML for Programmable Voice".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit, urlunsplit

import aiohttp
from multidict import MultiDict
from twilio.request_validator import RequestValidator
from yarl import URL

SIGNATURE_HEADER = "X-Twilio-Signature"
WEBHOOK_SECONDS = 15.0  # all that Twilio gives a webhook
ANSWER_BYTES = 64 * 1024
USUAL_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
USER_AGENT = "twilio-simulator"

Form = Sequence[tuple[str, str]]  # pairs: a key may come twice


class WrongServiceUrl(ValueError):
    """The URL cannot be a service's; the text says in one line what is wrong with it."""


class WebhookFailed(Exception):
    """A request to the service came to nothing; the text says why, in one line."""


def sign(token: str, url: str, form: Form = ()) -> str:
    """Twilio's signature of a request to `url` with `form`, made with the auth token."""
    signature: str = RequestValidator(token).compute_signature(url, MultiDict(form))
    return signature


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request really goes, and the headers by which it is as it came from outside."""

    url: str
    headers: dict[str, str]
    at: tuple[str, int] | None = None  # of a socket: connect here, whatever the URL names


class ServiceAddress:
    """The service as Twilio has it (`public_url`), and where it listens (`url`, `connect_to`).

    `public_url` is `url` by default. `connect_to` is HOST:PORT, to which requests for the public
    address go without TLS. Requests for any other address go there. Raises WrongServiceUrl.
    """

    def __init__(self, url: str, public_url: str = "", connect_to: str = "") -> None:
        self._real = _checked(url)
        self._public = _checked(public_url or url)
        if connect_to:
            self._real = _checked(f"http://{connect_to}")
            if self._real.port is None or self._real.path:
                raise WrongServiceUrl(f"{connect_to!r} is not HOST:PORT")

    def public(self, path: str) -> str:
        """The address of `path` as Twilio has it, for example of /voice."""
        return f"{urlunsplit(self._public).rstrip('/')}{path}"

    def webhook(self, url: str) -> Target:
        """Where to send a request for `url`. Raises WrongServiceUrl if it is no web address."""
        parts = _checked(url)
        if not self._is_public(parts):
            return Target(url, {})
        headers = {"Host": parts.netloc}
        if parts.scheme != self._real.scheme:
            headers["X-Forwarded-Proto"] = parts.scheme
        real = parts._replace(scheme=self._real.scheme, netloc=self._real.netloc)
        return Target(urlunsplit(real), headers)

    def socket(self, url: str) -> Target:
        """Where to open the WebSocket for the stream `url`, whose query Twilio strips.

        Raises WrongServiceUrl for `ws://`, which Twilio refuses, unless the service itself has
        no TLS, as on a laptop.
        """
        parts = urlsplit(url)._replace(query="", fragment="")
        if parts.scheme != "wss" and self._public.scheme == "https":
            raise WrongServiceUrl(f"the <Stream> has the url {urlunsplit(parts)}: Twilio wants wss")
        if not self._is_public(parts):
            return Target(urlunsplit(parts), {})
        headers = {}
        if parts.scheme == "wss" and self._real.scheme == "http":
            headers["X-Forwarded-Proto"] = "https"
        real = parts._replace(scheme="wss" if self._real.scheme == "https" else "ws")
        at = str(self._real.hostname), _port(self._real)
        return Target(urlunsplit(real), headers, at)

    def _is_public(self, parts: SplitResult) -> bool:
        if parts.hostname != self._public.hostname:
            return False
        both_usual = parts.port in (None, USUAL_PORTS[parts.scheme]) and (
            self._public.port in (None, USUAL_PORTS[self._public.scheme])
        )
        return both_usual or parts.port == self._public.port


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise WrongServiceUrl(f"{url!r} is not a URL ({error})") from None
    if parts.scheme not in ("http", "https") or not host:
        raise WrongServiceUrl(f"{url!r} is no service's address: write http://HOST:PORT")
    return parts._replace(fragment="")


def _port(parts: SplitResult) -> int:
    return parts.port or USUAL_PORTS[parts.scheme]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered to a request."""

    url: str  # the public one, by which relative addresses in the answer are meant
    status: int
    content_type: str
    body: str


class Webhooks:
    """Sends one call's requests, signed if there is a token. Close it by `async with`."""

    def __init__(self, address: ServiceAddress, token: str = "") -> None:
        self.address = address
        self._token = token
        # Its own connections: calls do not wait for one another. A new one for each request: a
        # server that shuts down closes those that are idle, perhaps just as one is used again.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=WEBHOOK_SECONDS),
            headers={"User-Agent": USER_AGENT},
        )

    async def __aenter__(self) -> Webhooks:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def signature(self, url: str, form: Form = ()) -> dict[str, str]:
        """The header that signs a request to `url`; none without a token."""
        return {SIGNATURE_HEADER: sign(self._token, url, form)} if self._token else {}

    async def send(self, url: str, form: Form, method: Literal["POST", "GET"] = "POST") -> Answer:
        """Send `form` to the public address `url`: as the body, or as the query of a GET.

        Raises WebhookFailed if no answer comes, and WrongServiceUrl.
        """
        if method == "GET":
            url, form = f"{url}{'&' if '?' in url else '?'}{urlencode(form)}", ()
        target = self.address.webhook(url)
        headers = target.headers | self.signature(url, form)
        body = None
        if method == "POST":
            body = urlencode(form).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8"
        try:
            async with self._session.request(
                method,
                URL(target.url, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as response:
                text = await _read(response)
                return Answer(url, response.status, response.content_type, text)
        except TimeoutError:
            why = f"did not answer within {WEBHOOK_SECONDS:g} s"
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            why = f"could not be had ({' '.join(str(error).split()) or type(error).__name__})"
        raise WebhookFailed(f"error 11200, HTTP retrieval failure: {url} {why}")


async def _read(response: aiohttp.ClientResponse) -> str:
    """The answer's text, of which no more is read than Twilio takes."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_BYTES:
            raise WebhookFailed(
                f"error 11750, TwiML response body too large: more than {ANSWER_BYTES} bytes"
            )
    return b"".join(pieces).decode(response.charset or "utf-8", errors="replace")


def resolve(base: str, url: str) -> str:
    """The address that `url`, as it stands in a document from `base`, means; "" is `base`."""
    return urljoin(base, url) if url else base
