"""The whole service: real gunicorn gevent workers, real WebSockets, real gRPC."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from guarded_calls import NUMBERS, heard, spoken, whole
from running_service import ROOMY_QUEUE, RunningService
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from frame_echo import frames_said, numbered_frame
from service_log import parse_line
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, new_sid, play_calls
from twilio_stream import CallReport, StreamMessages


def play(url: str, calls: list[PlannedCall], **options: object) -> list[CallReport]:
    return asyncio.run(play_calls(url, calls, **options))  # type: ignore[arg-type]  # of several kinds


@pytest.fixture(scope="module")
def small(speech: SpeechServerThread) -> Iterator[RunningService]:
    """One worker that takes three calls; each test leaves it without any."""
    with RunningService(
        SPEECH_EMULATOR_HOST=speech.address, WEB_CONCURRENCY=1, MAX_CONCURRENT_CALLS=3
    ) as service:
        yield service


def finals_by_call(service: RunningService) -> dict[tuple[str, str], list[str]]:
    """The text of the finals in the log, by call and business."""
    finals: dict[tuple[str, str], list[str]] = {}
    for line in list(service.lines):
        parsed = parse_line(line)
        if parsed is not None and parsed.kind == "final":
            finals.setdefault((parsed.call, parsed.tenant), []).append(parsed.text)
    return finals


@pytest.mark.parametrize("carrier", ["h2", "grpc"])
def test_twenty_calls_at_once_bring_every_frame_once_and_in_order(
    google: SpeechServerThread, carrier: str
) -> None:
    """20 calls in real time: each frame arrives once, in order, in its own call."""
    calls = [
        PlannedCall(spoken(n, 200), tenant=f"T{n % 4}", call_sid=f"CA{n:032x}") for n in range(20)
    ]
    with RunningService(
        SPEECH_EMULATOR_HOST=google.address,
        WEB_CONCURRENCY=2,
        STT_QUEUE_FRAMES=ROOMY_QUEUE,
        STT_TRANSPORT=carrier,
    ) as service:
        reports = play(service.url, calls, ramp=1.0)
        service.wait_for(lambda lines: sum("session closed" in x for x in lines) == 20)
        assert [report.error for report in reports] == [None] * 20
        assert {report.close_code for report in reports} == {1000}
        assert service.count("session closed", "frames=200 dropped=0 seconds=4.0") == 20
        said = finals_by_call(service)
    arrived = sorted(record.frames for record in google.streams)
    assert arrived == [whole(n, 200) for n in range(20)]
    assert {record.ended for record in google.streams} == {"half-closed"}
    for n in range(20):
        text = said[f"CA{n:032x}", f"T{n % 4}"]
        assert list(itertools.chain(*map(frames_said, text))) == whole(n, 200)


def probe(service: RunningService) -> dict[str, int]:
    with urllib.request.urlopen(f"{service.address}/probe") as answer:
        counts: dict[str, int] = json.load(answer)
    [worker] = service.workers()
    return counts | {"fds": worker.num_fds(), "native threads": worker.num_threads()}


def settled(service: RunningService, before: dict[str, int]) -> dict[str, int]:
    """What is left once the last sockets have closed: at most `before`, or what there is."""
    deadline = time.monotonic() + 10
    while True:
        now = probe(service)
        if all(now[name] <= before[name] for name in before) or time.monotonic() > deadline:
            return now
        time.sleep(0.1)  # the worker is another process: there is nothing to wait on


@pytest.mark.parametrize("count", [120, pytest.param(500, marks=pytest.mark.soak)])
def test_churn_leaves_nothing_behind(google: SpeechServerThread, count: int) -> None:
    """Many short calls, ended in three ways: no call, stream, thread or descriptor stays."""
    ways = ("stop", "close", "cut")

    def churn(url: str, first: int, count: int) -> int:
        """`count` calls, 30 at a time; how many came to their end."""
        ended = 0
        for start in range(first, first + count, 30):
            for way in ways:
                numbers = range(start, min(start + 30, first + count))
                calls = [PlannedCall(spoken(n, 8)) for n in numbers if n % 3 == ways.index(way)]
                reports = play(url, calls, pace=0.002, end=way, close_wait=10.0)
                ended += sum(report.ok for report in reports)
        return ended

    with RunningService(
        RunningService.probed, SPEECH_EMULATOR_HOST=google.address, WEB_CONCURRENCY=1
    ) as service:
        assert churn(service.url, 0, 30) == 30  # what is made once is made
        google.wait_for(lambda: google.open_streams == 0)
        before = settled(service, {"live": 0})
        assert churn(service.url, 30, count) == count
        google.wait_for(lambda: google.open_streams == 0, timeout=10)
        assert len(google.streams) == 30 + count
        after = settled(service, before)
    assert after["live"] == 0
    assert after["fds"] <= before["fds"]
    assert after["threads"] <= before["threads"]
    assert after["greenlets"] <= before["greenlets"] + 3  # gunicorn's own come and go
    assert after["native threads"] <= before["native threads"]


def test_sigterm_ends_ten_live_calls_cleanly(google: SpeechServerThread) -> None:
    """SIGTERM: close code 1012, all audio up to then at Google, all finals logged, within 20 s.

    Nor is a socket waited for that never said `start`: it has the same close, and no worker is
    killed.
    """
    sent: dict[int, int] = dict.fromkeys(range(10), 0)

    def counting(call: int) -> Iterator[bytes]:
        for seq in itertools.count():
            sent[call] = seq + 1
            yield numbered_frame(call, seq)

    calls = [PlannedCall(counting(n), call_sid=f"CA{n:032x}") for n in range(10)]
    with (
        RunningService(SPEECH_EMULATOR_HOST=google.address, WEB_CONCURRENCY=2) as service,
        connect(service.url, compression=None) as idle,
    ):
        workers = service.workers()

        async def play_and_stop() -> tuple[list[CallReport], float]:
            playing = asyncio.create_task(play_calls(service.url, calls, close_wait=20.0))
            await asyncio.to_thread(
                google.wait_for,
                lambda: (
                    len(google.streams) == 10
                    and all(len(record.frames) >= 60 for record in google.streams)
                ),
                20,
            )
            began = time.monotonic()
            code = await asyncio.to_thread(service.stop)
            assert code == 0
            return await playing, time.monotonic() - began

        reports, seconds = asyncio.run(play_and_stop())
        said = finals_by_call(service)
        with pytest.raises(ConnectionClosed):
            idle.recv(timeout=15)
        assert idle.close_code == 1012
    assert not any(worker.is_running() for worker in workers)
    assert service.count("Worker graceful timeout") == 0
    assert seconds < 20
    assert [(r.close_code, r.close_reason) for r in reports] == [(1012, "service restart")] * 10
    for record in google.streams:
        numbers = [seq for _, seq in record.frames]
        [call] = {call for call, _ in record.frames}
        assert numbers == list(range(len(numbers)))
        # the frames of the last moment may have been on their way when the socket was closed
        assert len(numbers) >= sent[call] - 10
        text = said[f"CA{call:032x}", "default"]
        assert list(itertools.chain(*map(frames_said, text))) == record.frames
        assert record.ended == "half-closed"


def test_over_capacity_is_refused_with_1013(small: RunningService) -> None:
    """The call beyond the cap is told to come back later; the live ones do not notice."""
    calls = [PlannedCall(spoken(next(NUMBERS), 60)) for _ in range(4)]
    reports = play(small.url, calls, ramp=0.3)
    assert sorted(report.close_code or 0 for report in reports) == [1000, 1000, 1000, 1013]
    refused = [report for report in reports if report.close_code == 1013]
    assert refused[0] is reports[3]
    assert small.count("[WS] refused: 1013 3 calls are live", reports[3].call_sid) == 1
    # the slots came back
    assert [r.close_code for r in play(small.url, calls[:3])] == [1000] * 3


def test_readyz_tells_full(small: RunningService) -> None:
    """/readyz is 200 with room and 503 when full; /healthz is 200 all the same."""

    def status(path: str) -> int:
        try:
            with urllib.request.urlopen(small.address + path) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status("/readyz") == 200
    sids = [new_sid("CA") for _ in range(3)]
    calls = [PlannedCall(spoken(next(NUMBERS), 60), call_sid=sid) for sid in sids]

    async def look_while_playing() -> list[int]:
        playing = asyncio.create_task(play_calls(small.url, calls))
        for sid in sids:
            await asyncio.to_thread(small.wait_for_line, "[STT] session started", sid)
        seen = [await asyncio.to_thread(status, path) for path in ("/readyz", "/healthz")]
        await playing
        return seen

    assert asyncio.run(look_while_playing()) == [503, 200]
    assert status("/readyz") == 200


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "no Google credentials: set GOOGLE_CREDENTIALS_JSON"),
        ({"SPEECH_EMULATOR_HOST": "h:1", "STT_QUEUE_FRAMES": "many"}, "STT_QUEUE_FRAMES=many"),
    ],
)
def test_gunicorn_says_what_is_wrong_and_exits_with_2(
    settings: dict[str, str], says: str, tmp_path: object
) -> None:
    """A missing or broken setting is one clear line at the start, and exit code 2."""
    service = RunningService(RunningService.gunicorn, HOME=tmp_path, **settings).start()
    assert service.process.wait(30) == 2
    service.stop()
    said = [line for line in service.lines if "[INFO]" not in line]
    assert len(said) == 1
    assert said[0].startswith(f"tamlil: {says}")


def test_a_burst_in_mid_call_loses_nothing(
    small: RunningService, speech: SpeechServerThread
) -> None:
    """Audio that the network held up for 5 s and brings at once: every frame reaches Google."""
    twilio, number = StreamMessages(new_sid("CA"), new_sid("MZ"), new_sid("AC")), next(NUMBERS)
    messages = [twilio.media(frame) for frame in spoken(number, 260)]
    with connect(small.url, compression=None) as call:
        for message in (twilio.connected(), twilio.start(), *messages[:10]):
            call.send(message)
        speech.wait_for(lambda: heard(speech, number) == [whole(number, 10)])
        for message in (*messages[10:], twilio.stop()):
            call.send(message)
        small.wait_for_line("session closed", twilio.call_sid, "frames=260 dropped=0")
    assert heard(speech, number) == [whole(number, 260)]
