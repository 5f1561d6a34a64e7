"""The worker's end of its records' process: starts it, hands records over, hears what it says.

All that waits here does so in native threads (`native_threads.py`), in the kernel, and computes
next to nothing. If the process dies another one is started, and what it had not written is handed
over again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import native_threads
import record_messages
from businesses import Business
from call_log import logger
from call_records import Record
from errors import RecordFault, StoreAway
from native_threads import Bell, NativeThreads
from record_messages import (
    EndCall,
    EventCounts,
    Known,
    Leave,
    NotWritten,
    Refused,
    ToProcess,
    ToWorker,
    Write,
    Written,
)

_PROGRAM = Path(__file__).with_name("record_process.py")

# Longer than a database may take by its own limits: then the process itself hangs
_ANSWER_SECONDS = 90.0
_RESTART_SECONDS = 1.0


_prepared: RecordLink | None = None


def here() -> RecordLink:
    """The link of this process, which a worker prepares before it loads the application."""
    return _prepared or RecordLink(native_threads.here())


def prepare(native: NativeThreads) -> None:
    """Start the records' process of this worker, so that it comes up while the worker does."""
    global _prepared
    _prepared = RecordLink(native)
    _prepared.start()


class RecordLink:
    """A worker's records' process; `worker_id` is what records know the worker by.

    `on_businesses(businesses)` and `end_call(call_sid, reason)` are called as the process says,
    where they may wait. Times are seconds on `clock`.
    """

    def __init__(
        self,
        native: NativeThreads,
        *,
        answer_seconds: float = _ANSWER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answer_seconds = answer_seconds
        self.worker_id = uuid.uuid4().hex
        self.on_businesses: Callable[[list[Business]], object] = lambda businesses: None
        self.end_call: Callable[[str, str], object] = lambda call_sid, reason: None
        self._native = native
        self._clock = clock
        self._answered = Bell(native)
        self._first_businesses = Bell(native)
        self.events: EventCounts | None = None  # as the process said last
        self._known: list[Business] | None = None
        self._answer: Written | NotWritten | None = None
        self._asked = 0
        self._deaths = 0
        self._writing = native.lock()
        self._pid = 0
        self._to_process = -1
        self._leaving = False
        self._leave = Bell(native)
        self._over = Bell(native)

    def start(self) -> None:
        """Start the process, and hear it from now on; once, after any fork."""
        if self._pid:
            return
        heard = self._spawn()
        self._native.start(lambda: self._hear(heard), "record-link")

    def wait_for_businesses(self, seconds: float) -> bool:
        """Wait until the businesses are known; False if they are not in time."""
        return self._known is not None or self._native.call(self._first_businesses.wait, seconds)

    @property
    def businesses(self) -> list[Business] | None:
        """The businesses as the process said last; None before it has."""
        return self._known

    def write(self, batch: Sequence[Record]) -> list[Refused]:
        """Have a batch written, for the writer's thread; waits until it is.

        Raises `StoreAway` or `RecordFault`; then nothing of it is written, or all (a second try
        changes nothing).
        """
        self._asked += 1
        deaths = self._deaths
        self._send(Write(self._asked, list(batch)))
        until = self._clock() + self._answer_seconds
        while (answer := self._answer) is None or answer.number != self._asked:
            if self._deaths != deaths:
                raise StoreAway("the records' process has died")
            if not self._answered.wait(until - self._clock()):
                self._kill()
                raise StoreAway(
                    f"the records' process did not answer in {self._answer_seconds:g} s"
                )
        if isinstance(answer, Written):
            return answer.refused
        raise RecordFault(answer.why) if answer.of_record else StoreAway(answer.why)

    def stop(self, seconds: float) -> None:
        """The worker ends: so shall the process, which has written all that it was given."""
        if not self._pid or self._leaving:
            return
        self._leaving = True
        self._leave.ring()
        # else it is gone already
        with contextlib.suppress(StoreAway):
            self._send(Leave())
        if not self._native.call(self._over.wait, seconds):
            self._kill()

    def _send(self, message: ToProcess) -> None:
        with self._writing:  # so that nobody closes the descriptor meanwhile
            try:
                record_messages.send(self._to_process, message)
            except OSError as fault:
                raise StoreAway(f"the records' process is gone ({fault.strerror})") from None

    # The link's thread

    def _hear(self, descriptor: int) -> None:
        while True:
            while (message := self._next(descriptor)) is not None:
                self._take(message)
            os.close(descriptor)
            with self._writing:
                os.close(self._to_process)
                self._to_process = -1
            self._native.reap(self._pid)
            self._deaths += 1
            self._answered.ring()  # whoever waits for an answer gets none
            if not self._leaving:
                self._native.tell(
                    logger.error, "[DB] the records' process has died; another is started"
                )
                self._leave.wait(_RESTART_SECONDS)
            if self._leaving:  # perhaps just now: nobody would tell a new one to leave
                self._over.ring()
                return
            descriptor = self._spawn()

    @staticmethod
    def _next(descriptor: int) -> ToWorker | None:
        try:
            return record_messages.read_to_worker(descriptor)
        except (OSError, ValueError):  # cut off in the middle, or no message: it is as good as dead
            return None

    def _take(self, message: ToWorker) -> None:
        if isinstance(message, Known):
            self._known = message.businesses
            self._native.tell(self.on_businesses, message.businesses)
            self._first_businesses.ring()
        elif isinstance(message, EndCall):
            self._native.tell(self.end_call, message.call_sid, message.reason)
        elif isinstance(message, EventCounts):
            self.events = message
        else:
            self._answer = message
            self._answered.ring()

    def _spawn(self) -> int:
        """Start the process; returns the descriptor at which it is heard."""
        from_worker, self._to_process = os.pipe()
        heard, to_worker = os.pipe()
        for descriptor in (from_worker, to_worker):
            os.set_inheritable(descriptor, True)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [
                    sys.executable,
                    str(_PROGRAM),
                    self.worker_id,
                    str(from_worker),
                    str(to_worker),
                ],
                os.environ,
            )
        finally:
            os.close(from_worker)
            os.close(to_worker)
        return heard

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it was quicker
            os.kill(self._pid, signal.SIGKILL)
