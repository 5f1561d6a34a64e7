"""How far a call's audio is dealt with: covered by finals, given to plain calls, or lost.

What lies before `position` is not the streams' any more; what lies behind it is the current
stream's to cover. Runs in the call's streaming thread.
"""

from __future__ import annotations

from audio_ring import AudioRing
from call_log import CallLog
from fallback import Fallback, Recorded
from stream_faults import StreamFault
from stream_results import StreamResults


class AudioCoverage:
    """The audio of `ring`, and who answers for it. `lost_frames`: nobody did."""

    def __init__(
        self, ring: AudioRing, results: StreamResults, fallback: Fallback, log: CallLog
    ) -> None:
        self._ring = ring
        self._results = results
        self._fallback = fallback
        self._log = log
        self.position = 0
        self.lost_frames = 0

    def cover(self, position: int) -> None:
        """Finals cover the audio up to `position`, or Google found no words in it."""
        if position > self.position:
            self._ring.release(self.position, position)
            self.position = position

    def count_lost(self) -> None:
        """A stream needs what is not covered: what of it was evicted is lost."""
        self.lost_frames += self._ring.count_lost(self.position, self._ring.end)

    def give_to_fallback(self, end: int, fault: StreamFault) -> None:
        """Have what is not covered, up to `end`, recognised by plain calls, because of `fault`."""
        if end > self.position:
            self._log.stream_failed(str(fault), "fallback single")
            self._fallback.add(self.position, end)
            self.position = end

    def recorded(self, recorded: Recorded) -> None:
        """A plain call has brought its results, or was given up."""
        start, end = recorded.piece
        self._fallback.unfinished -= 1
        if recorded.results is None:
            if recorded.fault is not None:
                self._log.stream_failed(str(recorded.fault), "its audio is lost")
            self.lost_frames += self._ring.lose(start, end)
            return
        self.lost_frames += self._ring.count_lost(start, recorded.sent_from)
        self._results.hand_on_recording(recorded.results, recorded.sent_from, end)
        self._ring.release(start, end)
