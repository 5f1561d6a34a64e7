"""Calls, placed as Twilio places them: each opens a media stream's WebSocket and plays it.

`play_call` is one call, `play_calls` many at once. Runs on an asyncio loop, one task a call. It
must never raise for what a server or a network does: a call that failed says so in its report,
in one line that tells how to mend it.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket as sockets
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from twilio_stream import (
    FRAME_SECONDS,
    WRITE_LIMIT,
    CallReport,
    End,
    Pacing,
    StreamMessages,
    Track,
    play_stream,
)

TenantIn = Literal["parameter", "path"]

OPEN_SECONDS = 10.0  # how long a server may take to answer the upgrade

HINTS = {
    401: "the service asks for a login: is this the stream's address?",
    403: "the request is not signed as the service wants it: for a laptop, start the service"
    " with ALLOW_UNSIGNED=1",
    404: "there is no media stream at this path: try /media or /media/<tenant>",
    426: "this path speaks HTTP, not WebSocket: try /media",
    503: "the service takes no more calls just now: try later, or raise MAX_CONCURRENT_CALLS",
}


class WrongUrl(ValueError):
    """The URL cannot be a media stream's; the text says in one line what is wrong with it."""


def new_sid(prefix: str) -> str:
    """A fresh id as Twilio makes them: `prefix` (AC, CA, MZ …) and 32 hex digits."""
    return prefix + secrets.token_hex(16)


def check_stream_url(url: str) -> str:
    """`url` as Twilio would call it: without a query or fragment, which it strips.

    Raises WrongUrl, in one line that says how to mend it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise WrongUrl(f"{url!r} is not a URL ({error}): write ws://HOST:PORT/media") from None
    if parts.scheme in ("http", "https"):
        better = urlunsplit(parts._replace(scheme="wss" if parts.scheme == "https" else "ws"))
        raise WrongUrl(f"{url!r} is a web address: a media stream's is {better}")
    if parts.scheme not in ("ws", "wss"):
        raise WrongUrl(f"{url!r} does not begin with ws:// or wss://: write ws://HOST:PORT/media")
    if not host:
        raise WrongUrl(f"{url!r} names no host: write {parts.scheme}://HOST:PORT/media")
    return urlunsplit(parts._replace(query="", fragment=""))


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call for `play_calls`; what is None is made up (ids) or left out."""

    frames: Iterable[bytes]
    tenant: str | None = None
    call_sid: str | None = None
    stream_sid: str | None = None
    custom_parameters: Mapping[str, str] | None = None
    on_frame: Callable[[int, float], None] | None = None
    report: CallReport | None = None  # handed in by whoever wants to watch the call


async def play_call(
    url: str,
    frames: Iterable[bytes],
    *,
    call_sid: str | None = None,
    stream_sid: str | None = None,
    account_sid: str | None = None,
    tenant: str | None = None,
    tenant_in: TenantIn = "parameter",
    custom_parameters: Mapping[str, str] | None = None,
    track: Track = "inbound",
    pace: float = FRAME_SECONDS,
    end: End = "stop",
    close_wait: float = 3.0,
    on_frame: Callable[[int, float], None] | None = None,
    headers: Mapping[str, str] | None = None,
    report: CallReport | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> CallReport:
    """Play `frames` (mu-law, 160 bytes each) as one call to `url` and report how it went.

    An empty frame is 20 ms in which nothing is sent. `tenant` goes into customParameters, or
    behind the path of `url`. `pace` is in seconds a frame; `on_frame` gets each frame's number
    and the moment (by `clock`) at which it was sent. `close_wait` bounds in seconds the wait for
    the server's close after `stop`, and for its answer to ours. Cancelled, it hangs up properly.
    Raises WrongUrl for a URL that cannot be right; all else is in the report.
    """
    report = CallReport() if report is None else report
    parameters = dict(custom_parameters or {})
    if tenant is not None and tenant_in == "parameter":
        parameters.setdefault("tenant", tenant)
    url = stream_url(url, tenant if tenant_in == "path" else None)
    report.call_sid, report.stream_sid = call_sid or new_sid("CA"), stream_sid or new_sid("MZ")
    report.tenant = tenant
    messages = StreamMessages(
        report.call_sid,
        report.stream_sid,
        account_sid or new_sid("AC"),
        track=track,
        custom_parameters=parameters,
    )
    report.state = "connecting"
    socket = await open_socket(url, headers, close_wait, report)
    if socket is not None:
        pacing = Pacing(pace, clock, sleep)
        await play_stream(socket, messages, frames, report, pacing, end, close_wait, on_frame)
    report.state = "ended"
    return report


async def play_calls(
    url: str,
    calls: Sequence[PlannedCall],
    *,
    ramp: float = 0.0,
    tenant_in: TenantIn = "parameter",
    track: Track = "inbound",
    pace: float = FRAME_SECONDS,
    end: End = "stop",
    close_wait: float = 3.0,
    headers: Mapping[str, str] | None = None,
) -> list[CallReport]:
    """Play many calls at once and report on each, in the order of `calls`.

    Their starts are spread evenly over `ramp` seconds: the last begins that long after the
    first. All belong to one account. The options are those of `play_call`, for every call.
    Raises WrongUrl before any call is placed.
    """
    url = check_stream_url(url)
    account_sid = new_sid("AC")
    apart = ramp / max(1, len(calls) - 1)

    async def place(number: int, call: PlannedCall) -> CallReport:
        await asyncio.sleep(number * apart)
        return await play_call(
            url,
            call.frames,
            call_sid=call.call_sid,
            stream_sid=call.stream_sid,
            account_sid=account_sid,
            tenant=call.tenant,
            tenant_in=tenant_in,
            custom_parameters=call.custom_parameters,
            track=track,
            pace=pace,
            end=end,
            close_wait=close_wait,
            on_frame=call.on_frame,
            headers=headers,
            report=call.report,
        )

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(place(number, call)) for number, call in enumerate(calls)]
    return [task.result() for task in tasks]


