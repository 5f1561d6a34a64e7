"""Takes what live calls leave for their records, and has it written by a thread of its own.

`put()` is called on the way of the text, by any call's thread: it never waits and never fails. The
writer's thread is a native one (`native_threads.py`) and waits for the records' process, so that no
database holds up the audio. While the database is away, what comes waits here, up to a limit; past
that it is counted as lost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import native_threads
from call_log import logger, one_line, worth_saying
from call_records import Record, Said
from errors import RecordFault, StoreAway
from native_threads import Bell, NativeThreads
from record_messages import Refused

# What comes within this time is written together: a worker that is killed loses no more than it
GATHER_SECONDS = 0.4
BATCH = 500
# Pauses while the database is away
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0
# What begins and ends calls is kept also where there is no room for more text
_RESERVED_SHARE = 0.1


class Store(Protocol):
    """What writes a batch: all of it, or it raises `StoreAway` or `RecordFault`.

    It returns which of them belong nowhere.
    """

    def write(self, batch: Sequence[Record]) -> list[Refused]: ...


class RecordWriter:
    """Writes to `store`; at most `limit` records wait."""

    def __init__(
        self,
        store: Store,
        *,
        limit: int = 100_000,
        gather_seconds: float = GATHER_SECONDS,
        native: NativeThreads | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._limit = limit
        self._gather_seconds = gather_seconds
        self._native = native or native_threads.here()
        self._clock = clock
        self._bell = Bell(self._native)
        self._hurry = Bell(self._native)
        self._over = Bell(self._native)
        self._waiting: deque[Record] = deque()
        self._stop_at: float | None = None
        self._started = False
        self._closed = False
        self.lost = 0  # found no room, or came after the end
        self.refused = 0  # belong nowhere
        self.written = 0
        self.failures = 0  # in a row

    def start(self) -> None:
        """Begin to write; once, after any fork."""
        self._started = True
        self._native.start(self._run, "record-writer")

    def put(self, record: Record) -> bool:
        """Keep `record` until it is written; False if it is lost: no room, or after the close."""
        if self._closed:
            return self._lose("the worker has ended")
        room = self._limit - len(self._waiting)
        least = self._limit * _RESERVED_SHARE if isinstance(record, Said) else 0
        if room <= least:
            return self._lose("no room")
        self._waiting.append(record)
        self._bell.ring()
        return True

    def _lose(self, why: str) -> bool:
        self.lost += 1
        if worth_saying(self.lost):
            logger.error("[DB] %s: a record is lost lost=%d", why, self.lost)
        return False

    @property
    def waiting(self) -> int:
        """How many records are not written yet."""
        return len(self._waiting)

    def close(self, seconds: float) -> int:
        """Write what waits, for so many seconds at most; returns how much was not written."""
        if self._started and self._stop_at is None:
            self._stop_at = self._clock() + seconds
            self._hurry.ring()
            self._bell.ring()
            self._native.call(self._over.wait, seconds + 1.0)
        self._closed = True
        if self._waiting:
            logger.error("[DB] %d records were not written", len(self._waiting))
        return len(self._waiting)

    # The writer's thread

    def _run(self) -> None:
        while not self._is_over():
            if not self._waiting:
                self._bell.wait(60.0)
            self._pause(self._gather_seconds)
            self._write_some()
        self._over.ring()

    def _is_over(self) -> bool:
        if self._stop_at is None:
            return False
        return not self._waiting or self._clock() >= self._stop_at

    def _pause(self, seconds: float) -> None:
        """Let more come, asleep: not each record is worth a turn. The end does not wait for it."""
        if self._hurry.wait(0.0 if self._stop_at is not None else seconds):
            self._hurry.ring()  # for the pauses to come

    def _write_some(self) -> None:
        batch = [self._waiting[n] for n in range(min(BATCH, len(self._waiting)))]
        if not batch:
            return
        try:
            refused = self._write(batch)
        except StoreAway as error:
            self.failures += 1
            self._say_failure(error)
            self._pause(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self.failures, 10)))
            return
        except Exception as error:  # a fault of our own must not end the thread: it is tried again
            self.failures += 1
            self._say_failure(error)
            self._pause(_LONGEST_PAUSE)
            return
        if self.failures:
            self._native.tell(logger.info, "[DB] back: writing again")
            self.failures = 0
        for _ in batch:  # written: only now it is forgotten
            self._waiting.popleft()
        self.written += len(batch) - len(refused)
        self._say_refused(batch, refused)

    def _write(self, batch: list[Record]) -> list[Refused]:
        try:
            return self._store.write(batch)
        except RecordFault:
            # Two workers at the same row, or a record that cannot be written: which, is seen singly
            return [
                Refused(number, refused.why)
                for number, record in enumerate(batch)
                for refused in self._write_one(record)
            ]

    def _write_one(self, record: Record) -> list[Refused]:
        for last in (False, True):
            try:
                return self._store.write([record])
            except RecordFault as error:
                if last:
                    return [Refused(0, str(error))]
        raise AssertionError("the second try returns")

    def _say_failure(self, error: Exception) -> None:
        if worth_saying(self.failures):
            self._native.tell(
                logger.error,
                "[DB] not written, tried again: %s waiting=%d count=%d",
                one_line(f"{error}" or repr(error))[:200],
                len(self._waiting),
                self.failures,
            )

    def _say_refused(self, batch: list[Record], refused: list[Refused]) -> None:
        for one in refused:
            self.refused += 1
            if worth_saying(self.refused):
                self._native.tell(
                    logger.warning,
                    "[DB] a record belongs nowhere: %s, %s count=%d",
                    type(batch[one.number]).__name__,
                    one.why,
                    self.refused,
                )
