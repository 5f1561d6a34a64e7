"""The streams of one call, one after the other: opened, replaced, replayed, given up.

Only one stream at a time is *current*: its results count, and it alone is responsible for the
audio after what is covered. A rotation opens the next stream first; then the current one is
half-closed, its last finals are taken, and what they do not cover is replayed to the next one.
So no audio is ever recognised by two, and none by nobody.

All of it runs in the call's streaming thread, which waits for events and deadlines, never for
Google.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import tallies
from audio_coverage import AudioCoverage
from audio_ring import BYTES_PER_SECOND, AudioRing
from call_log import CallLog, worth_saying
from fallback import Fallback, Recorded, last_breath
from google_stream import GoogleStream, StreamEvent, What
from recognition import Recognition
from recovery import Recovery
from relay_limits import RelayLimits
from rotation import Rotation, StreamAge
from rotation_slots import RotationSlots
from stream_faults import Code, Remedy, StreamFault, advice, classify
from stream_feed import StreamFeed
from stream_results import StreamResults
from stream_trouble import StreamTrouble, is_healthy
from stream_watch import StreamWatch

# Where there is too much to replay, a part of that is: the text is soon live again
_REPLAYED_SHARE = 1 / 6
# At the call's end so much may still be sent; what is more goes through plain calls.
_LAST_BYTES = 8 * BYTES_PER_SECOND
# Of the time that the call's end has, what the stream gets; the rest is for plain calls.
_STREAM_SHARE = 0.6
# A limit that is reached so soon, and without any final, is not Google's limit
_TOO_SOON_SECONDS = 10.0
_TICK_SECONDS = 1.0
# A stream that is refused is refused sooner
_PROOF_SECONDS = 5.0

_ENDED = StreamFault(Code.OK, "Google ended the stream")


@dataclass(frozen=True, slots=True)
class Closed:
    """The call is over; `seconds` are left for its end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Google is back: try again after `seconds`."""

    seconds: float


class AudioCame:
    """Audio came that was waited for."""


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
        self._new_feed = new_feed
        self._new_stream = new_stream
        self._refused = refused
        self._recovery = recovery
        self._slots = slots
        self._limits = limits
        self._log = log
        self._clock = clock

        self.feed: StreamFeed | None = None  # of the current stream
        self.deaf = False  # Google refused this call for good
        self.rotations = 0
        self.awaiting_audio = False  # no stream until some comes

        self._current: GoogleStream | None = None
        self._next: GoogleStream | None = None
        self._rotation: Rotation | None = None
        self._drained_by: float | None = None  # the current stream is half-closed
        self._coverage = AudioCoverage(ring, results, fallback, log)
        self._retry_at: float | None = None
        self._not_before = float("-inf")  # no rotation
        self._why = ""  # of the rotation that is under way
        self._change_at: float | None = None  # when the next stream takes over
        self._trouble = StreamTrouble()
        self._watch = StreamWatch(limits)
        self._proved = False  # the current stream works
        self._progressed = False  # it has had a final
        self._noticed = 0  # the current stream's interims go up to here
        self._closed_at: float | None = None
        self._stream_deadline = self._deadline = float("inf")

    # From other threads

    @property
    def lost_frames(self) -> int:
        """How many frames nobody answered for, so far."""
        return self._coverage.lost_frames

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return (self._current is not None) + (self._next is not None)

    def close(self, seconds: float) -> None:
        """The call is over, its ring is closed: finish within so many seconds."""
        self._events.put(Closed(seconds))

    def abandon(self) -> None:
        """The streaming thread does not get its turn: end what it holds at Google."""
        self._fallback.stop()
        for stream in (self._current, self._next):
            if stream is not None:
                stream.cancel()

    def audio_came(self) -> None:
        """The audio that is awaited has come."""
        self.awaiting_audio = False
        self._events.put(AudioCame())

    # The streaming thread

    def run(self) -> None:
        """Until the call is over."""
        try:
            self._open()
            due_at = self._due_at()
            while not self._finished():
                try:
                    event = self._events.get(timeout=max(0.0, due_at - self._clock()))
                except Empty:
                    event = None
                self._take(event)
                now = self._clock()
                # Most of what happens are responses; what they change is not due before the look
                if now >= due_at or not _is_answer(event):
                    self._look(now)
                    due_at = self._due_at()
        finally:
            self._recovery.leave(self)
            self._fallback.stop()
            self.feed = None
            for stream in (self._current, self._next):
                if stream is not None:
                    stream.cancel()
                    self._coverage.lost_frames += stream.feed.lost_frames
            if self._rotation is not None:
                self._rotation.over()
            if self.deaf:  # nobody will ever ask for what waits
                self._coverage.lost_frames += self._ring.lose(0, self._ring.end)

    def _finished(self) -> bool:
        if self.deaf:
            return True
        if self._closed_at is None or self._current is not None:
            return False
        return not self._fallback.unfinished or self._clock() >= self._deadline

    def _due_at(self) -> float:
        """When to look again if nothing happens."""
        now = self._clock()
        due = [self._deadline, now + _TICK_SECONDS]
        times = (self._retry_at, self._drained_by, self._change_at)
        due += (at for at in times if at is not None)
        if self._can_rotate and self._rotation is not None:
            due.append(max(self._rotation.hard_at, self._not_before))
            due.append(max(self._rotation.breath_at, now + _TICK_SECONDS / 10))
        if self._current is not None:
            due.append(self._stream_deadline)
            due += (s.begun_at + self._limits.open for s in self._unopened())
        return min(due)

    def _take(self, event: Any) -> None:
        if isinstance(event, StreamEvent):
            if event.what is What.RESPONSE:
                self._answered(event.stream, event.response)
            elif event.what is What.OPENED:
                self._opened(event.stream)
            else:
                self._ended(event.stream, event.fault)
        elif isinstance(event, Recorded):
            self._coverage.recorded(event)
        elif isinstance(event, Closed):
            self._close(event.seconds)
        elif isinstance(event, Retry):
            if self._retry_at is not None:
                self._retry_at = min(self._retry_at, self._clock() + event.seconds)
        elif isinstance(event, AudioCame):
            idle = self._current is None and self._retry_at is None
            if idle and self._closed_at is None:
                self._open()

    # Streams

    def _open(self) -> None:
        """Open a stream: the current one if there is none, else the one to follow it."""
        self._retry_at = None
        self.awaiting_audio = False
        wait = self._recovery.admit()
        if wait:
            self._try_again_in(wait)
            return
        try:
            stream = self._new_stream(self._new_feed())
        except Exception as error:  # no thread, no connection: the next try may have them
            fault = StreamFault(Code.UNKNOWN, f"no stream could be begun: {error!r}")
            tallies.stream_failed(fault)
            self._failed(fault)
            if worth_saying(self._trouble.attempts):
                self._log.crashed("STT")
            self._try_again_in(self._pause())
            return
        if self._current is None:
            self._begin(stream)
        else:
            self._next = stream

    def _begin(self, stream: GoogleStream) -> None:
        """Make `stream` the current one: it gets what is not covered yet, and then what comes."""
        self._recovery.leave(self)
        self._current, self._drained_by = stream, None
        self._watch.follow()
        self._proved = self._progressed = False
        self._noticed = 0
        end, most = self._ring.end, int(self._limits.replay * BYTES_PER_SECOND)
        last = self._ring.chunks(end - int(most * _REPLAYED_SHARE), end)
        if end - self._coverage.position > most and last:
            self._give_to_fallback(last_breath(last))
        self._coverage.count_lost()
        # What is replayed makes the stream's audio longer than its life; but it must live
        ahead = min((end - self._coverage.position) / BYTES_PER_SECOND, self._limits.rotate / 2)
        self._rotation = Rotation(
            stream.begun_at - ahead, self._limits.rotate, self._limits.rotate_hard, self._slots
        )
        self._results.begin_at(self._coverage.position)
        stream.feed.start(self._coverage.position)
        self.feed = stream.feed
        self._ring.on_chunk = stream.feed.wake
        if self._closed_at is not None:
            self._finish_stream(stream)

    def _opened(self, stream: GoogleStream) -> None:
        if stream is self._next:
            # It is only on its way: Google may still refuse it, and the current one is healthy
            self._change_at = self._clock() + self._limits.settle

    def _change_over(self, current: GoogleStream) -> None:
        """The next stream is there: let the current one come to its end."""
        self._change_at = None
        self._half_close(current)
        self._drained_by = min(self._clock() + self._limits.drain, self._stream_deadline)

    def _half_close(self, stream: GoogleStream) -> None:
        """Give the current stream no more audio: what comes now waits in the ring, in no queue."""
        stream.half_close()
        self.feed = None
        self._ring.on_chunk = _nothing

    def _answered(self, stream: GoogleStream, response: Any) -> None:
        if response.error.code:
            stream.cancel()
            self._ended(stream, StreamFault.in_band(response.error))
        if stream is not self._current:  # given up: another one is responsible for its audio
            return
        self._prove(stream)
        self._watch.answered()
        heard = self._results.hand_on(response, stream.feed)
        self._noticed = heard.noticed or self._noticed
        if heard.covered is not None:
            self._coverage.cover(heard.covered)
            self._progressed = True
            self._recovered()
        self._rotate_if_due(heard.boundary)

    def _prove(self, stream: GoogleStream) -> None:
        """Google takes this stream: whoever waits for that may try."""
        if not self._proved:
            self._proved = True
            self._recovery.worked(stream.begun_at)

    def _ended(self, stream: GoogleStream, fault: StreamFault | None) -> None:
        if stream is self._next:
            self._next = self._change_at = None
            tallies.stream_failed(fault or _ENDED)
            self._failed(fault or _ENDED, stream)
            pause = self._pause()
            self._not_before = self._clock() + pause
            if worth_saying(self._trouble.attempts):
                self._log.stream_failed(str(self._trouble.fault), f"rotation in {pause:.1f} s")
            return
        if stream is not self._current:
            return
        if fault is not None:
            self._trouble.fault = fault
        drained, self._drained_by = self._drained_by is not None, None
        _tell_end(fault, drained)
        self._current, self.feed = None, None
        self._coverage.lost_frames += stream.feed.lost_frames
        self._ring.on_chunk = _nothing
        if self._rotation is not None:
            self._rotation.over()
            self._rotation = None
        lived = self._clock() - stream.begun_at
        if is_healthy(lived, opened=stream.opened_at is not None, answered=stream.answered):
            self._recovered()
        if drained and fault is None:
            self._heard_all(stream)
        following, self._next = self._next, None
        self._change_at = None
        if following is not None:
            self.rotations += 1
            self._log.rotated(self.rotations, lived, self._why)
            self._begin(following)
        elif self._closed_at is not None:
            self._close_without_stream(stream, fault)
        else:
            self._mend(stream, fault, lived)

    def _heard_all(self, stream: GoogleStream) -> None:
        """Google took all of the stream's audio and ended it in order: what has no words has none.

        Unless an interim had no final, or speech no answer: then it gets a second hearing.
        """
        if self._noticed > self._coverage.position or self._watch.is_doubtful:
            return
        last = self._closed_at is not None and self._next is None
        tail = 0 if last else int(self._limits.tail * BYTES_PER_SECOND)
        self._coverage.cover(stream.feed.position - tail)

    def _recovered(self) -> None:
        """There is, or was, a healthy stream: the tries in a row begin anew."""
        seconds = self._trouble.over(self._clock())
        if seconds:
            self._log.recovered(seconds)

    # Rotation

    def _rotate_if_due(self, boundary: bool = False) -> None:
        stream, rotation, now = self._current, self._rotation, self._clock()
        if stream is None or rotation is None or not self._can_rotate or now < self._not_before:
            return
        age = StreamAge(stream.feed.sent_bytes, stream.feed.quiet_bytes)
        why = rotation.due(now, age, boundary)
        if why is not None:
            self._rotate(why)

    @property
    def _can_rotate(self) -> bool:
        """Whether there is an open stream, and no other one about to follow it."""
        current, busy = self._current, self._next is not None or self._drained_by is not None
        return (
            current is not None
            and current.opened_at is not None
            and not busy
            and self._closed_at is None
        )

    def _rotate(self, why: str) -> None:
        """Open the next stream; the current one is half-closed when that is on its way."""
        self._why = why
        self._open()

    # Faults

    def _mend(self, stream: GoogleStream, fault: StreamFault | None, lived: float) -> None:
        """The current stream ended, and nobody here had asked for it."""
        ended = fault or _ENDED
        remedy = Remedy.ROTATE if fault is None else classify(fault)
        soon = lived < _TOO_SOON_SECONDS and not self._progressed
        if remedy is Remedy.PERMANENT:
            if self._refused(ended, stream.recognition):
                self._open()
            else:
                self._become_deaf(ended)
        elif remedy is Remedy.REOPEN_ON_AUDIO and self._ring.frames <= stream.feed.frames_taken:
            self._log.stream_failed(str(ended), "new stream when audio comes")
            if self._noticed > self._coverage.position:  # something was said, and has no final
                self._give_to_fallback(self._ring.end)
            self.awaiting_audio = True
        elif remedy in (Remedy.ROTATE, Remedy.REOPEN_ON_AUDIO) and not soon:
            self._log.stream_failed(str(ended), "new stream")
            self._open()
        else:
            self._failed(ended, stream)
            self._try_again_in(max(self._pause(), self._recovery.broken_for()))

    def _failed(self, fault: StreamFault, stream: GoogleStream | None = None) -> None:
        self._trouble.failed(fault)
        if self._current is None:
            self._trouble.began(self._clock())
        if stream is not None and classify(fault) is Remedy.LONG_BACK_OFF:
            self._recovery.exhausted(stream.begun_at)

    def _pause(self) -> float:
        return self._recovery.pause(self._trouble.attempts - 1)

    def _try_again_in(self, seconds: float) -> None:
        if self._current is not None:  # only a rotation waits
            self._not_before = self._clock() + seconds
            return
        self._trouble.began(self._clock())
        self._recovery.wait(self, lambda spread: self._events.put(Retry(spread)))
        self._retry_at = self._clock() + seconds
        if worth_saying(self._trouble.attempts):
            self._log.stream_failed(
                str(self._trouble.fault),
                f"new stream in {seconds:.1f} s",
                count=self._trouble.attempts,
            )

    def _become_deaf(self, fault: StreamFault) -> None:
        self.deaf = True
        self._log.stream_failed(str(fault), f"this call is not transcribed: {advice(fault)}")

    def _give_to_fallback(self, end: int) -> None:
        self._coverage.give_to_fallback(end, self._trouble.fault)

    # Deadlines

    def _look(self, now: float) -> None:
        """What is due by now."""
        if self._retry_at is not None and now >= self._retry_at:
            self._open()
        for stream in self._unopened():
            if self._watch.is_late(stream.begun_at, now):
                self._give_up(stream, f"the stream was not opened within {self._limits.open:g} s")
        current = self._current
        if current is not None:
            if self._drained_by is not None and now >= self._drained_by:
                self._give_up(current, "the stream had not ended after its half-close")
            elif self._change_at is not None and now >= self._change_at:
                self._change_over(current)
            elif now >= self._stream_deadline:
                self._give_up(current, "the call's end could not wait for it")
            elif self._is_stuck(current, now):
                self._give_up(current, f"Google took no audio for {self._limits.stall:g} s")
            else:
                if current.opened_at is not None and now - current.opened_at >= _PROOF_SECONDS:
                    self._prove(current)  # nobody spoke, so nothing was answered
                self._check_mute(current)
                self._rotate_if_due()
        self._check_waiting(now)

    def _unopened(self) -> list[GoogleStream]:
        streams = (self._current, self._next)
        return [s for s in streams if s is not None and s.opened_at is None]

    def _give_up(self, stream: GoogleStream, why: str) -> None:
        stream.cancel()
        if stream.opened_at is None or self._drained_by is None or not stream.answered:
            stream.distrust_connection()
        self._ended(stream, StreamFault(Code.DEADLINE_EXCEEDED, why))

    def _is_stuck(self, stream: GoogleStream, now: float) -> bool:
        if stream.opened_at is None or self._drained_by is not None:
            return False
        return self._watch.is_stuck(stream.feed.position, self._ring.end, now)

    def _check_mute(self, stream: GoogleStream) -> None:
        wanted = self._can_rotate and self._clock() >= self._not_before
        if wanted and not self._recovery.broken_for():
            seconds = self._watch.is_mute(stream.feed.unanswered_loud_bytes)
            if seconds:
                why = f"it answered nothing in {seconds:g} s of speech"
                self._trouble.fault = StreamFault(Code.DEADLINE_EXCEEDED, why)
                self._rotate(why)

    def _check_waiting(self, now: float) -> None:
        """Without a stream for too long, plain calls take what waits."""
        if self._current is not None or self._closed_at is not None:
            return
        if self._trouble.lasts(now) < self._limits.give_up:
            return
        self._ring.flush()
        waiting = (self._ring.end - self._coverage.position) / BYTES_PER_SECOND
        if waiting >= self._limits.piece or not self._trouble.gave_up:
            self._trouble.gave_up = True
            self._give_to_fallback(self._ring.end)

    # The end of the call

    def _close(self, seconds: float) -> None:
        now = self._closed_at = self._clock()
        self._deadline = now + seconds
        self._stream_deadline = now + seconds * _STREAM_SHARE
        self._retry_at = None
        self.awaiting_audio = False
        if self._drained_by is not None:  # in mid-rotation: the next stream gets the rest
            share = _STREAM_SHARE if self._next is None else _STREAM_SHARE / 2
            self._drained_by = min(self._drained_by, now + seconds * share)
            return
        self._change_at = None
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._current is not None:
            self._finish_stream(self._current)
        else:
            self._give_to_fallback(self._ring.end)

    def _finish_stream(self, stream: GoogleStream) -> None:
        """Let the stream have the rest of the audio, and give its last finals."""
        self._drained_by = self._stream_deadline
        if self._ring.end - stream.feed.position > _LAST_BYTES:
            why = "the call ended with more audio than can be sent"
            self._trouble.fault = StreamFault(Code.OK, why)
            self._half_close(stream)
        else:
            stream.feed.finish()

    def _close_without_stream(self, stream: GoogleStream, fault: StreamFault | None) -> None:
        """The call is over, and so is its stream: plain calls get what it did not cover."""
        permanent = fault is not None and classify(fault) is Remedy.PERMANENT
        if fault is not None and permanent and not self._refused(fault, stream.recognition):
            self._become_deaf(fault)
        else:
            self._give_to_fallback(self._ring.end)


def _tell_end(fault: StreamFault | None, drained: bool) -> None:
    if fault is not None or not drained:
        tallies.stream_failed(fault or _ENDED)


def _is_answer(event: Any) -> bool:
    """Whether it is a response that does not end its stream."""
    if not isinstance(event, StreamEvent) or event.what is not What.RESPONSE:
        return False
    return not event.response.error.code


def _nothing() -> None:
    """Nobody waits for audio."""
