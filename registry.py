"""The live calls of this process: who is on the line, for which business, when audio last came.

One `threading.RLock` guards the table and nothing slow happens under it: sockets and sessions are
closed outside, each once, from whichever side comes first. Called from every call's handler, the
reaper and the shutdown; in a gevent worker each of these threads is a greenlet.

A slot is one entry of the table. A handler takes it before it makes the session, and what it
holds from then on is its `LiveCall`: closing goes by that identity, so that the late end of a
stream that was replaced can not close the stream that replaced it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from call_log import CallLog, logger
from errors import CallReplaced, Draining, OverCapacity
from utterances import Final

DEFAULT_TENANT = "default"

HangUp = Callable[[int, str], None]


class Session(Protocol):
    """What the registry needs of a session."""

    def close(self) -> None: ...


class Record(Protocol):
    """A call's record: what was heard and said, and the end."""

    def heard(self, delay_ms: int) -> None: ...

    def said(self, track: str, final: Final) -> None: ...

    def ended(self, code: int, reason: str, session: Any) -> None: ...


class LiveCall:
    """One taken slot: a stream of a call, from before its session exists until its end.

    `last_audio` (seconds, the registry's clock) is written by the handler at each read. `record`
    is told of the end, once the session is closed.
    """

    __slots__ = (
        "_hang_up",
        "call_sid",
        "closing",
        "last_audio",
        "log",
        "record",
        "session",
        "tenant_id",
    )

    def __init__(
        self, call_sid: str, tenant_id: str, hang_up: HangUp | None, log: CallLog, now: float
    ) -> None:
        self.call_sid = call_sid
        self.tenant_id = tenant_id
        self.session: Session | None = None
        self.record: Record | None = None
        self.last_audio = now
        self.closing = False
        self.log = log
        self._hang_up = hang_up

    def finish(self, code: int, reason: str) -> None:
        """Tell the socket, then the session, then the record, whatever the one before does."""
        try:
            if self._hang_up is not None:
                self._hang_up(code, reason)
        except Exception:  # whatever a socket does at its end, the session must be closed
            self.log.crashed("WS")
        try:
            if self.session is not None:
                self.session.close()
        except Exception:  # one call's failure to close is that call's alone
            self.log.crashed("STT")
        try:
            if self.record is not None:
                self.record.ended(code, reason, self.session)
        except Exception:  # as above
            self.log.crashed("DB")


