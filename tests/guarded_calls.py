"""Calls to the guarded service: a stream in a test's own hands, and calls that Twilio places."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator, Sequence

import pytest
from front_door_parts import AUTH_TOKEN, PUBLIC_URL, stream_token, upgrade_headers
from running_service import RunningService
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from frame_echo import numbered_frame
from placed_call_report import PlacedCallReport
from speech_server_thread import SpeechServerThread
from twilio_calls import new_sid
from twilio_chaos import CALM, Chaos, ChaosKind
from twilio_placed_call import PlacedCall, place_call
from twilio_stream import Pacing, StreamMessages

FAST = Pacing(0)
ANY, CLINIC, GARAGE, SHOP = "+15005550009", "+97231234567", "+97237654321", "+15005550001"
CAFE, BAKERY = "+15005550002", "+15005550003"  # two calls each
BUSINESSES: dict[str, object] = {
    "default": {},
    "clinic": {"numbers": [CLINIC]},
    "garage": {"numbers": [GARAGE], "forward": "+972541234567"},
    "shop": {"numbers": [SHOP], "when_full": "busy", "max_calls": 1},
    "cafe": {"numbers": [CAFE], "max_calls": 2},
    "bakery": {"numbers": [BAKERY], "max_calls": 2},
}
NUMBERS = itertools.count(1)  # of callers, each of whom is heard by one speech server


class LiveStream:
    """A stream that has begun, of a call whose webhook was answered."""

    def __init__(self, socket: ClientConnection, messages: StreamMessages) -> None:
        self.socket = socket
        self.messages = messages

    @property
    def call_sid(self) -> str:
        return self.messages.call_sid

    def send(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self.socket.send(self.messages.media(frame))

    def stop(self) -> None:
        self.socket.send(self.messages.stop())

    def ending(self) -> tuple[int | None, str | None]:
        """Wait for the service's close: its code and its reason."""
        with pytest.raises(ConnectionClosed):
            self.socket.recv(20)
        return self.socket.close_code, self.socket.close_reason


@contextlib.contextmanager
def live_stream(
    service: RunningService, tenant: str = "default", call_sid: str = ""
) -> Iterator[LiveStream]:
    """A stream of a call of a business, connected and started; its slot is taken."""
    call_sid = call_sid or new_sid("CA")
    messages = StreamMessages(
        call_sid,
        new_sid("MZ"),
        "AC1",
        custom_parameters={"tenant": tenant, "token": stream_token(call_sid, tenant)},
    )
    before = service.count("[WS] connected", call_sid)
    with connect(
        service.url,
        additional_headers=upgrade_headers(),
        compression=None,
        proxy=None,
        ping_interval=None,
    ) as socket:
        socket.send(messages.connected())
        socket.send(messages.start())
        service.wait_for(
            lambda lines: sum("[WS] connected" in x and call_sid in x for x in lines) > before
        )
        yield LiveStream(socket, messages)


def spoken(number: int, count: int) -> list[bytes]:
    """What a caller says who is told apart by `number`."""
    return [numbered_frame(number, seq) for seq in range(count)]


def place(
    service: RunningService,
    number: str,
    caller: Sequence[bytes],
    business: Sequence[bytes] = (),
    *,
    chaos: ChaosKind | None = None,
    pacing: Pacing = FAST,
) -> PlacedCallReport:
    """Have a call placed to `number`, as Twilio does it; what became of it."""
    plan = PlacedCall(
        number,
        tracks={"inbound": caller, "outbound": business},
        chaos=CALM if chaos is None else Chaos(frozenset([chaos])),
    )
    return asyncio.run(
        place_call(
            PUBLIC_URL,
            plan,
            connect_to=f"127.0.0.1:{service.port}",
            auth_token=AUTH_TOKEN,
            pacing=pacing,
            close_wait=15.0,
        )
    )


def heard(google: SpeechServerThread, number: int) -> list[list[tuple[int, int]]]:
    """The frames of the caller `number` that came to Google, by stream."""
    return [stream.frames for stream in google.streams if number in {c for c, _ in stream.frames}]


def whole(number: int, count: int) -> list[tuple[int, int]]:
    """What `heard` has of a stream to which all of `spoken` came."""
    return [(number, seq) for seq in range(count)]
