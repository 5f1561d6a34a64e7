"""What a database costs the calls: how late a worker's loop is with it, slow, under load and gone.

`make bench-database`. 40 calls with a final a second each go through one gevent worker, which
measures the delay of its own loop, every 5 ms. While they go on the states change every few
seconds, round after round, so that what else the machine does meets all of them alike: without
records, SQLite, SQLite whose writers wait 200 ms for its lock; then, in a worker with PostgreSQL,
without records, PostgreSQL, with another client that writes and locks the same tables, with 200 ms
more for each statement, gone. Each round begins with another one of them. The delays of a state are
pooled over its rounds; what it adds is told beside the same worker's "without records".

Loopback only; it ends by itself after about 5 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from database_states import SlowProxy, gone, other_load, slow_sqlite
from databases import fresh_sqlite
from postgres_server import PostgresServer
from running_service import RunningService

from database import database_url
from frame_echo import EchoAnswers, FrameEcho, numbered_frame
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, play_calls

CALLS = 40
# Before a state is measured, and before the first one
SETTLE_SECONDS, BEGIN_SECONDS = 2.0, 4.0
# PostgreSQL's stop and start
GONE_SECONDS = 3.0


@dataclass
class State:
    """A state, and the loop's delays in it (ms), by round; `written` counts utterances."""

    name: str
    make: Callable[[], AbstractContextManager[None]] = nullcontext
    records: bool = True
    delays: list[list[float]] = field(default_factory=list)
    written: int | None = 0  # None: nobody could be asked

    def pooled(self) -> list[float]:
        return sorted(delay for round_ in self.delays for delay in round_)


def at(delays: list[float], share: float) -> float:
    """The delay that `share` of these, which are sorted, do not pass."""
    return delays[min(len(delays) - 1, int(len(delays) * share))]


class Bench:
    """One worker with a database, and the states that it goes through."""

    def __init__(self, service: RunningService, database: str, seconds: float) -> None:
        self._service = service
        self._engine = sa.create_engine(database_url(database), poolclass=sa.NullPool)
        self._seconds = seconds

    async def run(self, states: list[State], rounds: int) -> None:
        """Play the calls, and measure each state once a round."""
        turn = self._seconds + SETTLE_SECONDS + GONE_SECONDS
        frames = int((turn * len(states) * rounds + BEGIN_SECONDS) * 50)
        calls = [PlannedCall([numbered_frame(n, s) for s in range(frames)]) for n in range(CALLS)]
        playing = asyncio.create_task(play_calls(self._service.url, calls, ramp=1.0))
        try:
            await asyncio.sleep(BEGIN_SECONDS)
            for round_ in range(rounds):
                first = round_ % len(states)
                for state in states[first:] + states[:first]:
                    await self._measure(state)
            live = (await self._ask("/probe"))["live"]
            assert live == CALLS, f"only {live} calls are left"
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

    async def _measure(self, state: State) -> None:
        await self._ask(f"/records/{'on' if state.records else 'off'}")
        made = state.make()
        await asyncio.to_thread(made.__enter__)
        try:
            await asyncio.sleep(SETTLE_SECONDS)
            before = await asyncio.to_thread(self._utterances)
            await self._ask("/delays")
            await asyncio.sleep(self._seconds)
            found = (await self._ask("/delays?all=1"))["all_ms"]
            after = await asyncio.to_thread(self._utterances)
        finally:
            await asyncio.to_thread(made.__exit__, None, None, None)
        state.delays.append(found)
        if state.written is not None and before is not None and after is not None:
            state.written += after - before
        else:
            state.written = None
        told = sorted(found)
        print(f"  {state.name}: p99 {at(told, 0.99):.2f} ms", file=sys.stderr, flush=True)

    async def _ask(self, path: str) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            with urllib.request.urlopen(self._service.address + path, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
            return found

        return await asyncio.to_thread(ask)

    def _utterances(self) -> int | None:
        try:
            with self._engine.connect() as connection:
                return int(connection.scalar(sa.text("SELECT count(*) FROM utterances")) or 0)
        except sa.exc.OperationalError:
            return None


@contextmanager
def serving(google: str, database: str) -> Any:
    with RunningService(
        RunningService.probed,
        SPEECH_EMULATOR_HOST=google,
        WEB_CONCURRENCY=1,
        LOG_TRANSCRIPTS=0,
        DRAIN_SECONDS=5,
        DATABASE_URL=database,
    ) as service:
        yield service


def table(states: list[State]) -> str:
    """The states beside the first one, which has no records."""
    base = states[0]
    lines = []
    for state in states:
        pooled = state.pooled()
        beyond = [
            at(sorted(mine), 0.99) - at(sorted(bare), 0.99)
            for mine, bare in zip(state.delays, base.delays, strict=True)
        ]
        added = at(pooled, 0.99) - at(base.pooled(), 0.99)
        written = "not to be asked" if state.written is None else f"{state.written:,}"
        lines.append(
            f"| {state.name} | {at(pooled, 0.5):.2f} | {at(pooled, 0.99):.2f} | {added:+.2f} "
            f"| {min(beyond):+.2f} … {max(beyond):+.2f} | {pooled[-1]:.1f} | {written} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="How late the loop is with a database.")
    parser.add_argument("--seconds", type=float, default=7, help="of each turn (7)")
    parser.add_argument("--rounds", type=int, default=4, help="of all turns (4)")
    options = parser.parse_args()
    with SpeechServerThread(FrameEcho(EchoAnswers(final_every=50))) as google:
        sqlite = fresh_sqlite()
        of_sqlite = [
            State("without records", records=False),
            State("SQLite", nullcontext),
            State("SQLite, 200 ms for its lock", lambda: slow_sqlite(sqlite)),
        ]
        with serving(google.address, sqlite) as service:
            bench = Bench(service, sqlite, options.seconds)
            asyncio.run(bench.run(of_sqlite, options.rounds))
        with PostgresServer() as server, SlowProxy(server.port) as proxy:
            url = server.fresh()
            of_postgresql = [
                State("without records", records=False),
                State("PostgreSQL", nullcontext),
                State("PostgreSQL, other load", lambda: other_load(url)),
                State("PostgreSQL, 200 ms a statement", proxy.slow),
                State("PostgreSQL, gone", lambda: gone(server)),
            ]
            proxied = url.replace(str(server.port), str(proxy.port))
            with serving(google.address, proxied) as service:
                bench = Bench(service, url, options.seconds)
                asyncio.run(bench.run(of_postgresql, options.rounds))
    print(
        f"Delays of the loop in ms, {options.rounds} rounds of {options.seconds:g} s, {CALLS} calls"
    )
    print("| database | p50 | p99 | p99 beyond none | by round | worst | utterances written |")
    print("|---|---|---|---|---|---|---|")
    for states in (of_sqlite, of_postgresql):
        print(table(states))
    return 0


if __name__ == "__main__":
    sys.exit(main())
