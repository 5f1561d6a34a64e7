"""The end of a call: how much time it has, and what of that and of the audio the stream gets. Pure.

Google gives its last finals only after a stream's end; what it does not give in time, and what
cannot be sent any more, is left to plain calls, which need a part of the time as well. A call's
streaming thread uses it; times are seconds on its clock.
"""

from __future__ import annotations

from audio_ring import BYTES_PER_SECOND

# So much may still be sent; what is more goes through plain calls.
_LAST_BYTES = 8 * BYTES_PER_SECOND
# Of the time that there is, what the stream gets; the rest is for plain calls.
_STREAM_SHARE = 0.6


class CallEnd:
    """When what must be over. All times are infinite until the end has begun."""

    def __init__(self) -> None:
        self.begun = False
        self.deadline = float("inf")  # of everything
        self.stream_deadline = float("inf")  # of the last stream
        self._handover_deadline = float("inf")  # of the last but one, which another follows

    def begin(self, now: float, seconds: float) -> None:
        """The call is over; its end may take so many seconds."""
        self.begun = True
        self.deadline = now + seconds
        self.stream_deadline = now + seconds * _STREAM_SHARE
        self._handover_deadline = now + seconds * _STREAM_SHARE / 2

    def drained_by(self, drained_by: float, *, followed: bool) -> float:
        """When a stream must have ended that had until `drained_by` before the call's end."""
        return min(drained_by, self._handover_deadline if followed else self.stream_deadline)

    @staticmethod
    def can_send(waiting: int) -> bool:
        """Whether the stream can still have so many bytes of audio."""
        return waiting <= _LAST_BYTES
