"""The log lines about calls: one line an event, on stdout, in the forms that people grep for.

`CallLog` holds a call's id and business, which end every line. What peers send is made safe
here: a line never breaks in two and never carries control characters, whoever spoke or sent it.
Called from any thread; it must not block on anything but stdout.
"""

from __future__ import annotations

import _thread
import logging
import sys
from typing import TextIO

from queue_depth import Overload

logger = logging.getLogger("tamlil")

FRAME_SECONDS = 0.02  # of audio in each of Twilio's frames, nominally


class _Lines(logging.StreamHandler[TextIO]):
    def createLock(self) -> None:  # logging's name
        """The system's own: nothing waits while a line is written, so no greenlet finds it."""
        self.lock = _thread.RLock()


def configure_logging() -> None:
    """Send the lines of `logger` to stdout as they are, whatever the locale of the process."""
    if logger.handlers:
        return
    # No line says where in the code it was written, nor by which thread (the logging HOWTO's
    # "Optimization"); it cost a quarter of the line to find out
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = False
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    handler = _Lines(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def one_line(text: str) -> str:
    """`text` with white space folded to single spaces and other control characters left out."""
    if text.isprintable():  # nearly every line
        return " ".join(text.split())
    # a mark without width, as Hebrew text has them, must not split its word
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


def worth_saying(count: int) -> bool:
    """Whether the `count`-th repetition of a line is logged: the 1st, 10th, 100th …"""
    while count > 1 and count % 10 == 0:
        count //= 10
    return count == 1


class CallLog:
    """The lines about one call, or about one `track` of it if it has several.

    `transcripts=False` keeps what people said out of the log.
    """

    def __init__(
        self, call_sid: str, tenant_id: str, *, track: str = "", transcripts: bool = True
    ) -> None:
        self._end = f"call={call_sid} tenant={tenant_id}" + (f" track={track}" if track else "")
        self._transcripts = transcripts

    def connected(self) -> None:
        logger.info("[WS] connected %s", self._end)

    def disconnected(self, code: int, reason: str, skipped: int, ignored: int) -> None:
        """The socket's end; `skipped` messages were broken, `ignored` ones not for us."""
        logger.info(
            "[WS] closed: %d %s %s skipped=%d ignored=%d",
            code,
            one_line(reason) or "-",
            self._end,
            skipped,
            ignored,
        )

    def refused(self, code: int, reason: str) -> None:
        logger.warning("[WS] refused: %d %s %s", code, one_line(reason), self._end)

    def fault(self, fault: str, count: int) -> None:
        """A message that was skipped; `count` is how often this conversation had such a one."""
        if worth_saying(count):
            logger.warning("[WS] skipped: %s %s count=%d", one_line(fault), self._end, count)

    def crashed(self, where: str) -> None:
        """A fault of our own, with its traceback: call it while handling the exception."""
        logger.exception("[%s] internal error %s", where, self._end)

    def session_started(self) -> None:
        logger.info("[STT] session started %s", self._end)

    def partial(self, text: str, delay_ms: int) -> None:
        if self._transcripts:
            logger.info("🟡 Partial(%dms): %s %s", delay_ms, one_line(text), self._end)

    def final(self, text: str, *, fallback: bool = False) -> None:
        """`fallback`: by a plain call after the fact, because no stream could be had."""
        if self._transcripts:
            mark = " fallback=1" if fallback else ""
            logger.info("🟢 Final: %s %s%s", one_line(text), self._end, mark)

    def session_closed(self, frames: int, dropped: int, seconds: float) -> None:
        logger.info(
            "[STT] session closed %s frames=%d dropped=%d seconds=%.1f",
            self._end,
            frames,
            dropped,
            seconds,
        )

    def frame_dropped(self, dropped: int) -> None:
        if worth_saying(dropped):
            logger.warning("[STT] queue full: dropped frame %s dropped=%d", self._end, dropped)

    def overload(self, overload: Overload) -> None:
        logger.warning(
            "[STT] overload: queue over %d of %d in %d of %d samples %s",
            overload.limit,
            overload.size,
            overload.over,
            overload.samples,
            self._end,
        )

    def stream_failed(self, error: str, what_next: str, *, count: int = 1) -> None:
        """A fault, and what follows from it; `count`: of how many in a row."""
        again = f" count={count}" if count > 1 else ""
        logger.warning(
            "[STT] streaming failed: %s → %s %s%s", one_line(error), what_next, self._end, again
        )

    def recovered(self, seconds: float) -> None:
        """A stream is healthy again, after so long without one."""
        logger.info("[STT] recovered: streaming again after %.1f s %s", seconds, self._end)

    def rotated(self, count: int, seconds: float, why: str) -> None:
        """The call's stream was replaced, for the `count`-th time, at this age of it."""
        logger.info(
            "[STT] rotated: stream replaced after %.1f s, %s %s rotations=%d",
            seconds,
            why,
            self._end,
            count,
        )

    def model_refused(self, model: str, language: str, error: str) -> None:
        """Once for a business: Google does not have this model for this language."""
        logger.warning(
            "[STT] model refused: %s for %s, default is used: check STT_MODEL and STT_LANGUAGE"
            " (%s) %s",
            model,
            language,
            one_line(error),
            self._end,
        )

    def gap_filled(self, seconds: float, count: int) -> None:
        """Twilio left audio out; silence stands for it. `count`: gaps of this call."""
        if worth_saying(count):
            logger.info("[STT] gap: %.2f s of silence put in %s gaps=%d", seconds, self._end, count)

    def lost(self, frames: int) -> None:
        """Audio that waited in vain: neither a stream nor a plain call could be had for it."""
        logger.warning(
            "[STT] lost: %.1f s without text %s frames=%d",
            frames * FRAME_SECONDS,
            self._end,
            frames,
        )

    def reaped(self, idle_seconds: float) -> None:
        logger.warning("[REAPER] closed %s idle=%ds", self._end, idle_seconds)
