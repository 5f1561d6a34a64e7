"""What a call costs a worker: CPU, memory and drops, measured side by side in one run.

`make bench`. Each row starts the service with one gevent worker, as the Procfile does, and a
stand-in for Google in a process of its own (interims twice a second, a final every 3 s), plays
the calls at the pace of real ones and takes the worker's CPU time, user and system, over the
middle of the run. 10 ms of CPU for each second of a call means 100 calls on a core. Machines
differ and are shared: trust the ratios. Loopback only; it ends by itself after about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from running_service import RunningService

from frame_echo import numbered_frame
from twilio_calls import PlannedCall, play_calls

PROJECT = Path(__file__).resolve().parent.parent
WARM_UP_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Case:
    """One row: so many calls at once, so much audio in a message to Google."""

    calls: int
    batch_ms: int


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured for a case."""

    case: Case
    cpu_ms: float  # for each second of one call
    kilobytes: float  # resident memory for each call
    dropped: int
    worst_lateness_ms: float  # of the load itself: over 20 says that the machine was too busy


CASES = (Case(20, 100), Case(60, 100), Case(20, 20))


def frames(call: int, seconds: float) -> Iterator[bytes]:
    return (numbered_frame(call, seq) for seq in range(int(seconds * 50)))


def measure(case: Case, seconds: float, google: str) -> Row:
    settings = {
        "SPEECH_EMULATOR_HOST": google,
        "WEB_CONCURRENCY": 1,
        "MAX_CONCURRENT_CALLS": 500,
        "STT_BATCH_MS": case.batch_ms,
        "LOG_TRANSCRIPTS": 0,
    }
    with RunningService(RunningService.gunicorn, **settings) as service:
        [worker] = service.workers()
        idle = worker.memory_info().rss

        async def run() -> tuple[float, int, float]:
            length = seconds + 2 * WARM_UP_SECONDS
            plan = [PlannedCall(frames(n, length)) for n in range(case.calls)]
            playing = asyncio.create_task(play_calls(service.url, plan, ramp=2.0))
            await asyncio.sleep(WARM_UP_SECONDS)
            before = worker.cpu_times()
            await asyncio.sleep(seconds)
            after = worker.cpu_times()
            memory = worker.memory_info().rss
            reports = await playing
            failed = [report.error for report in reports if report.error]
            if failed:
                raise SystemExit(f"bench: {len(failed)} calls failed: {failed[0]}")
            cpu = after.user - before.user + after.system - before.system
            return cpu, memory, max(report.worst_lateness for report in reports)

        cpu, memory, lateness = asyncio.run(run())
        service.wait_for(lambda lines: sum("session closed" in x for x in lines) == case.calls)
        closed = [line for line in service.lines if "session closed" in line]
    return Row(
        case,
        cpu * 1000 / seconds / case.calls,
        (memory - idle) / 1024 / case.calls,
        sum(int(line.split("dropped=")[1].split()[0]) for line in closed),
        lateness * 1000,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="What a call costs a worker.")
    parser.add_argument("--seconds", type=float, default=10, help="measured of each case (10)")
    seconds: float = parser.parse_args().seconds
    google = subprocess.Popen(
        [sys.executable, "local_speech_server.py", "--recogniser", "frames", "--port", "0"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert google.stdout is not None
        address = google.stdout.readline().split(" listening on ")[1].split()[0]
        print(
            "| calls | batch | CPU-ms per call-second | ratio | KB per call | dropped | load late |"
        )
        print("|---|---|---|---|---|---|---|")
        first = 0.0
        for case in CASES:
            row = measure(case, seconds, address)
            first = first or row.cpu_ms
            print(
                f"| {case.calls} | {case.batch_ms} ms | {row.cpu_ms:.1f} "
                f"| {row.cpu_ms / first:.2f} | {row.kilobytes:.0f} | {row.dropped} "
                f"| {row.worst_lateness_ms:.0f} ms |",
                flush=True,
            )
    finally:
        google.terminate()
        google.wait(10)
    return 0


if __name__ == "__main__":
    sys.exit(main())
