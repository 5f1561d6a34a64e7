"""Overload: more than 12 of 16 in a quarter or more of the last minute's samples."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from queue_depth import Overload, QueueDepth


def test_the_third_deep_sample_of_a_minute_is_an_overload() -> None:
    """3 of 12 are a quarter; what is told are the figures of the log line."""
    depth = QueueDepth(16)
    for _ in range(9):
        assert depth.sample(0) is None
    assert depth.sample(13) is None
    assert depth.sample(16) is None
    assert depth.sample(13) == Overload(limit=12, size=16, over=3, samples=12)


def test_twelve_of_sixteen_is_not_over_twelve() -> None:
    """The limit itself is still well."""
    depth = QueueDepth(16)
    assert [depth.sample(12) for _ in range(50)] == [None] * 50


def test_it_is_told_only_with_a_deep_sample() -> None:
    """A queue that has come down again is not complained about any longer."""
    depth = QueueDepth(16)
    assert [depth.sample(16) is not None for _ in range(3)] == [False, False, True]
    assert [depth.sample(0) for _ in range(11)] == [None] * 11


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    """Two deep samples now and one of more than a minute ago are no overload."""
    depth = QueueDepth(16)
    depth.sample(16)
    for _ in range(10):
        depth.sample(0)
    assert depth.sample(16) is None
    assert depth.sample(16) is None
    assert depth.sample(16) is not None


def test_the_limit_is_three_quarters_of_any_size() -> None:
    """STT_QUEUE_FRAMES moves the limit along."""
    depth = QueueDepth(100)
    for _ in range(20):
        assert depth.sample(75) is None
    depth.sample(76)
    depth.sample(76)
    assert depth.sample(76) == Overload(limit=75, size=100, over=3, samples=12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 16), max_size=60))
def test_it_agrees_with_counting_by_hand(samples: list[int]) -> None:
    """For any run of samples, against the rule as the specification words it."""
    depth = QueueDepth(16)
    for at, sample in enumerate(samples):
        minute = samples[max(0, at - 11) : at + 1]
        over = sum(one > 12 for one in minute)
        expected = Overload(12, 16, over, len(minute)) if sample > 12 and over >= 12 / 4 else None
        assert depth.sample(sample) == expected
