"""Recovery: pauses that double, the breaker of a business, and the news that Google is back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recovery import LONGEST_BREAK_SECONDS, Recovery


class Scene:
    """A business's recovery whose time the test moves and whose jitter it chooses."""

    def __init__(self, jitter: float = 1.0) -> None:
        self.now = 100.0
        self.asked: list[tuple[float, float]] = []
        self.jitter = jitter
        self.recovery = Recovery(lambda: self.now, self._uniform)
        self.told: list[tuple[object, float]] = []

    def _uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return self.jitter

    def wake(self, who: object) -> Callable[[float], None]:
        return lambda seconds: self.told.append((who, seconds))

    def wait(self, *numbers: int) -> None:
        for who in numbers:
            self.recovery.wait(who, self.wake(who))


@pytest.mark.parametrize(
    ("waiting", "pauses"),
    [
        (0, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (5, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (10, [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]),
        (25, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]),
        (1000, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]),
    ],
)
def test_pauses_double_up_to_the_longest(waiting: int, pauses: list[float]) -> None:
    """From 0.1 s to 5 s; to less where only a few calls wait, who cannot trouble Google."""
    scene = Scene()
    scene.wait(*range(waiting))
    assert [scene.recovery.pause(n) for n in range(len(pauses))] == pytest.approx(pauses)
    assert scene.recovery.pause(10**6) == pytest.approx(pauses[-1])


def test_pauses_differ_by_a_quarter_at_most() -> None:
    """Calls that failed together do not come back together, nor too early."""
    assert Scene(0.75).recovery.pause(2) == pytest.approx(0.3)
    scene = Scene()
    scene.recovery.pause(0)
    scene.recovery.exhausted()
    assert scene.asked == [(0.75, 1.0)] * 2
    real = Recovery()
    pauses = {real.pause(3) for _ in range(200)}
    assert len(pauses) > 100
    assert 0.6 <= min(pauses) <= max(pauses) <= 0.8


def test_all_may_open_streams_while_nothing_is_exhausted() -> None:
    """Other faults do not open the breaker."""
    scene = Scene()
    scene.wait(1)
    scene.recovery.pause(5)
    assert [scene.recovery.admit() for _ in range(3)] == [0.0] * 3


def test_a_used_up_quota_stops_the_business_for_a_while() -> None:
    """Nobody opens a stream for 15 s, and who asks is told how long that still is."""
    scene = Scene()
    scene.recovery.exhausted()
    assert scene.recovery.admit() == pytest.approx(15.0)
    scene.now += 14.0
    assert scene.recovery.admit() == pytest.approx(1.0)


def test_after_the_break_one_tries_for_all() -> None:
    """The others wait for what becomes of it; when nothing does, the next one tries."""
    scene = Scene()
    scene.recovery.exhausted()
    scene.now += 15.0
    assert [scene.recovery.admit() for _ in range(3)] == pytest.approx([0.0, 5.0, 5.0])
    scene.now += 5.0
    assert [scene.recovery.admit() for _ in range(2)] == pytest.approx([0.0, 5.0])


def test_the_breaker_closes_with_the_first_answer() -> None:
    """Then all may come, and the next break is a short one again."""
    scene = Scene()
    scene.recovery.exhausted()
    scene.now += 15.0
    scene.recovery.admit()
    scene.now += 0.3
    scene.recovery.worked(scene.now)
    assert [scene.recovery.admit() for _ in range(3)] == [0.0] * 3
    scene.recovery.exhausted()
    assert scene.recovery.admit() == pytest.approx(15.0)


def test_a_refusal_right_after_an_answer_is_a_break_of_its_own() -> None:
    """An answer ends a break before its time, and nothing of that is left."""
    scene = Scene()
    scene.recovery.exhausted()
    scene.now += 1.0
    scene.recovery.worked()
    assert scene.recovery.admit() == 0.0
    scene.recovery.exhausted()
    assert scene.recovery.admit() == pytest.approx(15.0)


def test_breaks_in_a_row_are_longer_each_time() -> None:
    """15, 30, 60, 120 s and no longer, when the one that tries is refused at once."""
    scene = Scene()
    lengths: list[float] = []
    for _ in range(6):
        scene.recovery.exhausted()
        lengths.append(scene.recovery.admit())
        scene.now += lengths[-1]
        assert scene.recovery.admit() == 0.0
        scene.now += 0.2
    assert lengths == pytest.approx([15.0, 30.0, 60.0, 120.0, 120.0, 120.0])