def stream_url(url: str, tenant: str | None) -> str:
    """The checked URL of a call's stream, with `tenant` as the last part of its path, if any."""
    url = check_stream_url(url)
    return url if tenant is None else f"{url.rstrip('/')}/{quote(tenant, safe='')}"


async def open_socket(
    url: str,
    headers: Mapping[str, str] | None,
    close_wait: float,
    report: CallReport,
    at: tuple[str, int] | None = None,
) -> ClientConnection | None:
    """The call's open socket; None if there is none, and then `report` says why.

    `at` is the host and port to connect to, whatever the URL names.
    """
    elsewhere: dict[str, Any] = {} if at is None else {"host": at[0], "port": at[1]}
    try:
        return await connect(
            url,
            additional_headers=headers,
            user_agent_header="twilio-simulator",
            compression=None,  # Twilio does not offer to deflate
            ping_interval=None,  # nor does it ping
            proxy=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=close_wait,
            max_size=None,
            write_limit=WRITE_LIMIT,
            **elsewhere,
        )
    except (OSError, WebSocketException) as error:
        report.error = _why_not_opened(url, error, at)
        return None


def _why_not_opened(
    url: str, error: OSError | WebSocketException, elsewhere: tuple[str, int] | None
) -> str:
    """One line for a stream that could not be opened: what happened and how to mend it."""
    parts = urlsplit(url)
    at = f"{elsewhere[0]}:{elsewhere[1]}" if elsewhere else parts.netloc.rpartition("@")[2]
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        hint = HINTS.get(status, "see the service's log")
        return f"{url} answered HTTP {status} {error.response.reason_phrase}: {hint}"
    if isinstance(error, WebSocketException):
        return f"what answers at {at} is no WebSocket server: mend the address ({error})"
    if isinstance(error, TimeoutError):
        return f"{at} did not answer within {OPEN_SECONDS:g} s: see whether the service hangs"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the TLS certificate of {at} is not good ({error.verify_message}): mend it"
    dropped = parts.scheme == "wss" and isinstance(error, (ConnectionResetError, BrokenPipeError))
    if isinstance(error, (ssl.SSLError, ConnectionAbortedError)) or dropped:
        return f"{at} does not speak TLS: write ws://{at}{parts.path}, or mend the port"
    if isinstance(error, sockets.gaierror):
        return f"no host has the name {parts.hostname}: mend the address"
    # A name with several addresses gives one OSError that only quotes the numbers.
    refused = f"[Errno {errno.ECONNREFUSED}]" in str(error)
    if refused or isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {at}: start the service there, or mend the address"
    return f"no connection to {at}: {error.strerror or error or type(error).__name__}"
