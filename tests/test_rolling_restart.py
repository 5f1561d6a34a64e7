"""A deploy under live calls: each of them goes on in a new stream, and its caller does not notice.

gunicorn as it is deployed, its workers replaced by SIGHUP, and callers as Twilio has them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor

from running_service import RunningService

from frame_echo import EchoAnswers, FrameEcho, frames_said, numbered_frame
from placed_call_report import PlacedCallReport
from service_log import parse_line
from speech_server_thread import SpeechServerThread
from twilio_placed_call import PlacedCall, place_call

CALLS = 20
FRAMES = 450  # 9 s
IN_FLIGHT = 5  # frames
# 1 to 2 s on a machine of its own; the new workers start beside other tests here
MOST_UNSENT_SECONDS = 6.0


async def place(service: RunningService) -> list[PlacedCallReport]:
    calls = [
        PlacedCall(
            "+97231234567",
            tracks={"inbound": [numbered_frame(n, seq) for seq in range(FRAMES)]},
            call_sid=f"CA{n:032x}",
        )
        for n in range(CALLS)
    ]
    return await asyncio.gather(
        *(
            place_call(
                "https://tamlil.example.com",
                call,
                connect_to=f"127.0.0.1:{service.port}",
                auth_token="secret",
            )
            for call in calls
        )
    )


def test_calls_go_on_while_the_workers_are_replaced() -> None:
    """20 answered calls: each has a second stream within 3 s, and what reached us is text."""
    with SpeechServerThread(FrameEcho(EchoAnswers(final_every=20, interim_every=0))) as google:
        with RunningService(
            SPEECH_EMULATOR_HOST=google.address,
            WEB_CONCURRENCY=2,
            ALLOW_UNSIGNED=0,
            TWILIO_AUTH_TOKEN="secret",
            SECRET_KEY="k" * 32,
            PUBLIC_URL="https://tamlil.example.com",
        ) as service:
            with ThreadPoolExecutor(1) as pool:
                placing = pool.submit(asyncio.run, place(service))
                service.wait_for(lambda lines: sum("🟢" in line for line in lines) >= 4 * CALLS)
                os.kill(service.process.pid, signal.SIGHUP)
                reports = placing.result(60)
            service.wait_for(
                lambda lines: sum("session closed" in line for line in lines) >= 2 * CALLS
            )
        said: dict[str, list[int]] = {}
        for line in map(parse_line, list(service.lines)):
            if line is not None and line.kind == "final":
                said.setdefault(line.call, []).extend(seq for _, seq in frames_said(line.text))
    for n, report in enumerate(reports):
        assert report.ok, report.errors
        assert len(report.streams) == 2
        assert report.streams[0].close_code == 1012
        assert report.unsent_seconds <= MOST_UNSENT_SECONDS
        heard, sent = said[f"CA{n:032x}"], sum(stream.frames_sent for stream in report.streams)
        assert len(heard) == len(set(heard))
        # what was on its way when the socket was closed came to nobody
        assert sent - len(heard) <= IN_FLIGHT
        assert heard[-1] == FRAMES - 1
