"""The local speech server inside a test: a context manager around an event loop in a thread.

The server runs in a daemon thread of its own; every public method here is for any other
thread and may block it, but never the server's loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from speech_recogniser import Recogniser, RecordingRecord, StreamRecord
from speech_server import PortTaken, SpeechServer
from speech_server_faults import Fault, parse_fault
from speech_server_rules import Limits


class SpeechServerThread:
    """`with SpeechServerThread(FrameEcho()) as server:` serves at `server.address`.

    The recogniser is closed when the context ends. With the small `lookahead_bytes` a client
    notices a stall after a message or two; None leaves gRPC's own large windows.

    `faults` hold from the start (see `order`). `fault_for` is asked, on the server's loop, for
    the fault of each stream that opens, by its number from 0; it may be changed at any time, must
    not block, and goes before what was ordered.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        limits: Limits | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        lookahead_bytes: int | None = 1024,
        faults: Iterable[str | Fault] = (),
        fault_for: Callable[[int, str], Fault | None] | None = None,
    ) -> None:
        self.fault_for = fault_for
        self._first_faults = _parsed(faults)
        self._recogniser = recogniser
        self._limits = limits or Limits()
        self._host = host
        self._port = port
        self._lookahead_bytes = lookahead_bytes
        self._change = threading.Condition()
        self._waiters = 0
        self._started: Future[tuple[SpeechServer, int]] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="speech-server", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self._server, self._port = self._started.result(timeout=30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        return f"{self._host}:{self._port}"

    @property
    def streams(self) -> list[StreamRecord]:
        """The records of all streams so far, in the order in which they were opened."""
        return list(self._server.records)

    @property
    def open_streams(self) -> int:
        """How many streams are open now."""
        return len(self._server.live)

    @property
    def recordings(self) -> list[RecordingRecord]:
        """The records of all plain Recognize calls so far, in the order in which they came."""
        return list(self._server.recordings)

    def order(self, *faults: str | Fault) -> None:
        """From now on these faults hold as well; raises `BadFault` for what is none.

        When it returns, the next stream is subject to them. Never call it on the server's loop.
        """
        parsed = _parsed(faults)
        self._on_loop(lambda: self._server.order(parsed))

    def clear_faults(self) -> None:
        """What was ordered holds no more; a stream keeps what it got. Not `fault_for`."""
        self._on_loop(lambda: self._server.faults.clear())

    def forget_ended(self) -> None:
        """Drop the records of the streams and recordings that have ended: for long runs."""
        self._loop.call_soon_threadsafe(self._forget_ended)

    def stall(self) -> None:
        """Read nothing more from any stream; what was read before has been dealt with or waits."""
        self._server.stall()

    def resume(self) -> None:
        """Read on."""
        self._server.resume()

    def wait_for(self, predicate: Callable[[], bool], timeout: float = 5.0) -> None:
        """Return as soon as `predicate()` holds; raises TimeoutError after `timeout` seconds.

        It is looked at after every change in the server: a stream opened, struck by a fault or
        ended, a message taken, a response written, a recording taken or answered. A predicate
        that raises LookupError (`streams[0]` before there is one) does not hold yet.
        """
        deadline = time.monotonic() + timeout
        with self._change:
            self._waiters += 1
            try:
                while not _holds(predicate):
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._change.wait(left):
                        if _holds(predicate):
                            return
                        raise TimeoutError(f"not so within {timeout} s: {self._seen()}")
            finally:
                self._waiters -= 1

    def _seen(self) -> str:
        return ", ".join(
            f"{r.messages} messages {r.responses} responses {r.ended or 'open'}"
            for r in self.streams[-10:]
        )

    def _changed(self) -> None:
        if self._waiters:
            with self._change:
                self._change.notify_all()

    def _forget_ended(self) -> None:
        self._server.records[:] = [r for r in self._server.records if r.ended_at is None]
        self._server.recordings[:] = [r for r in self._server.recordings if not r.status]

    def _on_loop(self, act: Callable[[], None]) -> None:
        done: Future[None] = Future()

        def acted() -> None:
            try:
                act()
            except Exception as error:  # raised in the thread that waits
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(acted)
        done.result(timeout=10)

    def _fault_for(self, number: int, peer: str) -> Fault | None:
        return None if self.fault_for is None else self.fault_for(number, peer)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = SpeechServer(
            self._recogniser,
            self._limits,
            keep_records=True,
            changed=self._changed,
            lookahead_bytes=self._lookahead_bytes,
            fault_for=self._fault_for,
        )
        server.order(self._first_faults)
        try:
            port = await server.start(self._host, self._port)
        except PortTaken as error:
            self._started.set_exception(error)  # raised in the thread that waits for the start
            return
        self._started.set_result((server, port))
        await self._stop.wait()
        await server.stop()


def _parsed(faults: Iterable[str | Fault]) -> list[Fault]:
    return [parse_fault(fault) if isinstance(fault, str) else fault for fault in faults]


def _holds(predicate: Callable[[], bool]) -> bool:
    try:
        return predicate()
    except LookupError:
        return False
