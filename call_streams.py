"""The streams that a call holds, and which of them gets its audio.

A stream that is opened becomes the current one if there is none, else it waits to follow. The
current one is given what nothing covers yet, and then what comes. Runs in the call's streaming
thread, and waits for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import tallies
from audio_coverage import AudioCoverage
from audio_ring import BYTES_PER_SECOND, AudioRing
from call_log import CallLog
from current_stream import CurrentStream
from google_stream import GoogleStream
from relay_limits import RelayLimits
from rotation import Rotation
from rotation_slots import RotationSlots
from stream_faults import Code, StreamFault
from stream_feed import StreamFeed
from stream_retries import StreamRetries
from stream_succession import StreamSuccession
from stream_watch import StreamWatch

# How often a breath is looked for
_BREATH_LOOK_SECONDS = 0.1


class CallStreams:
    """The current stream and the one to follow it.

    `new_stream(feed)` opens a stream that takes from a new feed; when to try again if it cannot,
    is up to `retries`. Times are seconds on `clock`.
    """

    def __init__(
        self,
        ring: AudioRing,
        coverage: AudioCoverage,
        retries: StreamRetries,
        *,
        new_feed: Callable[[], StreamFeed],
        new_stream: Callable[[StreamFeed], GoogleStream],
        slots: RotationSlots,
        limits: RelayLimits,
        log: CallLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._coverage = coverage
        self._retries = retries
        self._new_feed = new_feed
        self._new_stream = new_stream
        self._slots = slots
        self._limits = limits
        self._log = log
        self._clock = clock
        self._watch = StreamWatch(limits)
        self.current: CurrentStream | None = None
        self.succession = StreamSuccession(limits.settle)
        self.feed: StreamFeed | None = None  # of the stream that gets what comes

    def held(self) -> list[GoogleStream]:
        """All that are open. Any thread."""
        current, following = self.current, self.succession.following
        streams = (None if current is None else current.stream, following)
        return [stream for stream in streams if stream is not None]

    def due(self, now: float) -> list[float]:
        """When something of theirs may be due, if nothing happens."""
        times = [stream.begun_at + self._limits.open for stream in self._unopened()]
        if self.succession.change_at is not None:
            times.append(self.succession.change_at)
        current = self.current
        if current is not None:
            if current.drained_by is not None:
                times.append(current.drained_by)
            elif current.is_steady and self.succession.following is None:
                times.append(max(current.rotation.hard_at, self.succession.not_before))
                times.append(max(current.rotation.breath_at, now + _BREATH_LOOK_SECONDS))
        return times

    def may_rotate(self, now: float) -> bool:
        """Whether the current stream may be replaced now: it is open, and none is about to."""
        current = self.current
        return current is not None and current.is_steady and self.succession.is_free(now)

    def late(self, now: float) -> list[GoogleStream]:
        """Those that should be open by now."""
        return [s for s in self._unopened() if self._watch.is_late(s.begun_at, now)]

    def _unopened(self) -> list[GoogleStream]:
        return [stream for stream in self.held() if stream.opened_at is None]

    def open(self) -> None:
        """Open a stream, now or as soon as one may be had."""
        wait = self._retries.begin()
        if wait:
            self.open_in(wait)
            return
        try:
            stream = self._new_stream(self._new_feed())
        except Exception as error:  # no thread, no connection: the next try may have them
            fault = StreamFault(Code.UNKNOWN, f"no stream could be begun: {error!r}")
            tallies.stream_failed(fault)
            pause = self._retries.failed(fault, None)
            if self._retries.worth_saying:
                self._log.crashed("STT")
            self.open_in(pause)
            return
        if self.current is None:
            self.begin(stream)
        else:
            self.succession.following = stream

    def open_in(self, seconds: float) -> None:
        """Try to open a stream after so many seconds."""
        if self.current is not None:  # only a rotation waits
            self.succession.refused(self._clock() + seconds)
        else:
            self._retries.wait(seconds)

    def begin(self, stream: GoogleStream) -> CurrentStream:
        """Make `stream` the current one: it gets what is not covered yet, and then what comes."""
        self._retries.leave()
        limits = self._limits
        replayed = self._coverage.hand_to_stream(int(limits.replay * BYTES_PER_SECOND))
        # What is replayed makes the stream's audio longer than its life; but it must live
        ahead = min(replayed / BYTES_PER_SECOND, limits.rotate / 2)
        begun_at = stream.begun_at - ahead
        rotation = Rotation(begun_at, limits.rotate, limits.rotate_hard, self._slots)
        self.current = current = CurrentStream(stream, rotation, self._watch)
        stream.feed.start(self._coverage.position)
        self.feed = stream.feed
        self._ring.on_chunk = stream.feed.wake
        return current

    def half_close(self, current: CurrentStream, drained_by: float) -> None:
        """Give `current` no more audio: what comes now waits in the ring, in no queue."""
        current.drained_by = drained_by
        current.stream.half_close()
        self._take_no_more()

    def following_ended(self, stream: GoogleStream, fault: StreamFault) -> None:
        """The one that was to follow is over before it could; the current one goes on."""
        tallies.stream_failed(fault)
        pause = self._retries.failed(fault, stream.begun_at)
        self.succession.refused(self._clock() + pause)
        if self._retries.worth_saying:
            self._log.stream_failed(str(fault), f"rotation in {pause:.1f} s")

    def give_up(self, stream: GoogleStream) -> None:
        """End a stream that hangs; no other is opened over its connection, unless that is well."""
        stream.cancel()
        draining = self.current is not None and self.current.drained_by is not None
        if stream.opened_at is None or not draining or not stream.answered:
            stream.distrust_connection()

    def ended(self, current: CurrentStream) -> None:
        """`current` is over, and there is no current one."""
        self.current = None
        self._take_no_more()
        self._coverage.lost_frames += current.stream.feed.lost_frames
        current.rotation.over()

    def cancel(self) -> None:
        """End all of them at once."""
        for stream in self.held():
            stream.cancel()
            self._coverage.lost_frames += stream.feed.lost_frames
        if self.current is not None:
            self.current.rotation.over()
        self._take_no_more()

    def _take_no_more(self) -> None:
        self.feed = None
        self._ring.on_chunk = _nothing


def _nothing() -> None:
    """Nobody waits for audio."""
