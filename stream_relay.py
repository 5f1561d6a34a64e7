"""The streams of one call, one after the other: opened, replaced, replayed, given up.

Only one stream at a time is *current*: its results count, and it alone is responsible for the
audio after what is covered. A rotation opens the next stream first; then the current one is
half-closed, its last finals are taken, and what they do not cover is replayed to the next one.
So no audio is ever recognised by two, and none by nobody.

What is done when is decided here. The parts that it is decided by know nothing of each other's
affairs: the streams that are open (`call_streams`), what the current one has done
(`current_stream`), who follows it (`stream_succession`), what follows from its end
(`stream_sequel`), the tries in a row (`stream_retries`), the time of the call's end (`call_end`).

All of it runs in the call's streaming thread, which waits for events and deadlines, never for
Google.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import tallies
from audio_coverage import AudioCoverage
from audio_ring import BYTES_PER_SECOND, AudioRing
from call_end import CallEnd
from call_log import CallLog
from call_streams import CallStreams
from current_stream import CurrentStream
from fallback import Fallback, Recorded
from google_stream import GoogleStream, StreamEvent, What
from recognition import Recognition
from recovery import Recovery
from relay_events import AudioCame, Closed, Retry, is_answer
from relay_limits import RelayLimits
from rotation_slots import RotationSlots
from stream_faults import Code, Remedy, StreamFault, advice, classify
from stream_feed import StreamFeed
from stream_results import StreamResults
from stream_retries import StreamRetries
from stream_sequel import ENDED, Sequel, sequel
from stream_trouble import StreamTrouble

_TICK_SECONDS = 1.0


class StreamRelay:
    """Keeps the audio of `ring` on its way to Google until the call is over.

    `new_stream(feed)` opens a stream that takes from a new feed; `fallback` has plain calls made.
    `refused(fault, recognition)` says whether another recognition is worth a try after that one's
    permanent fault.
    Times are seconds on `clock`.
    """

    def __init__(
        self,
        ring: AudioRing,
        results: StreamResults,
        fallback: Fallback,
        events: SimpleQueue[Any],
        *,
        new_feed: Callable[[], StreamFeed],
        new_stream: Callable[[StreamFeed], GoogleStream],
        refused: Callable[[StreamFault, Recognition], bool],
        recovery: Recovery,
        slots: RotationSlots,
        limits: RelayLimits,
        log: CallLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._results = results
        self._fallback = fallback
        self._events = events
        self._refused = refused
        self._limits = limits
        self._log = log
        self._clock = clock

        self.deaf = False  # Google refused this call for good
        self.rotations = 0
        self.awaiting_audio = False  # no stream until some comes

        self._trouble = StreamTrouble()
        self._coverage = AudioCoverage(ring, results, fallback, self._trouble, log)
        self._retries = StreamRetries(
            self._trouble, recovery, log, lambda seconds: events.put(Retry(seconds)), clock
        )
        self._streams = CallStreams(
            ring,
            self._coverage,
            self._retries,
            new_feed=new_feed,
            new_stream=new_stream,
            slots=slots,
            limits=limits,
            log=log,
            clock=clock,
        )
        self._succession = self._streams.succession
        self._end = CallEnd()

    # From other threads

    @property
    def feed(self) -> StreamFeed | None:
        """Of the stream that gets what comes; None if there is none."""
        return self._streams.feed

    @property
    def lost_frames(self) -> int:
        """How many frames nobody answered for, so far."""
        return self._coverage.lost_frames

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams.held())

    def close(self, seconds: float) -> None:
        """The call is over, its ring is closed: finish within so many seconds."""
        self._events.put(Closed(seconds))

    def abandon(self) -> None:
        """The streaming thread does not get its turn: end what it holds at Google."""
        self._fallback.stop()
        for stream in self._streams.held():
            stream.cancel()

    def audio_came(self) -> None:
        """The audio that is awaited has come."""
        self.awaiting_audio = False
        self._events.put(AudioCame())

    # The streaming thread

    def run(self) -> None:
        """Until the call is over."""
        try:
            self._streams.open()
            due_at = self._due_at()
            while not self._finished():
                try:
                    event = self._events.get(timeout=max(0.0, due_at - self._clock()))
                except Empty:
                    event = None
                self._take(event)
                now = self._clock()
                # Most of what happens are responses; what they change is not due before the look
                if now >= due_at or not is_answer(event):
                    self._look(now)
                    due_at = self._due_at()
        finally:
            self._retries.leave()
            self._fallback.stop()
            self._streams.cancel()
            if self.deaf:  # nobody will ever ask for what waits
                self._coverage.lost_frames += self._ring.lose(0, self._ring.end)

    def _finished(self) -> bool:
        if self.deaf:
            return True
        if not self._end.begun or self._streams.current is not None:
            return False
        return not self._fallback.unfinished or self._clock() >= self._end.deadline

    def _due_at(self) -> float:
        """When to look again if nothing happens."""
        now, retry_at = self._clock(), self._retries.retry_at
        due = [self._end.deadline, now + _TICK_SECONDS, *self._streams.due(now)]
        if retry_at is not None:
            due.append(retry_at)
        if self._streams.current is not None:
            due.append(self._end.stream_deadline)
        return min(due)

    def _take(self, event: Any) -> None:
        if isinstance(event, StreamEvent):
            if event.what is What.RESPONSE:
                self._answered(event.stream, event.response)
            elif event.what is What.OPENED:
                self._succession.opened(event.stream, self._clock())
            else:
                self._ended(event.stream, event.fault)
        elif isinstance(event, Recorded):
            self._coverage.recorded(event)
        elif isinstance(event, Closed):
            self._close(event.seconds)
        elif isinstance(event, Retry):
            self._retries.welcomed(event.seconds)
        elif isinstance(event, AudioCame):
            idle = self._streams.current is None and self._retries.retry_at is None
            if idle and not self._end.begun:
                self._streams.open()

    # Responses

    def _answered(self, stream: GoogleStream, response: Any) -> None:
        if response.error.code:
            stream.cancel()
            self._ended(stream, StreamFault.in_band(response.error))
        current = self._streams.current
        if current is None or stream is not current.stream:  # another one is responsible by now
            return
        self._prove(current)
        heard = self._results.hand_on(response, stream.feed)
        current.answered(heard)
        if heard.covered is not None:
            self._coverage.cover(heard.covered)
            self._retries.recovered()
        self._rotate_if_due(current, self._clock(), heard.boundary)

    def _prove(self, current: CurrentStream) -> None:
        if current.prove():
            self._retries.worked(current.stream.begun_at)

    # Rotation

    def _rotate_if_due(self, current: CurrentStream, now: float, boundary: bool = False) -> None:
        if self._streams.may_rotate(now):
            why = current.rotation.due(now, current.age, boundary)
            if why is not None:
                self._rotate(why)

    def _rotate_if_mute(self, current: CurrentStream, now: float) -> None:
        if self._streams.may_rotate(now) and not self._retries.broken_for:
            seconds = current.is_mute()
            if seconds:
                why = f"it answered nothing in {seconds:g} s of speech"
                self._trouble.fault = StreamFault(Code.DEADLINE_EXCEEDED, why)
                self._rotate(why)

    def _rotate(self, why: str) -> None:
        """Open the next stream; the current one is half-closed when that is on its way."""
        self._succession.why = why
        self._streams.open()

    def _change_over(self, current: CurrentStream) -> None:
        """The next stream is there: let the current one come to its end."""
        self._succession.changing()
        by = min(self._clock() + self._limits.drain, self._end.stream_deadline)
        self._streams.half_close(current, by)

    # The end of a stream

    def _ended(self, stream: GoogleStream, fault: StreamFault | None) -> None:
        current = self._streams.current
        if stream is self._succession.following:
            self._streams.following_ended(stream, fault or ENDED)
        elif current is not None and stream is current.stream:
            self._current_ended(current, fault)

    def _current_ended(self, ended: CurrentStream, fault: StreamFault | None) -> None:
        if fault is not None:
            self._trouble.fault = fault
        drained, now = ended.drained_by is not None, self._clock()
        if fault is not None or not drained:
            tallies.stream_failed(fault or ENDED)
        self._streams.ended(ended)
        if ended.was_healthy(now):
            self._retries.recovered()
        following = self._succession.take()
        if drained and fault is None and ended.heard_all(self._coverage.position):
            last = self._end.begun and following is None
            tail = 0 if last else int(self._limits.tail * BYTES_PER_SECOND)
            self._coverage.cover(ended.stream.feed.position - tail)
        if following is not None:
            self.rotations += 1
            self._log.rotated(self.rotations, ended.lived(now), self._succession.why)
            current = self._streams.begin(following)
            if self._end.begun:
                self._finish_stream(current)
        elif self._end.begun:
            self._close_without_stream(ended.stream, fault)
        else:
            self._mend(ended, fault or ENDED, ended.lived(now))

    def _mend(self, ended: CurrentStream, fault: StreamFault, lived: float) -> None:
        """The current stream ended, and nobody here had asked for it."""
        stream = ended.stream
        took_all = self._ring.frames <= stream.feed.frames_taken
        follows = sequel(fault, lived=lived, progressed=ended.progressed, took_all=took_all)
        if follows is Sequel.PAUSE:
            pause = self._retries.failed(fault, stream.begun_at)
            self._streams.open_in(max(pause, self._retries.broken_for))
        elif follows is Sequel.REFUSED:
            if not self._becomes_deaf(stream, fault):
                self._streams.open()
        elif follows is Sequel.AUDIO:
            self._log.stream_failed(str(fault), "new stream when audio comes")
            if ended.noticed > self._coverage.position:  # something was said, and has no final
                self._give_to_fallback()
            self.awaiting_audio = True
        else:
            self._log.stream_failed(str(fault), "new stream")
            self._streams.open()

    def _becomes_deaf(self, stream: GoogleStream, fault: StreamFault) -> bool:
        """Whether the permanent `fault` leaves nothing to try: nobody hears the call any more."""
        self.deaf = not self._refused(fault, stream.recognition)
        if self.deaf:
            self._log.stream_failed(str(fault), f"this call is not transcribed: {advice(fault)}")
        return self.deaf

    def _give_to_fallback(self) -> None:
        """Have plain calls recognise all that waits."""
        self._coverage.give_to_fallback(self._ring.end)

    # Deadlines

    def _look(self, now: float) -> None:
        """What is due by now."""
        if self._retries.is_due(now):
            self._streams.open()
        for stream in self._streams.late(now):
            self._give_up(stream, f"the stream was not opened within {self._limits.open:g} s")
        if self._streams.current is not None:
            self._look_at(self._streams.current, now)
        self._check_waiting(now)

    def _look_at(self, current: CurrentStream, now: float) -> None:
        if current.drained_by is not None and now >= current.drained_by:
            self._give_up(current.stream, "the stream had not ended after its half-close")
        elif self._succession.is_due(now):
            self._change_over(current)
        elif now >= self._end.stream_deadline:
            self._give_up(current.stream, "the call's end could not wait for it")
        elif current.is_stuck(self._ring.end, now):
            self._give_up(current.stream, f"Google took no audio for {self._limits.stall:g} s")
        else:
            if current.is_taken(now):  # nobody spoke, so nothing was answered
                self._prove(current)
            self._rotate_if_mute(current, now)
            self._rotate_if_due(current, now)

    def _give_up(self, stream: GoogleStream, why: str) -> None:
        self._streams.give_up(stream)
        self._ended(stream, StreamFault(Code.DEADLINE_EXCEEDED, why))

    def _check_waiting(self, now: float) -> None:
        """Without a stream for too long, plain calls take what waits."""
        streamless = self._streams.current is None and not self._end.begun
        if streamless and self._trouble.lasts(now) >= self._limits.give_up:
            self._ring.flush()
            piece = self._limits.piece * BYTES_PER_SECOND
            if self._coverage.uncovered >= piece or not self._trouble.gave_up:
                self._trouble.gave_up = True
                self._give_to_fallback()

    # The end of the call

    def _close(self, seconds: float) -> None:
        self._end.begin(self._clock(), seconds)
        self._retries.stop()
        self.awaiting_audio = False
        current = self._streams.current
        if current is not None and current.drained_by is not None:
            # in mid-rotation: the next stream gets the rest
            followed = self._succession.following is not None
            current.drained_by = self._end.drained_by(current.drained_by, followed=followed)
            return
        self._succession.cancel()
        if current is not None:
            self._finish_stream(current)
        else:
            self._give_to_fallback()

    def _finish_stream(self, current: CurrentStream) -> None:
        """Let the stream have the rest of the audio, and give its last finals."""
        drained_by = self._end.stream_deadline
        if self._end.can_send(self._ring.end - current.stream.feed.position):
            current.drained_by = drained_by
            current.stream.feed.finish()
        else:
            why = "the call ended with more audio than can be sent"
            self._trouble.fault = StreamFault(Code.OK, why)
            self._streams.half_close(current, drained_by)

    def _close_without_stream(self, stream: GoogleStream, fault: StreamFault | None) -> None:
        """The call is over, and so is its stream: plain calls get what it did not cover."""
        permanent = fault is not None and classify(fault) is Remedy.PERMANENT
        if fault is None or not permanent or not self._becomes_deaf(stream, fault):
            self._give_to_fallback()
