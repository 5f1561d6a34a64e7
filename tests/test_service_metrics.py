"""The figures of a real service: two workers, summed up; one killed; and without gunicorn."""

from __future__ import annotations

import asyncio
import contextlib
import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError

import psutil
import pytest
from databases import fresh_sqlite
from prometheus_client.multiprocess import MultiProcessCollector
from promtool import promtool
from running_service import ROOMY_QUEUE, RunningService
from scraping import Figures, scrape, scrape_until
from test_ops import queries, rules
from webhook_parts import engines_at
from webhook_receiver import SECRET, Answer, WebhookReceiver
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from businesses import Business
from frame_echo import EchoAnswers, FrameEcho, numbered_frame
from models import Webhook, WebhookSecret
from speech_server_thread import SpeechServerThread
from tenant_directory import add_business
from twilio_calls import PlannedCall, play_calls
from twilio_stream import CallReport

TOKEN = "a-token-for-prometheus"
CALLS = 8
CLINIC = Business("clinic", numbers=("+97231234567",), max_calls=20)


@pytest.fixture
def echo() -> Iterator[SpeechServerThread]:
    """A stand-in for Google with a final for each second and interims between."""
    with SpeechServerThread(FrameEcho(EchoAnswers(final_every=50, interim_every=20))) as server:
        yield server


def planned(number: int, frames: int, tenant: str = "clinic") -> PlannedCall:
    return PlannedCall([numbered_frame(number, n) for n in range(frames)], tenant=tenant)


def live_of(directory: Path, pid: int) -> float:
    """How many calls this worker has, by its own file."""
    file = directory / f"gauge_livesum_{pid}.db"
    families = MultiProcessCollector.merge([str(file)])  # type: ignore[no-untyped-call]
    return sum(
        float(sample.value)
        for family in families
        for sample in family.samples
        if sample.name == "tamlil_live_calls"
    )


@contextlib.contextmanager
def stopped(worker: psutil.Process) -> Iterator[None]:
    """This worker takes nothing meanwhile, so that all that comes goes to the other one."""
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()


