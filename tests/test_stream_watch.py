"""Streams that hang without an error: not opened, not read, not answered."""

from __future__ import annotations

import pytest

from audio_ring import BYTES_PER_SECOND
from relay_limits import RelayLimits
from stream_watch import StreamWatch


def watch() -> StreamWatch:
    return StreamWatch(RelayLimits(open=10.0, stall=2.0, mute=15.0))


def loud(seconds: float) -> int:
    return int(seconds * BYTES_PER_SECOND)


def test_a_stream_has_ten_seconds_to_open() -> None:
    """From its beginning."""
    assert not watch().is_late(100.0, 109.9)
    assert watch().is_late(100.0, 110.0)


def test_a_stream_that_takes_nothing_for_two_seconds_is_stuck() -> None:
    """While there is audio: each byte that is taken begins the time anew."""
    one = watch()
    assert not one.is_stuck(800, 1600, 100.0)
    assert not one.is_stuck(801, 1600, 101.9)
    assert not one.is_stuck(801, 1600, 103.8)
    assert one.is_stuck(801, 1600, 103.9)


def test_a_stream_that_has_taken_all_is_not_stuck() -> None:
    """Its time begins when there is more."""
    one = watch()
    one.is_stuck(800, 1600, 100.0)
    assert not one.is_stuck(1600, 1600, 110.0)
    assert not one.is_stuck(1600, 2400, 120.0)
    assert one.is_stuck(1600, 2400, 122.0)


def test_the_next_stream_has_its_own_time() -> None:
    """It begins where the one before it stood."""
    one = watch()
    one.is_stuck(800, 1600, 100.0)
    one.follow()
    assert not one.is_stuck(800, 1600, 102.0)
    assert one.is_stuck(800, 1600, 104.0)


def test_speech_without_an_answer_is_blamed_after_15_seconds() -> None:
    """Then after twice as many, each time in a row: Google has no answer to music."""
    one = watch()
    for limit in (15.0, 30.0, 60.0):
        assert one.is_mute(loud(limit) - 1) == 0.0
        assert one.is_mute(loud(limit)) == limit
        one.follow()
    one.answered()
    assert one.is_mute(loud(15.0)) == 15.0


@pytest.mark.parametrize("answered", [False, True])
def test_only_the_first_silence_in_a_row_is_doubted(answered: bool) -> None:
    """Another stream heard nothing in it either, or this one has said something after all."""
    one = watch()
    assert not one.is_doubtful
    one.is_mute(loud(15.0))
    assert one.is_doubtful
    if answered:
        one.answered()
    else:
        one.follow()
        one.is_mute(loud(30.0))
    assert not one.is_doubtful
