"""The states of a database that `database_delay.py` goes through: well, slow, loaded, gone."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import psycopg
from postgres_server import PostgresServer

STATEMENT_SECONDS = 0.2
# The other client of PostgreSQL: in each turn it holds its locks for so long, and writes so much
TURN_SECONDS, LOCKED_SECONDS, ROWS = 0.25, 0.1, 2_000
# The other writer of SQLite: it leaves others no more than this between two turns
FREE_SECONDS = 0.05


class SlowProxy:
    """A way to PostgreSQL on which each message of a client's can be held up."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0
        self.delay = 0.0

    def __enter__(self) -> SlowProxy:
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Every statement takes `STATEMENT_SECONDS` longer."""
        self.delay = STATEMENT_SECONDS
        try:
            yield
        finally:
            self.delay = 0.0

    def _run(self) -> None:
        async def listen() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()

        self._loop.run_until_complete(listen())
        self._loop.run_forever()
        passing = asyncio.all_tasks(self._loop)  # what still goes on ends with the proxy
        for task in passing:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*passing, return_exceptions=True))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:  # the server is gone
            writer.transport.abort()
            return
        await asyncio.gather(
            self._pass_on(reader, onward, held_up=True), self._pass_on(there, writer)
        )

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held_up: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay if held_up else 0.0)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def other_load(url: str) -> Iterator[None]:
    """Another client writes thousands of rows, with the tables locked that records go to.

    It is the database that this burdens, not the processor: writes wait for locks for 100 ms of
    each 250, its log and its pages grow; of a core it takes about a tenth.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS other (n bigint PRIMARY KEY, at timestamptz)"
        )

    def work(connection: psycopg.Connection) -> None:
        with connection.transaction():
            connection.execute("LOCK TABLE calls, utterances, events IN SHARE ROW EXCLUSIVE MODE")
            locked = time.monotonic()
            connection.execute(
                "INSERT INTO other SELECT n, now() FROM generate_series(1, %s) n "
                "ON CONFLICT (n) DO UPDATE SET at = excluded.at",
                (ROWS,),
            )
            time.sleep(max(0.0, locked + LOCKED_SECONDS - time.monotonic()))

    def turns() -> Generator[None]:
        with psycopg.connect(url, autocommit=True) as connection:
            while True:
                work(connection)
                yield

    with _in_thread(turns(), TURN_SECONDS):
        yield


@contextmanager
def slow_sqlite(url: str) -> Iterator[None]:
    """Somebody else writes nearly always: each transaction waits about 200 ms for the lock."""

    def turns() -> Generator[None]:
        with contextlib.closing(
            sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)
        ) as connection:
            while True:
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(STATEMENT_SECONDS)
                connection.execute("COMMIT")
                yield

    with _in_thread(turns(), STATEMENT_SECONDS + FREE_SECONDS):
        yield


@contextmanager
def gone(server: PostgresServer) -> Iterator[None]:
    """The server is stopped, and started again."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def _in_thread(turns: Generator[None], every: float) -> Iterator[None]:
    """Take a turn at least every so many seconds meanwhile, in a thread of its own."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            began = time.monotonic()
            next(turns)
            over.wait(max(0.005, began + every - time.monotonic()))
        turns.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
