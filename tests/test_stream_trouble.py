"""How long a call has been without a healthy stream, and what counts as one."""

from __future__ import annotations

import pytest

from stream_faults import Code, StreamFault
from stream_trouble import StreamTrouble, is_healthy

GONE = StreamFault(Code.UNAVAILABLE, "gone")


@pytest.mark.parametrize(
    ("lived", "opened", "answered", "healthy"),
    [
        (9.9, True, True, False),
        (10.0, True, True, True),
        (29.9, True, False, False),
        (30.0, True, False, True),
        (300.0, False, False, False),
    ],
)
def test_a_stream_is_healthy_by_its_time(
    lived: float, opened: bool, answered: bool, healthy: bool
) -> None:
    """Sooner if it has answered; never if it was not opened."""
    assert is_healthy(lived, opened=opened, answered=answered) is healthy


def test_trouble_lasts_from_its_first_moment_to_a_healthy_stream() -> None:
    """What fails meanwhile does not begin it anew; afterwards nothing of it is left."""
    trouble = StreamTrouble()
    assert trouble.lasts(100.0) == 0.0
    trouble.failed(GONE)
    trouble.began(100.0)
    trouble.failed(GONE)
    trouble.began(105.0)
    trouble.gave_up = True
    assert (trouble.fault, trouble.attempts, trouble.lasts(107.0)) == (GONE, 2, 7.0)
    assert trouble.over(108.0) == 8.0
    assert (trouble.attempts, trouble.gave_up, trouble.lasts(109.0)) == (0, False, 0.0)
    assert trouble.fault != GONE
    assert trouble.over(110.0) == 0.0