def test_in_a_later_break_too_old_streams_do_not_make_it_longer() -> None:
    """The one that tried was refused; what others are told after that is no news."""
    scene = Scene()
    scene.recovery.exhausted()
    scene.now += 15.0
    scene.recovery.admit()
    for _ in range(3):
        scene.recovery.exhausted()
    assert scene.recovery.admit() == pytest.approx(30.0)


def test_a_refusal_that_comes_late_is_one_too() -> None:
    """Also when the trial's time was over, or nobody had tried."""
    scene = Scene()
    scene.recovery.exhausted()
    scene.now += 15.0
    scene.recovery.admit()
    scene.now += 7.0
    scene.recovery.exhausted()
    assert scene.recovery.admit() == pytest.approx(30.0)


def test_streams_that_were_opened_before_the_break_do_not_make_it_longer() -> None:
    """Fifty calls that are refused together are one reason for a break, not fifty."""
    scene = Scene()
    for _ in range(50):
        scene.recovery.exhausted()
        scene.now += 0.01
    assert scene.recovery.admit() == pytest.approx(14.5)


def test_breaks_have_a_jitter_too() -> None:
    """So that businesses of one project do not try together."""
    scene = Scene(0.8)
    scene.recovery.exhausted()
    assert scene.recovery.admit() == pytest.approx(12.0)


def test_who_waits_is_told_once_and_not_all_at_once() -> None:
    """Twenty calls a second come back, the one that waited longest first."""
    scene = Scene()
    scene.wait(*range(40))
    scene.recovery.worked()
    assert [who for who, _ in scene.told] == list(range(40))
    assert [after for _, after in scene.told] == pytest.approx([n / 20 for n in range(40)])
    scene.recovery.worked()
    assert len(scene.told) == 40


def test_who_left_is_not_told() -> None:
    """A call that has its stream, or is over, is none of those who wait; leaving twice is fine."""
    scene = Scene()
    scene.wait(1, 2, 3)
    scene.recovery.leave(2)
    scene.recovery.leave(2)
    scene.recovery.worked()
    assert scene.told == [(1, 0.0), (3, 0.05)]


def test_who_waits_again_is_told_once() -> None:
    """Each failed try waits anew; it is the last that counts."""
    scene = Scene()
    scene.wait(1)
    scene.recovery.wait(1, scene.wake("again"))
    scene.recovery.worked()
    assert scene.told == [("again", 0.0)]


def test_an_answer_may_make_the_told_wait_again() -> None:
    """The listener may come right back: nothing is held that it would wait for."""
    scene = Scene()
    scene.recovery.wait(1, lambda seconds: scene.wait(2))
    scene.recovery.worked()
    assert scene.told == []
    scene.recovery.worked()
    assert scene.told == [(2, 0.0)]


def test_an_older_stream_that_is_still_answered_is_no_news() -> None:
    """Healthy calls go on while new streams fail: the pauses of the others are not cut short."""
    scene = Scene()
    old = scene.now
    scene.now += 10.0
    scene.wait(1)
    scene.now += 1.0
    for _ in range(10):
        scene.recovery.worked(old)
    assert scene.told == []
    between = scene.now
    scene.now += 1.0
    scene.wait(2)
    scene.recovery.worked(between)  # older than the trouble of the second one alone
    assert scene.told == [(1, 0.0)]


def test_an_older_stream_that_is_still_answered_closes_no_breaker() -> None:
    """A quota of streams is used up by streams that work."""
    scene = Scene()
    old = scene.now
    scene.now += 10.0
    scene.recovery.exhausted()
    scene.wait(1)
    scene.recovery.worked(old)
    assert scene.recovery.admit() == pytest.approx(15.0)
    scene.now += 15.0
    assert scene.recovery.admit() == 0.0
    scene.recovery.worked(scene.now)
    assert scene.told == [(1, 0.0)]
    assert scene.recovery.admit() == 0.0


def test_a_quota_that_is_used_up_for_days_is_no_error() -> None:
    """A thousand breaks in a row: they stay as long as the longest."""
    now = [100.0]
    recovery = Recovery(lambda: now[0], uniform=lambda low, high: high)
    for _ in range(1_100):
        recovery.exhausted()
        now[0] += recovery.broken_for()
        assert recovery.admit() == 0.0
    recovery.exhausted()
    assert recovery.broken_for() == LONGEST_BREAK_SECONDS
