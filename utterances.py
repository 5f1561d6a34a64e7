"""The utterance switch: each result goes to the utterance that it belongs to by its audio time.

The recognition stream's callbacks are fixed for the call; what changes is the utterance that they
reach. By default Google's voice activity events open and close utterances; a caller of this
module may do so too, with `begin()` and `end()`. A final result is never thrown away: if it fits
no utterance, it opens one of its own.

Times are milliseconds of audio on the call's own clock. `interim()`, `final()`, `speech_began()`
and `speech_ended()` are called by the call's streaming thread and never wait; `end()` waits, so
it belongs to any other thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from native_threads import brief_lock

# Google rounds result times, and its events and results are timed by different parts of it.
SLACK_MS = 200
# How long after some speech its first interim or event comes, at the most
NOTICE_SECONDS = 0.3
# Ended utterances that a late final may still reach
REMEMBERED = 8


@dataclass(frozen=True, slots=True)
class Interim:
    """A guess at what is being said; a later one replaces it."""

    text: str
    end_ms: int
    stability: float
    delay_ms: int  # from the arrival of the last audio that it covers to its own


@dataclass(frozen=True, slots=True)
class Final:
    """What was said from `start_ms` to `end_ms`; it does not change any more."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float | None  # 0 to 1; None where Google gave none
    delay_ms: int
    fallback: bool = False  # by a plain call after the fact, because no stream could be had


PartialCallback = Callable[[Interim], None]


@dataclass(eq=False, slots=True)
class Utterance:
    """Something said in one go. `end_ms` is None while it is open."""

    start_ms: int
    end_ms: int | None = None
    finals: list[Final] = field(default_factory=list)
    partial_cb: PartialCallback | None = None

    @property
    def text(self) -> str:
        return " ".join(final.text for final in self.finals)


