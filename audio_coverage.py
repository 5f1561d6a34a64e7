"""How far a call's audio is dealt with: covered by finals, given to plain calls, or lost.

What lies before `position` is not the streams' any more; what lies behind it is the current
stream's to cover. Runs in the call's streaming thread.
"""

from __future__ import annotations

from audio_ring import AudioRing
from call_log import CallLog
from fallback import Fallback, Recorded, last_breath
from stream_results import StreamResults
from stream_trouble import StreamTrouble

# Where there is too much to replay, a part of that is: the text is soon live again
_REPLAYED_SHARE = 1 / 6


class AudioCoverage:
    """The audio of `ring`, and who answers for it. `lost_frames`: nobody did.

    `trouble` has the fault because of which plain calls are asked.
    """

    def __init__(
        self,
        ring: AudioRing,
        results: StreamResults,
        fallback: Fallback,
        trouble: StreamTrouble,
        log: CallLog,
    ) -> None:
        self._ring = ring
        self._results = results
        self._fallback = fallback
        self._trouble = trouble
        self._log = log
        self.position = 0
        self.lost_frames = 0

    @property
    def uncovered(self) -> int:
        """How many bytes of audio wait to be dealt with."""
        return self._ring.end - self.position

    def cover(self, position: int) -> None:
        """Finals cover the audio up to `position`, or Google found no words in it."""
        if position > self.position:
            self._ring.release(self.position, position)
            self.position = position

    def hand_to_stream(self, most: int) -> int:
        """A stream gets what is not covered; how many bytes of it are to be replayed to it.

        If those were more than `most`, plain calls get all but the last of it. What was evicted is
        lost.
        """
        end = self._ring.end
        last = self._ring.chunks(end - int(most * _REPLAYED_SHARE), end)
        if end - self.position > most and last:
            self.give_to_fallback(last_breath(last))
        self.lost_frames += self._ring.count_lost(self.position, end)
        self._results.begin_at(self.position)
        return end - self.position

    def give_to_fallback(self, end: int) -> None:
        """Have what is not covered, up to `end`, recognised by plain calls."""
        if end > self.position:
            self._log.stream_failed(str(self._trouble.fault), "fallback single")
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
