"""When a call that has no stream tries to have one again, and what the log says of that.

The call's own pauses and its business's breaker are those of `recovery`; how long it has lasted
is known to the call's `trouble`. Runs in the call's streaming thread; nothing waits in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from call_log import CallLog, worth_saying
from recovery import Recovery, Wake
from stream_faults import Remedy, StreamFault, classify
from stream_trouble import StreamTrouble


class StreamRetries:
    """The tries of one call.

    `wake(seconds)` is called, in any thread, when another call of the business found Google
    back: pass the seconds to `welcomed()`. Times are seconds on `clock`.
    """

    def __init__(
        self,
        trouble: StreamTrouble,
        recovery: Recovery,
        log: CallLog,
        wake: Wake,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trouble = trouble
        self._recovery = recovery
        self._log = log
        self._wake = wake
        self._clock = clock
        self.retry_at: float | None = None  # None: it does not wait for a try

    @property
    def worth_saying(self) -> bool:
        """Whether the last failure is logged: the 1st in a row, the 10th …"""
        return worth_saying(self._trouble.attempts)

    @property
    def broken_for(self) -> float:
        """Seconds for which the business may open no stream."""
        return self._recovery.broken_for()

    def begin(self) -> float:
        """Begin a try: 0 if a stream may be opened now, else the seconds to wait for that."""
        self.retry_at = None
        return self._recovery.admit()

    def failed(self, fault: StreamFault, begun_at: float | None) -> float:
        """A stream that was begun then, or never, failed: the seconds until the next try."""
        self._trouble.failed(fault)
        if begun_at is not None and classify(fault) is Remedy.LONG_BACK_OFF:
            self._recovery.exhausted(begun_at)
        return self._recovery.pause(self._trouble.attempts - 1)

    def wait(self, seconds: float) -> None:
        """There is no stream: the next try comes after so many seconds."""
        now = self._clock()
        self._trouble.began(now)
        self._recovery.wait(self, self._wake)
        self.retry_at = now + seconds
        if self.worth_saying:
            self._log.stream_failed(
                str(self._trouble.fault),
                f"new stream in {seconds:.1f} s",
                count=self._trouble.attempts,
            )

    def welcomed(self, seconds: float) -> None:
        """Google is back: do not wait longer than this."""
        if self.retry_at is not None:
            self.retry_at = min(self.retry_at, self._clock() + seconds)

    def is_due(self, now: float) -> bool:
        """Whether the time for the next try has come."""
        return self.retry_at is not None and now >= self.retry_at

    def stop(self) -> None:
        """There is no next try."""
        self.retry_at = None

    def leave(self) -> None:
        """The call does not wait to hear that Google is back."""
        self._recovery.leave(self)

    def worked(self, begun_at: float) -> None:
        """Google takes a stream that was begun then: whoever waits for that may try."""
        self._recovery.worked(begun_at)

    def recovered(self) -> None:
        """There is, or was, a healthy stream: the tries in a row begin anew."""
        seconds = self._trouble.over(self._clock())
        if seconds:
            self._log.recovered(seconds)
