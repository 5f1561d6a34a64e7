"""What only time shows: `make soak` (30 minutes, or SOAK_MINUTES); not in `make test`.

SOAK_CALLS at once (60); SOAK_PLOT=FILE.png draws what was counted.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
import urllib.request
from collections.abc import Iterator

import pytest
from running_service import RunningService

from frame_echo import numbered_frame
from speech_server_thread import SpeechServerThread
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


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 180)
def test_long_calls_and_churn_leave_nothing_behind(google: SpeechServerThread) -> None:
    """Rounds of 60 calls of 30 s with short calls coming and going: counts and memory stay flat."""
    samples: list[dict[str, int]] = []
    times: list[float] = []
    calls = 0

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

    with RunningService(
        RunningService.probed,
        SPEECH_EMULATOR_HOST=google.address,
        WEB_CONCURRENCY=1,
        MAX_CONCURRENT_CALLS=LONG_CALLS + 5 * SHORT_CALLS,
    ) as service:
        began = time.monotonic()
        until = began + MINUTES * 60
        while time.monotonic() < until:
            calls += asyncio.run(one_round(service.url))
            google.wait_for(lambda: google.open_streams == 0, timeout=10)
            for record in google.streams:  # each stream is one call's, whole but for cut ends
                assert [seq for _, seq in record.frames] == list(range(len(record.frames)))
                assert len({call for call, _ in record.frames}) <= 1
            google.forget_ended()
            samples.append(counts(service))
            times.append((time.monotonic() - began) / 60)
            print(f"{calls} calls: {samples[-1]}", flush=True)
    if plot := os.environ.get("SOAK_PLOT"):
        draw(times, samples, plot)
    assert service.count("dropped=0") >= service.count("session closed") == calls
    settled, last = samples[len(samples) // 3], samples[-1]
    assert last["live"] == 0
    for name in settled:
        room = settled[name] * 0.1 if "kilobytes" in name else 5
        assert last[name] <= settled[name] + room, name
