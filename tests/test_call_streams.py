"""The streams that a call holds: who is opened, who gets the audio, and who is let go of how."""

from __future__ import annotations

from dataclasses import dataclass, field
from queue import SimpleQueue

import pytest
from session_parts import Clock
from still_stream import StillStream

from audio_coverage import AudioCoverage
from audio_ring import BYTES_PER_SECOND, AudioRing
from call_log import CallLog
from call_streams import CallStreams
from current_stream import CurrentStream
from fallback import Fallback
from google_stream import GoogleStream
from recognition import Recognition
from recovery import Recovery
from relay_limits import RelayLimits
from rotation_slots import RotationSlots
from speech_connections import SpeechConnections
from stream_faults import Code, StreamFault
from stream_feed import StreamFeed
from stream_results import StreamResults
from stream_retries import StreamRetries
from stream_trouble import StreamTrouble
from utterances import UtteranceSwitch

GONE = StreamFault(Code.UNAVAILABLE, "gone")
CHUNK = 800


@dataclass
class Scene:
    """The streams of a call whose time the test moves; nothing happens to them but by the test."""

    clock: Clock = field(default_factory=Clock)
    opened: list[StillStream] = field(default_factory=list)
    failures: int = 0  # of the next tries

    def __post_init__(self) -> None:
        self.ring = AudioRing(CHUNK, 10**7)
        self.recovery = Recovery(self.clock, lambda low, high: high)
        self.trouble = StreamTrouble()
        log = CallLog("CA1", "T1")
        utterances = UtteranceSwitch(
            lambda: 0, on_interim=lambda interim: None, on_final=lambda final, utterance: None
        )
        results = StreamResults(
            self.ring, utterances, debounce_ms=0, guard=lambda callback, *given: callback(*given)
        )
        fallback = Fallback(
            self.ring,
            SpeechConnections(None, emulator_host="127.0.0.1:1"),
            self.recovery,
            SimpleQueue(),
            recognition=lambda: Recognition("en-US"),
            refused=lambda fault, recognition: False,
        )
        self.coverage = AudioCoverage(self.ring, results, fallback, self.trouble, log)
        self.retries = StreamRetries(
            self.trouble, self.recovery, log, lambda seconds: None, self.clock
        )
        self.streams = CallStreams(
            self.ring,
            self.coverage,
            self.retries,
            new_feed=lambda: StreamFeed(self.ring, 100),
            new_stream=self._new_stream,
            slots=RotationSlots(self.clock),
            limits=RelayLimits(open=10.0),
            log=log,
            clock=self.clock,
        )

    def _new_stream(self, feed: StreamFeed) -> GoogleStream:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("can't start new thread")
        self.opened.append(StillStream(feed, self.clock.now))
        return self.opened[-1].as_stream()

    def open(self) -> StillStream:
        """Open a stream whose first message is on its way at once."""
        self.streams.open()
        stream = self.opened[-1]
        stream.opened_at = self.clock.now
        return stream

    @property
    def current(self) -> CurrentStream:
        assert self.streams.current is not None
        return self.streams.current

    def say(self, seconds: float) -> None:
        for _ in range(int(seconds * BYTES_PER_SECOND / CHUNK)):
            self.ring.append(bytes(CHUNK), self.clock.now)


def test_the_first_stream_is_the_current_one_and_the_second_follows() -> None:
    """Only one of them gets what comes."""
    scene = Scene()
    first, second = scene.open(), scene.open()
    assert scene.current.stream is first.as_stream()
    assert scene.streams.succession.following is second.as_stream()
    assert scene.streams.held() == [first.as_stream(), second.as_stream()]
    assert scene.streams.feed is first.feed


def test_a_stream_begins_where_nothing_is_covered_and_counts_that_as_its_age() -> None:
    """What is replayed brings its limit nearer: its audio counts as its time does."""
    fresh, late = Scene(), Scene()
    fresh.open()
    late.say(30.0)
    late.coverage.cover(10 * BYTES_PER_SECOND)
    stream = late.open()
    assert stream.feed.position == 10 * BYTES_PER_SECOND
    sooner = fresh.current.rotation.hard_at - late.current.rotation.hard_at
    assert sooner == pytest.approx(20.0, abs=0.31)  # slots of 0.3 s


