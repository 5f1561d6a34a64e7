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
from call_log import logger, worth_saying
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
        self._killing = native.lock()  # so that nobody kills whoever has the number after it
        self._pid = 0  # none: it is gone, or not there yet
        self._to_process = -1
        self._started = False
        self._leaving = False
        self._leave = Bell(native)
        self._over = Bell(native)

    def start(self) -> None:
        """Start the process, and hear it from now on; once, after any fork."""
        if self._started:
            return
        self._started = True
        self._native.start(self._run, "record-link")

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
        until = self._clock() + self._answer_seconds
        self._send(Write(self._asked, list(batch)), until)
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
        if not self._started or self._leaving:
            return
        self._leaving = True
        self._leave.ring()
        self._native.call(self._end, self._clock() + seconds)

    def _end(self, until: float) -> None:
        # else it is gone already, or killed
        with contextlib.suppress(StoreAway):
            self._send(Leave(), until)
        if not self._over.wait(until - self._clock()):
            self._kill()

    def _send(self, message: ToProcess, until: float) -> None:
        """Hand a message over, in a native thread; raises `StoreAway`.

        If it is not taken in time the process hangs, perhaps with a part of it: it is killed.
        """
        # so that nobody closes the descriptor meanwhile; another thread may be sending
        in_time = self._writing.acquire(timeout=max(0.0, until - self._clock()))
        if in_time:
            try:
                in_time = self._hand_over(record_messages.packed(message), until)
            except OSError as fault:
                raise StoreAway(f"the records' process is gone ({fault.strerror})") from None
            finally:
                self._writing.release()
        if not in_time:
            self._kill()
            raise StoreAway("the records' process takes nothing any more")

    def _hand_over(self, data: bytes, until: float) -> bool:
        if self._to_process < 0:
            raise StoreAway("the records' process is not there")
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._to_process, left) :]
            except BlockingIOError:
                if not self._native.wait_for_room(self._to_process, until - self._clock()):
                    return False
        return True

    # The link's thread

    def _run(self) -> None:
        while (descriptor := self._spawn_at_last()) >= 0:
            if self._leaving:  # just now: nobody would tell it to leave
                self._kill()
            while (message := self._next(descriptor)) is not None:
                self._take(message)
            os.close(descriptor)
            with self._writing:
                os.close(self._to_process)
                self._to_process = -1
            with self._killing:
                pid, self._pid = self._pid, 0
            self._native.reap(pid)
            self._deaths += 1
            self._answered.ring()  # whoever waits for an answer gets none
            if not self._leaving:
                self._native.tell(
                    logger.error, "[DB] the records' process has died; another is started"
                )
                self._leave.wait(_RESTART_SECONDS)
        self._over.ring()

    def _spawn_at_last(self) -> int:
        """Start the process, sooner or later; -1 if the worker leaves."""
        failures = 0
        while not self._leaving:
            try:
                return self._spawn()
            except OSError as fault:  # no memory, no descriptors, no processes: for now
                failures += 1
                if worth_saying(failures):
                    self._native.tell(
                        logger.error,
                        "[DB] the records' process cannot be started, tried again: %s count=%d",
                        fault.strerror,
                        failures,
                    )
                self._leave.wait(_RESTART_SECONDS)
        return -1

    def _next(self, descriptor: int) -> ToWorker | None:
        try:
            return record_messages.read_to_worker(descriptor)
        except (OSError, ValueError):  # no message: it is as good as dead, but lives
            self._kill()
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
        """Start the process; returns the descriptor at which it is heard. Raises `OSError`."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as its:
            from_worker, to_process = os.pipe()
            its.callback(os.close, from_worker)
            ours.callback(os.close, to_process)
            heard, to_worker = os.pipe()
            its.callback(os.close, to_worker)
            ours.callback(os.close, heard)
            for descriptor in (from_worker, to_worker):
                os.set_inheritable(descriptor, True)
            os.set_blocking(to_process, False)  # a process that hangs must not hold us up
            self._pid = self._native.spawn(
                [
                    sys.executable,
                    str(_PROGRAM),
                    self.worker_id,
                    str(from_worker),
                    str(to_worker),
                ]
            )
            ours.pop_all()  # they stay open
        self._to_process = to_process
        return heard

    def _kill(self) -> None:
        with self._killing, contextlib.suppress(ProcessLookupError):  # it was quicker
            if self._pid:
                os.kill(self._pid, signal.SIGKILL)
