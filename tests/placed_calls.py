"""What the tests of placed calls share: frames that can be told apart, and a call to a service."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from twilio_service import ServedStream, TwilioService

from placed_call_report import PlacedCallReport
from twilio_placed_call import PlacedCall, place_call
from twilio_stream import Pacing

NUMBER = "+97231234567"
CALLER = [bytes([n]) * 160 for n in range(40)]
BUSINESS = [bytes([100 + n]) * 160 for n in range(60)]
FAST = Pacing(0)


def media(url: str, *, more: str = "", inside: str = "") -> str:
    """A <Stream> to `url`'s media socket."""
    ws = url.replace("http", "ws", 1)
    return f'<Stream url="{ws}/media" {more}>{inside}</Stream>'


def audio(stream: ServedStream, track: str | None = None) -> bytes:
    return b"".join(base64.b64decode(frame["payload"]) for frame in stream.media(track))


def call(
    service: TwilioService,
    *,
    caller: Sequence[bytes] = CALLER,
    business: Sequence[bytes] = (),
    pacing: Pacing = FAST,
    options: dict[str, Any] | None = None,
    **about: Any,
) -> PlacedCallReport:
    """Place one call to `service`, which serves as long as the call goes on."""

    async def placed() -> PlacedCallReport:
        async with service:
            plan = PlacedCall(NUMBER, tracks={"inbound": caller, "outbound": business}, **about)
            return await place_call(service.url, plan, pacing=pacing, **(options or {}))

    return asyncio.run(placed())
