"""What Google's responses say, on the call's own clock: interims, finals, speech events.

Only one stream at a time has audio that its results may still be about, and a result ends where
the ones before it ended or later: so nothing is said twice, whichever stream says it. Runs in the
call's streaming thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from google.cloud.speech_v1.types import StreamingRecognizeResponse

from audio_ring import BYTES_PER_MS, AudioRing, Place
from stream_feed import StreamFeed
from utterances import Final, Interim, UtteranceSwitch

_Event: Any = StreamingRecognizeResponse.SpeechEventType


class Heard(NamedTuple):
    """What a response said of the audio as such."""

    covered: int | None = None  # finals cover the ring's audio up to this position
    noticed: int | None = None  # an interim says that a final up to here will come
    boundary: bool = False  # speech paused: a good place for another stream


class StreamResults:
    """Turns the responses of a call's streams into results, which `utterances` hands on.

    `debounce_ms`: at most one interim in this time. `guard(callback, *arguments)` calls the
    call's listeners. Times are milliseconds on the call's clock; `clock` is in seconds.
    """

    def __init__(
        self,
        ring: AudioRing,
        utterances: UtteranceSwitch,
        *,
        debounce_ms: int,
        guard: Callable[..., object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._utterances = utterances
        self._debounce_ms = debounce_ms
        self._guard = guard
        self._clock = clock
        self._last_partial = float("-inf")
        self._covered = 0  # the ring's position up to which the call is covered
        self._speech_ms = 0  # where Google last heard speech begin

    def begin_at(self, position: int) -> None:
        """What comes now is about the audio from this position of the ring on."""
        self._covered = position

    def hand_on(self, response: Any, feed: StreamFeed) -> Heard:
        """Take one response: a voice activity event, or results (a final, then interims)."""
        boundary = False
        covered = noticed = None
        if response.speech_event_type:
            boundary = self._hand_on_event(response, feed)
        for result in response.results:
            if result.is_final:
                covered = self._hand_on_final(result, feed)
                boundary = True
        interims = [result for result in response.results if not result.is_final]
        if interims:
            noticed = self._hand_on_interims(interims, feed)
        return Heard(covered, noticed, boundary)

    def hand_on_recording(self, results: list[Any], start: int, end: int) -> None:
        """The results of a plain `recognize` call for the audio from `start` to `end`."""
        begin = start
        for result in results:
            offset = _bytes(result.result_end_time)
            position = min(end, start + offset) if offset else end
            begin_ms = _ms(self._ring.place(begin, start=True))
            final = self._final(result, begin_ms, self._ring.place(position), fallback=True)
            begin = max(begin, position)
            if final is not None:
                self._guard(self._utterances.final, final)

    def _hand_on_event(self, response: Any, feed: StreamFeed) -> bool:
        # unlike a result, an event may well be at 0: a call that begins with speech
        timed = response.HasField("speech_event_time")
        offset = _bytes(response.speech_event_time) if timed else feed.sent_bytes
        if response.speech_event_type == _Event.SPEECH_ACTIVITY_BEGIN:
            position = feed.position_of(offset, start=True)
            self._speech_ms = _ms(self._ring.place(position, start=True))
            self._utterances.speech_began(self._speech_ms)
        elif response.speech_event_type == _Event.SPEECH_ACTIVITY_END:
            self._utterances.speech_ended(_ms(self._ring.place(feed.position_of(offset))))
            return True
        return False

    def _hand_on_final(self, result: Any, feed: StreamFeed) -> int:
        position, place = self._end_of(result, feed)
        # dropped frames between the two are not this one's
        covered_ms = _ms(self._ring.place(self._covered, start=True))
        begin_ms = max(covered_ms, self._speech_ms if self._speech_ms < _ms(place) else 0)
        self._covered = max(self._covered, position)
        final = self._final(result, begin_ms, place)
        if final is not None:
            self._guard(self._utterances.final, final)
        return position

    def _hand_on_interims(self, results: list[Any], feed: StreamFeed) -> int:
        """The interims of one response belong together: the first is the most stable part."""
        now = self._clock()
        position, place = self._end_of(results[-1], feed)
        if (now - self._last_partial) * 1000 < self._debounce_ms:
            self._utterances.noticed(_ms(place))
            return position  # a newer one, or the final, is on its way
        text = "".join(r.alternatives[0].transcript for r in results if r.alternatives).strip()
        if text:
            self._last_partial = now
            interim = Interim(text, _ms(place), results[0].stability, self._delay_ms(place))
            self._guard(self._utterances.interim, interim)
        return position

    def _end_of(self, result: Any, feed: StreamFeed) -> tuple[int, Place]:
        """Where a result ends: where Google says, or else at the end of all that was sent."""
        position = feed.position_of(_bytes(result.result_end_time) or feed.sent_bytes)
        return position, self._ring.place(position)

    def _final(
        self, result: Any, begin_ms: int, end: Place, *, fallback: bool = False
    ) -> Final | None:
        best = result.alternatives[0] if result.alternatives else None
        text = best.transcript.strip() if best is not None else ""
        if best is None or not text:
            return None
        return Final(
            text,
            min(begin_ms, _ms(end)),
            _ms(end),
            best.confidence or None,
            self._delay_ms(end),
            fallback,
        )

    def _delay_ms(self, place: Place) -> int:
        return max(0, round((self._clock() - place.arrived) * 1000))


def _ms(place: Place) -> int:
    return place.call_bytes // BYTES_PER_MS


def _bytes(duration: Any) -> int:
    """A protobuf Duration of 8 kHz mu-law audio, in bytes."""
    return int(duration.seconds * 8000 + round(duration.nanos / 125_000))