@contextlib.contextmanager
def playing_on_both(
    service: RunningService, plan: list[PlannedCall], token: str = ""
) -> Iterator[Callable[[], list[CallReport]]]:
    """Half of the calls on one worker and half on the other; returns how to have their reports."""
    halves = plan[: len(plan) // 2], plan[len(plan) // 2 :]
    begun: list[Future[list[CallReport]]] = []
    with ThreadPoolExecutor(2) as pool:
        for half, worker in zip(halves, service.workers(), strict=True):
            with stopped(worker):
                wanted = sum(len(one) for one in halves[: len(begun) + 1])
                begun.append(pool.submit(asyncio.run, play_calls(service.url, half)))
                wait_for_live(service, wanted, token)
        yield lambda: [report for one in begun for report in one.result(60)]


def wait_for_live(service: RunningService, count: int, token: str) -> None:
    scrape_until(service, lambda now: all_live(now) == count, token)


def all_live(now: Figures) -> float:
    return sum(now("live_calls", business=name) for name in ("default", "clinic", "other"))


def test_the_figures_of_two_workers_are_summed_up(echo: SpeechServerThread, tmp_path: Path) -> None:
    """Every frame, call, stream, fault, rotation, record and event of both, whichever is asked."""
    database = fresh_sqlite()
    with WebhookReceiver() as receiver, engines_at(database) as engines:
        receiver.decide = lambda event: Answer(503)
        with engines.writing() as session:
            add_business(session, CLINIC)
            session.add(Webhook(tenant_id=CLINIC.tenant_id, url=receiver.url))
            session.add(WebhookSecret(tenant_id=CLINIC.tenant_id, secret=SECRET))
        with RunningService(
            SPEECH_EMULATOR_HOST=echo.address,
            WEB_CONCURRENCY=2,
            STT_QUEUE_FRAMES=ROOMY_QUEUE,
            STT_ROTATE_SECONDS=1.5,
            DATABASE_URL=database,
            WEBHOOK_ALLOW_PRIVATE=1,
            METRICS_TOKEN=TOKEN,
            TMPDIR=tmp_path,
        ) as service:
            [directory] = tmp_path.glob("tamlil-metrics-*")
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            with pytest.raises(HTTPError, match="401"):
                scrape(service)
            plan = [planned(number, 250) for number in range(CALLS)]
            plan += [planned(CALLS, 250, tenant="invented")]
            with playing_on_both(service, plan, TOKEN) as reports:
                figures = scrape(service, TOKEN)
                assert figures("live_calls", business="clinic") == CALLS
                assert figures("live_calls", business="other") == 1
                shares = [live_of(directory, worker.pid) for worker in service.workers()]
                assert sorted(shares) == [CALLS / 2, CALLS / 2 + 1]
                echo.order("die status=INTERNAL at=0.5 next=3")
                assert [report.error for report in reports()] == [None] * len(plan)
            figures = scrape_until(
                service,
                lambda now: (
                    now("calls_ended_total", code="1000") == len(plan)
                    and now("google_streams") == 0
                    and now("webhooks_failed_total") > 0
                    and now("records_waiting") == 0
                ),
                TOKEN,
            )
        check_sums(figures, len(plan), 250)
        check_names(figures)
        assert not directory.exists()


def check_sums(figures: Figures, calls: int, frames: int) -> None:
    assert figures("workers") == 2
    assert figures("frames_received_total") == calls * frames
    assert figures("frames_dropped_total") == figures("frames_lost_total") == 0
    assert figures("calls_started_total", business="clinic") == calls - 1
    assert figures("calls_started_total", business="other") == 1
    assert figures("live_calls", business="clinic") == 0
    assert figures("business_call_slots", business="clinic") == 40
    assert figures("call_slots") == 100
    assert figures("google_stream_errors_total", code="INTERNAL", remedy="back_off") == 3
    # how many depends on the machine: rotations are a few a second at most
    assert figures("google_rotations_total") > 0
    # replays are sent again
    assert calls * frames * 0.02 <= figures("google_audio_seconds_total") < calls * frames * 0.04
    for result in ("interim", "final"):
        heard = figures("recognition_delay_seconds_count", result=result)
        assert heard >= calls
        assert figures("recognition_delay_seconds_bucket", result=result, le="+Inf") == heard
    assert figures("frame_delay_seconds_count") > calls
    assert figures("loop_delay_seconds_count") > 10
    assert figures("worker_cpu_seconds_total") > 0
    # at least the start and the end of each call
    assert figures("records_written_total") >= 2 * calls
    assert figures("webhooks_waiting") > 0
    assert figures("webhooks_oldest_seconds") > 0


def check_names(figures: Figures) -> None:
    """promtool finds no fault with it, and has all that the dashboard and the rules ask for."""
    assert promtool("check", "metrics", stdin=figures.text) == ""
    asked = " ".join(queries() + [rule["expr"] for rule in rules()])
    assert set(re.findall(r"tamlil_\w+", asked)) <= figures.names


def test_a_killed_worker_s_calls_are_live_no_more(echo: SpeechServerThread, tmp_path: Path) -> None:
    """What it had going vanishes, what it had counted stays; another one takes its place."""
    with RunningService(
        SPEECH_EMULATOR_HOST=echo.address, WEB_CONCURRENCY=2, TMPDIR=tmp_path
    ) as service:
        [directory] = tmp_path.glob("tamlil-metrics-*")
        plan = [planned(number, 1_500, tenant="default") for number in range(CALLS)]
        with playing_on_both(service, plan) as reports:
            victim, other = service.workers()
            assert live_of(directory, other.pid) == CALLS / 2
            before = scrape_until(service, lambda now: now("frames_received_total") > CALLS * 50)
            victim.kill()
            after = scrape_until(service, lambda now: all_live(now) == CALLS / 2)
            assert after("calls_started_total", business="default") == CALLS
            assert after("frames_received_total") >= before("frames_received_total")
            again = scrape_until(
                service, lambda now: now("workers") == 2 and victim.pid not in pids(service)
            )
            assert again("call_slots") == 100
            assert again("google_streams") == CALLS / 2
            service.stop()
            reports()
    assert not list(tmp_path.glob("tamlil-metrics-*"))


def pids(service: RunningService) -> set[int]:
    return {worker.pid for worker in service.workers()}


def test_one_process_needs_no_directory(echo: SpeechServerThread) -> None:
    """`flask run`: the same figures of one process with real threads."""
    with RunningService(
        RunningService.flask_run,
        SPEECH_EMULATOR_HOST=echo.address,
        STT_QUEUE_FRAMES=ROOMY_QUEUE,
        MAX_HALF_OPEN=3,
    ) as service:
        reports = asyncio.run(
            play_calls(service.url, [planned(n, 100, "default") for n in range(3)])
        )
        assert [report.error for report in reports] == [None] * 3
        with contextlib.ExitStack() as silent:
            for _ in range(3):
                silent.enter_context(connect(service.url))
            with pytest.raises(InvalidStatus, match="503"):
                connect(service.url)
        with connect(service.url) as socket:
            socket.send('{"event": "stop"}')
            with pytest.raises(ConnectionClosed):
                socket.recv(10)
        figures = scrape_until(
            service,
            lambda now: (
                now("calls_ended_total", code="1000") == 3
                and now("refusals_total", reason="half_open") == 1
                and now("refusals_total", reason="protocol") == 1
            ),
        )
        assert figures("frames_received_total") == 300
        assert figures("workers") == 1
        assert figures("recognition_delay_seconds_count", result="final") >= 3
        assert promtool("check", "metrics", stdin=figures.text) == ""
