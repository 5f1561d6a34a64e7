"""The line of a call: its time, its two tracks, and what of it went unheard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from phone_line import SILENT_FRAME, PhoneLine
from twilio_stream import Pacing, Track

CALLER = [bytes([n]) * 160 for n in range(10)]


class Recorder:
    """A listener that keeps what it hears, and does with it what it is told to."""

    def __init__(self, line: PhoneLine | None = None) -> None:
        self.heard: list[tuple[int, Mapping[Track, bytes]]] = []
        self._line = line

    async def hear(self, position: int, frames: Mapping[Track, bytes]) -> None:
        self.heard.append((position, frames))
        if self._line is not None:
            self._line.mark_sent(position)


def on_line(line: PhoneLine, *steps: int | Callable[[], object]) -> None:
    """Let so many frames of the line pass, or do what is to be done, one after the other."""

    async def run() -> None:
        ticking = asyncio.create_task(line.run())
        line.answer()
        for step in steps:
            if callable(step):
                step()
            else:
                await line.wait(step)
        ticking.cancel()

    asyncio.run(run())


def test_time_passes_as_it_is_waited_for() -> None:
    """At a pace of 0, exactly so far; after the recording there is silence."""
    line, recorder = PhoneLine(CALLER, Pacing(0)), Recorder()
    line.listeners.append(recorder)
    on_line(line, 4, 0, 8)
    assert line.position == 12
    assert [position for position, _ in recorder.heard] == list(range(12))
    assert [frames["inbound"] for _, frames in recorder.heard] == CALLER + [SILENT_FRAME] * 2
    assert {frames["outbound"] for _, frames in recorder.heard} == {SILENT_FRAME}


def test_the_business_speaks_from_when_it_joins() -> None:
    """And the two have as long as the longer of them needs."""
    line, recorder = PhoneLine(CALLER, Pacing(0)), Recorder()
    line.listeners.append(recorder)
    lengths: list[int] = []
    business = [b"b" * 160] * 2
    on_line(
        line,
        4,
        lambda: lengths.append(line.join(business * 5)),
        lambda: lengths.append(line.join(business)),
        2,
    )
    assert lengths == [10, 6]
    assert [frames["outbound"] for _, frames in recorder.heard[:4]] == [SILENT_FRAME] * 4
    assert [frames["outbound"] for _, frames in recorder.heard[4:]] == business


def test_what_no_stream_sends_is_counted() -> None:
    """Of the caller's recording only: silence after it is no loss."""
    line = PhoneLine(CALLER, Pacing(0))
    on_line(line, 3, lambda: line.listeners.append(Recorder(line)), 20)
    assert line.unsent_seconds == pytest.approx(0.06)
    assert line.left == 0


def test_time_is_the_clocks() -> None:
    """At a pace, each frame is due at its own time after the answer, however late one was."""
    now, waits = 50.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(round(seconds, 6))
        now += seconds + 0.004
        await asyncio.sleep(0)

    line = PhoneLine(CALLER, Pacing(0.02, lambda: now, sleep))
    on_line(line, 4)
    assert waits[:4] == [0, 0.016, 0.016, 0.016]


def test_a_wait_ends_when_it_is_told_to() -> None:
    """`unless` is asked after each frame."""

    async def run() -> None:
        line = PhoneLine(CALLER, Pacing(0))
        ticking = asyncio.create_task(line.run())
        line.answer()
        await line.wait(10, lambda: line.position >= 3)
        assert line.position == 3
        ticking.cancel()

    asyncio.run(run())


def test_nobody_waits_on_a_dead_line() -> None:
    """A line whose task is over says so, instead of letting a call hang."""

    async def run() -> None:
        line = PhoneLine(CALLER, Pacing(0))
        ticking = asyncio.create_task(line.run())
        await asyncio.sleep(0)
        waiting = asyncio.create_task(line.wait(1))
        await asyncio.sleep(0)
        ticking.cancel()
        with pytest.raises(RuntimeError, match="no time passes"):
            await waiting

    asyncio.run(run())


def test_who_is_not_on_the_line_can_leave_it() -> None:
    """Leaving twice is nothing."""
    line, recorder = PhoneLine(CALLER, Pacing(0)), Recorder()
    line.listeners.append(recorder)
    line.leave(recorder)
    line.leave(recorder)
    assert line.listeners == []
