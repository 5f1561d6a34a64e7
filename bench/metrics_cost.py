"""What the metrics cost a worker: the turns of their pulse, and a scrape.

`make bench-metrics`. One gevent worker carries 60 calls; the processor time of each of the pulse's
turns is taken around it. Loopback only; it ends by itself after half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from running_service import RunningService

from frame_echo import EchoAnswers, FrameEcho, numbered_frame
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, play_calls

WARM_UP_SECONDS = 4.0
SCRAPES = 20


def frames(call: int, seconds: float) -> Iterator[bytes]:
    return (numbered_frame(call, seq) for seq in range(int(seconds * 50)))


def ask(service: RunningService, path: str) -> Any:
    with urllib.request.urlopen(service.address + path, timeout=20) as answer:
        return json.loads(answer.read())


def service_with(google: str, **settings: object) -> RunningService:
    return RunningService(
        RunningService.probed,
        SPEECH_EMULATOR_HOST=google,
        WEB_CONCURRENCY=1,
        MAX_CONCURRENT_CALLS=500,
        LOG_TRANSCRIPTS=0,
        **settings,
    )


def measure_turns(google: str, calls: int, seconds: float) -> None:
    with service_with(google) as service:

        async def run() -> tuple[Any, float]:
            length = seconds + 2 * WARM_UP_SECONDS
            plan = [PlannedCall(frames(n, length)) for n in range(calls)]
            playing = asyncio.create_task(play_calls(service.url, plan, ramp=2.0))
            await asyncio.sleep(WARM_UP_SECONDS)
            before = await asyncio.to_thread(ask, service, "/pulse")
            began = time.monotonic()
            await asyncio.sleep(seconds)
            turns = await asyncio.to_thread(ask, service, "/pulse")
            spent = (turns["process_ms"] - before["process_ms"]) / (time.monotonic() - began)
            await playing
            return turns, spent

        turns, spent = asyncio.run(run())
        each = turns["cpu_ms"] / turns["count"]
        print(f"{calls} calls: a turn takes {each:.2f} ms of CPU (worst {turns['worst_ms']:.2f})")
        print(f"  {each / calls:.4f} CPU-ms per call-second, of {spent / calls:.2f} in all")
        took = []
        for _ in range(SCRAPES):
            began = time.perf_counter()
            with urllib.request.urlopen(f"{service.address}/metrics", timeout=20) as answer:
                size = len(answer.read())
            took.append((time.perf_counter() - began) * 1000)
        print(f"  a scrape of {size} bytes takes {statistics.median(took):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description="What the metrics cost a worker.")
    parser.add_argument("--seconds", type=float, default=15, help="measured of each case (15)")
    seconds: float = parser.parse_args().seconds
    with SpeechServerThread(FrameEcho(EchoAnswers(final_every=150, interim_every=25))) as google:
        measure_turns(google.address, 60, seconds)


if __name__ == "__main__":
    main()
