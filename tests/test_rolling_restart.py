"""A deploy under live calls: each of them goes on in a new stream, and its caller does not notice.

gunicorn as it is deployed, replaced in each of the ways that platforms have, and callers as
Twilio has them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_service import ROOMY_QUEUE, RunningService
from switched_port import SwitchedPort

from frame_echo import EchoAnswers, FrameEcho, frames_said, numbered_frame
from placed_call_report import PlacedCallReport
from service_log import parse_line
from speech_server_thread import SpeechServerThread
from twilio_placed_call import PlacedCall, place_call

MANY = pytest.mark.parametrize("count", [8, pytest.param(20, marks=pytest.mark.soak)])
FRAMES = 2_000  # 40 s; a call is hung up as soon as it has gone on
# To a server that is there it is 0.3 s; workers that have to start take their time besides.
MOST_UNSENT_SECONDS = 3.0
PATIENCE = 30.0  # seconds: for what comes at once if the machine has nothing else to do
SETTINGS = {
    "ALLOW_UNSIGNED": 0,
    "TWILIO_AUTH_TOKEN": "secret",
    "SECRET_KEY": "k" * 32,
    "PUBLIC_URL": "https://tamlil.example.com",
}


def echoing_google() -> SpeechServerThread:
    return SpeechServerThread(FrameEcho(EchoAnswers(final_every=20, interim_every=0)))


def service_at(google: SpeechServerThread, workers: int) -> RunningService:
    return RunningService(
        RunningService.gunicorn,
        SPEECH_EMULATOR_HOST=google.address,
        WEB_CONCURRENCY=workers,
        STT_QUEUE_FRAMES=ROOMY_QUEUE,
        **SETTINGS,
    )


async def place(port: int, count: int, may_end: threading.Event) -> list[PlacedCallReport]:
    """Calls that talk until they may end."""
    calls = [
        PlacedCall(
            "+97231234567",
            tracks={"inbound": [numbered_frame(n, seq) for seq in range(FRAMES)]},
            call_sid=f"CA{n:032x}",
            report=PlacedCallReport(),
        )
        for n in range(count)
    ]
    placing = [
        asyncio.create_task(
            place_call(
                "https://tamlil.example.com",
                call,
                connect_to=f"127.0.0.1:{port}",
                auth_token="secret",
            )
        )
        for call in calls
    ]
    await asyncio.to_thread(may_end.wait, 2 * PATIENCE)
    for one in placing:
        one.cancel()  # the caller hangs up
    for end in await asyncio.gather(*placing, return_exceptions=True):
        assert isinstance(end, asyncio.CancelledError), end
    return [call.report for call in calls if call.report is not None]


def wait_until_they_talk(service: RunningService, count: int, streams: int) -> None:
    """Return once so many streams have begun, and finals of as many calls came after that."""

    def talk(lines: list[str]) -> bool:
        began = [at for at, line in enumerate(lines) if "session started" in line]
        if len(began) < streams:
            return False
        return sum("🟢" in line for line in lines[began[streams - 1] :]) >= 2 * count

    service.wait_for(talk, PATIENCE)


def wait_until_closed(service: RunningService, streams: int) -> None:
    service.wait_for(
        lambda lines: sum("session closed" in line for line in lines) >= streams, PATIENCE
    )


def check_calls(reports: list[PlacedCallReport], *services: RunningService, unsent: float) -> None:
    """Each call had two streams, and every frame that was sent is in one final of its own."""
    said: dict[str, list[int]] = {}
    for service in services:
        for line in map(parse_line, list(service.lines)):
            if line is not None and line.kind == "final":
                said.setdefault(line.call, []).extend(seq for _, seq in frames_said(line.text))
    for n, report in enumerate(reports):
        assert report.ok, report.errors
        assert [stream.close_code for stream in report.streams] == [1012, 1000]
        assert report.unsent_seconds <= unsent
        heard, sent = said[f"CA{n:032x}"], sum(stream.frames_sent for stream in report.streams)
        assert heard == sorted(set(heard))
        assert len(heard) == sent


@MANY
def test_calls_go_on_while_the_workers_are_replaced(count: int) -> None:
    """SIGHUP, as `heroku restart` or a change of settings by hand: answered calls go on."""
    may_end = threading.Event()
    with (
        echoing_google() as google,
        service_at(google, 2) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        placing = pool.submit(asyncio.run, place(service.port, count, may_end))
        try:
            wait_until_they_talk(service, count, count)
            began = time.monotonic()
            os.kill(service.process.pid, signal.SIGHUP)
            service.wait_for(lambda lines: sum("session started" in x for x in lines) > count)
            start_seconds = time.monotonic() - began
            wait_until_they_talk(service, count, 2 * count)
        finally:
            may_end.set()
        reports = placing.result(60)
        wait_until_closed(service, 2 * count)
    check_calls(reports, service, unsent=start_seconds + MOST_UNSENT_SECONDS)


@MANY
def test_calls_go_on_when_a_new_server_takes_over(count: int) -> None:
    """SIGTERM once the new server is there, as Render and Heroku deploy: calls go on."""
    may_end = threading.Event()
    with (
        echoing_google() as google,
        service_at(google, 1) as old,
        service_at(google, 1) as new,
        SwitchedPort(old.port) as router,
        ThreadPoolExecutor(1) as pool,
    ):
        placing = pool.submit(asyncio.run, place(router.port, count, may_end))
        try:
            wait_until_they_talk(old, count, count)
            router.target = new.port
            assert old.stop(signal.SIGTERM) == 0
            wait_until_they_talk(new, count, count)
        finally:
            may_end.set()
        reports = placing.result(60)
        wait_until_closed(old, count)
        wait_until_closed(new, count)
    check_calls(reports, old, new, unsent=MOST_UNSENT_SECONDS)
