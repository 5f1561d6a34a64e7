"""Looks after the records in the background, in a thread of the records' own process.

It reads businesses that were changed, tells its worker of calls that are over elsewhere, notes that
the worker lives, ends the calls of workers that do not, and deletes what is old enough. While the
database is away nothing of that can be done, and nothing of it is needed for a live call.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

import lost_calls
import retention
from businesses import Business
from call_log import logger, one_line, worth_saying
from database import Engines, now
from tenant_directory import BusinessReader

_LOOK_SECONDS = 0.5
_CALLS_SECONDS = 1.0
_PURGE_SECONDS = 3600.0
# Clocks of machines differ, and a look may be late
_OVERLAP = timedelta(seconds=60)
# After the database was away, other workers are as late as this one with their notes
_LEASES_AFTER_A_FAULT = 2
_AWAY_SECONDS = 2.0


@dataclass(slots=True)
class _Duty:
    """What is done every so many seconds; `due` on the watch's clock."""

    run: Callable[[], None]
    every: float
    due: float = 0.0


class RecordWatch:
    """The watch of the worker `worker_id`.

    `on_businesses(businesses)` gets all of them, at first and after each change;
    `end_call(call_sid, reason)` has the worker end a call, if it has it. A worker that was not seen
    for `lease_seconds` counts as dead. `clock` is monotonic, `now` tells the moment.
    """

    def __init__(
        self,
        engines: Engines,
        worker_id: str,
        *,
        on_businesses: Callable[[list[Business]], None],
        end_call: Callable[[str, str], None],
        lease_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = now,
    ) -> None:
        self._engines = engines
        self._reader = BusinessReader(engines)
        self._on_businesses = on_businesses
        self._worker_id = worker_id
        self._end_call = end_call
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._now = now
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()
        self._trust_notes_at = float("-inf")  # then other workers have had time for their notes
        self._failures = 0
        self._purged: int | None = None  # old records, by the purge that is under way
        self._purge_duty = _Duty(self._purge, _PURGE_SECONDS)
        self._duties = (
            _Duty(self._look_for_changes, _LOOK_SECONDS),
            _Duty(self._note_alive, lease_seconds / 3),
            _Duty(self._look_for_ended, _CALLS_SECONDS),
            _Duty(self._close_calls, lease_seconds / 3),
            self._purge_duty,
        )

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="record-watch", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 3.0) -> None:
        """End the thread, and note that the worker has ended in order."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(seconds)

    # The watch's thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self.turn())
        with contextlib.suppress(SQLAlchemyError), self._engines.writing() as session:
            lost_calls.note_end(session, self._worker_id)  # else its note grows old by itself

    def turn(self) -> float:
        """Do what is due; returns for how many seconds nothing is."""
        for duty in self._duties:
            at = self._clock()
            if duty.due > at or self._stopping.is_set():
                continue
            duty.due = at + duty.every
            try:
                duty.run()
            except Exception as error:  # the database's, mostly; the next turn comes all the same
                return self._failed(error)
        if self._failures:
            logger.info("[DB] back: records are looked after again")
            self._failures = 0
        return max(0.01, min(duty.due for duty in self._duties) - self._clock())

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        self._trust_notes_at = self._clock() + _LEASES_AFTER_A_FAULT * self._lease_seconds
        for duty in self._duties:
            duty.due = 0.0
        if worth_saying(self._failures):
            cause = getattr(error, "orig", None) or error
            told = one_line(f"{type(cause).__name__}: {cause}")[:200]
            logger.error("[DB] away: %s, tried again count=%d", told, self._failures)
        return _AWAY_SECONDS

    def _look_for_changes(self) -> None:
        businesses = self._reader.look()
        if businesses is not None:
            self._on_businesses(businesses)

    def _note_alive(self) -> None:
        with self._engines.writing() as session:
            lost_calls.note_alive(session, self._worker_id, self._now())

    def _look_for_ended(self) -> None:
        with self._engines.reading() as session:
            over = set(lost_calls.told_over(session, self._now() - _OVERLAP))
            taken = lost_calls.taken_over(session, self._worker_id)
        for call_sid in over - self._told:
            self._end_call(call_sid, "Twilio says that the call is over")
        self._told = over
        for call_sid in taken:
            self._end_call(call_sid, "replaced by a newer stream of this call")

    def _close_calls(self) -> None:
        if self._clock() < self._trust_notes_at:
            return
        at = self._now()
        with self._engines.writing() as session:
            lost = lost_calls.close_lost(session, at - timedelta(seconds=self._lease_seconds), at)
            lost += lost_calls.close_broken(session, at).lost
        if lost:
            logger.warning("[DB] calls of a dead worker closed as lost: %d", lost)

    def _purge(self) -> None:
        """A part of the day's purge, if it falls to this worker; its notes are not to be late."""
        if self._purged is None:
            with self._engines.writing() as session:
                if not retention.claim_purge(session, self._now()):
                    return
            self._purged = 0
        with self._engines.writing() as session:
            some = retention.purge_some(session, self._now())
        self._purged += some
        if some:
            self._purge_duty.due = self._clock()
            return
        if self._purged:
            logger.info("[DB] purged: %d old records deleted", self._purged)
        self._purged = None