class UtteranceSwitch:
    """Routes a call's results to its utterances.

    `now_ms` says how much audio the call has brought. `on_interim` and `on_final` hear every
    result of the call, whatever its utterance. They run in the thread that brought the result
    and must not block.
    """

    def __init__(
        self,
        now_ms: Callable[[], int],
        *,
        on_interim: PartialCallback | None = None,
        on_final: Callable[[Final, Utterance], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now_ms = now_ms
        self._on_interim = on_interim
        self._on_final = on_final
        self._clock = clock
        self._settled = threading.Condition(brief_lock())
        self._open: Utterance | None = None
        self._ended: deque[Utterance] = deque(maxlen=REMEMBERED)
        self._by_hand = False  # the open utterance came from begin(): speech events leave it be
        self._cut: Utterance | None = None  # opened by hand, and closed by the call's end
        self._final_ms = 0  # finals cover the audio up to here
        self._pending_ms: int | None = None  # speech was noticed here and no final covers it yet

    # For callers

    def begin(self, partial_cb: PartialCallback | None = None) -> Utterance:
        """Open an utterance here and now, as the target of what is said from here on.

        An utterance that is open is closed first. `partial_cb` gets its interim results.
        """
        with self._settled:
            now_ms = self._now_ms()
            self._close_open(now_ms)
            self._by_hand = True
            self._open = Utterance(now_ms, partial_cb=partial_cb)
            return self._open

    def end(self, timeout: float = 1.0) -> str:
        """Close the open utterance and return its text.

        Waits up to `timeout` seconds for the finals of what has been said up to now. One that is
        later still reaches the utterance, but not this answer. "" if none is open. Of an
        utterance that the end of the call has cut, the text is returned once.
        """
        with self._settled:
            utterance = self._open
            if utterance is None:
                cut, self._cut = self._cut, None
                return cut.text if cut is not None else ""
            end_ms = self._now_ms()
            self._close_open(end_ms)
            self._await_finals(utterance.start_ms, end_ms, timeout)
            return utterance.text

    @property
    def current(self) -> Utterance | None:
        """The open utterance, if there is one."""
        return self._open

    # For the streaming thread

    def speech_began(self, at_ms: int) -> None:
        """Google heard speech begin: open an utterance, unless one is open."""
        with self._settled:
            self._pending_ms = at_ms
            self._settled.notify_all()
            if self._open is None:
                self._open = Utterance(max(at_ms, self._last_end_ms()))

    def speech_ended(self, at_ms: int) -> None:
        """Google heard speech end: close the utterance, unless it was opened by hand."""
        with self._settled:
            if self._open is not None and not self._by_hand:
                self._close_open(at_ms)

    def noticed(self, end_ms: int) -> None:
        """Speech was noticed up to here: a final for it will come."""
        with self._settled:
            self._pending_ms = end_ms
            self._settled.notify_all()

    def interim(self, result: Interim) -> None:
        """An interim result: to the target's callback and to `on_interim`."""
        self.noticed(result.end_ms)
        target = self._open
        try:
            if target is not None and target.partial_cb is not None:
                target.partial_cb(result)
        finally:  # a target's fault must not cost the other listeners this result
            if self._on_interim is not None:
                self._on_interim(result)

    def final(self, result: Final) -> Utterance:
        """A final result: appended to the utterance that it belongs to, which is returned."""
        with self._settled:
            utterance = self._target_of(result)
            utterance.finals.append(result)
            self._final_ms = max(self._final_ms, result.end_ms)
            if self._pending_ms is not None and self._pending_ms <= self._final_ms + SLACK_MS:
                self._pending_ms = None
            self._settled.notify_all()
        if self._on_final is not None:
            self._on_final(result, utterance)
        return utterance

    def closed(self) -> None:
        """No more results will come: nobody needs to wait any longer."""
        with self._settled:
            self._cut = self._open if self._by_hand else None
            self._close_open(self._now_ms())
            self._pending_ms = None
            self._final_ms = self._now_ms()
            self._settled.notify_all()

    # Inside, with the lock held

    def _close_open(self, end_ms: int) -> None:
        if self._open is not None:
            self._open.end_ms = max(end_ms, self._open.start_ms)
            self._ended.append(self._open)
            self._open = None
            self._by_hand = False

    def _last_end_ms(self) -> int:
        return max((utterance.end_ms or 0 for utterance in self._ended), default=0)

    def _target_of(self, result: Final) -> Utterance:
        """The utterance that the result's audio overlaps most; a new one if it overlaps none."""
        candidates = [*self._ended, self._open] if self._open is not None else [*self._ended]
        for slack_ms in (0, SLACK_MS):
            best = max(
                candidates, key=lambda u: (_overlap(u, result, slack_ms), u.start_ms), default=None
            )
            if best is not None and _overlap(best, result, slack_ms) > 0:
                return best
        own = Utterance(result.start_ms, result.end_ms)
        self._ended.append(own)
        return own

    def _await_finals(self, start_ms: int, end_ms: int, timeout: float) -> None:
        """Wait while a final for audio from `start_ms` to `end_ms` may still come.

        It may while speech was noticed there that no final covers yet. For the very last of the
        audio nothing may have been noticed yet either way, and of silence Google says nothing at
        all: so a moment is given to it in any case.
        """
        began = self._clock()
        while self._final_ms + SLACK_MS < end_ms:
            waited = self._clock() - began
            pending = self._pending_ms is not None and self._pending_ms >= start_ms - SLACK_MS
            limit = timeout if pending else min(timeout, NOTICE_SECONDS)
            if waited >= limit:
                return
            self._settled.wait(limit - waited)


def _overlap(utterance: Utterance, result: Final, slack_ms: int) -> int:
    end_ms = result.end_ms if utterance.end_ms is None else utterance.end_ms + slack_ms
    # a final that has no length (two in a row may end at the same time) still lies somewhere
    start_ms = min(result.start_ms, result.end_ms - 1)
    return min(end_ms, result.end_ms) - max(utterance.start_ms - slack_ms, start_ms)
