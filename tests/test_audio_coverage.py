"""How far a call's audio is dealt with, and who gets what is not."""

from __future__ import annotations

from queue import SimpleQueue

import pytest
from session_parts import Lines, lines

from audio_coverage import AudioCoverage
from audio_ring import BYTES_PER_SECOND, AudioRing
from call_log import CallLog
from fallback import Fallback, Piece, Recorded
from recognition import Recognition
from recovery import Recovery
from speech_connections import SpeechConnections
from stream_faults import Code, StreamFault
from stream_results import StreamResults
from stream_trouble import StreamTrouble
from utterances import UtteranceSwitch

__all__ = ["lines"]  # the fixture

FRAME, CHUNK = 160, 800
GONE = StreamFault(Code.UNAVAILABLE, "gone")


class NotedFallback(Fallback):
    """Only notes what it is given: nobody is called."""

    def __init__(self, ring: AudioRing) -> None:
        connections = SpeechConnections(None, emulator_host="127.0.0.1:1")
        super().__init__(
            ring,
            connections,
            Recovery(),
            SimpleQueue(),
            recognition=lambda: Recognition("en-US"),
            refused=lambda fault, recognition: False,
        )
        self.given: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        self.unfinished += 1
        self.given.append((start, end))


class Scene:
    """A call that has said so many seconds of silence, of which none is covered."""

    def __init__(self, seconds: float, *, kept: float = 1000.0) -> None:
        self.ring = AudioRing(CHUNK, int(kept * BYTES_PER_SECOND))
        utterances = UtteranceSwitch(
            lambda: 0, on_interim=lambda interim: None, on_final=lambda final, utterance: None
        )
        results = StreamResults(
            self.ring, utterances, debounce_ms=0, guard=lambda callback, *given: callback(*given)
        )
        self.fallback = NotedFallback(self.ring)
        self.trouble = StreamTrouble()
        log = CallLog("CA1", "T1")
        self.coverage = AudioCoverage(self.ring, results, self.fallback, self.trouble, log)
        for _ in range(int(seconds * BYTES_PER_SECOND / FRAME)):
            self.ring.append(b"\xff" * FRAME, 0.0)


def test_what_finals_cover_is_let_go_of_and_never_taken_back() -> None:
    """A final that ends before others did covers nothing more."""
    scene = Scene(1.0)
    scene.coverage.cover(5 * CHUNK)
    scene.coverage.cover(2 * CHUNK)
    assert scene.coverage.position == 5 * CHUNK
    assert scene.coverage.uncovered == scene.ring.kept == 5 * CHUNK


def test_a_stream_has_all_that_is_not_covered_replayed() -> None:
    """As long as that is not too much."""
    scene = Scene(60.0)
    scene.coverage.cover(CHUNK)
    most = 60 * BYTES_PER_SECOND
    assert scene.coverage.hand_to_stream(most) == most - CHUNK
    assert scene.coverage.position == CHUNK
    assert not scene.fallback.given


def test_of_too_much_a_stream_has_the_last_part_and_plain_calls_the_rest() -> None:
    """A sixth of what it might have had at the most, cut at a breath: all of this is one."""
    scene = Scene(61.0)
    replayed = scene.coverage.hand_to_stream(60 * BYTES_PER_SECOND)
    assert replayed <= 10 * BYTES_PER_SECOND
    assert scene.fallback.given == [(0, 61 * BYTES_PER_SECOND - replayed)]
    assert scene.coverage.position == 61 * BYTES_PER_SECOND - replayed


def test_what_was_evicted_is_lost_when_a_stream_needs_it() -> None:
    """Once: the next stream does not lose it again."""
    scene = Scene(3.0, kept=1.0)
    assert scene.coverage.lost_frames == 0
    for _ in range(2):
        scene.coverage.hand_to_stream(60 * BYTES_PER_SECOND)
        assert scene.coverage.lost_frames == 100


def test_plain_calls_are_given_audio_once_and_the_log_says_why(lines: Lines) -> None:
    """Nothing more than that was not given yet."""
    scene = Scene(1.0)
    scene.trouble.failed(GONE)
    scene.coverage.give_to_fallback(5 * CHUNK)
    scene.coverage.give_to_fallback(5 * CHUNK)
    scene.coverage.give_to_fallback(10 * CHUNK)
    assert scene.fallback.given == [(0, 5 * CHUNK), (5 * CHUNK, 10 * CHUNK)]
    assert len(lines.with_("503 UNAVAILABLE: gone → fallback single")) == 2


@pytest.mark.parametrize(("results", "lost"), [([], 0), (None, 50)])
def test_a_plain_call_that_was_given_up_loses_its_audio(results: list[object], lost: int) -> None:
    """One in which Google heard no words does not; neither is kept any longer."""
    scene = Scene(1.0)
    scene.coverage.give_to_fallback(10 * CHUNK)
    scene.coverage.recorded(Recorded(Piece(0, 10 * CHUNK), 0, results, GONE))
    assert scene.coverage.lost_frames == lost
    assert scene.ring.kept == 0
    assert scene.fallback.unfinished == 0