class CallRegistry:
    """The table of live calls, with its cap, its reaper and its end.

    `max_calls`: calls live at once; `idle_seconds`: how long without audio makes a call dead;
    `interval_seconds`: the reaper's round. `on_room` is told how many calls more can be taken,
    with the lock held: it must not wait. `clock` and `thread_class` are handed in by tests.
    """

    def __init__(
        self,
        max_calls: int,
        *,
        interval_seconds: float = 60.0,
        idle_seconds: float = 120.0,
        on_room: Callable[[int], None] = lambda room: None,
        clock: Callable[[], float] = time.monotonic,
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        self.max_calls = max_calls
        self._on_room = on_room
        self._interval_seconds = interval_seconds
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._thread_class = thread_class
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._calls: dict[str, LiveCall] = {}
        self._finishing: set[LiveCall] = set()
        self._ended_by_code: Counter[int] = Counter()
        self._draining = False
        self._reaper_pid = 0
        self._reaper_stop = threading.Event()
        self._say_room()

    # The table

    def take_slot(
        self,
        call_sid: str,
        tenant_id: str | None = None,
        *,
        hang_up: HangUp | None = None,
        log: CallLog | None = None,
        tenant_calls: int | None = None,
    ) -> LiveCall:
        """Take a slot for a stream of `call_sid`; a live stream of that call is closed for it.

        `hang_up(code, reason)` closes the stream's socket and may be called from any thread.
        `tenant_calls`: how many calls of this business may be live, if it has a cap of its own.
        Raises `OverCapacity` or `Draining`; then no slot was taken.
        """
        tenant = tenant_id or DEFAULT_TENANT
        log = log or CallLog(call_sid, tenant)
        call = LiveCall(call_sid, tenant, hang_up, log, self._clock())
        with self._lock:
            if self._draining:
                raise Draining("this worker is shutting down")
            replaced = self._calls.get(call_sid)
            full = self._why_full(tenant, tenant_calls) if replaced is None else None
            if full is not None:
                raise OverCapacity(full)
            self._start_reaper()
            self._calls[call_sid] = call
            self._say_room()
        if replaced is not None:
            self._in_background(replaced, 1000, "replaced by a newer stream of this call")
        return call

    def register_session(
        self,
        call_sid: str,
        session: Session,
        tenant_id: str | None = None,
        *,
        slot: LiveCall | None = None,
    ) -> LiveCall:
        """Put `session` into its `slot`, or into a new one for `call_sid` if none was taken.

        Raises `CallReplaced` if the slot was closed meanwhile (the session is then still the
        caller's to close), `OverCapacity` or `Draining` if there is no slot to be had.
        """
        call = slot or self.take_slot(call_sid, tenant_id)
        with self._lock:
            if call.closing or self._calls.get(call_sid) is not call:
                raise CallReplaced(f"the slot of {call_sid} was closed before its session was made")
            call.session = session
        return call

    def get_session(self, call_sid: str) -> Session | None:
        """The session of a live call, or None."""
        with self._lock:
            call = self._calls.get(call_sid)
            return call.session if call is not None else None

    def close_session(
        self,
        call_sid: str,
        *,
        slot: LiveCall | None = None,
        code: int = 1000,
        reason: str = "",
    ) -> bool:
        """End the live call `call_sid`; with `slot`, only if it is that stream that is live.

        Gives the slot back, closes the socket with `code` and the session, and returns when they
        are closed. Returns False, at once, if there was nothing (left) to close.
        """
        with self._lock:
            call = slot or self._calls.get(call_sid)
        return call is not None and self._close(call, code, reason)

    def end_call(self, call_sid: str, reason: str) -> None:
        """Close this call's stream, if there is one here, without waiting for it."""
        with self._lock:
            call = self._calls.get(call_sid)
        if call is not None:
            self._in_background(call, 1000, reason)

    def _close(self, call: LiveCall, code: int, reason: str) -> bool:
        with self._lock:
            if call.closing:
                return False
            call.closing = True
            self._ended_by_code[code] += 1
            if self._calls.get(call.call_sid) is call:
                del self._calls[call.call_sid]
                self._say_room()
            self._finishing.add(call)
        try:
            call.finish(code, reason)
        finally:
            with self._lock:
                self._finishing.discard(call)
                self._ended.notify_all()
        return True

    def _in_background(self, call: LiveCall, code: int, reason: str) -> None:
        """Close from a thread of its own: a close that hangs must not hold up anybody else.

        Never call it with the lock held.
        """
        closer = self._thread_class(
            target=self._close,
            args=(call, code, reason),
            name=f"close-{call.call_sid}",
            daemon=True,
        )
        try:
            closer.start()
        except RuntimeError:  # no more threads, or none any more: the interpreter is shutting down
            self._close(call, code, reason)

    def why_full(self, tenant_id: str, tenant_calls: int | None = None) -> str | None:
        """Why no call of this business can be taken now, and which cap it is; None if one can.

        A worker that drains is not full: its calls' streams go to another one.
        """
        with self._lock:
            return None if self._draining else self._why_full(tenant_id, tenant_calls)

    def _why_full(self, tenant_id: str, tenant_calls: int | None) -> str | None:
        live = len(self._calls)
        if live >= self.max_calls:
            return f"{live} calls are live, MAX_CONCURRENT_CALLS is {self.max_calls}"
        if tenant_calls is not None:
            own = sum(call.tenant_id == tenant_id for call in self._calls.values())
            if own >= tenant_calls:
                return f"{own} calls of {tenant_id} are live, its max_calls is {tenant_calls}"
        return None

    def _say_room(self) -> None:
        self._on_room(0 if self._draining else max(0, self.max_calls - len(self._calls)))

    @property
    def live(self) -> int:
        """How many slots are taken."""
        with self._lock:
            return len(self._calls)

    def live_by_tenant(self) -> Counter[str]:
        """How many slots are taken, by business."""
        with self._lock:
            return Counter(call.tenant_id for call in self._calls.values())

    def ended_by_code(self) -> Counter[int]:
        """How many streams that had a slot have ended, by the code they were closed with."""
        with self._lock:
            return Counter(self._ended_by_code)

    @property
    def full(self) -> bool:
        return self.live >= self.max_calls

    # The shutdown

    @property
    def draining(self) -> bool:
        return self._draining

    def drain(self, seconds: float, *, code: int = 1012, reason: str = "service restart") -> int:
        """Take no more calls, close the live ones all at once and wait until they have ended.

        Returns how many had not ended after `seconds`. May be called again.
        """
        with self._lock:
            self._draining = True
            self._say_room()
            self._reaper_stop.set()
            calls = list(self._calls.values())
        for call in calls:
            self._in_background(call, code, reason)
        with self._lock:
            self._ended.wait_for(lambda: not self._calls and not self._finishing, seconds)
            return len(self._calls) + len(self._finishing)

    # The reaper

    def reap(self, now: float | None = None) -> int:
        """Close, in the background, each call without audio for too long; how many there were."""
        now = self._clock() if now is None else now
        with self._lock:
            calls = list(self._calls.values())
        dead = [call for call in calls if now - call.last_audio > self._idle_seconds]
        for call in dead:
            try:
                call.log.reaped(now - call.last_audio)
                self._in_background(call, 1001, "no audio came")
            except Exception:  # the next call and the next round must come all the same
                call.log.crashed("REAPER")
        return len(dead)

    def _start_reaper(self) -> None:
        """Start this process's reaper with its first call: after any fork, and only where needed.

        Call it with the lock held.
        """
        if self._reaper_pid == os.getpid():
            return
        self._thread_class(target=self._reap_rounds, name="reaper", daemon=True).start()
        self._reaper_pid = os.getpid()

    def _reap_rounds(self) -> None:
        while not self._reaper_stop.wait(self._interval_seconds):
            try:
                self.reap()
            except Exception:  # a reaper that died would let slots leak for the process's life
                logger.exception("[REAPER] a round failed; the next one comes")
