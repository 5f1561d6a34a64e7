"""How the end of what a peer carries is found."""

from __future__ import annotations

import pytest
from bench_frames import Spread
from bench_parts import some_case
from bench_ramp import MOST_CALLS, find_knee, trouble


@pytest.mark.parametrize("end", [15, 61, 137, 240, 700])
def test_the_end_is_found_closely_and_soon(end: int) -> None:
    """Within 10 calls or 5 %, in at most ten cases, wherever it is."""
    tried = []
    knee = find_knee(
        lambda calls: some_case(calls=calls, missing=int(calls >= end)), lambda c: tried.append(c)
    )
    assert knee.not_fine is not None
    assert knee.fine < end <= knee.not_fine
    assert knee.not_fine - knee.fine <= max(10, knee.fine // 20)
    assert len(tried) <= 10
    assert "1 of 3000 frames were missing" in str(knee)


def test_a_peer_without_an_end_is_not_tried_for_ever() -> None:
    """The bench has its own."""
    knee = find_knee(lambda calls: some_case(calls=calls), lambda case: None)
    assert (knee.fine, knee.not_fine) == (MOST_CALLS, None)


def test_a_late_loop_is_trouble() -> None:
    """20 ms at the 95th percentile is the limit, whatever the worst was."""
    assert trouble(some_case(loop_ms=Spread(1, 20, 300, 500))) is None
    late = trouble(some_case(loop_ms=Spread(1, 21, 22, 23)))
    assert late == "the p95 of the loop's delay was 21 ms"


def test_trouble_on_a_busy_machine_is_in_doubt() -> None:
    """It may be nobody's fault but the machine's."""
    assert trouble(some_case(others_share=1.0)) is None
    assert "in doubt: other programs took 100%" in str(
        trouble(some_case(missing=1, others_share=1))
    )
