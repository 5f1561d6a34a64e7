"""What follows from a stream's end: a stream at once, later, when audio comes, or none."""

from __future__ import annotations

import pytest

from stream_faults import Code, StreamFault
from stream_sequel import ENDED, Sequel, sequel

LIMIT = StreamFault(Code.OUT_OF_RANGE, "Exceeded maximum allowed stream duration of 305 seconds.")
SILENCE = StreamFault(Code.OUT_OF_RANGE, "Audio Timeout Error: Long duration elapsed without audio")
GONE = StreamFault(Code.UNAVAILABLE, "The service is currently unavailable.")
QUOTA = StreamFault(Code.RESOURCE_EXHAUSTED, "Quota exceeded.")
REFUSED = StreamFault(Code.INVALID_ARGUMENT, "bad language code.")


def after(
    fault: StreamFault, *, lived: float = 60.0, progressed: bool = True, took_all: bool = False
) -> Sequel:
    return sequel(fault, lived=lived, progressed=progressed, took_all=took_all)


@pytest.mark.parametrize("fault", [LIMIT, SILENCE, ENDED])
def test_a_stream_that_had_its_time_is_followed_at_once(fault: StreamFault) -> None:
    """Google's limits, and a regular end, are no trouble; one final or ten seconds prove it."""
    assert after(fault, lived=9.9) is Sequel.STREAM
    assert after(fault, lived=10.0, progressed=False) is Sequel.STREAM


@pytest.mark.parametrize("fault", [LIMIT, SILENCE, ENDED])
def test_a_limit_that_comes_too_soon_is_a_fault_like_others(fault: StreamFault) -> None:
    """Without the pause streams would follow each other as fast as they end."""
    assert after(fault, lived=9.9, progressed=False) is Sequel.PAUSE


@pytest.mark.parametrize("lived", [0.1, 60.0])
def test_after_a_silence_the_next_stream_waits_for_audio(lived: float) -> None:
    """If some has come meanwhile, it need not wait."""
    for progressed in (False, True):
        assert after(SILENCE, lived=lived, progressed=progressed, took_all=True) is Sequel.AUDIO
    assert after(SILENCE, lived=lived, took_all=False) is Sequel.STREAM


@pytest.mark.parametrize("fault", [LIMIT, ENDED])
def test_only_a_silence_waits_for_audio(fault: StreamFault) -> None:
    """The next frame is 20 ms away."""
    assert after(fault, took_all=True) is Sequel.STREAM


@pytest.mark.parametrize("fault", [GONE, QUOTA])
def test_what_is_broken_gets_a_pause(fault: StreamFault) -> None:
    """However long the stream had lived, and whatever it had said."""
    assert after(fault, lived=280.0, took_all=True) is Sequel.PAUSE


def test_what_google_refuses_for_good_is_not_tried_again_like_this() -> None:
    """No pause would change it."""
    assert after(REFUSED) is Sequel.REFUSED
    assert after(REFUSED, lived=0.1, progressed=False, took_all=True) is Sequel.REFUSED
