"""The service as it is deployed, while Google's streams end and fail: no frame goes uncounted.

gunicorn with its gevent worker, real WebSockets and gRPC; what is known is what the log says.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from running_service import ROOMY_QUEUE, RunningService

from frame_echo import EchoAnswers, FrameEcho, frames_said, numbered_frame
from service_log import LogLine, parse_line
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, play_calls


def frames(call: int, count: int) -> Iterator[bytes]:
    return (numbered_frame(call, seq) for seq in range(count))


def by_call(service: RunningService) -> dict[str, list[LogLine]]:
    found: dict[str, list[LogLine]] = {}
    for line in map(parse_line, list(service.lines)):
        if line is not None:
            found.setdefault(line.call, []).append(line)
    return found


def check_call(lines: list[LogLine]) -> tuple[int, int]:
    """Hold a call of the log to the law; how many of its frames are covered, and how many not."""
    said = [frames_said(line.text) for line in lines if line.kind == "final"]
    covered = sorted(frame for frames in said for frame in frames)
    assert len({number for number, _ in covered}) <= 1, "another call's frames"
    assert len(set(covered)) == len(covered), "doubled"
    [closed] = [line for line in lines if line.kind == "closed"]
    lost = sum(int(line.numbers["frames"]) for line in lines if line.kind == "lost")
    uncovered = int(closed.numbers["dropped"]) + lost
    assert closed.numbers["frames"] == len(covered) + uncovered
    return len(covered), uncovered


def test_calls_over_rotations_and_faults_keep_every_frame() -> None:
    """10 calls, rotated every second; streams die and are refused meanwhile: nothing is lost."""
    with SpeechServerThread(FrameEcho(EchoAnswers(final_every=20))) as google:
        with RunningService(
            SPEECH_EMULATOR_HOST=google.address,
            WEB_CONCURRENCY=1,
            STT_QUEUE_FRAMES=ROOMY_QUEUE,
            STT_ROTATE_SECONDS=0.8,
            STT_ROTATE_HARD_SECONDS=8,
        ) as service:
            google.order("die status=INTERNAL at=2.5 next=20")
            plan = [PlannedCall(frames(number, 300)) for number in range(10)]
            with ThreadPoolExecutor(1) as pool:
                playing = pool.submit(asyncio.run, play_calls(service.url, plan, ramp=0.5))
                service.wait_for(lambda lines: sum("rotated" in line for line in lines) >= 5)
                google.order("unavailable for=1")
                reports = playing.result(60)
            service.wait_for(lambda lines: sum("session closed" in x for x in lines) == 10)
        assert [report.error for report in reports] == [None] * 10
        calls = by_call(service)
        assert [check_call(calls[report.call_sid]) for report in reports] == [(300, 0)] * 10
        assert service.count("internal error") == service.count("Traceback") == 0
        assert len(google.streams) > 20


def test_a_deploy_during_an_outage_counts_what_it_loses() -> None:
    """SIGTERM while Google is gone: the worker ends in time, and says what has no text."""
    with SpeechServerThread(FrameEcho(EchoAnswers(final_every=45, interim_every=25))) as google:
        with RunningService(SPEECH_EMULATOR_HOST=google.address, WEB_CONCURRENCY=1) as service:
            plan = [PlannedCall(frames(number, 3_000)) for number in range(5)]
            with ThreadPoolExecutor(1) as pool:
                playing = pool.submit(asyncio.run, play_calls(service.url, plan))
                # in the middle of the second final's frames
                service.wait_for(lambda lines: sum("🟡" in line for line in lines) >= 10)
                google.order("unavailable for=60")
                service.wait_for(lambda lines: sum("streaming failed" in x for x in lines) >= 5)
                assert service.stop(signal.SIGTERM, timeout=20) == 0
                reports = playing.result(60)
        assert [report.close_code for report in reports] == [1012] * 5
        calls = by_call(service)
        counts = [check_call(calls[report.call_sid]) for report in reports]
        assert all(covered >= 45 and lost > 0 for covered, lost in counts)
