"""The tries of a call without a stream: when the next one comes, and what the log says of it."""

from __future__ import annotations

import pytest
import session_parts
from session_parts import Clock, Lines

from call_log import CallLog
from recovery import Recovery
from stream_faults import Code, StreamFault
from stream_retries import StreamRetries
from stream_trouble import StreamTrouble

# the fixtures of this module
lines = session_parts.lines

GONE = StreamFault(Code.UNAVAILABLE, "gone")
QUOTA = StreamFault(Code.RESOURCE_EXHAUSTED, "Quota exceeded.")


class Scene:
    """Calls of one business, whose time the test moves; the jitter is the longest."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.recovery = Recovery(self.clock, lambda low, high: high)
        self.trouble = StreamTrouble()
        self.woken: list[float] = []
        self.retries = self.call(self.trouble)

    def call(self, trouble: StreamTrouble) -> StreamRetries:
        log = CallLog("CA1", "T1")
        return StreamRetries(trouble, self.recovery, log, self.woken.append, self.clock)

    def fail(self, fault: StreamFault = GONE, begun_at: float | None = None) -> float:
        return self.retries.failed(fault, begun_at)


def test_each_failure_in_a_row_has_a_longer_pause() -> None:
    """They double; a healthy stream makes them begin anew."""
    scene = Scene()
    assert [scene.fail() for _ in range(3)] == pytest.approx([0.1, 0.2, 0.4])
    assert scene.trouble.fault == GONE
    scene.retries.recovered()
    assert scene.fail() == pytest.approx(0.1)


def test_the_next_try_is_due_when_its_pause_is_over() -> None:
    """Not before, and not again once it has begun."""
    scene = Scene()
    assert not scene.retries.is_due(scene.clock.now)
    scene.retries.wait(2.0)
    assert not scene.retries.is_due(101.9)
    assert scene.retries.is_due(102.0)
    assert scene.retries.begin() == 0.0
    assert not scene.retries.is_due(102.0)


def test_a_call_whose_end_has_come_does_not_try_again() -> None:
    """Plain calls do what is left."""
    scene = Scene()
    scene.retries.wait(2.0)
    scene.retries.stop()
    assert not scene.retries.is_due(200.0)


def test_the_news_that_google_is_back_makes_a_wait_shorter_never_longer() -> None:
    """And is nothing to a call that does not wait."""
    scene = Scene()
    scene.retries.welcomed(1.0)
    assert scene.retries.retry_at is None
    scene.retries.wait(2.0)
    scene.retries.welcomed(5.0)
    assert scene.retries.retry_at == 102.0
    scene.retries.welcomed(0.5)
    assert scene.retries.retry_at == 100.5


def test_one_call_that_is_answered_wakes_those_that_wait() -> None:
    """Until they have a stream themselves."""
    scene = Scene()
    other = scene.call(StreamTrouble())
    scene.retries.wait(2.0)
    other.worked(begun_at=100.5)
    assert scene.woken == [0.0]
    scene.retries.wait(2.0)
    scene.retries.leave()
    other.worked(begun_at=101.0)
    assert scene.woken == [0.0]


def test_a_quota_that_is_used_up_keeps_the_whole_business_waiting() -> None:
    """A stream that was never begun cannot say that of Google, and other faults do not."""
    scene = Scene()
    scene.fail(GONE, begun_at=100.0)
    scene.fail(QUOTA)
    assert scene.retries.broken_for == 0.0
    scene.fail(QUOTA, begun_at=100.0)
    other = scene.call(StreamTrouble())
    assert scene.retries.broken_for == other.broken_for == other.begin() == 15.0
    scene.clock.now += 15.0
    assert other.begin() == 0.0
    assert scene.retries.begin() > 0.0  # the other one tries for both


def test_a_row_of_failures_is_said_at_its_1st_and_10th(lines: Lines) -> None:
    """With the fault, the pause and the count."""
    scene = Scene()
    for _ in range(12):
        scene.retries.wait(scene.fail())
    said = [line.partition(" call=")[0] for line in lines.with_("streaming failed")]
    assert said == [
        "[STT] streaming failed: 503 UNAVAILABLE: gone → new stream in 0.1 s",
        "[STT] streaming failed: 503 UNAVAILABLE: gone → new stream in 1.0 s",
    ]
    assert lines.with_("count=10")


def test_how_long_there_was_no_stream_is_said_when_there_is_one(lines: Lines) -> None:
    """Since the first failure; once, and not where there was no trouble."""
    scene = Scene()
    scene.retries.recovered()
    assert not lines.with_("recovered")
    scene.retries.wait(scene.fail())
    scene.clock.now += 3.0
    scene.retries.wait(scene.fail())
    scene.clock.now += 4.0
    scene.retries.recovered()
    scene.retries.recovered()
    assert len(lines.with_("recovered: streaming again after 7.0 s")) == 1
