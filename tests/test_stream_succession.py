"""Who follows a call's current stream: not too early, not before it has stood for a moment."""

from __future__ import annotations

from still_stream import StillStream

from audio_ring import AudioRing
from stream_feed import StreamFeed
from stream_succession import StreamSuccession


def stream() -> StillStream:
    return StillStream(StreamFeed(AudioRing(800, 10**6), 100))


def test_one_stream_follows_at_a_time_and_none_too_early() -> None:
    """After a refusal the next try has its time."""
    succession = StreamSuccession(0.25)
    assert succession.is_free(0.0)
    succession.following = stream().as_stream()
    assert not succession.is_free(1000.0)
    succession.refused(105.0)
    assert succession.following is None
    assert not succession.is_free(104.9)
    assert succession.is_free(105.0)


def test_a_stream_takes_over_once_it_has_stood_for_a_moment() -> None:
    """That another one is open, the current one, is no news."""
    succession = StreamSuccession(0.25)
    current, following = stream().as_stream(), stream().as_stream()
    succession.following = following
    succession.opened(current, 100.0)
    assert not succession.is_due(200.0)
    succession.opened(following, 200.0)
    assert not succession.is_due(200.2)
    assert succession.is_due(200.25)
    succession.changing()
    assert not succession.is_due(300.0)
    assert succession.take() is following
    assert succession.take() is None


def test_a_stream_that_is_refused_in_time_takes_nothing_over() -> None:
    """The current one is not touched by it."""
    succession = StreamSuccession(0.25)
    succession.following = stream().as_stream()
    succession.opened(succession.following, 200.0)
    succession.refused(201.0)
    assert not succession.is_due(300.0)


def test_when_the_call_is_over_nobody_follows() -> None:
    """What was opened for it is ended; twice is once."""
    succession = StreamSuccession(0.25)
    following = stream()
    succession.following = following.as_stream()
    succession.opened(succession.following, 200.0)
    succession.cancel()
    succession.cancel()
    assert following.told == ["cancel"]
    assert not succession.is_due(300.0)
