"""A session says how it stands: while audio is on its way, and at its end."""

from __future__ import annotations

import session_parts
from session_parts import Serve

from session_sample import SessionSample

lines, serve = session_parts.lines, session_parts.serve


def test_a_live_session_tells_what_came_and_how_late_it_went_out(serve: Serve) -> None:
    """One stream is open, all was handed on, and the last message soon after its frames came."""
    google = serve()
    call = google.start().push(20)
    google.wait_for(lambda: len(google.arrived()) == 20)
    call.session.fill_gap(1_600)
    sample = call.session.sample()
    assert (sample.frames, sample.streams, sample.gaps, sample.filled_bytes) == (20, 1, 1, 1_600)
    assert not call.session.ended
    google.wait_for(lambda: call.session.sample().sent_bytes == 20 * 160 + 1_600)
    call.push(5)
    google.wait_for(lambda: len(google.arrived()) == 25)
    delay = call.session.sample().delay_seconds
    assert delay is not None
    assert 0 <= delay < 5


def test_an_ended_session_has_its_last_sums(serve: Serve) -> None:
    """They are those of its record, and nothing is going on in it any more."""
    google = serve()
    call = google.start().push(20)
    google.wait_for(lambda: len(google.arrived()) == 20)
    google.server.stall()
    call.push(1_000)
    google.server.resume()
    call.session.close()
    assert call.session.ended
    sample, counts = call.session.sample(), call.session.counts()
    assert sample == SessionSample(
        frames=counts.frames,
        dropped=counts.dropped,
        lost=round(counts.lost_seconds / 0.02),
        sent_bytes=round(counts.google_seconds * 8_000),
        rotations=counts.rotations,
    )
    assert counts.frames == 1_020
    assert sample.dropped > 0
