"""The end of a call: its time is shared out, and a stream gets no more than it can still send."""

from __future__ import annotations

import pytest

from audio_ring import BYTES_PER_SECOND
from call_end import CallEnd

FOREVER = float("inf")


def begun(now: float = 100.0, seconds: float = 5.0) -> CallEnd:
    end = CallEnd()
    end.begin(now, seconds)
    return end


def test_a_call_that_goes_on_has_all_the_time() -> None:
    """Nothing of it is over at any time."""
    end = CallEnd()
    assert not end.begun
    assert end.deadline == end.stream_deadline == FOREVER
    assert end.drained_by(117.0, followed=True) == 117.0


def test_plain_calls_have_what_the_stream_leaves_of_the_time() -> None:
    """Three of five seconds are the stream's."""
    end = begun()
    assert end.begun
    assert end.deadline == pytest.approx(105.0)
    assert end.stream_deadline == pytest.approx(103.0)


def test_a_stream_that_another_one_follows_has_half_of_that() -> None:
    """In mid-rotation two streams have to end one after the other; the last one has it all."""
    end = begun()
    assert end.drained_by(104.9, followed=True) == pytest.approx(101.5)
    assert end.drained_by(104.9, followed=False) == pytest.approx(103.0)


def test_the_end_of_the_call_gives_no_stream_more_time_than_it_had() -> None:
    """It was half-closed long ago, and should have ended very soon."""
    assert begun().drained_by(100.2, followed=True) == 100.2
    assert begun().drained_by(100.2, followed=False) == 100.2


def test_eight_seconds_of_audio_can_still_be_sent() -> None:
    """At four times their pace they take two; what is more would be late."""
    assert CallEnd.can_send(0)
    assert CallEnd.can_send(8 * BYTES_PER_SECOND)
    assert not CallEnd.can_send(8 * BYTES_PER_SECOND + 1)
