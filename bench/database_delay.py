"""What a database costs the calls: how late a worker's loop is with it, slow, under load and gone.

`make bench-database`. 40 calls at a time, with a final a second each, into one gevent worker; the
delay of its loop is measured inside the worker, in turns of some seconds: without records, with
SQLite, with PostgreSQL, with PostgreSQL under other load, slow (200 ms for each statement) and
gone. The turns go round several times, because machines are shared: trust the differences within a
round. Loopback only; it ends by itself after about 5 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import psycopg
from databases import fresh_sqlite
from postgres_server import PostgresServer
from running_service import RunningService

from frame_echo import EchoAnswers, FrameEcho, numbered_frame
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, play_calls

CALLS = 40
STATEMENT_SECONDS = 0.2

Delays = dict[str, float]


class SlowProxy:
    """A way to PostgreSQL on which each message of the client's is held up."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0

    def __enter__(self) -> SlowProxy:
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        async def listen() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()

        self._loop.run_until_complete(listen())
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", self._to)
        await asyncio.gather(
            self._pass_on(reader, onward, STATEMENT_SECONDS), self._pass_on(there, writer, 0.0)
        )

    @staticmethod
    async def _pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
            writer.close()


@contextmanager
def other_load(url: str) -> Iterator[None]:
    """Somebody else keeps the database busy, as far as one connection can."""
    over = threading.Event()

    def work() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.is_set():
                connection.execute("SELECT sum(n) FROM generate_series(1, 200000) n")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def gone(server: PostgresServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def measure(
    google: str, seconds: float, trouble: AbstractContextManager[object], **settings: object
) -> Delays:
    """The loop's delays over so many seconds of 40 calls, in ms."""
    frames = int((seconds + 5) * 50)
    calls = [PlannedCall([numbered_frame(n, s) for s in range(frames)]) for n in range(CALLS)]
    with RunningService(
        RunningService.probed,
        SPEECH_EMULATOR_HOST=google,
        WEB_CONCURRENCY=1,
        LOG_TRANSCRIPTS=0,
        DRAIN_SECONDS=5,
        **settings,
    ) as service:

        def ask() -> Delays:
            with urllib.request.urlopen(f"{service.address}/delays", timeout=30) as answer:
                delays: Delays = json.load(answer)
            return delays

        async def run() -> Delays:
            playing = asyncio.create_task(play_calls(service.url, calls, ramp=1.0))
            await asyncio.sleep(3)
            with trouble:
                await asyncio.to_thread(ask)
                await asyncio.sleep(seconds)
                delays = await asyncio.to_thread(ask)
            reports = await playing
            assert not [report.error for report in reports if report.error]
            return delays

        return asyncio.run(run())


def main() -> int:
    parser = argparse.ArgumentParser(description="How late the loop is with a database.")
    parser.add_argument("--seconds", type=float, default=8, help="of each turn (8)")
    parser.add_argument("--rounds", type=int, default=3, help="of all turns (3)")
    options = parser.parse_args()
    found: dict[str, list[Delays]] = {}
    with (
        SpeechServerThread(FrameEcho(EchoAnswers(final_every=50))) as google,
        PostgresServer() as server,
        SlowProxy(server.port) as proxy,
    ):
        for _ in range(options.rounds):
            url = server.fresh()
            slow = url.replace(str(server.port), str(proxy.port))
            turns: dict[str, tuple[AbstractContextManager[object], dict[str, object]]] = {
                "without records": (nullcontext(), {"PROBE_WITHOUT_RECORDS": 1}),
                "SQLite": (nullcontext(), {"DATABASE_URL": fresh_sqlite()}),
                "PostgreSQL": (nullcontext(), {"DATABASE_URL": url}),
                "PostgreSQL, other load": (other_load(url), {"DATABASE_URL": url}),
                "PostgreSQL, 200 ms a statement": (nullcontext(), {"DATABASE_URL": slow}),
                "PostgreSQL, gone": (gone(server), {"DATABASE_URL": url}),
            }
            for name, (trouble, settings) in turns.items():
                delays = measure(google.address, options.seconds, trouble, **settings)
                found.setdefault(name, []).append(delays)
                print(f"  {name}: {delays}", file=sys.stderr, flush=True)
    print("| database | p50 | p95 | p99 | p99 beyond none | worst |\n|---|---|---|---|---|---|")
    base = statistics.median(delays["p99_ms"] for delays in found["without records"])
    for name, rounds in found.items():
        p50, p95, p99, worst = (
            statistics.median(delays[figure] for delays in rounds)
            for figure in ("p50_ms", "p95_ms", "p99_ms", "worst_ms")
        )
        print(f"| {name} | {p50} | {p95} | {p99} | {p99 - base:+.2f} | {worst} ms |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
