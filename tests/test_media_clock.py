"""The clock of a media stream: what is missing is told to the byte, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audio_ring import BYTES_PER_MS, FRAME_BYTES
from media_clock import LONGEST_MS, MediaClock

FRAME_MS = 20
HOUR_MS = 3_600_000


def gaps(*timestamps: Any, frame_bytes: int = FRAME_BYTES) -> list[int]:
    """What is missing before each of a stream's frames, in bytes."""
    clock = MediaClock()
    return [clock.gap_before(timestamp, frame_bytes) for timestamp in timestamps]


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [
        ([0, 20, 40], [0, 0, 0]),
        ([5, 25, 45], [0, 0, 0]),
        ([19, 39, 59], [0, 0, 0]),
        ([0, 39, 40], [0, 0, 0]),
        ([0, 20, 60, 80], [0, 0, 160, 0]),
        ([0, 43, 63], [0, 184, 0]),
        ([5, 45, 65], [0, 200, 0]),
        ([20, 40], [160, 0]),
        ([3000, 3020, 3040], [24_000, 0, 0]),
        ([0, 1000, 5000], [0, 7_840, 31_840]),
        (["0", "20", "60"], [0, 0, 160]),
        ([0.0, 20.0, 60.0], [0, 0, 160]),
        ([0, "20", 60.0, None, "120"], [0, 0, 160, 0, 160]),
    ],
    ids=str,
)
def test_what_is_missing_is_told(timestamps: list[Any], expected: list[int]) -> None:
    """From 20 ms on all of it is a gap, at the first frame as at any; less is jitter."""
    assert gaps(*timestamps) == expected


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [
        ([0, 20, 20, 40, 60], [0] * 5),
        ([0, 40, 20, 60], [0, 160, 0, 0]),
        ([0, 0, 0, 0], [0] * 4),
        ([1000, 0, 20, 1060], [8_000, 0, 0, 0]),
        ([0, 19, 38, 57, 76, 120], [0, 0, 0, 0, 0, 160]),
        ([0, 20, 20, 100], [0, 0, 0, 320]),
    ],
    ids=str,
)
def test_timestamps_that_lag_are_no_gap(timestamps: list[int], expected: list[int]) -> None:
    """Doubled, slow, still or going back: the frame is the next one, and later gaps are told."""
    assert gaps(*timestamps) == expected


@pytest.mark.parametrize(
    "timestamp",
    [
        *(None, -1, -(10**30), 1020.5, -20.0, 1e308, float("inf"), float("nan")),
        *("", " ", "soon", "-5", "+1000", " 1000", "1000\n", "1_000", "1e3", "1000.5", "0x400"),
        *("١٠٠٠", "²", "1000\0", "9" * 20, "9" * 21, "9" * 10_000),
        *(LONGEST_MS + 1, str(LONGEST_MS + 1), LONGEST_MS + 1.0, 10**30),
    ],
    ids=lambda timestamp: repr(timestamp)[:24],
)
def test_a_timestamp_that_is_none_is_taken_as_missing(timestamp: Any) -> None:
    """The frame is the next one, and what is missing is told at the next sound timestamp."""
    assert gaps(0, timestamp, 40, timestamp, 100) == [0, 0, 0, 0, 160]


@pytest.mark.parametrize("timestamp", [LONGEST_MS, str(LONGEST_MS), float(LONGEST_MS)])
def test_a_call_may_last_24_hours(timestamp: Any) -> None:
    """The last timestamp that is taken, written in each way."""
    assert gaps(timestamp) == [LONGEST_MS * BYTES_PER_MS]


def test_frames_of_any_size_move_the_clock_by_their_audio() -> None:
    """Their size is not guaranteed, and 20 ms is what a gap has at least, not a frame's length."""
    assert gaps(0, 50, 100, 170, frame_bytes=400) == [0, 0, 0, 160]
    assert gaps(0, 10, 20, 49, 60, frame_bytes=80) == [0, 0, 0, 0, 160]


def test_each_clock_is_a_stream_of_its_own() -> None:
    """A stream begins at 0, however far another one is."""
    first, second = MediaClock(), MediaClock()
    assert first.gap_before(3000, FRAME_BYTES) == 24_000
    assert second.gap_before(3000, FRAME_BYTES) == 24_000


def test_a_creep_is_made_up_for_a_frame_at_a_time() -> None:
    """50 ppm are 180 ms in an hour: nine times 20 ms, and the clock is never further off."""
    clock = MediaClock()
    filled = [
        gap
        for true_ms in range(0, HOUR_MS + FRAME_MS, FRAME_MS)
        if (gap := clock.gap_before(true_ms + true_ms * 50 // 1_000_000, FRAME_BYTES))
    ]
    assert filled == [FRAME_BYTES] * 9


@given(st.lists(st.booleans(), max_size=200))
@example([False] * 10 + [True])
def test_lost_frames_are_made_up_for_exactly(arrives: list[bool]) -> None:
    """Each frame that arrives stands at its timestamp; the gaps are the frames that are lost."""
    clock = MediaClock()
    lost = 0
    for number, arrived in enumerate(arrives):
        if arrived:
            assert clock.gap_before(str(number * FRAME_MS), FRAME_BYTES) == lost * FRAME_BYTES
            lost = 0
        else:
            lost += 1


@given(st.lists(st.tuples(st.integers(1, 2000), st.booleans()), max_size=100))
@example([(100, True), (160, False), (100, True)])
def test_audio_of_any_size_stands_within_20_ms_of_its_timestamp(
    pieces: list[tuple[int, bool]],
) -> None:
    """Whatever is missing, in whatever pieces: the gaps are what is missing, less 20 ms at most."""
    clock = MediaClock()
    line = taken = lost = filled = 0  # bytes on the line; frames and gaps; what is lost, and told
    for size, arrived in pieces:
        if arrived:
            timestamp = line // BYTES_PER_MS
            gap = clock.gap_before(timestamp, size)
            filled += gap
            assert -BYTES_PER_MS < timestamp * BYTES_PER_MS - (taken + gap) < FRAME_BYTES
            assert 0 <= lost - filled < FRAME_BYTES + BYTES_PER_MS  # a timestamp is rounded down
            taken += gap + size
        else:
            lost += size
        line += size


@given(st.lists(st.integers(-FRAME_MS + 1, FRAME_MS - 1), max_size=100))
def test_jitter_is_never_a_gap(jitter: list[int]) -> None:
    """Timestamps that are off by less than a frame, either way, on a line that loses nothing."""
    timestamps = [max(0, n * FRAME_MS + off) for n, off in enumerate(jitter)]
    assert gaps(*timestamps) == [0] * len(jitter)


ANY_TIMESTAMP = st.none() | st.integers() | st.floats() | st.text(max_size=12)


@given(st.lists(st.tuples(ANY_TIMESTAMP | st.integers(0, 10_000), st.integers(1, 2000))))
def test_no_timestamp_raises_or_makes_a_small_or_endless_gap(frames: list[tuple[Any, int]]) -> None:
    """A gap is none at all or 20 ms at least, and all of them together are 24 hours at most."""
    clock = MediaClock()
    found = [clock.gap_before(timestamp, size) for timestamp, size in frames]
    assert all(gap == 0 or gap >= FRAME_BYTES for gap in found)
    assert sum(found) <= LONGEST_MS * BYTES_PER_MS
