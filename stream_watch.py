"""Notices a stream that hangs without any error: one that does not open, read or answer.

gRPC's own keep-alive looks after 2 hours, and a stream that is queued behind HTTP/2's limit says
nothing at all. Pure: the times are handed in, in seconds.
"""

from __future__ import annotations

from audio_ring import BYTES_PER_SECOND
from relay_limits import RelayLimits


class StreamWatch:
    """Watches the streams of one call, one after the other."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._mutes = 0  # streams in a row that did not answer speech
        self._suspect = False
        self._position, self._since = -1, 0.0

    def follow(self) -> None:
        """Another stream is current."""
        self._suspect = False
        self._position = -1

    def answered(self) -> None:
        """The stream said something."""
        self._mutes, self._suspect = 0, False

    def is_late(self, begun_at: float, now: float) -> bool:
        """Whether a stream that was begun then should be open by now."""
        return now - begun_at >= self._limits.open

    def is_stuck(self, position: int, end: int, now: float) -> bool:
        """Whether it has stood there for too long, though there is audio up to `end`."""
        if position >= end:
            self._position = -1
        elif position != self._position:
            self._position, self._since = position, now
        return self._position >= 0 and now - self._since >= self._limits.stall

    def is_mute(self, loud_bytes: int) -> float:
        """The seconds of speech that it should have answered; 0 if it is not to blame.

        Twice as many each time in a row: Google has no answer to music.
        """
        limit = self._limits.mute * 2.0**self._mutes
        if loud_bytes < limit * BYTES_PER_SECOND:
            return 0.0
        self._mutes += 1
        self._suspect = True
        return limit

    @property
    def is_doubtful(self) -> bool:
        """Whether its silence is worth a second hearing by another stream."""
        return self._suspect and self._mutes == 1
