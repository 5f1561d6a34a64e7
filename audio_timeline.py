"""Where the audio of one recognition stream stands on the call's clock, and when it arrived.

Google counts time from the first byte of *its* stream; the call's clock counts every byte that
the call brought, dropped frames included. Both are counted in bytes of 8 kHz mu-law (8 bytes are
a millisecond), never in wall time. Pure: no thread, no clock, no I/O.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

BYTES_PER_MS = 8  # 8,000 samples a second, one byte each (ITU-T G.711 mu-law)
FRAME_BYTES = 160  # the 20 ms that Twilio sends at a time, nominally


@dataclass(frozen=True, slots=True)
class Place:
    """A point of a stream's audio: its offset from the call's start, and when it arrived."""

    call_bytes: int
    arrived: float  # seconds, on the clock that the marks were made with


class AudioTimeline:
    """Maps offsets in a stream to the call's clock, by the marks made as its audio is sent.

    A mark says: the stream's audio up to `stream_end` is the call's audio up to `call_end`, and
    its last byte arrived at `arrived`. Between two marks audio is contiguous and is taken to have
    come at the pace at which it plays.

    One thread marks, another one asks and forgets, without a lock between them: a place is there
    before the end that leads to it.
    """

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._places: list[Place] = []

    def mark(self, stream_end: int, call_end: int, arrived: float) -> None:
        """Add a mark; `stream_end` (bytes) must be beyond that of the mark before."""
        if self._ends and stream_end <= self._ends[-1]:
            raise ValueError(f"mark at {stream_end} is not beyond {self._ends[-1]}")
        self._places.append(Place(call_end, arrived))
        self._ends.append(stream_end)

    def place(self, stream_bytes: int) -> Place | None:
        """Where the byte before `stream_bytes` stands; None if nothing has been sent at all.

        An offset beyond what was sent (Google rounds) is the end of what was sent.
        """
        count = len(self._ends)  # a mark that is made meanwhile does not count
        if not count:
            return None
        at = bisect_left(self._ends, stream_bytes, 0, count)
        if at == count:
            return self._places[at - 1]
        before = self._ends[at] - stream_bytes
        place = self._places[at]
        return Place(
            max(0, place.call_bytes - before), place.arrived - before / (BYTES_PER_MS * 1000)
        )

    def forget(self, stream_bytes: int) -> None:
        """Let go of the marks that lie wholly before `stream_bytes`; the last one always stays."""
        gone = min(bisect_left(self._ends, stream_bytes), len(self._ends) - 1)
        if gone > 0:
            del self._ends[:gone]
            del self._places[:gone]
