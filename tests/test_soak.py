"""What only time shows: `make soak` (30 minutes, or SOAK_MINUTES); not in `make test`.

SOAK_CALLS at once (60); SOAK_PLOT=FILE.png draws what was counted.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from running_service import PROJECT, ROOMY_QUEUE, RunningService
from test_service_streams import by_call, check_call

from frame_echo import frames_said, numbered_frame
from twilio_calls import PlannedCall, play_calls
from twilio_stream import End

MINUTES = float(os.environ.get("SOAK_MINUTES") or 30)
LONG_CALLS = int(os.environ.get("SOAK_CALLS") or 60)
SHORT_CALLS, SHORT_FRAMES = 10, 25
NUMBERS = itertools.count()
ENDS: tuple[End, ...] = ("stop", "close", "cut")


def frames(call: int, count: int) -> Iterator[bytes]:
    return (numbered_frame(call, seq) for seq in range(count))


def counts(service: RunningService) -> dict[str, int]:
    with urllib.request.urlopen(f"{service.address}/probe") as answer:
        found: dict[str, int] = json.load(answer)
    [worker] = service.workers()
    found["descriptors"] = worker.num_fds()
    found["kilobytes"] = worker.memory_info().rss // 1024
    [records] = worker.children()
    found["records' descriptors"] = records.num_fds()
    found["records' threads"] = records.num_threads()
    found["records' kilobytes"] = records.memory_info().rss // 1024
    return found


def draw(times: list[float], samples: list[dict[str, int]], file: str) -> None:
    """All that was counted, over the minutes, into a PNG."""
    import matplotlib  # only where a plot is asked for

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 6), dpi=120, sharex=True)
    for name in samples[0]:
        axes = above if "kilobytes" in name else below
        scale = 1024 if "kilobytes" in name else 1
        label = name.replace("kilobytes", "memory")
        axes.plot(times, [sample[name] / scale for sample in samples], label=label)
    above.set_ylabel("MB")
    below.set_ylabel("count")
    below.set_xlabel("minutes")
    above.set_title(f"{LONG_CALLS} calls at a time, and others that come and go")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(True, color="#DDDDDD")
        axes.legend(frameon=False, ncols=3, fontsize="small")
    figure.tight_layout()
    figure.savefig(file)


@contextmanager
def google_elsewhere() -> Iterator[str]:
    """The stand-in for Google in a process of its own: with 60 calls it has enough to do."""
    command = [sys.executable, "local_speech_server.py", "--recogniser", "frames", "--port", "0"]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split(" listening on ")[1].split()[0]
    finally:
        process.terminate()
        process.wait(10)


def check_ended(service: RunningService) -> int:
    """Hold the calls that have ended to the law, and forget them; how many they were."""
    calls = by_call(service)
    ended = [lines for lines in calls.values() if any(line.kind == "closed" for line in lines)]
    for lines in ended:
        check_call(lines)
    with service._change:
        service.lines.clear()
        service.line_times.clear()
    return len(ended)


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 180)
def test_long_calls_and_churn_leave_nothing_behind() -> None:
    """Rounds of 60 calls of 30 s with short calls coming and going: counts and memory stay flat."""
    samples: list[dict[str, int]] = []
    times: list[float] = []
    calls = ended = 0

    async def one_round(url: str) -> int:
        """The long calls, and short ones beside them until they end; how many there were."""
        plan = [PlannedCall(frames(next(NUMBERS), 1500)) for _ in range(LONG_CALLS)]
        long = asyncio.create_task(play_calls(url, plan, ramp=1.0))
        played = LONG_CALLS
        for end in itertools.cycle(ENDS):
            short = [PlannedCall(frames(next(NUMBERS), SHORT_FRAMES)) for _ in range(SHORT_CALLS)]
            reports = await play_calls(url, short, ramp=0.2, end=end)
            assert [report.error for report in reports] == [None] * SHORT_CALLS
            played += SHORT_CALLS
            if long.done():
                break
        assert [report.error for report in await long] == [None] * LONG_CALLS
        return played

    with (
        google_elsewhere() as google,
        RunningService(
            RunningService.probed,
            SPEECH_EMULATOR_HOST=google,
            WEB_CONCURRENCY=1,
            MAX_CONCURRENT_CALLS=LONG_CALLS + 5 * SHORT_CALLS,
            STT_QUEUE_FRAMES=ROOMY_QUEUE,  # what a starved machine drops is not the point here
        ) as service,
    ):
        began = time.monotonic()
        until = began + MINUTES * 60
        while time.monotonic() < until:
            played = asyncio.run(one_round(service.url))
            calls += played
            service.wait_for(lambda x, n=played: sum("[WS] closed" in y for y in x) >= n)  # type: ignore[misc]  # its default is a number
            ended += check_ended(service)
            samples.append(counts(service))
            times.append((time.monotonic() - began) / 60)
            print(f"{calls} calls: {samples[-1]}", flush=True)
    if plot := os.environ.get("SOAK_PLOT"):
        draw(times, samples, plot)
    assert ended == calls
    settled, last = samples[len(samples) // 3], samples[-1]
    assert last["live"] == 0
    for name in settled:
        room = settled[name] * 0.1 if "kilobytes" in name else 5
        assert last[name] <= settled[name] + room, name


@pytest.mark.soak
def test_many_calls_over_rotations_keep_every_frame() -> None:
    """120 calls of 30 s, their streams replaced every 5 s: each frame is in one final, in order."""
    calls, length = 120, 1500
    with (
        google_elsewhere() as google,
        RunningService(
            SPEECH_EMULATOR_HOST=google,
            WEB_CONCURRENCY=1,
            MAX_CONCURRENT_CALLS=calls,
            STT_QUEUE_FRAMES=ROOMY_QUEUE,
            STT_ROTATE_SECONDS=5,
            STT_ROTATE_HARD_SECONDS=15,
        ) as service,
    ):
        plan = [PlannedCall(frames(number, length)) for number in range(calls)]
        reports = asyncio.run(play_calls(service.url, plan, ramp=3.0))
        service.wait_for(lambda lines: sum("session closed" in x for x in lines) == calls)
        assert [report.error for report in reports] == [None] * calls
        found = by_call(service)
        counted = [check_call(found[report.call_sid]) for report in reports]
        rotations = service.count("[STT] rotated")
        print(f"{rotations} rotations; {sum(n for _, n in counted)} frames without text")
        assert counted == [(length, 0)] * calls
        for lines in found.values():
            finals = [frames_said(line.text) for line in lines if line.kind == "final"]
            said = [frame for final in finals for frame in final]
            assert said == sorted(said)
        assert rotations >= 2 * calls
        assert service.count("internal error") == service.count("Traceback") == 0