def test_after_a_half_close_what_comes_waits_in_no_queue() -> None:
    """Nobody has it, until the next stream is the current one."""
    scene = Scene()
    first = scene.open()
    scene.streams.half_close(scene.current, 105.0)
    assert first.told == ["half-close"]
    assert scene.streams.feed is None
    assert scene.current.drained_by == 105.0
    scene.say(1.0)
    scene.streams.ended(scene.current)
    second = scene.open()
    assert scene.streams.feed is second.feed
    assert second.feed.waiting == 10


def test_a_stream_that_cannot_be_had_is_tried_again_after_a_pause() -> None:
    """The pauses of a call without a stream double; the next try has it."""
    scene = Scene(failures=2)
    scene.streams.open()
    assert scene.retries.retry_at == pytest.approx(100.1)
    scene.streams.open()
    assert scene.retries.retry_at == pytest.approx(100.2)
    scene.open()
    assert scene.retries.retry_at is None
    assert scene.streams.current is not None


def test_while_there_is_a_stream_only_its_rotation_waits() -> None:
    """For the next one that cannot be had, and for one that is over before it could follow."""
    scene = Scene()
    scene.open()
    scene.failures = 1
    scene.streams.open()
    assert scene.retries.retry_at is None
    assert not scene.streams.may_rotate(100.05)
    assert scene.streams.may_rotate(100.1)
    second = scene.open()
    scene.streams.following_ended(second.as_stream(), GONE)
    assert scene.streams.held() == [scene.current.stream]
    assert not scene.streams.may_rotate(100.15)
    assert scene.streams.may_rotate(100.2)


def test_no_stream_is_replaced_while_another_is_about_to_follow_it() -> None:
    """Nor one that is not open, or half-closed."""
    scene = Scene()
    assert not scene.streams.may_rotate(100.0)
    scene.streams.open()
    assert not scene.streams.may_rotate(100.0)
    scene.opened[0].opened_at = 100.0
    assert scene.streams.may_rotate(100.0)
    second = scene.open()
    assert not scene.streams.may_rotate(100.0)
    scene.streams.following_ended(second.as_stream(), GONE)
    scene.streams.half_close(scene.current, 105.0)
    assert not scene.streams.may_rotate(200.0)


def test_what_is_due_next_is_told() -> None:
    """An opening, then a rotation or the change-over to the next stream, then the drain."""
    scene = Scene()
    assert scene.streams.due(100.0) == []
    scene.streams.open()
    assert scene.streams.due(100.0) == [110.0]
    assert scene.streams.late(109.9) == []
    assert scene.streams.late(110.0) == [scene.opened[0].as_stream()]
    scene.opened[0].opened_at = 101.0
    rotation = scene.current.rotation
    assert scene.streams.due(101.0) == [rotation.hard_at, rotation.breath_at]
    assert min(scene.streams.due(rotation.breath_at)) == rotation.breath_at + 0.1
    second = scene.open()
    scene.streams.succession.opened(second.as_stream(), 102.0)
    assert scene.streams.due(102.0) == [102.25]
    scene.streams.succession.changing()
    scene.streams.half_close(scene.current, 107.0)
    assert scene.streams.due(102.0) == [107.0]


@pytest.mark.parametrize(
    ("opened", "draining", "answered", "trusted"),
    [
        (False, False, False, False),
        (True, False, True, False),
        (True, True, False, False),
        (True, True, True, True),
    ],
)
def test_the_connection_of_a_stream_that_hangs_is_trusted_only_if_it_was_well(
    opened: bool, draining: bool, answered: bool, trusted: bool
) -> None:
    """It had answered, and is only slow to end after its half-close."""
    scene = Scene()
    stream = scene.open()
    if draining:
        scene.streams.half_close(scene.current, 105.0)
    stream.opened_at = 100.0 if opened else None
    stream.answered = answered
    scene.streams.give_up(stream.as_stream())
    assert "cancel" in stream.told
    assert ("distrust" not in stream.told) is trusted


def test_at_the_end_all_are_let_go_of() -> None:
    """Also the one that was to follow."""
    scene = Scene()
    first, second = scene.open(), scene.open()
    scene.streams.cancel()
    assert first.told == second.told == ["cancel"]
    assert scene.streams.feed is None
