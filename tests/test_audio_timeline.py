"""The timeline: a stream's offsets on the call's own clock, dropped frames included."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_timeline import AudioTimeline, Place

FRAME = 160
SECONDS_PER_BYTE = 1 / 8000

# A call: for each frame its length, whether it was sent, and whether a message ends with it
calls = st.lists(
    st.tuples(st.integers(1, 400), st.booleans(), st.booleans()), min_size=1, max_size=40
)


def line_by_line(run: Callable[[], object], function: Callable[..., Any], do: Any) -> None:
    """`run()`, with `do()` before each line of `function` and at its end, as a thread would."""

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        if event in ("line", "return"):
            do()
        return local

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        return local if frame.f_code is function.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)


def timeline_of(call: list[tuple[int, bool, bool]]) -> tuple[AudioTimeline, list[int]]:
    """The timeline of a call, and, for each byte sent, where the call's clock stands after it."""
    timeline, where = AudioTimeline(), list[int]()
    call_end, marked, last_end = 0, 0, 0
    for length, sent, message_ends in call:
        start, call_end = call_end, call_end + length
        if not sent:
            continue
        if where and start != last_end and len(where) > marked:
            timeline.mark(len(where), last_end, last_end * SECONDS_PER_BYTE)
            marked = len(where)
        where.extend(range(start + 1, call_end + 1))
        last_end = call_end
        if message_ends:
            timeline.mark(len(where), last_end, last_end * SECONDS_PER_BYTE)
            marked = len(where)
    if len(where) > marked:
        timeline.mark(len(where), last_end, last_end * SECONDS_PER_BYTE)
    return timeline, where


@settings(deadline=None)
@given(calls)
def test_every_byte_sent_is_found_where_the_call_had_it(call: list[tuple[int, bool, bool]]) -> None:
    """Against a model that notes each byte, whatever was dropped and wherever messages end."""
    timeline, where = timeline_of(call)
    for offset, expected in enumerate(where, start=1):
        place = timeline.place(offset)
        assert place is not None
        assert place.call_bytes == expected
        assert place.arrived == pytest.approx(expected * SECONDS_PER_BYTE)
    if where:  # Google rounds: beyond the end is the end
        assert timeline.place(len(where) + 7) == timeline.place(len(where))


@settings(deadline=None)
@given(calls, st.data())
def test_forgetting_changes_nothing_from_there_on(
    call: list[tuple[int, bool, bool]], data: st.DataObject
) -> None:
    """What comes after the point that was forgotten up to is found as before."""
    timeline, where = timeline_of(call)
    for _ in range(3):
        point = data.draw(st.integers(0, len(where) + 10))
        before = [timeline.place(offset) for offset in range(max(1, point), len(where) + 10)]
        timeline.forget(point)
        assert before == [timeline.place(at) for at in range(max(1, point), len(where) + 10)]


def test_an_empty_timeline_has_no_places() -> None:
    """Before the first audio there is nothing to say, and nothing to forget."""
    timeline = AudioTimeline()
    assert timeline.place(0) is None
    assert timeline.place(100) is None
    timeline.forget(100)
    assert timeline.place(100) is None


def test_a_dropped_frame_moves_what_follows_it() -> None:
    """20 ms that never reached Google still passed in the call."""
    timeline = AudioTimeline()
    timeline.mark(2 * FRAME, 2 * FRAME, 0.040)
    timeline.mark(4 * FRAME, 5 * FRAME, 0.100)
    assert timeline.place(2 * FRAME) == Place(2 * FRAME, 0.040)
    place = timeline.place(3 * FRAME)
    assert place is not None
    assert place.call_bytes == 4 * FRAME
    assert place.arrived == pytest.approx(0.080)


def test_the_start_of_the_call_is_never_before_its_start() -> None:
    """A stream that began late in the call can not be asked for less than nothing."""
    timeline = AudioTimeline()
    timeline.mark(FRAME, FRAME // 2, 1.0)
    place = timeline.place(0)
    assert place is not None
    assert place.call_bytes == 0


@pytest.mark.parametrize("end", [FRAME, FRAME - 1, 0])
def test_a_mark_must_go_forward(end: int) -> None:
    """Two marks at one offset would make the second one unreachable: a fault of ours."""
    timeline = AudioTimeline()
    timeline.mark(FRAME, FRAME, 0.0)
    with pytest.raises(ValueError, match="not beyond"):
        timeline.mark(end, 2 * FRAME, 0.0)


def test_a_long_call_does_not_grow_the_timeline() -> None:
    """A mark ten times a second for four hours must not stay when finals are in."""
    timeline = AudioTimeline()
    for second in range(1, 1000):
        timeline.mark(second * 8000, second * 8000, float(second))
        timeline.forget(second * 8000)
    kept = [name for name in ("_ends", "_places") if len(getattr(timeline, name)) <= 2]
    assert kept == ["_ends", "_places"]


@pytest.mark.parametrize("offset", [FRAME, FRAME + 1, 2 * FRAME, 5 * FRAME])
def test_asking_while_a_mark_is_made(offset: int) -> None:
    """gRPC's thread marks while the streaming thread asks: each answer is that before or after."""
    timeline, after = AudioTimeline(), AudioTimeline()
    timeline.mark(FRAME, FRAME, 1.0)
    after.mark(FRAME, FRAME, 1.0)
    after.mark(2 * FRAME, 10 * FRAME, 2.0)
    allowed = [timeline.place(offset), after.place(offset)]
    seen: list[Place | None] = []
    line_by_line(
        lambda: timeline.mark(2 * FRAME, 10 * FRAME, 2.0),
        AudioTimeline.mark,
        lambda: seen.append(timeline.place(offset)),
    )
    assert len(seen) >= 4
    assert all(place in allowed for place in seen)
    assert seen[0] == allowed[0]
    assert seen[-1] == allowed[1]


@pytest.mark.parametrize("line", range(1, 8))
@pytest.mark.parametrize("offset", [FRAME, FRAME + 1, 2 * FRAME, 5 * FRAME])
def test_marking_while_a_place_is_asked_for(offset: int, line: int) -> None:
    """The same race from the other side: the mark comes in at any one line of the question."""
    timeline = AudioTimeline()
    timeline.mark(FRAME, FRAME, 1.0)
    before = timeline.place(offset)
    found: list[Place | None] = []
    lines = 0

    def mark() -> None:
        nonlocal lines
        lines += 1
        if lines == line:
            timeline.mark(2 * FRAME, 10 * FRAME, 2.0)

    line_by_line(lambda: found.append(timeline.place(offset)), AudioTimeline.place, mark)
    assert lines >= 5
    assert found[0] in (before, timeline.place(offset))
