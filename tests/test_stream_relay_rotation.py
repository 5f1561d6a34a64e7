"""Streams that are replaced within a call: no frame is lost, doubled or misplaced by it.

Over real gRPC, at the pace of real calls, with the limits shortened.
"""

from __future__ import annotations

from typing import Any

import pytest
import session_parts
from law_parts import check_law, play
from session_parts import Lines, Serve

from gcp_stt_stream import SessionLimits
from relay_limits import RelayLimits
from shared_speech import SharedSpeech

pytestmark = pytest.mark.usefixtures("transport")

# the fixtures of this module
lines, serve = session_parts.lines, session_parts.serve


def limits(rotate: float, rotate_hard: float, **more: float) -> SessionLimits:
    return SessionLimits(relay=RelayLimits(rotate=rotate, rotate_hard=rotate_hard, **more))


ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "finals": ({"final_every": 10}, "at a pause"),
    "late finals": ({"final_every": 10, "final_delay_seconds": 0.6}, "at "),
    "no finals": ({"final_every": 0}, "at its hard limit"),
    "nothing": ({"final_every": 0, "interim_every": 0, "events": False}, "at its hard limit"),
}


def test_calls_over_twelve_rotations(serve: Serve, lines: Lines) -> None:
    """Each frame is covered by exactly one final, in order, in its place, whatever Google says."""
    googles = {name: serve(**answers) for name, (answers, _) in ANSWERS.items()}
    calls = {
        name: google.start(limits=limits(0.4, 1.0), tenant_id=name.replace(" ", "-"))
        for name, google in googles.items()
    }
    play(
        calls.values(),
        40.0,
        until=lambda: all(len(google.streams) > 12 for google in googles.values()),
    )
    for name, call in calls.items():
        call.session.close()
        check_law(call)
        assert (call.session.dropped, call.session.lost) == (0, 0)
        assert call.spoken() == list(range(call.pushed))
        tenant = f"tenant={name.replace(' ', '-')} "
        rotated = [line for line in lines.with_("[STT] rotated") if tenant in line]
        assert len(rotated) >= 12
        # a final that is a little late on a busy machine leaves it to the hard limit
        assert sum(ANSWERS[name][1] in line for line in rotated) >= 9, name
    assert not lines.with_("streaming failed")


def rotate_together(serve: Serve, count: int, hard: float) -> list[float]:
    """Start so many calls at once, rotate each; when their second streams were opened."""
    google = serve(final_every=25, interim_every=0)
    shared = SharedSpeech()
    calls = [
        google.start(number=number, limits=limits(3.0, hard), shared=shared)
        for number in range(count)
    ]
    play(calls, 40.0, until=lambda: len(google.streams) >= 2 * count, each=5)
    for call in calls:
        call.session.close()
        check_law(call)
        assert (call.session.dropped, call.session.lost) == (0, 0)
    return sorted(stream.opened_at for stream in google.streams)[count:]


def most_in_a_second(times: list[float]) -> int:
    return max(sum(0 <= other - one < 1.0 for other in times) for one in times)


def test_calls_that_started_together_rotate_without_a_burst(serve: Serve) -> None:
    """At most five new streams in any one second, and every frame of each call in its place."""
    opened = rotate_together(serve, 15, 8.0)
    assert len(opened) >= 15
    assert most_in_a_second(opened) <= 5


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_fifty_calls_that_started_together_rotate_without_a_burst(serve: Serve) -> None:
    """The same for as many calls as a worker takes."""
    opened = rotate_together(serve, 50, 20.0)
    print(f"\n50 calls: at most {most_in_a_second(opened)} new streams in any one second")
    assert len(opened) >= 50
    assert most_in_a_second(opened) <= 5
