"""The records of a running service: every final in its own call and business, whatever happens.

40 calls of 4 businesses, whose frames say whose they are, through real workers into a real SQLite
and a real PostgreSQL: at peace, with the database taken away in the middle, with a worker killed.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import psutil
import pytest
from postgres_server import PostgresServer
from record_parts import engines_at, rows
from running_service import RunningService

from database import Engines
from frame_echo import EchoAnswers, FrameEcho, frames_said, numbered_frame
from models import Call, CallStream, Utterance
from service_log import parse_line
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, play_calls
from twilio_stream import CallReport

CALLS, BUSINESSES = 40, 4
PATIENCE = 30.0

# By call: its business and its text, in order
Told = dict[str, tuple[str, list[str]]]


@pytest.fixture(scope="module")
def chatty() -> Iterator[SpeechServerThread]:
    """A stand-in for Google with a final for each second."""
    with SpeechServerThread(FrameEcho(EchoAnswers(final_every=50))) as server:
        yield server


def planned(count: int, frames: int) -> list[PlannedCall]:
    return [
        PlannedCall(
            [numbered_frame(n, seq) for seq in range(frames)],
            tenant=f"T{n % BUSINESSES}",
            call_sid=f"CA{n:032x}",
        )
        for n in range(count)
    ]


def play(service: RunningService, calls: list[PlannedCall]) -> list[CallReport]:
    return asyncio.run(play_calls(service.url, calls, ramp=1.0))


def logged(service: RunningService, until: float = float("inf")) -> Told:
    """The finals in the log up to a moment."""
    told: Told = {}
    for line, at in zip(list(service.lines), list(service.line_times), strict=False):
        parsed = parse_line(line)
        if at < until and parsed is not None and parsed.kind == "final":
            told.setdefault(parsed.call, (parsed.tenant, []))[1].append(parsed.text)
    return told


def recorded(engines: Engines) -> Told:
    """The finals in the database."""
    calls = {call.id: call for call in rows(engines, Call)}
    told: Told = {call.call_sid: (call.tenant_id, []) for call in calls.values()}
    utterances = rows(engines, Utterance)
    for utterance in sorted(utterances, key=lambda u: (u.call_id, u.start_ms, u.id)):
        call = calls[utterance.call_id]
        assert (utterance.tenant_id, utterance.track) == (call.tenant_id, "inbound")
        told[call.call_sid][1].append(utterance.text)
    return told


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether it comes to hold; a database tells nobody of a change."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def taken_away(url: str, postgres: PostgresServer | None) -> Iterator[None]:
    """The database is gone, or as good as gone."""
    if postgres is not None:
        postgres.stop()
        try:
            yield
        finally:
            postgres.start()
        return
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


@pytest.mark.parametrize(
    ("trouble", "frames"),
    [
        pytest.param("none", 250, marks=pytest.mark.soak),  # the next one has times of peace too
        ("the database goes away", 250),
        pytest.param("the database goes away for 30 s", 2000, marks=pytest.mark.soak),
    ],
)
def test_forty_calls_of_four_businesses(
    request: pytest.FixtureRequest,
    chatty: SpeechServerThread,
    database_at: str,
    trouble: str,
    frames: int,
) -> None:
    """Each final is in the right business, call and track, in order, once."""
    seconds_away = 30 if "30 s" in trouble else 2
    server = request.getfixturevalue("postgres") if "postgresql" in database_at else None
    away = taken_away(database_at, server) if trouble != "none" else nullcontext()
    with RunningService(
        SPEECH_EMULATOR_HOST=chatty.address, DATABASE_URL=database_at, WEB_CONCURRENCY=2
    ) as service:

        def disturb(away: AbstractContextManager[None]) -> None:
            service.wait_for(lambda lines: sum("Final" in line for line in lines) > CALLS)
            with away:
                seen = service.count("Final")
                wanted = seen + seconds_away * CALLS
                service.wait_for(lambda x: sum("Final" in y for y in x) > wanted, 90)

        disturber = threading.Thread(target=disturb, args=(away,))
        disturber.start()
        reports = play(service, planned(CALLS, frames))
        disturber.join()
        service.wait_for(lambda lines: sum("session closed" in x for x in lines) == CALLS)
        assert [report.error for report in reports] == [None] * CALLS
        told = logged(service)
        with engines_at(database_at) as engines:
            assert wait_until(
                lambda: (
                    all(call.ended_at is not None for call in rows(engines, Call))
                    and recorded(engines) == told
                )
            ), (told, recorded(engines))
            calls = rows(engines, Call)
    assert len(calls) == CALLS
    assert {call.outcome for call in calls} == {"completed"}
    for n in range(CALLS):
        business, text = told[f"CA{n:032x}"]
        assert business == f"T{n % BUSINESSES}"
        heard = list(itertools.chain(*map(frames_said, text)))
        [call] = [call for call in calls if call.call_sid == f"CA{n:032x}"]
        assert call.frames == frames
        # what a busy machine dropped is counted; nothing else is missing, and nothing is of others
        assert len(heard) == frames - call.dropped
        assert heard == sorted(set(heard))
        assert {number for number, _ in heard} == {n}


def test_a_worker_that_is_killed_loses_no_more_than_a_second(
    chatty: SpeechServerThread, database_at: str
) -> None:
    """Every final that was logged a second before is there; its calls are closed as lost."""
    with RunningService(
        SPEECH_EMULATOR_HOST=chatty.address,
        DATABASE_URL=database_at,
        WEB_CONCURRENCY=1,
        WORKER_LEASE_SECONDS=2,
    ) as service:
        [worker] = service.workers()
        killed_at = 0.0

        def kill() -> None:
            nonlocal killed_at
            service.wait_for(lambda lines: sum("Final" in line for line in lines) > 3 * CALLS)
            killed_at = time.monotonic()
            os.kill(worker.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        play(service, planned(CALLS, 400))
        killer.join()
        with engines_at(database_at) as engines:
            assert wait_until(
                lambda: all(call.ended_at is not None for call in rows(engines, Call))
            )
            calls = rows(engines, Call)
            told = recorded(engines)
            assert all(stream.lost for stream in rows(engines, CallStream))
        before, ever = logged(service, killed_at - 1.0), logged(service)
        service.wait_for_line("calls of a dead worker closed as lost")
    assert len(calls) == CALLS
    assert {call.outcome for call in calls} == {"lost"}
    assert sum(len(text) for _, text in before.values()) > CALLS
    for call_sid, (business, text) in before.items():
        found_business, found = told[call_sid]
        assert found_business == business
        assert found[: len(text)] == text
        assert found == ever[call_sid][1][: len(found)]


@pytest.mark.parametrize(
    "database_at",
    # what is asked of the database is shown on both by `test_lost_calls.py`
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)],
    indirect=True,
)
def test_a_call_that_twilio_ends_is_closed_within_five_seconds_by_another_worker(
    chatty: SpeechServerThread, database_at: str
) -> None:
    """A row says so, and the worker that has the call sees it; from the answer to the close."""
    told_at: dict[str, float] = {}
    with RunningService(
        SPEECH_EMULATOR_HOST=chatty.address, DATABASE_URL=database_at, WEB_CONCURRENCY=2
    ) as service:

        async def play_and_end(call: PlannedCall) -> CallReport:
            call_sid = str(call.call_sid)
            playing = asyncio.create_task(play_calls(service.url, [call]))
            await asyncio.to_thread(service.wait_for_line, "session started", call_sid)
            await asyncio.to_thread(tell_other_worker, service, call_sid)
            told_at[call_sid] = time.monotonic()
            [report] = await playing
            return report

        calls = planned(4, 1500)
        reports = [asyncio.run(play_and_end(call)) for call in calls]
        took = [closed_at(service, call_sid) - at for call_sid, at in told_at.items()]
    assert [report.close_code for report in reports] == [1000] * 4
    assert max(took) < 5.0, took


def tell_other_worker(service: RunningService, call_sid: str) -> None:
    """Twilio's status callback, to the worker that does not carry the one call that there is."""
    [carrier] = [
        worker
        for worker in service.workers()
        if any(
            connection.laddr.port == service.port and connection.status == psutil.CONN_ESTABLISHED
            for connection in worker.net_connections("tcp")
        )
    ]
    carrier.suspend()  # so that the other one answers
    try:
        tell_over(service.port, call_sid)
    finally:
        carrier.resume()


def closed_at(service: RunningService, call_sid: str) -> float:
    """When the log said that the session was closed, by time.monotonic()."""
    service.wait_for_line("session closed", call_sid)
    return next(
        at
        for line, at in zip(service.lines, service.line_times, strict=False)
        if "session closed" in line and call_sid in line
    )


def tell_over(port: int, call_sid: str) -> None:
    """Twilio's status callback, answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    connection.request(
        "POST",
        "/status",
        f"CallSid={call_sid}&CallStatus=completed",
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert connection.getresponse().status == 200
    connection.close()
