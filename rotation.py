"""When a call's stream is to be replaced by the next one, before Google ends it. Pure.

Google ends a stream after 305 s. From the soft limit on a stream is replaced where nobody is in
mid-word: at a final result or an end of speech. Shortly before the hard limit a breath will do,
and at the hard limit it is replaced anyway. Both limits count the stream's time and its audio,
of which a replay has more: which of them Google counts is not documented.
"""

from __future__ import annotations

from dataclasses import dataclass

from audio_ring import BYTES_PER_SECOND
from rotation_slots import RotationSlots

# How long before the hard limit a breath is looked for, and how long that must be
_BREATH_WINDOW_SECONDS = 5.0
_BREATH_BYTES = BYTES_PER_SECOND // 5


@dataclass(frozen=True, slots=True)
class StreamAge:
    """How much audio a stream has had."""

    sent_bytes: int
    quiet_bytes: int  # how much of the last of it was quiet


class Rotation:
    """The limits of one stream, from `begun_at` on. `slots` are those of the process."""

    def __init__(
        self, begun_at: float, soft_seconds: float, hard_seconds: float, slots: RotationSlots
    ) -> None:
        self._soft_seconds = soft_seconds
        self._hard_seconds = hard_seconds
        self._soft_at = begun_at + soft_seconds
        self._slots = slots
        self.hard_at = slots.reserve(begun_at + hard_seconds)
        window = min(_BREATH_WINDOW_SECONDS, (hard_seconds - soft_seconds) / 4)
        self.breath_at = max(self._soft_at, self.hard_at - window)

    def due(self, now: float, age: StreamAge, boundary: bool) -> str | None:
        """Why the stream is to be replaced now; None if it is not. `boundary`: speech paused."""
        sent_seconds = age.sent_bytes / BYTES_PER_SECOND
        if now >= self.hard_at or sent_seconds >= self._hard_seconds:
            self._slots.take(self.hard_at)
            return "at its hard limit"
        if now < self._soft_at and sent_seconds < self._soft_seconds:
            return None
        breath = now >= self.breath_at and age.quiet_bytes >= _BREATH_BYTES
        if (boundary or breath) and self._slots.take(self.hard_at):
            return "at a pause"
        return None

    def over(self) -> None:
        """The stream is gone; its slot is free."""
        self._slots.give_back(self.hard_at)
