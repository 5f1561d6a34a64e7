"""More calls than a worker takes: each is transcribed or told so, and every one is counted."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from front_door_parts import (
    PUBLIC_URL,
    Twilio,
    call_form,
    guarded_service,
    live_calls,
    parameters,
    upgrade_headers,
    verbs,
)
from guarded_calls import BAKERY, CAFE, CLINIC, GARAGE, NUMBERS
from running_service import ROOMY_QUEUE, RunningService

from frame_echo import numbered_frame
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, new_sid, play_calls
from twilio_stream import CallReport

DIALLED = {"clinic": CLINIC, "garage": GARAGE, "cafe": CAFE, "bakery": BAKERY}
BUSINESSES = {name: {"numbers": [DIALLED[name]], "max_calls": 40} for name in ("clinic", "garage")}
LEAST_FRAMES = 20


@dataclass
class PlacedCall:
    """A call to a business: what Twilio asks for it, and what it is told."""

    number: int
    tenant: str
    twiml: str = ""

    def __post_init__(self) -> None:
        self.sid = new_sid("CA")

    def ask(self, twilio: Twilio, path: str = "/voice", status: str = "ringing") -> list[str]:
        form = call_form(self.sid, To=DIALLED[self.tenant], CallStatus=status)
        code, self.twiml = twilio.post(path, form)
        assert code == 200
        return verbs(self.twiml)

    def ask_next(self, twilio: Twilio) -> list[str]:
        action = ET.fromstring(self.twiml)[0].attrib["action"]
        return self.ask(twilio, action.removeprefix(PUBLIC_URL), "in-progress")

    def planned(self, may_end: threading.Event) -> PlannedCall:
        """Its stream, which plays until all the calls have come."""

        def frames() -> Iterator[bytes]:
            for seq in itertools.count():
                if seq >= LEAST_FRAMES and may_end.is_set():
                    return
                yield numbered_frame(self.number, seq)

        return PlannedCall(
            frames(), call_sid=self.sid, custom_parameters=parameters(self.twiml), report=None
        )


SAYS_FULL = ["Say", "Hangup"]


def calls(first: int, clinic: int, garage: int) -> list[PlacedCall]:
    tenants = ["clinic"] * clinic + ["garage"] * garage
    return [PlacedCall(first + n, tenant) for n, tenant in enumerate(tenants)]


async def play(
    service: RunningService, placed: list[PlacedCall], may_end: threading.Event
) -> list[CallReport]:
    return await play_calls(
        service.url,
        [call.planned(may_end) for call in placed],
        pace=0.1,
        headers=upgrade_headers(),
        close_wait=15.0,
    )


async def sixty_calls(service: RunningService, may_end: threading.Event) -> list[CallReport]:
    """40 calls of one business and 5 more; 15 of the other, for which 10 places are left."""
    twilio = Twilio(service.port)
    early, capped, others = calls(0, 40, 0), calls(40, 5, 0), calls(45, 0, 15)

    async def until(count: int, part: str) -> None:
        await asyncio.to_thread(
            service.wait_for, lambda lines: sum(part in line for line in lines) == count
        )

    for call in early:
        assert call.ask(twilio) == ["Connect"]
    playing = [asyncio.create_task(play(service, early, may_end))]
    await until(40, "[WS] connected")
    for call in capped:
        assert call.ask(twilio) == SAYS_FULL
    for call in others:
        assert call.ask(twilio) == ["Connect"]
    playing.append(asyncio.create_task(play(service, others, may_end)))
    await until(5, "[WS] refused: 1013")
    await until(50, "[WS] connected")
    refused = {
        line.split(" call=")[1].split()[0] for line in service.lines if "[WS] refused" in line
    }
    for call in others:
        if call.sid in refused:
            assert call.ask_next(twilio) == SAYS_FULL
    assert await asyncio.to_thread(live_calls, service) == 50
    may_end.set()
    reports = [report for task in playing for report in await task]
    await until(50, "session closed")
    assert await asyncio.to_thread(live_calls, service) == 0
    assert calls(60, 1, 0)[0].ask(twilio) == ["Connect"]
    twilio.close()
    return reports


def test_sixty_calls_into_a_worker_of_fifty(google: SpeechServerThread) -> None:
    """50 are transcribed, 10 hear that there is no room; no slot leaks; the reasons add up.

    5 of the 10 meet the cap of their business, at the webhook; 5 that of the worker, at the stream.
    """
    may_end = threading.Event()
    with guarded_service(
        google.address,
        MAX_CONCURRENT_CALLS=50,
        BUSINESSES=json.dumps(BUSINESSES),
        STT_QUEUE_FRAMES=ROOMY_QUEUE,
    ) as service:
        try:
            reports = asyncio.run(sixty_calls(service, may_end))
        finally:
            may_end.set()
        assert sorted(report.close_code or 0 for report in reports) == [1000] * 50 + [1013] * 5
        full = "50 calls are live, MAX_CONCURRENT_CALLS is 50"
        capped = "40 calls of clinic are live, its max_calls is 40"
        assert service.count(f"[WS] refused: 1013 {full}") == service.count("[WS] refused") == 5
        assert service.count(f"[VOICE] turned away: {full}") == 5
        assert service.count(f"[VOICE] turned away: {capped}") == 5
        assert service.count("[VOICE]") == 10
        assert service.count("[TRUST]") == service.count("Traceback") == 0
        carried = {report.call_sid: report for report in reports if report.close_code == 1000}
        for sid, report in carried.items():
            assert service.count("session closed", sid, f"frames={report.frames_sent} ") == 1
            assert service.count("🟢 Final", sid) >= 1
    assert len(google.streams) == 50
    heard = sorted(stream.frames for stream in google.streams)
    assert all(len(frames) >= LEAST_FRAMES for frames in heard)
    for frames in heard:
        assert frames == [(frames[0][0], seq) for seq in range(len(frames))]
    assert len({frames[0][0] for frames in heard}) == 50


def test_a_business_at_its_cap_leaves_the_rest_to_the_other(guarded: RunningService) -> None:
    """Its own callers are turned away, at the webhook and at the stream; nobody else's are."""
    may_end = threading.Event()

    def one(tenant: str) -> PlacedCall:
        return PlacedCall(next(NUMBERS), tenant)

    cafe, bakery = [one("cafe") for _ in range(3)], [one("bakery") for _ in range(2)]
    sids = {call.sid for call in (*cafe, *bakery)}

    def count(lines: list[str], part: str) -> int:
        return sum(part in line and any(sid in line for sid in sids) for line in lines)

    async def run() -> None:
        twilio = Twilio(guarded.port)
        for call in (*cafe, *bakery):
            assert call.ask(twilio) == ["Connect"]
        playing = asyncio.create_task(play(guarded, [*cafe, *bakery], may_end))
        await asyncio.to_thread(
            guarded.wait_for,
            lambda lines: (
                count(lines, "[WS] connected") == 4 and count(lines, "[WS] refused: 1013") == 1
            ),
        )
        assert one("cafe").ask(twilio) == one("bakery").ask(twilio) == SAYS_FULL
        may_end.set()
        codes = [report.close_code for report in await playing]
        assert sorted(codes[:3], key=str) == [1000, 1000, 1013]
        assert codes[3:] == [1000, 1000]
        await asyncio.to_thread(guarded.wait_for, lambda lines: count(lines, "session closed") == 4)
        assert one("cafe").ask(twilio) == ["Connect"]
        twilio.close()

    try:
        asyncio.run(run())
    finally:
        may_end.set()
    for where, tenant in (("[WS] refused: 1013", "cafe"), ("[VOICE]", "bakery")):
        assert guarded.count(where, f"2 calls of {tenant} are live, its max_calls is 2") == 1
    assert live_calls(guarded) == 0
