"""How long a call has been without a healthy stream, and how often it has tried since. Pure.

A call's streaming thread uses it; times are seconds on its clock.
"""

from __future__ import annotations

from stream_faults import Code, StreamFault

# A stream that has lived and answered for so long is healthy, also before its first final
_ANSWERED_SECONDS = 10.0
_MUTE_SECONDS = 30.0  # nobody spoke, so nothing was answered


_NO_FAULT = StreamFault(Code.OK, "no stream has covered this")


def is_healthy(lived: float, *, opened: bool, answered: bool) -> bool:
    """Whether a stream that lived for so long was healthy, also if it had no final."""
    return opened and lived >= (_ANSWERED_SECONDS if answered else _MUTE_SECONDS)


class StreamTrouble:
    """What is known of the failures since the last healthy stream.

    `fault` is the last one; `gave_up`: what waits has been given to plain calls.
    """

    def __init__(self) -> None:
        self.fault = _NO_FAULT
        self.attempts = 0  # tries in a row that failed
        self.gave_up = False
        self._since: float | None = None

    def failed(self, fault: StreamFault) -> None:
        """A stream failed."""
        self.fault = fault
        self.attempts += 1

    def began(self, now: float) -> None:
        """There is no stream from now on, if that was not so before."""
        if self._since is None:
            self._since = now

    def over(self, now: float) -> float:
        """There is, or was, a healthy stream; for how long there had been none."""
        seconds = self.lasts(now)
        self.fault = _NO_FAULT
        self.attempts = 0
        self.gave_up = False
        self._since = None
        return seconds

    def lasts(self, now: float) -> float:
        """For how long there has been no healthy stream; 0 if there is no trouble."""
        return 0.0 if self._since is None else now - self._since
